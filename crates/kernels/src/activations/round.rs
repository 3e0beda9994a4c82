//! Rounding a block to int8.

use super::SuperBlock;
use crate::simd::Floats;

/// Magnitudes from here on have a scale that is a normal number, so its reciprocal is finite.
const LEAST: f32 = 127.0 * f32::MIN_POSITIVE;

/// The scale of a block of 16 N values, the int8 values as bytes and the sum of each 16; zeros
/// where the block cannot be rounded.
#[inline(always)]
fn block<S: Floats, const N: usize>(
    s: S,
    x: &[[f32; 16]; N],
    out: &mut [[u8; 16]; N],
) -> (f32, [i32; N]) {
    let mut sums = [0; N];
    let magnitude = f32::from_bits(s.greatest_magnitude(x));
    if !magnitude.is_finite() {
        *out = [[0; 16]; N];
        return (f32::NAN, sums);
    }
    if magnitude < LEAST {
        *out = [[0; 16]; N];
        return (0.0, sums);
    }
    let scale = magnitude / 127.0;
    // |value| <= 127 scale, and two roundings add far less than the half that would pass 127.5.
    let inverse = 1.0 / scale;
    for ((sum, out), x) in sums.iter_mut().zip(out).zip(x) {
        *sum = s.round_to_bytes(s.mul(s.load(x), s.splat(inverse)), out);
    }
    (scale, sums)
}

/// A block of 32: scale, scale × sum, sum.
#[inline(always)]
pub(super) fn block32<S: Floats>(
    s: S,
    x: &[[f32; 16]; 2],
    out: &mut [[u8; 16]; 2],
) -> ([f32; 2], i32) {
    let (scale, [first, last]) = block(s, x, out);
    let sum = first + last;
    // Exact: at most 32 × 127.
    ([scale, scale * sum as f32], sum)
}

/// A block of 256.
#[inline(always)]
pub(super) fn block256<S: Floats>(
    s: S,
    x: &[[f32; 16]; 16],
    out: &mut [[u8; 16]; 16],
) -> SuperBlock {
    let (scale, sums) = block(s, x, out);
    let mut block = SuperBlock {
        scale,
        ..SuperBlock::default()
    };
    for (i, word) in block.sums16.iter_mut().enumerate() {
        *word = pair(sums[2 * i], sums[2 * i + 1]);
    }
    for (i, word) in block.sums32.iter_mut().enumerate() {
        let [a, b, c, d] = [0, 1, 2, 3].map(|j| sums[4 * i + j]);
        *word = pair(a + b, c + d);
    }
    block
}

/// Two sums of at most 32 × 127, as 16-bit halves of a word.
#[inline(always)]
fn pair(low: i32, high: i32) -> i32 {
    low & 0xffff | high << 16
}
