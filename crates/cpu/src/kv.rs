//! The keys and values a stage holds: blocks by number, one pool for each KV group.

use std::sync::Arc;

use gogrid_kernels::{KV_TOKENS, KvBlock, KvLayer, KvLayout};
use gogrid_pipeline::{BLOCK_TOKENS, BlockId, LayerKv, SequenceRows, StageError};
use gogrid_units::Bytes;

// A block of the seam is a tile of the kernels.
const _: () = assert!(BLOCK_TOKENS == KV_TOKENS);

/// One KV group's blocks on this stage.
pub(crate) struct Pool {
    group: usize,
    /// Tokens that a row sees, its own included; `None` sees all before it.
    window: Option<usize>,
    /// The stage's layers of the group, by their index in the model, in the order of their slots.
    layers: Vec<usize>,
    /// `None` where the stage has no layer of the group.
    layout: Option<Arc<KvLayout>>,
    /// By block number.
    blocks: Vec<Entry>,
}

/// What a pool has under a block's number. `written` counts the tokens from the block's first that
/// finished steps wrote.
enum Entry {
    Empty,
    Held {
        block: KvBlock,
        written: usize,
    },
    /// The block is out of the pool, to be written by the step that runs.
    Taken {
        written: usize,
    },
}

/// The blocks that a step writes, out of their pool while it runs: for each sequence those from the
/// block of its first row on. The blocks before them stay where any sequence can read them.
pub(crate) type Taken = Vec<Vec<KvBlock>>;

/// A KV group as one stage has it.
pub(crate) struct GroupLayers {
    pub(crate) window: Option<usize>,
    /// Index in the model, and shape.
    pub(crate) layers: Vec<(usize, KvLayer)>,
}

impl Pool {
    /// An empty pool for a group's layers, in the order of their slots.
    pub(crate) fn new(group: usize, of: &GroupLayers) -> Self {
        let shapes: Vec<_> = of.layers.iter().map(|(_, shape)| *shape).collect();
        Self {
            group,
            window: of.window,
            layers: of.layers.iter().map(|(index, _)| *index).collect(),
            layout: (!shapes.is_empty()).then(|| KvLayout::new(&shapes)),
            blocks: Vec::new(),
        }
    }

    pub(crate) fn group(&self) -> usize {
        self.group
    }

    pub(crate) fn block_bytes(&self) -> Bytes {
        self.layout
            .as_ref()
            .map_or(Bytes::ZERO, |layout| layout.block_bytes())
    }

    pub(crate) fn held(&self) -> usize {
        let held = |entry: &&Entry| matches!(entry, Entry::Held { .. });
        self.blocks.iter().filter(held).count()
    }

    /// The block under a number, unless a step is writing it.
    pub(crate) fn get(&self, id: BlockId) -> Option<&KvBlock> {
        match self.blocks.get(id.0 as usize) {
            Some(Entry::Held { block, .. }) => Some(block),
            _ => None,
        }
    }

    /// Takes the blocks that `sequences` write out of the pool, into `taken`; one that nobody wrote
    /// before is made.
    ///
    /// # Errors
    /// When a row would read what was never written, or a block that the step writes stands in the
    /// tables of two sequences, and when the system has no memory for a block. [`put_back`](Self::put_back) is called all the same.
    pub(crate) fn take(
        &mut self,
        sequences: &[SequenceRows],
        taken: &mut Taken,
    ) -> Result<(), StageError> {
        let Some(layout) = self.layout.clone() else {
            return Ok(());
        };
        for rows in sequences {
            let mut blocks = Vec::new();
            let ids = self.written_by(rows);
            let mut written = ids.map(|id| self.take_one(id, &layout));
            let written = written.try_for_each(|block| block.map(|block| blocks.push(block)));
            taken.push(blocks);
            written?;
        }
        sequences.iter().try_for_each(|rows| self.check_read(rows))
    }

