//! What crosses a seam: the rows of one step, in and out.

use std::ops::Range;
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
    /// Index of the first row in its sequence. Keys and values of all rows before it are in the
    /// blocks.
    pub start: usize,
    /// Tokens that the sequence is turned for, at least to the end of the rows: a model may turn all
    /// rows of a long sequence otherwise than those of a short one. It is on one side of
    /// [`Decoder::rotations_change_above`](gogrid_model::Decoder::rotations_change_above) for all rows
    /// whose keys are in the blocks.
    pub length: usize,
    /// Where the rows stand for the rotation.
    pub positions: Positions,
    /// One for each row.
    pub wants: Vec<Want>,
}

/// Where rows stand for the rotation of queries and keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Positions {
    /// A row's position is its index in the sequence.
    #[default]
    Sequential,
    /// Positions on one to [`AXES_MAX`] axes, `[rows, axes]`: text, or text with images, whose rows
    /// stand on a grid of time, height and width (Qwen2-VL's multimodal rotary embedding).
    Given {
        /// Axes of each row.
        axes: usize,
        /// Row after row.
        values: Arc<[u32]>,
    },
}

/// The most axes a row's position may have.
pub const AXES_MAX: usize = 3;

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

/// Rows that go into a pipeline: a token id each, or an embedding from elsewhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// One for each row. The id of a row with an embedding is not looked at.
    pub ids: Vec<u32>,
    /// Runs of rows with embeddings of their own, such as an image's, in order and apart.
    pub embedded: Vec<EmbeddedRows>,
}

/// A run of rows that come with their embeddings.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddedRows {
    /// Which rows they are.
    pub rows: Range<usize>,
    /// `[rows, width]`: what the embedding's table would give, scaled as the model's are.
    pub values: Arc<[f32]>,
}

impl Rows {
    /// Rows of token ids.
    pub fn of_ids(ids: Vec<u32>) -> Self {
        let embedded = Vec::new();
        Self { ids, embedded }
    }

    /// Rows in all.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Appends the rows `range` of another, whose embeddings are copied.
    pub fn extend_from(&mut self, other: &Self, range: Range<usize>) {
        let before = self.len();
        self.ids.extend_from_slice(&other.ids[range.clone()]);
        for run in &other.embedded {
            let (start, end) = (run.rows.start.max(range.start), run.rows.end.min(range.end));
            if start >= end {
                continue;
            }
            let width = run.values.len() / run.rows.len();
            let values = (start - run.rows.start) * width..(end - run.rows.start) * width;
            self.embedded.push(EmbeddedRows {
                rows: before + start - range.start..before + end - range.start,
                values: run.values[values].into(),
            });
        }
    }
}

/// What a stage is given: rows where its span has the embedding, else the residual stream.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// What the embedding turns into the residual stream.
    Rows(&'a Rows),
    /// `[rows, width]`, row after row.
    Hidden(&'a [f32]),
}

/// The keys and values of one KV block in one layer, as they cross from stage to stage: IEEE halves
/// as bits, `[BLOCK_TOKENS, kv_heads, head_dim]` each. Tokens that were not written yet are zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerKv {
    /// Index of the layer in the model.
    pub layer: usize,
    /// Rotated keys.
    pub keys: Vec<u16>,
    /// Values.
    pub values: Vec<u16>,
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
    /// Rows whose values are not finite, or were not on the way, in the order they were found. What is
    /// given for such a row, and for those of its sequence that follow it, means nothing.
    pub faults: Vec<RowFault>,
}

/// A row of a step that came out of the range of its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFault {
    /// Its index in the step.
    pub row: usize,
    /// Where, and what was found.
    pub what: String,
}

impl OutputBuf {
    /// Whether there is memory in it, for values that it has or may have.
    pub(crate) fn holds_memory(&self) -> bool {
        let values = [&self.hidden, &self.logits, &self.log_probs];
        values.iter().any(|values| values.capacity() > 0)
    }

    /// Empties it and keeps the memory.
    pub fn clear(&mut self) {
        self.hidden.clear();
        self.logits.clear();
        self.log_probs.clear();
        self.faults.clear();
    }
}
