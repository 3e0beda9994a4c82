use std::marker::PhantomData;

use super::levels::Levels;
use super::tile::{Input, STREAMING, TileKernel};
use crate::activations::{SuperBlock, SuperRow};
use crate::packed::{TILE, UNITS, VECTOR, stretch_bytes};
use crate::quant::units_in_line;
use crate::simd::Dots;

/// Formats of 256-value blocks with a small integer scale per `GROUP` values. All sums inside a
/// block are integers; then one fused multiply-add with (weight scale × input scale), and one for
/// the minima.
pub(super) struct SuperBlocks<L, const GROUP: usize, C>(PhantomData<(L, C)>);

/// A correction of a block's sum for its groups: minima, or the offset of the values.
pub(super) trait Correction {
    /// Whether groups have minima.
    const MINS: bool;
    /// Pair `index` of a line's groups: the two scales, and the factors of the two input sums.
    fn pair<S: Dots>(s: S, line: Line<'_>, index: usize) -> (S::Ints, S::Ints);
    /// Adds a block to `sum`.
    fn finish<S: Dots, L: Levels>(s: S, block: Done<'_, S>, sum: S::Floats) -> S::Floats;
}

/// A line of group scales.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    bytes: &'a [u8],
    half: usize,
}

/// A block's integer sums, ready to be scaled.
pub(super) struct Done<'a, S: Dots> {
    /// Σ group scale × Σ value × input.
    products: S::Ints,
    /// Σ group correction × Σ input.
    correction: S::Ints,
    halves: &'a [u8],
    half: usize,
    /// Of the inputs.
    scale: f32,
}

/// None: what is taken off is the levels' offset.
pub(super) struct NoMins;
/// Minima in bytes of their own.
pub(super) struct GroupMins;
/// Minima in the high nibbles of the scales.
pub(super) struct NibbleMins;

impl<'a> Line<'a> {
    /// The lanes' bytes of the first pair or the second.
    #[inline(always)]
    fn pair<S: Dots>(self, index: usize) -> &'a [u8] {
        &self.bytes[index * 2 * TILE + self.half * 2 * S::LANES..][..2 * S::LANES]
    }
}

impl<S: Dots> Done<'_, S> {
    #[inline(always)]
    fn load(&self, s: S, at: usize) -> S::Floats {
        s.f16s(&self.halves[at + self.half * 2 * S::LANES..][..2 * S::LANES])
    }

    #[inline(always)]
    fn add_products(&self, s: S, products: S::Ints, (part, sum): (f32, S::Floats)) -> S::Floats {
        let scale = s.mul(self.load(s, 0), s.floats(part * self.scale));
        s.mul_add(s.to_floats(products), scale, sum)
    }

    #[inline(always)]
    fn sub_mins(&self, s: S, sum: S::Floats) -> S::Floats {
        let scale = s.mul(self.load(s, 2 * TILE), s.floats(self.scale));
        s.mul_sub_from(s.to_floats(self.correction), scale, sum)
    }
}

impl Correction for NoMins {
    const MINS: bool = false;

    #[inline(always)]
    fn pair<S: Dots>(s: S, line: Line<'_>, index: usize) -> (S::Ints, S::Ints) {
        let scales = s.signed_pairs(line.pair::<S>(index));
        (scales, scales)
    }

    #[inline(always)]
    fn finish<S: Dots, L: Levels>(s: S, block: Done<'_, S>, sum: S::Floats) -> S::Floats {
        let products = L::centre(s, block.products, block.correction);
        block.add_products(s, products, (L::PART, sum))
    }
}

impl Correction for GroupMins {
    const MINS: bool = true;

    #[inline(always)]
    fn pair<S: Dots>(s: S, line: Line<'_>, _index: usize) -> (S::Ints, S::Ints) {
        // Six-bit numbers, so the sign bit is never set.
        let scales = s.signed_pairs(line.pair::<S>(0));
        let mins = s.signed_pairs(line.pair::<S>(1));
        (scales, mins)
    }

    #[inline(always)]
    fn finish<S: Dots, L: Levels>(s: S, block: Done<'_, S>, sum: S::Floats) -> S::Floats {
        let sum = block.add_products(s, block.products, (L::PART, sum));
        block.sub_mins(s, sum)
    }
}

