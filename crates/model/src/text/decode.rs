use std::sync::Arc;

use super::pieces::{Kind, Pieces};
use super::tokenizer::Tokenizer;

/// Token ids to text, one at a time, for one sequence. What it gives is always valid UTF-8: the
/// bytes of a character that is not complete wait for the next token, and only bytes that can
/// never become a character turn into U+FFFD. All it gave together is what decoding all ids at
/// once would give.
///
/// Control tokens, and ids that the vocabulary does not have, give no text.
#[derive(Debug)]
pub struct TextDecoder {
    pieces: Arc<Pieces>,
    /// The beginning of a character: at most three bytes between calls.
    pending: Vec<u8>,
    /// The next text begins with a space that encoding put there.
    drops_space: bool,
    /// Control tokens whose names are text.
    shown: Vec<u32>,
}

impl TextDecoder {
    /// A decoder for ids that begin a text or an answer. Where encoding puts a space before a
    /// text (SentencePiece), the first space is taken away.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self {
            pieces: Arc::clone(tokenizer.pieces()),
            pending: Vec::new(),
            drops_space: tokenizer.space_prefix(),
            shown: Vec::new(),
        }
    }

    /// A decoder for ids that go on where a text stopped: every space counts.
    pub fn continuing(tokenizer: &Tokenizer) -> Self {
        Self {
            drops_space: false,
            ..Self::new(tokenizer)
        }
    }

    /// The same decoder, which writes out the names of the control tokens among `ids`: the marks of
    /// tool calls and of reasoning are such tokens in many vocabularies.
    pub fn showing(self, ids: Vec<u32>) -> Self {
        Self { shown: ids, ..self }
    }

    /// The text that `id` completes; often empty.
    pub fn push(&mut self, id: u32) -> String {
        let before = self.pending.len();
        match self.shown.contains(&id) && self.pieces.kind(id) == Some(Kind::Control) {
            true => self.pending.extend_from_slice(self.pieces.text(id)),
            false => self.pieces.write(id, &mut self.pending),
        }
        if self.drops_space && self.pending.len() > before {
            self.drops_space = false;
            if self.pending[before] == b' ' {
                self.pending.remove(before);
            }
        }
        self.take_complete()
    }

    /// The rest: U+FFFD if a character was left incomplete. The decoder may go on afterwards.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        rest
    }

    fn take_complete(&mut self) -> String {
        let mut text = String::new();
        let mut at = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            at += chunk.valid().len();
            let rest = &self.pending[at..];
            let incomplete = std::str::from_utf8(rest).is_err_and(|e| e.error_len().is_none());
            if chunk.invalid().len() == rest.len() && incomplete {
                break;
            }
            if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
                at += chunk.invalid().len();
            }
        }
        self.pending.drain(..at);
        text
    }
}
