//! Rounding a block to int8.

use super::{SmallBlock, SuperBlock};
use crate::simd::{Floats, Word};

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

/// A block of 32.
#[inline(always)]
pub(super) fn round32<S: Floats>(s: S, x: &[[f32; 16]; 2], to: &mut SmallBlock) {
    let (scale, [first, last]) = block(s, x, sixteens(&mut to.words));
    to.scale = scale;
    to.sum = first + last;
    // Exact: at most 32 × 127.
    to.scaled_sum = scale * to.sum as f32;
}

/// A block of 256.
#[inline(always)]
pub(super) fn round256<S: Floats>(s: S, x: &[[f32; 16]; 16], to: &mut SuperBlock) {
    let (scale, sums) = block(s, x, sixteens(&mut to.words));
    to.scale = scale;
    for (i, word) in to.sums16.iter_mut().enumerate() {
        *word = pair(sums[2 * i], sums[2 * i + 1]);
    }
    for (i, word) in to.sums32.iter_mut().enumerate() {
        let [a, b, c, d] = [0, 1, 2, 3].map(|j| sums[4 * i + j]);
        *word = pair(a + b, c + d);
    }
}

/// The words as runs of 16 bytes; there are N of them.
#[inline(always)]
fn sixteens<const N: usize>(words: &mut [Word]) -> &mut [[u8; 16]; N] {
    let bytes = words.as_flattened_mut().as_chunks_mut().0;
    bytes.first_chunk_mut().expect("a block's words")
}

/// Two sums of at most 32 × 127, as 16-bit halves of a word.
#[inline(always)]
fn pair(low: i32, high: i32) -> i32 {
    low & 0xffff | high << 16
}
