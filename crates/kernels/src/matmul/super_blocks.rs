use std::marker::PhantomData;

use super::blocks::unpacked;
use super::levels::Levels;
use super::tile::{Input, TileKernel, column, fetch};
use crate::activations::{Activations, SuperBlock};
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
    // Sums of products and of corrections: with two tiles they pass the registers, and were slower.
    const ABREAST: bool = false;

    #[inline(always)]
    fn outputs<S: Dots, const N: usize, const T: usize>(
        s: S,
        input: Input<'_, N>,
        half: usize,
    ) -> [[S::Floats; T]; N] {
        let rows = input.rows::<_, T>(Activations::super_row);
        let mut sums = [[s.floats(0.0); T]; N];
        for (sums, tile) in sums.iter_mut().zip(input.tiles) {
            for block in 0..input.layout.blocks {
                let stored = input.layout.block(tile, block);
                let weights = Self::weights::<S, T>(s, stored, half, input.next);
                Self::add_block(s, &weights, column(&rows, block), sums);
            }
        }
        sums
    }
}

/// A block of a tile.
struct Weights<'a> {
    halves: &'a [u8],
    body: &'a [u8],
    half: usize,
    /// See [`Input`].
    next: usize,
}

impl<L: Levels, const GROUP: usize, C: Correction> SuperBlocks<L, GROUP, C> {
    const UNITS_IN_LINE: usize = units_in_line(GROUP, C::MINS);
    /// A pair of groups is one unit, or two.
    const UNITS_OF_PAIR: usize = if GROUP == 16 { 1 } else { 2 };
    /// Bytes of a line of group scales with its units.
    const STRETCH: usize = stretch_bytes(Self::UNITS_IN_LINE, L::BITS);

    #[inline(always)]
    fn weights<'a, S: Dots, const T: usize>(
        s: S,
        (halves, body): (&'a [u8], &'a [u8]),
        half: usize,
        next: usize,
    ) -> Weights<'a> {
        fetch::<S, T>(s, halves, next);
        Weights {
            halves,
            // So long it is: said where the compiler sees it.
            body: &body[..UNITS / Self::UNITS_IN_LINE * Self::STRETCH],
            half,
            next,
        }
    }

    /// A line of group scales and its units.
    #[inline(always)]
    fn line(body: &[u8], line: usize) -> &[u8] {
        &body[line * Self::STRETCH..][..Self::STRETCH]
    }

    /// The scales and corrections of the pair of groups that a unit is of, or has.
    #[inline(always)]
    fn pair<S: Dots>(
        s: S,
        body: &[u8],
        half: usize,
        [line, in_line]: [usize; 2],
    ) -> (S::Ints, S::Ints) {
        let bytes = &Self::line(body, line)[..VECTOR];
        C::pair(s, Line { bytes, half }, in_line / Self::UNITS_OF_PAIR)
    }

    /// Adds a block to `sums`.
    #[inline(always)]
    fn add_block<S: Dots, const T: usize>(
        s: S,
        weights: &Weights<'_>,
        inputs: [&SuperBlock; T],
        sums: &mut [S::Floats; T],
    ) {
        let mut products = [s.ints(0); T];
        let mut corrections = products;
        for line in 0..UNITS / Self::UNITS_IN_LINE {
            for in_line in 0..Self::UNITS_IN_LINE {
                let unit = [line, in_line];
                Self::add_corrections(s, weights, (&inputs, unit), &mut corrections);
                Self::add_products(s, weights, (&inputs, unit), &mut products);
            }
        }
        for (t, sum) in sums.iter_mut().enumerate() {
            let done = Done {
                products: products[t],
                correction: corrections[t],
                halves: weights.halves,
                half: weights.half,
                scale: inputs[t].scale,
            };
            *sum = C::finish::<S, L>(s, done, *sum);
        }
    }

    /// Adds the group corrections × input sums of the pair of groups that a unit begins, if it does.
    #[inline(always)]
    fn add_corrections<S: Dots, const T: usize>(
        s: S,
        weights: &Weights<'_>,
        (inputs, unit): (&[&SuperBlock; T], [usize; 2]),
        sums: &mut [S::Ints; T],
    ) {
        let [line, in_line] = unit;
        if !in_line.is_multiple_of(Self::UNITS_OF_PAIR) {
            return;
        }
        let index = (line * Self::UNITS_IN_LINE + in_line) / Self::UNITS_OF_PAIR;
        let (_, correction) = Self::pair(s, weights.body, weights.half, unit);
        for (sum, input) in sums.iter_mut().zip(inputs) {
            let input = pair_sum::<GROUP>(input, index);
            *sum = s.pair_dot(*sum, correction, input);
        }
    }

    /// Adds the group scales × values × inputs of a unit.
    #[inline(always)]
    fn add_products<S: Dots, const T: usize>(
        s: S,
        weights: &Weights<'_>,
        (inputs, unit): (&[&SuperBlock; T], [usize; 2]),
        sums: &mut [S::Ints; T],
    ) {
        let Weights { body, half, .. } = *weights;
        let [line, in_line] = unit;
        let stretch = Self::line(body, line);
        if in_line == 0 {
            fetch::<S, T>(s, stretch, weights.next);
        }
        let (pair, _) = Self::pair(s, body, half, unit);
        let scales = [s.low(pair), s.high(pair)];
        let at = VECTOR + in_line * L::BITS * VECTOR;
        let values = [&stretch[at..][..L::BITS * VECTOR]];
        let mut first = [&[[0; 4]; 4]; T];
        let mut last = first;
        let index = 2 * (line * Self::UNITS_IN_LINE + in_line);
        for (t, input) in inputs.iter().enumerate() {
            let words = input.words.as_chunks().0;
            (first[t], last[t]) = (&words[index], &words[index + 1]);
        }
        let mut dots = [[s.ints(0); T]];
        let bytes = unpacked::<S, L, 1, 0>(s, values, half);
        L::dots(s, &mut dots, &bytes, &first);
        if GROUP == 16 {
            add_scaled(s, sums, &dots[0], scales[0]);
            dots = [[s.ints(0); T]];
        }
        let bytes = unpacked::<S, L, 1, 1>(s, values, half);
        L::dots(s, &mut dots, &bytes, &last);
        let which = if GROUP == 16 { 1 } else { in_line % 2 };
        add_scaled(s, sums, &dots[0], scales[which]);
    }
}

#[inline(always)]
fn add_scaled<S: Dots, const T: usize>(
    s: S,
    sums: &mut [S::Ints; T],
    dots: &[S::Ints; T],
    scale: S::Ints,
) {
    for (sum, dot) in sums.iter_mut().zip(dots) {
        *sum = s.add_product(*sum, *dot, scale);
    }
}

#[inline(always)]
fn pair_sum<const GROUP: usize>(block: &SuperBlock, pair: usize) -> i32 {
    if GROUP == 32 {
        block.sums32[pair]
    } else {
        block.sums16[pair]
    }
}
