//! What a request is told of its tokens' log-probabilities.

use std::ops::Range;

use gogrid_pipeline::Want;

use super::due::check_finite;
use super::sequence::Sequence;
use crate::error::GenerateError;
use crate::generation::TokenLogProb;
use crate::request::LogProbs;
use crate::sampling::Distribution;

/// The log-probabilities that one request wants.
pub(super) struct ToldLogProbs {
    top: usize,
    /// Those of the prompt by row, until they are told; `None` where nobody asked, or once they were.
    prompt: Option<Vec<Option<TokenLogProb>>>,
}

impl ToldLogProbs {
    /// Of a prompt of so many rows.
    pub(super) fn new(asked: LogProbs, rows: usize) -> Self {
        Self {
            top: asked.top,
            prompt: asked.prompt.then(|| vec![None; rows]),
        }
    }

    /// Whether the token in `row` is one of the prompt that is to be told.
    pub(super) fn wants(&self, row: usize) -> bool {
        self.prompt.as_ref().is_some_and(|rows| row < rows.len())
    }

    /// Whether logits of the prompt's rows are wanted.
    pub(super) fn wants_prompt(&self) -> bool {
        self.prompt.is_some()
    }

    /// The distribution of a row, `[vocab]`, as far as it is told.
    pub(super) fn of(&self, logits: &[f32]) -> Distribution {
        Distribution::of(logits, self.top)
    }

    /// Notes that `id` stands in `row` of the prompt, after `logits`.
    pub(super) fn note(&mut self, (row, id): (usize, u32), logits: &[f32]) {
        let token = self.of(logits).token(id, logits[id as usize]);
        if let Some(rows) = &mut self.prompt {
            rows[row] = Some(token);
        }
    }

    /// Those of the prompt, once.
    pub(super) fn take_prompt(&mut self) -> Option<Vec<Option<TokenLogProb>>> {
        self.prompt.take()
    }
}

impl Sequence {
    /// The token of this row, where it is one of the prompt whose log-probability is to be told.
    pub(super) fn tells_token(&self, row: usize) -> Option<u32> {
        let is_told = self.log_probs.as_ref()?.wants(row);
        let token = self.content.id(row).filter(|_| is_told)?;
        (!self.content.is_embedded(row)).then_some(token)
    }

    /// Notes what is told of the prompt's tokens after the rows `fed`, and gives the logits after
    /// the last of its rows, if they are among them.
    pub(super) fn take_prompt_logits<'g>(
        &mut self,
        fed: Range<usize>,
        logits: &'g [f32],
    ) -> Result<&'g [f32], GenerateError> {
        let wants = |row: &usize| self.want(*row) == Want::Logits;
        let rows: Vec<usize> = fed.filter(wants).collect();
        let vocab = logits.len().checked_div(rows.len()).unwrap_or(0).max(1);
        let mut last = &logits[..0];
        for (&row, logits) in rows.iter().zip(logits.chunks(vocab)) {
            match (self.tells_token(row + 1), &mut self.log_probs) {
                (Some(id), Some(told)) => {
                    check_finite(logits, row + 1)?;
                    told.note((row + 1, id), logits);
                }
                _ => last = logits,
            }
        }
        Ok(last)
    }

    /// What is told of the prompt's tokens, once, when the last of them has come.
    pub(super) fn take_prompt_log_probs(&mut self) -> Option<Vec<Option<TokenLogProb>>> {
        let is_read = self.written >= self.content.prompt();
        let told = self.log_probs.as_mut().filter(|_| is_read)?;
        told.take_prompt()
    }
}
