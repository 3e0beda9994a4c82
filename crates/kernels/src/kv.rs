mod write;

use std::sync::Arc;

use gogrid_units::{Bytes, OutOfMemory};
use half::f16;

use crate::buffer::Buffer;
use crate::capability;
use crate::simd::{Isa, LANES, Simd};
use write::WriteHead;

/// Tokens in a block. Attention's tiles are blocks, so they lie on a grid from position 0.
pub const KV_TOKENS: usize = 32;

/// The keys and values of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayer {
    /// Key and value heads.
    pub heads: usize,
    /// Width of a head: even, at most [`HEAD_DIM_MAX`](crate::capability::HEAD_DIM_MAX).
    pub head_dim: usize,
}

/// The contents of a KV group's blocks: a stage's layers of that group, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// Each layer and where it begins, in halves.
    layers: Vec<(KvLayer, usize)>,
    /// Halves in all.
    len: usize,
}

/// Halves after the last value, so that a whole vector can be read at its last few.
const SPARE: usize = LANES;

/// The sign of a half.
const SIGN: u16 = 1 << 15;

impl KvLayout {
    /// The layout of `layers`.
    ///
    /// # Panics
    /// When a layer has no heads, or heads that [`capability`](crate::capability) does not allow.
    pub fn new(layers: &[KvLayer]) -> Arc<Self> {
        let mut len = 0;
        let place = |&layer: &KvLayer| {
            let KvLayer { heads, head_dim } = layer;
            let fits = capability::head_dim(head_dim).is_ok();
            assert!(heads > 0 && fits, "{heads} heads of {head_dim}");
            let start = len;
            len += 2 * heads * head_dim * KV_TOKENS;
            (layer, start)
        };
        let layers = layers.iter().map(place).collect();
        Arc::new(Self {
            layers,
            len: len + SPARE,
        })
    }

    /// Bytes that one block takes at most: whole pages, so that a block of several layers takes no
    /// more than blocks of each.
    pub fn block_bytes(&self) -> Bytes {
        Buffer::<u16>::pages_for(self.len)
    }

    /// The keys and values of layer `index`.
    pub fn layer(&self, index: usize) -> KvLayer {
        self.layers[index].0
    }

    /// Where the keys of a head begin, in halves; its values follow them.
    fn head(&self, layer: usize, head: usize) -> (KvLayer, usize) {
        let (shape, start) = self.layers[layer];
        assert!(head < shape.heads, "head {head} of {}", shape.heads);
        (shape, start + 2 * head * shape.head_dim * KV_TOKENS)
    }
}

/// The keys and values of 32 consecutive tokens, for all layers of a [`KvLayout`], as halves; zero
/// at first. A head's keys lie as `[head_dim][32]`, its values as `[32][head_dim]`, so that scores
/// run over keys side by side and sums over the elements of a value.
pub struct KvBlock {
    layout: Arc<KvLayout>,
    halves: Buffer<u16>,
}

impl KvBlock {
    /// A block of zeros; it takes `layout.block_bytes()`, and gives them back when dropped.
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub fn new(layout: &Arc<KvLayout>) -> Result<Self, OutOfMemory> {
        Ok(Self {
            layout: layout.clone(),
            halves: Buffer::zeroed(layout.len)?,
        })
    }

    /// The layers it holds.
    pub fn layout(&self) -> &Arc<KvLayout> {
        &self.layout
    }

    /// Keys `[head_dim][32]` and values `[32][head_dim]` of a head, and a vector of halves more.
    pub(crate) fn head(&self, layer: usize, head: usize) -> (&[u16], &[u16]) {
        let (shape, start) = self.layout.head(layer, head);
        let len = shape.head_dim * KV_TOKENS;
        self.halves[start..start + 2 * len + SPARE].split_at(len)
    }

    /// Writes the keys and values of the token at `slot`, each `[heads, head_dim]` of `layer`,
    /// rounded to nearest even. Says whether all are finite as halves: one past 65,504 becomes
    /// infinite.
    pub fn write(&mut self, layer: usize, slot: usize, row: (&[f32], &[f32])) -> bool {
        self.write_with(Simd::expect(Isa::detect()), (layer, slot), row)
    }

