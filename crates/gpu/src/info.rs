//! What kernels are told of a step: one array of words, uploaded once.

use gogrid_model::Rope;
use gogrid_pipeline::{BLOCK_TOKENS, Positions, Rows, SequenceRows, Step};

/// The id of a row that brings its own embedding.
pub(crate) const NO_ID: u32 = u32::MAX;
/// A block that is read by nobody.
pub(crate) const NO_SLOT: u32 = u32::MAX;

/// The words, and where each part of them begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Info {
    pub(crate) words: Vec<u32>,
    /// A token id for each row.
    pub(crate) ids: usize,
    /// By KV group: for each row, where its block table begins and its index in its sequence.
    pub(crate) rows: Vec<usize>,
    /// By KV group: where each sequence's block table begins.
    tables: Vec<Vec<u32>>,
    /// By rotation: for each row and pair, cosine and sine.
    pub(crate) turns: Vec<usize>,
}

/// Rows of one sequence that attention does together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiles {
    /// The first word of them: four for each tile.
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// The most blocks that a tile sees.
    pub(crate) blocks: usize,
    /// Rows of a tile.
    pub(crate) rows: usize,
}

impl Info {
    /// The ids of a step's rows; rows in `rows.embedded` have none.
    pub(crate) fn put_ids(&mut self, rows: &Rows) {
        self.ids = self.words.len();
        self.words.extend(&rows.ids);
        for run in &rows.embedded {
            let ids = self.ids + run.rows.start..self.ids + run.rows.end;
            self.words[ids].fill(NO_ID);
        }
    }

    /// The block tables of a KV group: for each sequence, the slots of its blocks.
    pub(crate) fn put_group(&mut self, step: &Step, slots: &[Vec<u32>]) {
        let mut tables = Vec::new();
        for slots in slots {
            // Words of a buffer are below 2^32.
            tables.push(self.words.len() as u32);
            self.words.extend(slots);
        }
        self.rows.push(self.words.len());
        for (sequence, table) in step.sequences.iter().zip(&tables) {
            for row in 0..sequence.wants.len() {
                self.words.extend([*table, (sequence.start + row) as u32]);
            }
        }
        self.tables.push(tables);
    }

    /// The rotations of a step's rows.
    pub(crate) fn put_turns(&mut self, rope: &Rope, step: &Step) {
        self.turns.push(self.words.len());
        for sequence in &step.sequences {
            let frequencies = rope.frequencies_at(sequence.length);
            for row in 0..sequence.wants.len() {
                // Exact: positions are far below 2^53.
                let position = position(sequence, row) as f64;
                for &frequency in frequencies {
                    let (sine, cosine) = (position * f64::from(frequency)).sin_cos();
                    let magnitude = f64::from(rope.magnitude);
                    let turn = [cosine * magnitude, sine * magnitude];
                    // To float, rounded once.
                    self.words
                        .extend(turn.map(|value| (value as f32).to_bits()));
                }
            }
        }
    }

    /// Tiles of at most `rows` rows over a KV group that sees `window` tokens.
    pub(crate) fn put_tiles(
        &mut self,
        step: &Step,
        (group, window): (usize, Option<usize>),
        rows: usize,
    ) -> Tiles {
        let (first, mut count, mut blocks, mut before) = (self.words.len(), 0, 0, 0);
        for (index, sequence) in step.sequences.iter().enumerate() {
            let table = self.tables[group][index];
            for start in (0..sequence.wants.len()).step_by(rows) {
                let len = rows.min(sequence.wants.len() - start);
                let at = sequence.start + start;
                self.words
                    .extend([(before + start) as u32, len as u32, table, at as u32]);
                count += 1;
                let seen = window.map_or(0, |window| (at + 1).saturating_sub(window));
                let seen = (at + len).div_ceil(BLOCK_TOKENS) - seen / BLOCK_TOKENS;
                blocks = blocks.max(seen);
            }
            before += sequence.wants.len();
        }
        Tiles {
            first,
            count,
            blocks,
            rows,
        }
    }

    /// A list of words.
    pub(crate) fn put_list(&mut self, list: impl IntoIterator<Item = u32>) -> usize {
        let first = self.words.len();
        self.words.extend(list);
        first
    }
}

fn position(sequence: &SequenceRows, row: usize) -> usize {
    match &sequence.positions {
        Positions::Sequential => sequence.start + row,
        // All axes are equal, which was checked as the step came in.
        Positions::Given { axes, values } => values[row * axes] as usize,
    }
}
