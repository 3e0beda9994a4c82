use std::marker::PhantomData;

use super::floats::FloatFormat;
use super::levels::Levels;
use super::tile::{Input, STREAMING, TileKernel};
use crate::activations::SmallRow;
use crate::packed::TILE;
use crate::simd::Dots;

/// Formats of 32-value blocks: sum over blocks, in order, of (integer sum) × (weight scale ×
/// input scale), then of minimum × (input scale × input sum); each step one fused multiply-add.
/// Scales and minima are of the float format `H`.
pub(super) struct Blocks<L, H, const MINS: bool>(PhantomData<(L, H)>);

impl<L: Levels, H: FloatFormat, const MINS: bool> TileKernel for Blocks<L, H, MINS> {
    #[inline(always)]
    fn outputs<S: Dots, const T: usize>(s: S, input: Input<'_>, half: usize) -> [S::Floats; T] {
        let mut rows = [input.x.small(input.token); T];
        for (t, row) in rows.iter_mut().enumerate() {
            *row = input.x.small(input.token + t);
        }
        let mut sums = [s.floats(0.0); T];
        for block in 0..input.layout.blocks {
            let (scales, unit) = input.layout.block(input.tile, block);
            if T <= STREAMING {
                s.fetch_ahead(scales);
                s.fetch_ahead(unit);
            }
            let weights = L::unpack(s, unit, half);
            let d = H::load(s, &scales[2 * half * S::LANES..][..2 * S::LANES]);
            for (sum, row) in sums.iter_mut().zip(&rows) {
                let ints = dot_unit::<S, L>(s, &weights, row, block);
                let [scale, _] = row.scales[block];
                let scale = s.mul(d, s.floats(scale));
                *sum = s.mul_add(s.to_floats(ints), scale, *sum);
            }
            if MINS {
                let m = H::load(s, &scales[2 * TILE + 2 * half * S::LANES..][..2 * S::LANES]);
                for (sum, row) in sums.iter_mut().zip(&rows) {
                    let [_, input_sum] = row.scales[block];
                    *sum = s.mul_add(m, s.floats(input_sum), *sum);
                }
            }
        }
        sums
    }
}

#[inline(always)]
fn dot_unit<S: Dots, L: Levels>(
    s: S,
    weights: &[[S::Bytes; 4]; 2],
    row: &SmallRow<'_>,
    block: usize,
) -> S::Ints {
    let words = &row.words[block];
    let sum = if L::OFFSET == 0 { 0 } else { row.sums[block] };
    let [first, last] = [
        [words[0], words[1], words[2], words[3]],
        [words[4], words[5], words[6], words[7]],
    ];
    let ints = L::dot(s, L::begin(s, sum), &weights[0], &first);
    L::dot(s, ints, &weights[1], &last)
}