    /// [`write`](Self::write) with these instructions.
    pub(crate) fn write_with(
        &mut self,
        simd: Simd,
        (layer, slot): (usize, usize),
        (keys, values): (&[f32], &[f32]),
    ) -> bool {
        assert!(slot < KV_TOKENS, "slot {slot} of {KV_TOKENS}");
        let layout = self.layout.clone();
        let KvLayer { heads, head_dim } = layout.layer(layer);
        assert_eq!(keys.len(), heads * head_dim, "a row of keys");
        assert_eq!(values.len(), heads * head_dim, "a row of values");
        let rows = keys
            .chunks_exact(head_dim)
            .zip(values.chunks_exact(head_dim));
        let mut finite = true;
        for (head, (key, value)) in rows.enumerate() {
            let (_, start) = layout.head(layer, head);
            let len = head_dim * KV_TOKENS;
            let (to_keys, to_values) = self.halves[start..start + 2 * len].split_at_mut(len);
            finite &= simd.run(WriteHead {
                key,
                value,
                to_keys,
                to_value: &mut to_values[slot * head_dim..(slot + 1) * head_dim],
                slot,
            });
        }
        finite
    }

    /// The keys and values of the first `slots` tokens of a layer, as bits: `[32, heads, head_dim]`
    /// each, with zeros for the tokens after them.
    pub fn layer_bits(&self, layer: usize, slots: usize) -> (Vec<u16>, Vec<u16>) {
        assert!(slots <= KV_TOKENS, "{slots} slots of {KV_TOKENS}");
        let KvLayer { heads, head_dim } = self.layout.layer(layer);
        let width = heads * head_dim;
        let (mut keys, mut values) = (vec![0; KV_TOKENS * width], vec![0; KV_TOKENS * width]);
        for head in 0..heads {
            let (from_keys, from_values) = self.head(layer, head);
            for slot in 0..slots {
                let to = slot * width + head * head_dim..slot * width + (head + 1) * head_dim;
                let column = from_keys[slot..].iter().step_by(KV_TOKENS);
                for (to, from) in keys[to.clone()].iter_mut().zip(column) {
                    *to = *from;
                }
                let row = &from_values[slot * head_dim..(slot + 1) * head_dim];
                values[to].copy_from_slice(row);
            }
        }
        (keys, values)
    }

    /// Takes the keys and values of a layer as [`layer_bits`](Self::layer_bits) gives them.
    pub fn set_layer_bits(&mut self, layer: usize, (keys, values): (&[u16], &[u16])) {
        let layout = self.layout.clone();
        let KvLayer { heads, head_dim } = layout.layer(layer);
        let width = heads * head_dim;
        assert_eq!(keys.len(), KV_TOKENS * width, "keys of a block");
        assert_eq!(values.len(), KV_TOKENS * width, "values of a block");
        for head in 0..heads {
            let (_, start) = layout.head(layer, head);
            let len = head_dim * KV_TOKENS;
            let (to_keys, to_values) = self.halves[start..start + 2 * len].split_at_mut(len);
            for slot in 0..KV_TOKENS {
                let from = slot * width + head * head_dim..slot * width + (head + 1) * head_dim;
                let column = to_keys[slot..].iter_mut().step_by(KV_TOKENS);
                for (to, from) in column.zip(&keys[from.clone()]) {
                    *to = *from;
                }
                let row = &mut to_values[slot * head_dim..(slot + 1) * head_dim];
                row.copy_from_slice(&values[from]);
            }
        }
    }

