//! The operations of attention: its tiles, the parts that long sequences are shared out in, and the slabs that
//! kernels bind.

use gogrid_units::Work;

use crate::cost::{Class, Cost};
use crate::device::Part;
use crate::info::Tiles;
use crate::kernel::Kernel;
use crate::limits::{SLABS_BOUND, SPLITS_MAX};
use crate::parts::{At, MixerPart};
use crate::passes::Attend;
use crate::program::{NONE, Program, Words, pass, piece_number};
use crate::recorder::Recorder;

impl<R: Recorder> Program<'_, R> {
    pub(crate) fn turn_and_keep(&mut self, part: &MixerPart<R>) {
        let spec = part.spec;
        let pool = &self.pools[spec.kv_group];
        let slot = pool.shape.layers[part.kv_slot];
        let heads = spec.heads + 2 * spec.kv_heads;
        let (q_norm, k_norm) = match part.is_normed_whole {
            true => (None, None),
            false => (part.q_norm, part.k_norm),
        };
        for (index, (first_slab, slabs)) in self.slabs(spec.kv_group).into_iter().enumerate() {
            let at = |at: At| at.unwrap_or(NONE) as usize;
            let words = Words::of(self.rows, heads, 1)
                .add([self.widths.qkv, spec.head_dim, spec.heads, spec.kv_heads])
                .add([at(q_norm), at(k_norm)])
                .float(self.epsilon)
                .add([self.info.turns[part.rotation], spec.pairs])
                .add([usize::from(spec.are_halves), self.info.rows[spec.kv_group]])
                .add([
                    pool.slabs.per_slab(),
                    pool.shape.slot_words,
                    slot.first,
                    first_slab,
                ])
                .add([piece_number(part.piece, self.layers) as usize, slot.words])
                // Queries are turned once.
                .add([usize::from(index == 0)]);
            let mut parts = vec![
                Part::all(&self.scratch.qkv),
                Part::all(&self.pieces.vectors),
                Part::all(&self.scratch.info),
                Part::all(&self.scratch.flags),
            ];
            parts.extend(slabs);
            let cost = pass(self.rows * heads * spec.head_dim * 12);
            self.push(Kernel::TurnAndKeep, parts, words.costing(cost));
        }
    }

    /// A group's slabs, as many at a time as a kernel binds; where there are fewer, one of them stands for
    /// the rest.
    fn slabs(&self, group: usize) -> Vec<BoundSlabs<R>> {
        let buffers = self.pools[group].slabs.buffers();
        let Some(any) = buffers.iter().flatten().next() else {
            return Vec::new();
        };
        let groups = buffers.chunks(SLABS_BOUND).enumerate();
        let bound = groups.filter(|(_, slabs)| slabs.iter().any(Option::is_some));
        bound
            .map(|(index, slabs)| {
                let slab = |i: usize| slabs.get(i).and_then(Option::as_ref).unwrap_or(any);
                let parts = (0..SLABS_BOUND).map(|i| Part::all(slab(i))).collect();
                (index * SLABS_BOUND, parts)
            })
            .collect()
    }

    pub(crate) fn attend(&mut self, part: &MixerPart<R>, tiles: Tiles) {
        let spec = part.spec;
        let slabs = self.slabs(spec.kv_group);
        let kernel = Attend::of(spec.head_dim, spec.heads / spec.kv_heads);
        let row_bytes = spec.heads * (spec.head_dim + 2) * 4;
        let splits = self.splits(&kernel, (part, tiles), slabs.len());
        let parts = splits * slabs.len();
        // As many tiles at a time as the parts' results have room for.
        let at_once = match parts {
            1 => tiles.count,
            _ => {
                let rows = self.scratch.parts.bytes as usize / (row_bytes * parts);
                (rows / tiles.rows).clamp(1, tiles.count.max(1))
            }
        };
        let mut done = 0;
        while done < tiles.count {
            let count = at_once.min(tiles.count - done);
            let some = SomeTiles {
                tiles,
                first: done,
                count,
            };
            let share = Splits { splits, parts };
            self.attend_some((part, &kernel), &some, (&slabs, share));
            done += count;
        }
    }

    /// The parts that each tile's tokens are shared out in: enough for all of the device, where a tile sees
    /// many tokens.
    fn splits(
        &self,
        kernel: &Attend,
        (part, tiles): (&MixerPart<R>, Tiles),
        slab_groups: usize,
    ) -> usize {
        let spec = part.spec;
        let head_tiles = (spec.heads / spec.kv_heads).div_ceil(kernel.heads);
        let groups = (tiles.count * spec.kv_heads * head_tiles).max(1);
        let wanted = if self.device.facts().is_software {
            4
        } else {
            256
        };
        let row_bytes = spec.heads * (spec.head_dim + 2) * 4 * slab_groups.max(1) * tiles.rows;
        let room = self.scratch.parts.bytes as usize / row_bytes.max(1);
        (wanted / groups)
            .min(tiles.blocks / 4)
            .min(room)
            .clamp(1, SPLITS_MAX)
    }

    fn attend_some(
        &mut self,
        (part, kernel): (&MixerPart<R>, &Attend),
        some: &SomeTiles,
        (slabs, share): (&[BoundSlabs<R>], Splits),
    ) {
        let spec = part.spec;
        let pool = &self.pools[spec.kv_group];
        let slot = pool.shape.layers[part.kv_slot];
        let sharing = spec.heads / spec.kv_heads;
        let head_tiles = sharing.div_ceil(kernel.heads);
        let first_row = self.info.words[some.tiles.first + 4 * some.first] as usize;
        let last = some.tiles.first + 4 * (some.first + some.count - 1);
        let end_row = (self.info.words[last] + self.info.words[last + 1]) as usize;
        let scratch = self.scratch;
        let to = match share.parts {
            1 => &scratch.attended,
            _ => &scratch.parts,
        };
        for (index, (first_slab, slabs)) in slabs.iter().enumerate() {
            let words = Words::of(some.count * share.splits, spec.kv_heads * head_tiles, 1)
                .add([
                    self.widths.qkv,
                    some.tiles.first + 4 * some.first,
                    spec.heads,
                ])
                .add([spec.kv_heads, sharing, head_tiles])
                .float(spec.scale)
                .float(spec.softcap.unwrap_or(0.0))
                .add([
                    spec.window.unwrap_or(0),
                    pool.slabs.per_slab(),
                    pool.shape.slot_words,
                ])
                .add([slot.first, slot.words, *first_slab])
                .add([some.tiles.blocks.div_ceil(share.splits), share.parts])
                .add([
                    index * share.splits,
                    self.widths.attended,
                    first_row,
                    share.splits,
                ]);
            let mut parts = vec![
                Part::all(&scratch.qkv),
                Part::all(&scratch.info),
                Part::all(to),
            ];
            parts.extend(slabs.iter().cloned());
            let tokens = some.tiles.blocks * 32;
            let amount = some.count * kernel.rows * spec.heads * tokens * spec.head_dim * 4;
            let cost = Cost {
                class: Class::Attention,
                amount: amount as f64,
                work: Work {
                    bytes: (some.count * spec.kv_heads * tokens * spec.head_dim * 4) as u64,
                    multiply_adds: (amount / 2) as u64,
                },
            };
            self.push(Kernel::Attend(*kernel), parts, words.costing(cost));
        }
        if share.parts > 1 {
            let rows = end_row - first_row;
            let words = Words::of(rows, spec.heads, 1).add([
                spec.heads,
                share.parts,
                spec.head_dim,
                self.widths.attended,
                first_row,
            ]);
            let parts = vec![Part::all(&scratch.parts), Part::all(&scratch.attended)];
            let cost = pass(rows * spec.heads * share.parts * spec.head_dim * 4);
            self.push(Kernel::Merge, parts, words.costing(cost));
        }
    }
}

/// Slabs that a kernel binds together, and the number of the first.
type BoundSlabs<R> = (usize, Vec<Part<R>>);

/// Tiles that attention does together.
struct SomeTiles {
    tiles: Tiles,
    first: usize,
    count: usize,
}

/// How attention is shared out: of the tokens in slabs that are bound together, and in all.
#[derive(Clone, Copy)]
struct Splits {
    splits: usize,
    parts: usize,
}
