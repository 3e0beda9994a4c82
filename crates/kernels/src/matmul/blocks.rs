use std::marker::PhantomData;

use super::floats::FloatFormat;
use super::levels::Levels;
use super::tile::{Input, TileKernel, column, fetch};
use crate::activations::{Activations, SmallBlock};
use crate::packed::{TILE, VECTOR};
use crate::simd::Dots;

/// Formats of 32-value blocks: sum over blocks, in order, of (integer sum) × (weight scale ×
/// input scale), then of minimum × (input scale × input sum); each step one fused multiply-add.
/// Scales and minima are of the float format `H`.
pub(super) struct Blocks<L, H, const MINS: bool>(PhantomData<(L, H)>);

impl<L: Levels, H: FloatFormat, const MINS: bool> TileKernel for Blocks<L, H, MINS> {
    const ABREAST: bool = true;

    #[inline(always)]
    fn outputs<S: Dots, const N: usize, const T: usize>(
        s: S,
        input: Input<'_, N>,
        half: usize,
    ) -> [[S::Floats; T]; N] {
        let rows = input.rows::<_, T>(Activations::small);
        let mut sums = [[s.floats(0.0); T]; N];
        for block in 0..input.layout.blocks {
            let inputs = column(&rows, block);
            let mut scales: [&[u8]; N] = [&[]; N];
            let mut units: [&[u8]; N] = [&[]; N];
            for n in 0..N {
                let (scale, unit) = input.layout.block(input.tiles[n], block);
                (scales[n], units[n]) = (scale, &unit[..L::BITS * VECTOR]);
                fetch::<S, T>(s, scales[n], input.next);
                fetch::<S, T>(s, units[n], input.next);
            }
            let ints = dot_units::<S, L, N, T>(s, (units, half), inputs);
            for n in 0..N {
                let d = H::load(s, &scales[n][2 * half * S::LANES..][..2 * S::LANES]);
                for t in 0..T {
                    let scale = s.mul(d, s.floats(inputs[t].scale));
                    sums[n][t] = s.mul_add(s.to_floats(ints[n][t]), scale, sums[n][t]);
                }
                if MINS {
                    let at = 2 * TILE + 2 * half * S::LANES;
                    let m = H::load(s, &scales[n][at..][..2 * S::LANES]);
                    for t in 0..T {
                        let input_sum = s.floats(inputs[t].scaled_sum);
                        sums[n][t] = s.mul_add(m, input_sum, sums[n][t]);
                    }
                }
            }
        }
        sums
    }
}

/// The integer sums of a unit of each tile.
#[inline(always)]
fn dot_units<S: Dots, L: Levels, const N: usize, const T: usize>(
    s: S,
    (units, half): ([&[u8]; N], usize),
    inputs: [&SmallBlock; T],
) -> [[S::Ints; T]; N] {
    let mut begin = [s.ints(0); T];
    if L::OFFSET != 0 {
        for (begin, input) in begin.iter_mut().zip(inputs) {
            *begin = L::begin(s, input.sum);
        }
    }
    let mut ints = [begin; N];
    let mut first = [&[[0; 4]; 4]; T];
    let mut last = first;
    for (t, input) in inputs.iter().enumerate() {
        let words = input.words.as_chunks().0;
        (first[t], last[t]) = (&words[0], &words[1]);
    }
    let weights = unpacked::<S, L, N, 0>(s, units, half);
    L::dots(s, &mut ints, &weights, &first);
    let weights = unpacked::<S, L, N, 1>(s, units, half);
    L::dots(s, &mut ints, &weights, &last);
    ints
}

/// The first 16 columns of a unit of each tile, or the last.
#[inline(always)]
pub(super) fn unpacked<S: Dots, L: Levels, const N: usize, const LAST: usize>(
    s: S,
    units: [&[u8]; N],
    half: usize,
) -> [[S::Bytes; 4]; N] {
    let mut weights = [L::unpack::<S, LAST>(s, units[0], half); N];
    for n in 1..N {
        weights[n] = L::unpack::<S, LAST>(s, units[n], half);
    }
    weights
}
