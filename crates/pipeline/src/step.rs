//! What crosses a seam: the rows of one step, in and out.

use std::sync::Arc;

/// Tokens in one KV block. Attention's tiles are these blocks, on an absolute grid from position 0.
pub const BLOCK_TOKENS: usize = 32;

/// A KV block's number within its group: the same tokens on every stage. Blocks of different
/// groups are different memory though their numbers may be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

/// What a row wants from the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Only its keys and values written.
    Nothing,
    /// The residual stream after the last piece, `[width]`.
    Hidden,
    /// All logits, `[vocab]`.
    Logits,
    /// The natural logarithm of this token's probability.
    LogProb(u32),
}

/// Rows of one sequence in a step: consecutive positions from `start`, one for each want.
#[derive(Clone, Debug)]
pub struct SequenceRows {
    /// For each KV group of the model, the blocks in position order: entry `i` holds positions
    /// `32 i .. 32 i + 32`. Every position the rows read or write has its block; an entry that
    /// has left a window is `None`.
    pub tables: Arc<Vec<Vec<Option<BlockId>>>>,
    /// Position of the first row. Keys and values of all positions before it are in the blocks.
    pub start: usize,
    /// One for each row.
    pub wants: Vec<Want>,
}

/// Work that every stage does once: all sequences' rows, one after the other.
#[derive(Clone, Debug)]
pub struct Step {
    /// The sequences, each at most once.
    pub sequences: Vec<SequenceRows>,
}

impl Step {
    /// Rows in all.
    pub fn rows(&self) -> usize {
        self.sequences.iter().map(|s| s.wants.len()).sum()
    }

    /// What each row wants, in row order.
    pub fn wants(&self) -> impl Iterator<Item = Want> {
        self.sequences.iter().flat_map(|s| s.wants.iter().copied())
    }
}

/// What a stage is given: ids where its span has the embedding, else the residual stream.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// One token id for each row.
    Ids(&'a [u32]),
    /// `[rows, width]`, row after row.
    Hidden(&'a [f32]),
}

/// What a stage gives. The runner owns it and hands it in again; `clear` keeps the memory.
#[derive(Clone, Debug, Default)]
pub struct OutputBuf {
    /// A stage without the head: the residual stream, `[rows, width]`. With the head: one
    /// `[width]` for each row that wants it, in row order.
    pub hidden: Vec<f32>,
    /// `[vocab]` for each row that wants logits, in row order.
    pub logits: Vec<f32>,
    /// One for each row that wants a log-probability, in row order.
    pub log_probs: Vec<f32>,
}

impl OutputBuf {
    /// Empties it and keeps the memory.
    pub fn clear(&mut self) {
        self.hidden.clear();
        self.logits.clear();
        self.log_probs.clear();
    }
}
