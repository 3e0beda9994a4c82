use super::lanes::{Input, Kernel, Lanes, STREAMING};
use super::unit::unpack;
use crate::activations::{SuperBlock, SuperRow};
use crate::packed::{TILE, VECTOR};

/// Units of 32 columns in a block.
const UNITS: usize = 8;

/// Formats of 256-value blocks with a small integer scale per `GROUP` values. All sums inside a
/// block are integers; then one fused multiply-add with (weight scale × input scale), and one for
/// the minima.
pub(super) struct SuperBlocks<const BITS: usize, const GROUP: usize, C>(C);

/// What is taken off a block's sum for its groups: minima, or the offset of the values.
pub(super) trait Correction {
    /// Bytes of scales before the groups' own.
    const HALVES: usize;
    /// A pair of groups: the two scales, and what multiplies the two input sums.
    fn pair<S: Lanes>(s: S, at: Pair<'_>) -> (S::Ints, S::Ints);
    /// Adds a block to `sum`.
    fn finish<S: Lanes>(s: S, block: Done<'_, S>, sum: S::Floats) -> S::Floats;
}

/// Where a pair of groups' bytes lie.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    scales: &'a [u8],
    pair: usize,
    half: usize,
    pairs: usize,
}

/// A block's integer sums, ready to be scaled.
pub(super) struct Done<'a, S: Lanes> {
    /// Σ group scale × Σ value × input.
    products: S::Ints,
    /// Σ group correction × Σ input.
    correction: S::Ints,
    scales: &'a [u8],
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

impl Pair<'_> {
    /// The lanes' bytes of pair `index` after the block's halves.
    #[inline(always)]
    fn bytes<S: Lanes>(&self, halves: usize, index: usize) -> &[u8] {
        &self.scales[halves + index * 2 * TILE + self.half * 2 * S::LANES..][..2 * S::LANES]
    }
}

impl<S: Lanes> Done<'_, S> {
    #[inline(always)]
    fn halves(&self, s: S, at: usize) -> S::Floats {
        s.f16s(&self.scales[at + self.half * 2 * S::LANES..][..2 * S::LANES])
    }

    #[inline(always)]
    fn add_products(&self, s: S, products: S::Ints, sum: S::Floats) -> S::Floats {
        let scale = s.mul(self.halves(s, 0), s.floats(self.scale));
        s.mul_add(s.to_floats(products), scale, sum)
    }

    #[inline(always)]
    fn sub_mins(&self, s: S, sum: S::Floats) -> S::Floats {
        let scale = s.mul(self.halves(s, 2 * TILE), s.floats(self.scale));
        s.mul_sub_from(s.to_floats(self.correction), scale, sum)
    }
}

impl<const O: i32> Correction for Offset<O> {
    const HALVES: usize = 2 * TILE;

    #[inline(always)]
    fn pair<S: Lanes>(s: S, at: Pair<'_>) -> (S::Ints, S::Ints) {
        let scales = s.signed_pairs(at.bytes::<S>(Self::HALVES, at.pair));
        (scales, scales)
    }

    #[inline(always)]
    fn finish<S: Lanes>(s: S, block: Done<'_, S>, sum: S::Floats) -> S::Floats {
        let products = s.sub_times::<O>(block.products, block.correction);
        block.add_products(s, products, sum)
    }
}

impl Correction for GroupMins {
    const HALVES: usize = 4 * TILE;

    #[inline(always)]
    fn pair<S: Lanes>(s: S, at: Pair<'_>) -> (S::Ints, S::Ints) {
        // Six-bit numbers, so the sign bit is never set.
        let scales = s.signed_pairs(at.bytes::<S>(Self::HALVES, at.pair));
        let mins = s.signed_pairs(at.bytes::<S>(Self::HALVES, at.pairs + at.pair));
        (scales, mins)
    }