    /// The numbers of the blocks that a sequence's rows are written to.
    fn written_by<'s>(&self, rows: &'s SequenceRows) -> impl Iterator<Item = BlockId> + use<'s> {
        let end = (rows.start + rows.wants.len()).div_ceil(BLOCK_TOKENS);
        let entries = &rows.tables[self.group][rows.start / BLOCK_TOKENS..end];
        let id = |entry: &Option<BlockId>| entry.expect("checked when the step came in");
        entries.iter().map(id)
    }

    fn take_one(&mut self, id: BlockId, layout: &Arc<KvLayout>) -> Result<KvBlock, StageError> {
        let index = id.0 as usize;
        if index >= self.blocks.len() {
            self.blocks.resize_with(index + 1, || Entry::Empty);
        }
        let written = match &self.blocks[index] {
            Entry::Empty => 0,
            Entry::Held { written, .. } => *written,
            Entry::Taken { .. } => return Err(self.error(id, "two sequences of a step write it")),
        };
        let before = std::mem::replace(&mut self.blocks[index], Entry::Empty);
        let block = match before {
            Entry::Held { block, .. } => block,
            _ => KvBlock::new(layout)?,
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

    fn error(&self, id: BlockId, what: &str) -> StageError {
        StageError::Block {
            group: self.group,
            block: id.0,
            what: what.to_owned(),
        }
    }

    /// Puts back what [`take`](Self::take) gave for the same sequences. Where the step is not done,
    /// its rows count as not written, and a block that was made for it goes.
    pub(crate) fn put_back(&mut self, sequences: &[SequenceRows], taken: Taken, is_done: bool) {
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

    pub(crate) fn release(&mut self, blocks: &[BlockId]) {
        for id in blocks {
            if let Some(entry) = self.blocks.get_mut(id.0 as usize) {
                *entry = Entry::Empty;
            }
        }
    }

    /// A block's keys and values, layer by layer.
    pub(crate) fn export(&self, id: BlockId) -> Result<Vec<LayerKv>, StageError> {
        let Some(Entry::Held { block, written }) = self.blocks.get(id.0 as usize) else {
            return Err(self.error(id, "it was never written here"));
        };
        let layers = self.layers.iter().enumerate().map(|(slot, &layer)| {
            let (keys, values) = block.layer_bits(slot, *written);
            LayerKv {
                layer,
                keys,
                values,
            }
        });
        Ok(layers.collect())
    }

    /// Takes a block in, in the place of any that it has under that number.
    pub(crate) fn import(&mut self, id: BlockId, given: &[LayerKv]) -> Result<(), StageError> {
        let Some(layout) = &self.layout else {
            return Err(self.error(id, "no layer of the group is here"));
        };
        let mut block = KvBlock::new(layout)?;
        for (slot, layer) in self.layers.iter().enumerate() {
            let mut its = given.iter().filter(|kv| kv.layer == *layer);
            let (Some(kv), None) = (its.next(), its.next()) else {
                return Err(self.error(id, &format!("layer {layer} is not given once")));
            };
            let KvLayer { heads, head_dim } = layout.layer(slot);
            let takes = BLOCK_TOKENS * heads * head_dim;
            if [kv.keys.len(), kv.values.len()] != [takes; 2] {
                let (keys, values) = (kv.keys.len(), kv.values.len());
                let what =
                    format!("layer {layer} takes {takes} halves, not {keys} keys, {values} values");
                return Err(self.error(id, &what));
            }
            block.set_layer_bits(slot, (&kv.keys, &kv.values));
        }
        if given.len() != self.layers.len() {
            let what = format!("{} layers are here, not {}", self.layers.len(), given.len());
            return Err(self.error(id, &what));
        }
        let index = id.0 as usize;
        if index >= self.blocks.len() {
            self.blocks.resize_with(index + 1, || Entry::Empty);
        }
        // How much of it was written does not come with it.
        let written = BLOCK_TOKENS;
        self.blocks[index] = Entry::Held { block, written };
        Ok(())
    }
}
