use crate::error::ModelError;

use super::budget::Budget;
use super::encoder::{Part, Run};
use super::index::{Crowded, Index, hash_bytes};
use super::marks::MarkCut;
use super::merge::{Merge, NONE, Symbol};
use super::pieces::{Kind, Pieces, SPACE_MARK};

/// A SentencePiece vocabulary that merges by score (Kudo, Richardson 2018, its BPE kind): any two
/// neighbours whose joined text is a piece may merge, the highest score first.
#[derive(Debug)]
pub(super) struct Spm {
    index: Index,
    /// Of each piece; a higher score is a lower rank.
    ranks: Vec<u32>,
    /// The token of each byte, or [`NONE`].
    bytes: Box<[u32; 256]>,
    /// What a character without piece and bytes becomes.
    unknown: Option<u32>,
    cut: MarkCut,
    /// Whether a text, and what follows a special token, begins with a space of its own.
    space_prefix: bool,
}

/// What goes into a [`Spm`] besides the pieces.
pub(super) struct SpmParts {
    /// One finite score for each piece.
    pub(super) scores: Vec<f32>,
    pub(super) unknown: Option<u32>,
    pub(super) space_prefix: bool,
}

/// Why pieces make no SentencePiece vocabulary.
#[derive(Debug)]
pub(super) enum SpmFault {
    Crowded,
    /// Two tokens with the same text.
    Twins(u32, u32),
    /// No token for this byte, and no unknown token.
    NoToken(u8),
}

impl From<Crowded> for SpmFault {
    fn from(_: Crowded) -> Self {
        Self::Crowded
    }
}

impl Spm {
    pub(super) fn new(pieces: &Pieces, parts: SpmParts) -> Result<Self, SpmFault> {
        let mut spm = Self {
            index: Index::with_room_for(pieces.len()),
            ranks: parts.scores.into_iter().map(rank).collect(),
            bytes: Box::new([NONE; 256]),
            unknown: parts.unknown,
            cut: MarkCut::of((0..pieces.len() as u32).map(|id| pieces.text(id))),
            space_prefix: parts.space_prefix,
        };
        // There are fewer than 2^31 tokens.
        for id in 0..pieces.len() as u32 {
            spm.add(pieces, id)?;
        }
        spm.complete_bytes(pieces)?;
        Ok(spm)
    }

    fn add(&mut self, pieces: &Pieces, id: u32) -> Result<(), SpmFault> {
        let text = pieces.text(id);
        if pieces.kind(id) == Some(Kind::Byte) {
            let slot = &mut self.bytes[usize::from(text[0])];
            if *slot != NONE {
                return Err(SpmFault::Twins(*slot, id));
            }
            *slot = id;
            return Ok(());
        }
        let hash = hash_bytes(text);
        match self.index.find(hash, |other| pieces.text(other) == text) {
            Some(other) if !text.is_empty() => Err(SpmFault::Twins(other, id)),
            _ => Ok(self.index.insert(hash, id)?),
        }
    }

    /// A byte without a token of its own is the piece that is just this byte.
    fn complete_bytes(&mut self, pieces: &Pieces) -> Result<(), SpmFault> {
        for byte in 0..=255 {
            if self.bytes[usize::from(byte)] == NONE {
                let id = self.find(pieces, &[byte]).or(self.unknown);
                self.bytes[usize::from(byte)] = id.ok_or(SpmFault::NoToken(byte))?;
            }
        }
        Ok(())
    }

    /// The piece with this text that text may become. Structure is none of them: text that looks
    /// like it stays text.
    fn find(&self, pieces: &Pieces, text: &[u8]) -> Option<u32> {
        let id = self
            .index
            .find(hash_bytes(text), |id| pieces.text(id) == text)?;
        let structure = matches!(pieces.kind(id), Some(Kind::Control | Kind::Structure));
        (!structure).then_some(id)
    }

    /// Appends the tokens of a part of a text.
    pub(super) fn encode(
        &self,
        part: Part<'_>,
        run: &mut Run<'_>,
        budget: &mut Budget<'_>,
    ) -> Result<(), ModelError> {
        let marked = self.marked(part);
        for word in self.cut.words(&marked) {
            self.word(word, run, budget)?;
            budget.check(run.out.len(), 0)?;
        }
        Ok(())
    }

    fn word(
        &self,
        word: &str,
        run: &mut Run<'_>,
        budget: &mut Budget<'_>,
    ) -> Result<(), ModelError> {
        let Run {
            pieces,
            merger,
            out,
        } = run;
        let bytes = word.as_bytes();
        let mut buffer = [0; 4];
        for char in word.chars() {
            let char = char.encode_utf8(&mut buffer).as_bytes();
            budget.spend(char.len())?;
            merger.push(char.len(), self.find(pieces, char).unwrap_or(NONE));
        }
        let rule = |left: &Symbol, right: &Symbol| {
            let both = &bytes[left.at as usize..(right.at + right.len) as usize];
            let id = self.find(pieces, both)?;
            let rank = self.ranks[id as usize];
            Some(Merge { rank, id })
        };
        merger.run(rule, budget)?;
        for symbol in merger.drain() {
            let stretch = &bytes[symbol.at as usize..(symbol.at + symbol.len) as usize];
            match symbol.id {
                NONE => out.extend(stretch.iter().map(|byte| self.bytes[usize::from(*byte)])),
                id => out.push(id),
            }
        }
        Ok(())
    }

    /// The text with marks for its spaces, and one before it where the vocabulary wants it.
    fn marked(
        &self,
        Part {
            text,
            after_special,
            ..
        }: Part<'_>,
    ) -> String {
        let mut marked = String::with_capacity(text.len() + text.len() / 2);
        if after_special && self.space_prefix {
            marked.push_str(SPACE_MARK);
        }
        for part in text.split_inclusive(' ') {
            let word = part.strip_suffix(' ');
            marked.push_str(word.unwrap_or(part));
            marked.push_str(if word.is_some() { SPACE_MARK } else { "" });
        }
        marked
    }
}

/// Orders scores downwards. The bits of a float, with those of a negative one inverted and the
/// sign flipped, are in the order of the floats.
fn rank(score: f32) -> u32 {
    // Adding zero makes one of the two zeros.
    let bits = (score + 0.0).to_bits();
    let upwards = if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    };
    !upwards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_score_is_a_lower_rank() {
        let ranks = [f32::MAX, 1.0, 0.0, -0.5, -1000.0].map(rank);
        assert!(ranks.is_sorted_by(|a, b| a < b));
        assert_eq!(rank(0.0), rank(-0.0));
    }
}