    #[inline(always)]
    fn finish<S: Lanes>(s: S, block: Done<'_, S>, sum: S::Floats) -> S::Floats {
        let sum = block.add_products(s, block.products, sum);
        block.sub_mins(s, sum)
    }
}

impl Correction for NibbleMins {
    const HALVES: usize = 4 * TILE;

    #[inline(always)]
    fn pair<S: Lanes>(s: S, at: Pair<'_>) -> (S::Ints, S::Ints) {
        s.nibble_pairs(at.bytes::<S>(Self::HALVES, at.pair))
    }

    #[inline(always)]
    fn finish<S: Lanes>(s: S, block: Done<'_, S>, sum: S::Floats) -> S::Floats {
        GroupMins::finish(s, block, sum)
    }
}

impl<const BITS: usize, const GROUP: usize, C: Correction> Kernel for SuperBlocks<BITS, GROUP, C> {
    #[inline(always)]
    fn outputs<S: Lanes, const T: usize>(s: S, input: Input<'_>, half: usize) -> [S::Floats; T] {
        let blocks = input.layout.blocks(input.tile);
        let mut rows = [input.x.super_row(input.token); T];
        for (t, row) in rows.iter_mut().enumerate() {
            *row = input.x.super_row(input.token + t);
        }
        let mut sums = [s.floats(0.0); T];
        for (block, (values, scales)) in blocks.enumerate() {
            if T <= STREAMING {
                s.fetch_ahead(scales);
            }
            let weights = Weights {
                values,
                scales,
                half,
            };
            let (products, corrections) =
                products::<S, BITS, GROUP, C, T>(s, &weights, &rows, block);
            for (t, sum) in sums.iter_mut().enumerate() {
                let done = Done {
                    products: products[t],
                    correction: corrections[t],
                    scales,
                    half,
                    scale: rows[t].blocks[block].scale,
                };
                *sum = C::finish(s, done, *sum);
            }
        }
        sums
    }
}

/// One block of a tile.
struct Weights<'a> {
    values: &'a [u8],
    scales: &'a [u8],
    half: usize,
}

#[inline(always)]
fn products<S: Lanes, const BITS: usize, const GROUP: usize, C: Correction, const T: usize>(
    s: S,
    weights: &Weights<'_>,
    rows: &[SuperRow<'_>; T],
    block: usize,
) -> ([S::Ints; T], [S::Ints; T]) {
    let Weights {
        values,
        scales,
        half,
    } = *weights;
    let mut products = [s.ints(0); T];
    let mut corrections = [s.ints(0); T];
    let pairs = 128 / GROUP;
    for pair in 0..pairs {
        let at = Pair {
            scales,
            pair,
            half,
            pairs,
        };
        let (scale, correction) = C::pair::<S>(s, at);
        for (sum, row) in corrections.iter_mut().zip(rows) {
            let input = pair_sum::<GROUP>(&row.blocks[block], pair);
            *sum = s.pair_dot(*sum, correction, input);
        }
        let scale = [s.low(scale), s.high(scale)];
        let units = UNITS / pairs;
        for unit in pair * units..(pair + 1) * units {
            let bytes = &values[unit * BITS * VECTOR..][..BITS * VECTOR];
            if T <= STREAMING {
                s.fetch_ahead(bytes);
            }
            let weights = unpack::<S, BITS>(s, bytes, half);
            for (sum, row) in products.iter_mut().zip(rows) {
                let words = &row.words[block].as_chunks().0[2 * unit..2 * unit + 2];
                let first = s.dot::<BITS>(s.ints(0), &weights[0], &words[0]);
                if GROUP == 32 {
                    let both = s.dot::<BITS>(first, &weights[1], &words[1]);
                    *sum = s.add_product(*sum, both, scale[unit % 2]);
                } else {
                    let last = s.dot::<BITS>(s.ints(0), &weights[1], &words[1]);
                    *sum = s.add_product(*sum, first, scale[0]);
                    *sum = s.add_product(*sum, last, scale[1]);
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
