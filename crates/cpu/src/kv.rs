//! The keys and values a stage holds: blocks by number, one pool for each KV group.

use std::sync::Arc;

use gogrid_kernels::{KV_TOKENS, KvBlock, KvLayer, KvLayout};
use gogrid_pipeline::{
    BLOCK_TOKENS, BlockId, BlockPool, LayerKv, SequenceRows, StageError, TakenBlocks,
};
use gogrid_units::Bytes;

// A block of the seam is a tile of the kernels.
const _: () = assert!(BLOCK_TOKENS == KV_TOKENS);

/// One KV group's blocks on this stage.
pub(crate) struct Pool {
    blocks: BlockPool<KvBlock>,
    /// The stage's layers of the group, by their index in the model, in the order of their slots.
    layers: Vec<usize>,
    /// `None` where the stage has no layer of the group.
    layout: Option<Arc<KvLayout>>,
}

/// The blocks that a step writes, out of their pool while it runs.
pub(crate) type Taken = TakenBlocks<KvBlock>;

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
            blocks: BlockPool::new(group, of.window),
            layers: of.layers.iter().map(|(index, _)| *index).collect(),
            layout: (!shapes.is_empty()).then(|| KvLayout::new(&shapes)),
        }
    }

    pub(crate) fn group(&self) -> usize {
        self.blocks.group()
    }

    pub(crate) fn block_bytes(&self) -> Bytes {
        self.layout
            .as_ref()
            .map_or(Bytes::ZERO, |layout| layout.block_bytes())
    }

    pub(crate) fn held(&self) -> usize {
        self.blocks.held()
    }

    /// The block under a number, unless a step is writing it.
    pub(crate) fn get(&self, id: BlockId) -> Option<&KvBlock> {
        self.blocks.get(id)
    }

    /// See [`BlockPool::take`].
    ///
    /// # Errors
    /// Also when the system has no memory for a block.
    pub(crate) fn take(
        &mut self,
        sequences: &[SequenceRows],
        taken: &mut Taken,
    ) -> Result<(), StageError> {
        let Some(layout) = self.layout.clone() else {
            return Ok(());
        };
        let make = &mut || KvBlock::new(&layout);
        self.blocks.take(sequences, taken, make)
    }

    /// See [`BlockPool::put_back`].
    pub(crate) fn put_back(&mut self, sequences: &[SequenceRows], taken: Taken, is_done: bool) {
        self.blocks.put_back(sequences, taken, is_done);
    }

    pub(crate) fn release(&mut self, blocks: &[BlockId]) {
        self.blocks.release(blocks);
    }

    /// A block's keys and values, layer by layer.
    pub(crate) fn export(&self, id: BlockId) -> Result<Vec<LayerKv>, StageError> {
        let Some((block, written)) = self.blocks.held_block(id) else {
            return Err(self.blocks.error(id, "it was never written here"));
        };
        let layers = self.layers.iter().enumerate().map(|(slot, &layer)| {
            let (keys, values) = block.layer_bits(slot, written);
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
            return Err(self.blocks.error(id, "no layer of the group is here"));
        };
        let mut block = KvBlock::new(layout)?;
        for (slot, layer) in self.layers.iter().enumerate() {
            let mut its = given.iter().filter(|kv| kv.layer == *layer);
            let (Some(kv), None) = (its.next(), its.next()) else {
                return Err(self
                    .blocks
                    .error(id, &format!("layer {layer} is not given once")));
            };
            let KvLayer { heads, head_dim } = layout.layer(slot);
            let takes = BLOCK_TOKENS * heads * head_dim;
            if [kv.keys.len(), kv.values.len()] != [takes; 2] {
                let (keys, values) = (kv.keys.len(), kv.values.len());
                let what =
                    format!("layer {layer} takes {takes} halves, not {keys} keys, {values} values");
                return Err(self.blocks.error(id, &what));
            }
            block.set_layer_bits(slot, (&kv.keys, &kv.values));
        }
        if given.len() != self.layers.len() {
            let what = format!("{} layers are here, not {}", self.layers.len(), given.len());
            return Err(self.blocks.error(id, &what));
        }
        // How much of it was written does not come with it.
        self.blocks.insert(id, block);
        Ok(())
    }
}
