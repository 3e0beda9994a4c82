use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::error::ModelError;
use crate::gguf::GgufFiles;

use super::budget::{Budget, EncodeLimit};
use super::directory::read_directory;
use super::encoder::Encoder;
use super::limits::TEXT_BYTES_MAX;
use super::parts::Parts;
use super::pieces::{Kind, Pieces};
use super::special::{Marked, Own, Scope, SpecialTokens};
use super::vocabulary::GgufVocabulary;

/// Text to token ids. Shared by every sequence of a model; encoding changes nothing in it.
#[derive(Debug)]
pub struct Tokenizer {
    pieces: Arc<Pieces>,
    encoder: Encoder,
    bos: Option<u32>,
    /// Sorted.
    ends: Vec<u32>,
    space_prefix: bool,
    /// See [`Encoder::token_bytes_max`].
    token_bytes_max: Option<usize>,
    notices: Vec<String>,
}

impl Tokenizer {
    /// The tokenizer of a GGUF file, which may have a vocabulary and nothing else, or of a Hugging
    /// Face directory with `tokenizer.json`.
    ///
    /// # Errors
    /// As [`Model::open`](crate::Model::open).
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        if path.is_dir() {
            return read_directory(path).map(|(tokenizer, _)| tokenizer);
        }
        let (gguf, _) = GgufFiles::open(path)?;
        Self::from_gguf(&GgufVocabulary::read(gguf.metadata())?)
    }

    pub(super) fn new(encoder: Encoder, parts: Parts) -> Self {
        let Parts {
            mut pieces,
            bos,
            mut ends,
            space_prefix,
            mut notices,
        } = parts;
        pieces.shrink();
        ends.sort_unstable();
        ends.dedup();
        if ends.is_empty() {
            let none = "no token ends a text: generation goes on until its limit of tokens";
            notices.push(none.to_owned());
        }
        Self {
            token_bytes_max: encoder.token_bytes_max(&pieces),
            pieces: Arc::new(pieces),
            encoder,
            bos,
            ends,
            space_prefix,
            notices,
        }
    }

    /// The tokens of `text`, without a [`bos`](Self::bos). Nothing is normalised that the model's
    /// own tokenizer does not. Refuses a text of more than 64 MiB.
    ///
    /// # Errors
    /// When the text is too long, or the vocabulary's own rules take too much for it.
    pub fn encode(&self, text: &str, special: SpecialTokens) -> Result<Vec<u32>, ModelError> {
        let scope = match special {
            SpecialTokens::Parse => Scope::Trusted,
            SpecialTokens::AsText => Scope::AsText,
        };
        let scope = &scope;
        self.encode_scoped(Marked { text, scope }, EncodeLimit::NONE)
    }

    /// The tokens of a chat: a text that is partly its template's own and partly messages. Names of
    /// control tokens (`<|im_end|>`), and of tokens that may act as such although the vocabulary
    /// does not say so (`<think>`, DeepSeek's `<｜User｜>`), become the tokens they name only where all
    /// their bytes are in `own`: ranges of bytes, sorted, without overlaps. Added tokens that stand
    /// for text are found everywhere: white space, words, HTML's formatting (Gemma).
    ///
    /// Stricter than transformers, which finds every added token in messages too, and than llama.cpp,
    /// which finds those that are no control tokens: a message cannot begin a turn of its own. Where
    /// `own` is all of the text, this is [`SpecialTokens::Parse`].
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and when `limit` is reached.
    pub fn encode_marked(
        &self,
        text: &str,
        own: &[Range<usize>],
        limit: EncodeLimit<'_>,
    ) -> Result<Vec<u32>, ModelError> {
        let own = Own::new(own);
        let scope = match own.covers(&(0..text.len())) {
            true => Scope::Trusted,
            false => Scope::Chat(own),
        };
        let scope = &scope;
        self.encode_scoped(Marked { text, scope }, limit)
    }

    fn encode_scoped(
        &self,
        marked: Marked<'_>,
        limit: EncodeLimit<'_>,
    ) -> Result<Vec<u32>, ModelError> {
        let text = marked.text;
        if text.len() > TEXT_BYTES_MAX {
            let what = format!(
                "the text has {} bytes; at most {TEXT_BYTES_MAX} can be encoded",
                text.len()
            );
            return Err(ModelError::Request { what });
        }
        let mut budget = Budget::new(limit, self.token_bytes_max);
        budget.check(0, text.len())?;
        self.encoder.encode(&self.pieces, marked, &mut budget)
    }

    /// How many tokens a text of so many bytes has at least, by the longest token. Zero for a
    /// vocabulary that can lose text, such as white space after control tokens.
    pub fn tokens_at_least(&self, bytes: usize) -> usize {
        self.token_bytes_max.map_or(0, |max| bytes.div_ceil(max))
    }

    /// What a person who opens the model should be told about its vocabulary, such as that no
    /// token ends a text.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The token every text must begin with, if the model says so.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether this token ends a text or a turn, so that generation stops at it.
    pub fn ends(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// The token with the lowest id of those that end a text.
    pub(crate) fn first_end(&self) -> Option<u32> {
        self.ends.first().copied()
    }

    /// Tokens in the vocabulary: their ids are below this. The model may have rows for more.
    pub fn vocab(&self) -> usize {
        self.pieces.len()
    }

    /// The bytes this token adds to a text: none for control tokens, possibly not UTF-8 by
    /// themselves. `None` when the vocabulary has no such token.
    pub fn piece(&self, id: u32) -> Option<Vec<u8>> {
        self.pieces.kind(id)?;
        let mut bytes = Vec::new();
        self.pieces.write(id, &mut bytes);
        Some(bytes)
    }

    /// The text by which a control token is known, which is no part of what it adds to a text.
    /// `None` of all other tokens.
    pub fn name(&self, id: u32) -> Option<&str> {
        let is_control = self.pieces.kind(id) == Some(Kind::Control);
        let text = is_control.then(|| self.pieces.text(id))?;
        std::str::from_utf8(text).ok()
    }

    pub(super) fn pieces(&self) -> &Arc<Pieces> {
        &self.pieces
    }

    /// Whether encoding puts a space before a text, which decoding takes away again.
    pub(super) fn space_prefix(&self) -> bool {
        self.space_prefix
    }
}
