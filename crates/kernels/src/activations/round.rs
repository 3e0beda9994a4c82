//! Rounding a block to int8. Plain Rust with a fixed meaning, compiled once for each instruction
//! set, so every set gives the same bits.

use super::SuperBlock;

/// Magnitudes from here on have a scale that is a normal number, so its reciprocal is finite.
const LEAST: f32 = 127.0 * f32::MIN_POSITIVE;

/// The scale of a block, the int8 values as bytes and their sums over `N / S` at a time; zeros
/// where the block cannot be rounded.
#[inline(always)]
fn round<const N: usize, const S: usize>(x: &[f32; N], out: &mut [u8; N]) -> (f32, [i32; S]) {
    let magnitude = magnitude(x);
    if !magnitude.is_finite() {
        *out = [0; N];
        return (f32::NAN, [0; S]);
    }
    if magnitude < LEAST {
        *out = [0; N];
        return (0.0, [0; S]);
    }
    let scale = magnitude / 127.0;
    let inverse = 1.0 / scale;
    let mut sums = [0; S];
    let parts = out.as_chunks_mut::<WIDE>().0.iter_mut();
    for (i, (out, x)) in parts.zip(x.as_chunks::<WIDE>().0).enumerate() {
        let mut rounded = [0; WIDE];
        for (rounded, value) in rounded.iter_mut().zip(x) {
            let near = (value * inverse).round_ties_even();
            // SAFETY: |value| <= 127 scale, and two roundings add far less than the half that
            // would carry it past 127, so the number is an int8.
            *rounded = unsafe { near.to_int_unchecked::<i32>() };
        }
        for (out, rounded) in out.iter_mut().zip(rounded) {
            // The lowest byte of an int8's two's complement.
            *out = rounded as u8;
        }
        sums[i * WIDE * S / N] += rounded.iter().sum::<i32>();
    }
    (scale, sums)
}

/// Values that are rounded together: the widest vector.
const WIDE: usize = 16;

/// The greatest magnitude; infinity or NaN if there is one.
#[inline(always)]
fn magnitude<const N: usize>(x: &[f32; N]) -> f32 {
    let mut greatest = [0; WIDE];
    for x in x.as_chunks::<WIDE>().0 {
        for (greatest, value) in greatest.iter_mut().zip(x) {
            // Magnitudes order as their bits do, infinity and NaN above all numbers.
            *greatest = (value.to_bits() & 0x7fff_ffff).max(*greatest);
        }
    }
    f32::from_bits(greatest.into_iter().fold(0, u32::max))
}

/// A block of 32: scale, scale × sum, sum.
#[inline(always)]
pub(super) fn block32(x: &[f32; 32], words: &mut [u8; 32]) -> ([f32; 2], i32) {
    let (scale, [sum]) = round(x, words);
    // Exact: at most 32 × 127.
    ([scale, scale * sum as f32], sum)
}

/// A block of 256.
#[inline(always)]
pub(super) fn block256(x: &[f32; 256], words: &mut [u8; 256]) -> SuperBlock {
    let (scale, sums): (_, [i32; 16]) = round(x, words);
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
