//! The keys and values a stage holds: blocks by number, one pool for each KV group.

use std::sync::Arc;

use gogrid_kernels::{KV_TOKENS, KvBlock, KvLayer, KvLayout};
use gogrid_pipeline::{BLOCK_TOKENS, BlockId, SequenceRows};
use gogrid_units::Bytes;

// A block of the seam is a tile of the kernels.
const _: () = assert!(BLOCK_TOKENS == KV_TOKENS);

/// One KV group's blocks on this stage.
pub(crate) struct Pool {
    /// `None` where the stage has no layer of the group.
    layout: Option<Arc<KvLayout>>,
    /// By block number.
    blocks: Vec<Option<KvBlock>>,
}

/// The blocks of a step's sequences, out of their pool while the step runs, so that a layer can
/// write them and then share them. In the order of the step; a block stands where its table has it.
pub(crate) type Taken = Vec<Vec<Option<KvBlock>>>;

impl Pool {
    /// A pool for `layers` of one group, in the order of their slots.
    pub(crate) fn new(layers: &[KvLayer]) -> Self {
        let layout = (!layers.is_empty()).then(|| KvLayout::new(layers));
        Self {
            layout,
            blocks: Vec::new(),
        }
    }

    pub(crate) fn block_bytes(&self) -> Bytes {
        self.layout
            .as_ref()
            .map_or(Bytes::ZERO, |layout| layout.block_bytes())
    }

    pub(crate) fn held(&self) -> usize {
        self.blocks.iter().flatten().count()
    }

    /// Takes the blocks of `sequences` out; one not seen before is made.
    pub(crate) fn take(&mut self, group: usize, sequences: &[SequenceRows]) -> Taken {
        let Some(layout) = self.layout.clone() else {
            return Vec::new();
        };
        let mut take = |id: BlockId| {
            let index = id.0 as usize;
            if index >= self.blocks.len() {
                self.blocks.resize_with(index + 1, || None);
            }
            self.blocks[index]
                .take()
                .unwrap_or_else(|| KvBlock::new(&layout))
        };
        let tables = sequences.iter().map(|rows| {
            let used = (rows.start + rows.wants.len()).div_ceil(BLOCK_TOKENS);
            let table = rows.tables[group].iter().take(used);
            table.map(|entry| entry.map(&mut take)).collect()
        });
        tables.collect()
    }

    /// Puts back what [`take`](Self::take) gave for the same sequences.
    pub(crate) fn put_back(&mut self, group: usize, sequences: &[SequenceRows], taken: Taken) {
        for (rows, blocks) in sequences.iter().zip(taken) {
            for (id, block) in rows.tables[group].iter().zip(blocks) {
                if let (Some(id), Some(block)) = (id, block) {
                    self.blocks[id.0 as usize] = Some(block);
                }
            }
        }
    }

    pub(crate) fn release(&mut self, blocks: &[BlockId]) {
        for id in blocks {
            if let Some(slot) = self.blocks.get_mut(id.0 as usize) {
                *slot = None;
            }
        }
    }
}
