use crate::error::ModelError;

use super::limits::ASKED_BYTES;

/// How far encoding a text may go.
#[derive(Clone, Copy)]
pub struct EncodeLimit<'a> {
    /// Tokens that may come out. A text of more is refused as soon as that is known.
    pub tokens_max: usize,
    /// Asked again and again, at least every 64 KiB of text; encoding stops when it says no.
    pub goes_on: &'a dyn Fn() -> bool,
}

impl EncodeLimit<'static> {
    /// Any number of tokens, to the end.
    pub const NONE: Self = Self {
        tokens_max: usize::MAX,
        goes_on: &|| true,
    };
}

/// What is left of an [`EncodeLimit`] while a text is encoded.
pub(super) struct Budget<'a> {
    limit: EncodeLimit<'a>,
    /// Bytes that were worked on since the limit was asked.
    unasked: usize,
    /// Bytes of text a token can stand for at most; `None` where there is no such number.
    token_bytes_max: Option<usize>,
}

impl<'a> Budget<'a> {
    pub(super) fn new(limit: EncodeLimit<'a>, token_bytes_max: Option<usize>) -> Self {
        Self {
            limit,
            unasked: 0,
            token_bytes_max,
        }
    }

    /// Accounts for work on so many bytes.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), ModelError> {
        self.unasked += bytes;
        if self.unasked < ASKED_BYTES {
            return Ok(());
        }
        self.unasked = 0;
        if (self.limit.goes_on)() {
            Ok(())
        } else {
            Err(ModelError::Stopped)
        }
    }

    /// Refuses `tokens` that were found, with `bytes` of text that are still to be encoded.
    pub(super) fn check(&self, tokens: usize, bytes: usize) -> Result<(), ModelError> {
        let more = self.token_bytes_max.map_or(0, |max| bytes.div_ceil(max));
        let tokens_max = self.limit.tokens_max;
        if tokens.saturating_add(more) > tokens_max {
            return Err(ModelError::TooManyTokens { tokens_max });
        }
        Ok(())
    }
}