impl Correction for NibbleMins {
    const MINS: bool = true;

    #[inline(always)]
    fn pair<S: Dots>(s: S, line: Line<'_>, index: usize) -> (S::Ints, S::Ints) {
        s.nibble_pairs(line.pair::<S>(index))
    }

    #[inline(always)]
    fn finish<S: Dots, L: Levels>(s: S, block: Done<'_, S>, sum: S::Floats) -> S::Floats {
        GroupMins::finish::<S, L>(s, block, sum)
    }
}

impl<L: Levels, const GROUP: usize, C: Correction> TileKernel for SuperBlocks<L, GROUP, C> {
    #[inline(always)]
    fn outputs<S: Dots, const T: usize>(s: S, input: Input<'_>, half: usize) -> [S::Floats; T] {
        let mut rows = [input.x.super_row(input.token); T];
        for (t, row) in rows.iter_mut().enumerate() {
            *row = input.x.super_row(input.token + t);
        }
        let mut sums = [s.floats(0.0); T];
        for block in 0..input.layout.blocks {
            let (halves, body) = input.layout.block(input.tile, block);
            if T <= STREAMING {
                s.fetch_ahead(halves);
            }
            let weights = Weights { body, half };
            let (products, corrections) = products::<S, L, C, GROUP, T>(s, &weights, &rows, block);
            for (t, sum) in sums.iter_mut().enumerate() {
                let done = Done {
                    products: products[t],
                    correction: corrections[t],
                    halves,
                    half,
                    scale: rows[t].blocks[block].scale,
                };
                *sum = C::finish::<S, L>(s, done, *sum);
            }
        }
        sums
    }
}

/// One block's body.
struct Weights<'a> {
    body: &'a [u8],
    half: usize,
}

#[inline(always)]
fn products<S: Dots, L: Levels, C: Correction, const GROUP: usize, const T: usize>(
    s: S,
    weights: &Weights<'_>,
    rows: &[SuperRow<'_>; T],
    block: usize,
) -> ([S::Ints; T], [S::Ints; T]) {
    let Weights { body, half } = *weights;
    let mut products = [s.ints(0); T];
    let mut corrections = [s.ints(0); T];
    let units_in_line = const { units_in_line(GROUP, C::MINS) };
    let bytes = stretch_bytes(units_in_line, L::BITS);
    for stretch in 0..UNITS / units_in_line {
        let bytes = &body[stretch * bytes..][..bytes];
        if T <= STREAMING {
            s.fetch_ahead(bytes);
        }
        let (line, units) = bytes.split_at(VECTOR);
        let line = Line { bytes: line, half };
        for unit in 0..units_in_line {
            let index = units_in_line * stretch + unit;
            // A pair of groups is one unit, or two.
            let units_of_pair = if GROUP == 16 { 1 } else { 2 };
            let (scales, correction) = C::pair(s, line, unit / units_of_pair);
            if unit % units_of_pair == 0 {
                for (sum, row) in corrections.iter_mut().zip(rows) {
                    let input = pair_sum::<GROUP>(&row.blocks[block], index / units_of_pair);
                    *sum = s.pair_dot(*sum, correction, input);
                }
            }
            let scales = [s.low(scales), s.high(scales)];
            let unit_bytes = &units[unit * L::BITS * VECTOR..][..L::BITS * VECTOR];
            let weights = L::unpack(s, unit_bytes, half);
            for (sum, row) in products.iter_mut().zip(rows) {
                let words = row.words[block].as_chunks().0;
                let (first, last) = (&words[2 * index], &words[2 * index + 1]);
                let first = L::dot(s, s.ints(0), &weights[0], first);
                if GROUP == 32 {
                    let both = L::dot(s, first, &weights[1], last);
                    *sum = s.add_product(*sum, both, scales[unit % 2]);
                } else {
                    let last = L::dot(s, s.ints(0), &weights[1], last);
                    *sum = s.add_product(*sum, first, scales[0]);
                    *sum = s.add_product(*sum, last, scales[1]);
                }
            }
        }
    }
    (products, corrections)
}

#[inline(always)]
fn pair_sum<const GROUP: usize>(block: &SuperBlock, pair: usize) -> i32 {
    if GROUP == 32 {
        block.sums32[pair]
    } else {
        block.sums16[pair]
    }
}
