//! The blocks of one KV group on a stage, whatever a block is there: which are held, how many of their
//! tokens were written, and which of them the step that runs writes.

use crate::stage::StageError;
use crate::step::{BLOCK_TOKENS, BlockId, SequenceRows};

/// One KV group's blocks. `B` is what a stage keeps a block's keys and values in.
pub struct BlockPool<B> {
    group: usize,
    /// Tokens that a row sees, its own included; `None` sees all before it.
    window: Option<usize>,
    /// By block number.
    blocks: Vec<Entry<B>>,
}

/// What a pool has under a block's number. `written` counts the tokens from the block's first that
/// finished steps wrote.
enum Entry<B> {
    Empty,
    Held {
        block: B,
        written: usize,
    },
    /// The block is out of the pool, to be written by the step that runs.
    Taken {
        written: usize,
    },
}

/// The blocks that a step writes, out of their pool while it runs: for each sequence those from the
/// block of its first row on. The blocks before them stay where any sequence can read them.
pub type TakenBlocks<B> = Vec<Vec<B>>;

impl<B> BlockPool<B> {
    /// An empty pool for a group whose rows see `window` tokens, or all before them.
    pub fn new(group: usize, window: Option<usize>) -> Self {
        Self {
            group,
            window,
            blocks: Vec::new(),
        }
    }

    /// The group's number in the model.
    pub fn group(&self) -> usize {
        self.group
    }

    /// Blocks that are held and not out of the pool.
    pub fn held(&self) -> usize {
        let held = |entry: &&Entry<B>| matches!(entry, Entry::Held { .. });
        self.blocks.iter().filter(held).count()
    }

    /// The block under a number, unless a step is writing it.
    pub fn get(&self, id: BlockId) -> Option<&B> {
        self.held_block(id).map(|(block, _)| block)
    }

    /// The block under a number with its written tokens, unless a step is writing it.
    pub fn held_block(&self, id: BlockId) -> Option<(&B, usize)> {
        match self.blocks.get(id.0 as usize) {
            Some(Entry::Held { block, written }) => Some((block, *written)),
            _ => None,
        }
    }

    /// All blocks that are held and not out of the pool, to be put elsewhere.
    pub fn held_blocks_mut(&mut self) -> impl Iterator<Item = &mut B> {
        self.blocks.iter_mut().filter_map(|entry| match entry {
            Entry::Held { block, .. } => Some(block),
            _ => None,
        })
    }

    /// Puts a block in the place of any that is there. All of it counts as written.
    pub fn insert(&mut self, id: BlockId, block: B) {
        let index = self.reach(id);
        let written = BLOCK_TOKENS;
        self.blocks[index] = Entry::Held { block, written };
    }

    fn reach(&mut self, id: BlockId) -> usize {
        let index = id.0 as usize;
        if index >= self.blocks.len() {
            self.blocks.resize_with(index + 1, || Entry::Empty);
        }
        index
    }

    /// Takes the blocks that `sequences` write out of the pool, into `taken`; one that nobody wrote
    /// before is made by `make`.
    ///
    /// # Errors
    /// When a row would read what was never written, or a block that the step writes stands in the
    /// tables of two sequences, and the errors of `make`. [`put_back`](Self::put_back) is called all
    /// the same.
    pub fn take<E: Into<StageError>>(
        &mut self,
        sequences: &[SequenceRows],
        taken: &mut TakenBlocks<B>,
        make: &mut dyn FnMut() -> Result<B, E>,
    ) -> Result<(), StageError> {
        for rows in sequences {
            let mut blocks = Vec::new();
            let ids = self.written_by(rows);
            let mut written = ids.map(|id| self.take_one(id, make));
            let written = written.try_for_each(|block| block.map(|block| blocks.push(block)));
            taken.push(blocks);
            written?;
        }
        sequences.iter().try_for_each(|rows| self.check_read(rows))
    }

