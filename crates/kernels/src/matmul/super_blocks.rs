use super::tile::{Input, STREAMING, TileKernel};
use super::unit::unpack;
use crate::activations::{SuperBlock, SuperRow};
use crate::packed::{QUARTERS, TILE, VECTOR, quarter_bytes};
use crate::simd::Dots;

/// Formats of 256-value blocks with a small integer scale per `GROUP` values. All sums inside a
/// block are integers; then one fused multiply-add with (weight scale × input scale), and one for
/// the minima.
pub(super) struct SuperBlocks<const BITS: usize, const GROUP: usize, C>(C);

/// A correction of a block's sum for its groups: minima, or the offset of the values.
pub(super) trait Correction {
    /// A pair of groups: the two scales, and the factors of the two input sums.
    fn pair<S: Dots>(s: S, line: Line<'_>, unit: usize) -> (S::Ints, S::Ints);
    /// Adds a block to `sum`.
    fn finish<S: Dots>(s: S, block: Done<'_, S>, sum: S::Floats) -> S::Floats;
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

/// Signed values stored `O` too high.
pub(super) struct Offset<const O: i32>;
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
    fn add_products(&self, s: S, products: S::Ints, sum: S::Floats) -> S::Floats {
        let scale = s.mul(self.load(s, 0), s.floats(self.scale));
        s.mul_add(s.to_floats(products), scale, sum)
    }

    #[inline(always)]
    fn sub_mins(&self, s: S, sum: S::Floats) -> S::Floats {
        let scale = s.mul(self.load(s, 2 * TILE), s.floats(self.scale));
        s.mul_sub_from(s.to_floats(self.correction), scale, sum)
    }
}

impl<const O: i32> Correction for Offset<O> {
    #[inline(always)]
    fn pair<S: Dots>(s: S, line: Line<'_>, unit: usize) -> (S::Ints, S::Ints) {
        let scales = s.signed_pairs(line.pair::<S>(unit));
        (scales, scales)
    }

    #[inline(always)]
    fn finish<S: Dots>(s: S, block: Done<'_, S>, sum: S::Floats) -> S::Floats {
        let products = s.sub_times::<O>(block.products, block.correction);
        block.add_products(s, products, sum)
    }
}

impl Correction for GroupMins {
    #[inline(always)]
    fn pair<S: Dots>(s: S, line: Line<'_>, _unit: usize) -> (S::Ints, S::Ints) {
        // Six-bit numbers, so the sign bit is never set.
        let scales = s.signed_pairs(line.pair::<S>(0));
        let mins = s.signed_pairs(line.pair::<S>(1));
        (scales, mins)
    }

    #[inline(always)]
    fn finish<S: Dots>(s: S, block: Done<'_, S>, sum: S::Floats) -> S::Floats {
        let sum = block.add_products(s, block.products, sum);
        block.sub_mins(s, sum)
    }
}

impl Correction for NibbleMins {
    #[inline(always)]
    fn pair<S: Dots>(s: S, line: Line<'_>, unit: usize) -> (S::Ints, S::Ints) {
        s.nibble_pairs(line.pair::<S>(unit))
    }

    #[inline(always)]
    fn finish<S: Dots>(s: S, block: Done<'_, S>, sum: S::Floats) -> S::Floats {
        GroupMins::finish(s, block, sum)
    }
}

impl<const BITS: usize, const GROUP: usize, C: Correction> TileKernel
    for SuperBlocks<BITS, GROUP, C>
{
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
            let (products, corrections) =
                products::<S, BITS, GROUP, C, T>(s, &weights, &rows, block);
            for (t, sum) in sums.iter_mut().enumerate() {
                let done = Done {
                    products: products[t],
                    correction: corrections[t],
                    halves,
                    half,
                    scale: rows[t].blocks[block].scale,
                };
                *sum = C::finish(s, done, *sum);
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
fn products<S: Dots, const BITS: usize, const GROUP: usize, C: Correction, const T: usize>(
    s: S,
    weights: &Weights<'_>,
    rows: &[SuperRow<'_>; T],
    block: usize,
) -> ([S::Ints; T], [S::Ints; T]) {
    let Weights { body, half } = *weights;
    let mut products = [s.ints(0); T];
    let mut corrections = [s.ints(0); T];
    for quarter in 0..QUARTERS {
        let bytes = &body[quarter * quarter_bytes(BITS)..][..quarter_bytes(BITS)];
        if T <= STREAMING {
            s.fetch_ahead(bytes);
        }
        let (line, units) = bytes.split_at(VECTOR);
        let line = Line { bytes: line, half };
        for unit in 0..2 {
            let index = 2 * quarter + unit;
            let (scales, correction) = C::pair(s, line, unit);
            // A pair of groups is one unit, or both.
            let pair = if GROUP == 16 { index } else { quarter };
            if GROUP == 16 || unit == 0 {
                for (sum, row) in corrections.iter_mut().zip(rows) {
                    let input = pair_sum::<GROUP>(&row.blocks[block], pair);
                    *sum = s.pair_dot(*sum, correction, input);
                }
            }
            let scales = [s.low(scales), s.high(scales)];
            let weights =
                unpack::<S, BITS>(s, &units[unit * BITS * VECTOR..][..BITS * VECTOR], half);
            for (sum, row) in products.iter_mut().zip(rows) {
                let words = row.words[block].as_chunks().0;
                let (first, last) = (&words[2 * index], &words[2 * index + 1]);
                let first = s.dot::<BITS>(s.ints(0), &weights[0], first);
                if GROUP == 32 {
                    let both = s.dot::<BITS>(first, &weights[1], last);
                    *sum = s.add_product(*sum, both, scales[unit]);
                } else {
                    let last = s.dot::<BITS>(s.ints(0), &weights[1], last);
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