    /// Reads back what [`write`](Self::write) wrote.
    pub fn read(&self, layer: usize, slot: usize, (keys, values): (&mut [f32], &mut [f32])) {
        assert!(slot < KV_TOKENS, "slot {slot} of {KV_TOKENS}");
        let KvLayer { heads, head_dim } = self.layout.layer(layer);
        assert_eq!(keys.len(), heads * head_dim, "a row of keys");
        assert_eq!(values.len(), heads * head_dim, "a row of values");
        let rows = keys
            .chunks_exact_mut(head_dim)
            .zip(values.chunks_exact_mut(head_dim));
        for (head, (keys, values)) in rows.enumerate() {
            let (from_keys, from_values) = self.head(layer, head);
            for (d, (key, value)) in keys.iter_mut().zip(values).enumerate() {
                *key = f16::from_bits(from_keys[d * KV_TOKENS + slot]).to_f32();
                *value = f16::from_bits(from_values[slot * head_dim + d]).to_f32();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_halves_and_stay_apart() {
        let shapes = [
            KvLayer {
                heads: 2,
                head_dim: 24,
            },
            KvLayer {
                heads: 3,
                head_dim: 8,
            },
        ];
        let layout = KvLayout::new(&shapes);
        let pages = Buffer::<u16>::pages_for(2 * 32 * (48 + 24) + LANES);
        assert_eq!(layout.block_bytes(), pages);
        assert!(pages >= Buffer::<u16>::bytes_for(2 * 32 * (48 + 24) + LANES));
        let mut block = KvBlock::new(&layout).unwrap();
        let row = |layer: usize, slot: usize| -> (Vec<f32>, Vec<f32>) {
            let len = shapes[layer].heads * shapes[layer].head_dim;
            let value = |i: usize| (layer * 7919 + slot * 131 + i) as f32 * 0.01 + 0.003;
            (
                (0..len).map(value).collect(),
                (0..len).map(|i| -value(i)).collect(),
            )
        };
        for layer in 0..2 {
            for slot in 0..KV_TOKENS {
                let (k, v) = row(layer, slot);
                block.write(layer, slot, (&k, &v));
            }
        }
        for layer in 0..2 {
            for slot in 0..KV_TOKENS {
                let (k, v) = row(layer, slot);
                let (mut got_k, mut got_v) = (vec![0.0; k.len()], vec![0.0; v.len()]);
                block.read(layer, slot, (&mut got_k, &mut got_v));
                let half = |x: &f32| f16::from_f32(*x).to_f32();
                assert_eq!(got_k, k.iter().map(half).collect::<Vec<_>>());
                assert_eq!(got_v, v.iter().map(half).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn bits_move_to_another_place_in_another_block() {
        let shape = KvLayer {
            heads: 2,
            head_dim: 16,
        };
        let other = KvLayer {
            heads: 1,
            head_dim: 8,
        };
        let mut block = KvBlock::new(&KvLayout::new(&[shape])).unwrap();
        let row = |slot: usize, sign: f32| -> Vec<f32> {
            (0..32)
                .map(|i| sign * (slot * 32 + i) as f32 * 0.37)
                .collect()
        };
        for slot in 0..KV_TOKENS {
            block.write(0, slot, (&row(slot, 1.0), &row(slot, -1.0)));
        }
        let (keys, values) = block.layer_bits(0, 20);
        assert_eq!(keys[3 * 32 + 17], f16::from_f32(row(3, 1.0)[17]).to_bits());
        assert_eq!(
            values[19 * 32 + 5],
            f16::from_f32(row(19, -1.0)[5]).to_bits()
        );
        assert!(
            keys[20 * 32..]
                .iter()
                .chain(&values[20 * 32..])
                .all(|&bits| bits == 0)
        );
        let mut moved = KvBlock::new(&KvLayout::new(&[other, shape])).unwrap();
        moved.set_layer_bits(1, (&keys, &values));
        assert_eq!(moved.layer_bits(1, KV_TOKENS), (keys, values));
        assert!(
            moved
                .layer_bits(0, KV_TOKENS)
                .0
                .iter()
                .all(|&bits| bits == 0)
        );
    }

    #[test]
    fn what_no_half_can_hold_is_said() {
        let (heads, head_dim) = (2, 4);
        let mut block = KvBlock::new(&KvLayout::new(&[KvLayer { heads, head_dim }])).unwrap();
        let mut write = |at: usize, value: f32| {
            let mut row = [1.0; 16];
            row[at] = value;
            let (keys, values) = row.split_at(8);
            block.write(0, 3, (keys, values))
        };
        for at in 0..16 {
            assert!(write(at, 65_504.0) && write(at, -65_504.0), "{at}");
            for value in [65_520.0, -65_520.0, f32::INFINITY, f32::NAN] {
                assert!(!write(at, value), "{at}: {value}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "1 heads of 21")]
    fn an_odd_width_is_a_bug() {
        KvLayout::new(&[KvLayer {
            heads: 1,
            head_dim: 21,
        }]);
    }
}