    /// The numbers of the blocks that a sequence's rows are written to.
    fn written_by<'s>(&self, rows: &'s SequenceRows) -> impl Iterator<Item = BlockId> + use<'s, B> {
        let end = (rows.start + rows.wants.len()).div_ceil(BLOCK_TOKENS);
        let entries = &rows.tables[self.group][rows.start / BLOCK_TOKENS..end];
        let id = |entry: &Option<BlockId>| entry.expect("checked when the step came in");
        entries.iter().map(id)
    }

    fn take_one<E: Into<StageError>>(
        &mut self,
        id: BlockId,
        make: &mut dyn FnMut() -> Result<B, E>,
    ) -> Result<B, StageError> {
        let index = self.reach(id);
        let written = match &self.blocks[index] {
            Entry::Empty => 0,
            Entry::Held { written, .. } => *written,
            Entry::Taken { .. } => return Err(self.error(id, "two sequences of a step write it")),
        };
        let before = std::mem::replace(&mut self.blocks[index], Entry::Empty);
        let block = match before {
            Entry::Held { block, .. } => block,
            _ => make().map_err(Into::into)?,
        };
        self.blocks[index] = Entry::Taken { written };
        Ok(block)
    }

    /// Whether what a sequence's rows see before them was written.
    fn check_read(&self, rows: &SequenceRows) -> Result<(), StageError> {
        let first = (self.window).map_or(0, |window| (rows.start + 1).saturating_sub(window));
        for index in first / BLOCK_TOKENS..rows.start.div_ceil(BLOCK_TOKENS) {
            let id = rows.tables[self.group][index].ok_or_else(|| StageError::Shape {
                what: "block table",
                takes: format!("a block for each position from {first} on"),
                has: format!("none at {}", index * BLOCK_TOKENS),
            })?;
            let needed = (rows.start - index * BLOCK_TOKENS).min(BLOCK_TOKENS);
            let is_own = index == rows.start / BLOCK_TOKENS;
            let written = match self.blocks.get(id.0 as usize) {
                Some(Entry::Held { written, .. }) => *written,
                Some(Entry::Taken { written }) if is_own => *written,
                Some(Entry::Taken { .. }) => {
                    return Err(self.error(id, "another sequence of the step writes it"));
                }
                Some(Entry::Empty) | None => 0,
            };
            if written < needed {
                let what = format!("{written} tokens were written there, {needed} are read");
                return Err(self.error(id, &what));
            }
        }
        Ok(())
    }

    /// An error of the block `id`.
    pub fn error(&self, id: BlockId, what: &str) -> StageError {
        StageError::Block {
            group: self.group,
            block: id.0,
            what: what.to_owned(),
        }
    }

    /// Puts back what [`take`](Self::take) gave for the same sequences. Where the step is not done,
    /// its rows count as not written, and a block that was made for it goes.
    pub fn put_back(&mut self, sequences: &[SequenceRows], taken: TakenBlocks<B>, is_done: bool) {
        for (rows, blocks) in sequences.iter().zip(taken) {
            let (first, end) = (rows.start / BLOCK_TOKENS, rows.start + rows.wants.len());
            for ((id, block), index) in self.written_by(rows).zip(blocks).zip(first..) {
                let entry = &mut self.blocks[id.0 as usize];
                let Entry::Taken { written: before } = *entry else {
                    unreachable!("it was taken");
                };
                let here = (end - index * BLOCK_TOKENS).min(BLOCK_TOKENS);
                let written = if is_done { here.max(before) } else { before };
                *entry = match written {
                    0 => Entry::Empty,
                    _ => Entry::Held { block, written },
                };
            }
        }
    }

    /// Forgets blocks.
    pub fn release(&mut self, blocks: &[BlockId]) {
        for id in blocks {
            if let Some(entry) = self.blocks.get_mut(id.0 as usize) {
                *entry = Entry::Empty;
            }
        }
    }
}
