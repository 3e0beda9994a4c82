//! Rounding a block to int8. Plain Rust with a fixed meaning, compiled once for each instruction
//! set, so every set gives the same bits.

use super::SuperBlock;

/// Magnitudes from here on have a scale that is a normal number, so its reciprocal is finite.
const LEAST: f32 = 127.0 * f32::MIN_POSITIVE;

/// The scale of a block and the int8 values, zeros where the block cannot be rounded.
#[inline(always)]
fn round<const N: usize>(x: &[f32; N], out: &mut [i8; N]) -> f32 {
    let mut greatest = 0;
    for value in x {
        // Magnitudes order as their bits do, infinity and NaN above all numbers.
        greatest = greatest.max(value.to_bits() & 0x7fff_ffff);
    }
    let magnitude = f32::from_bits(greatest);
    if !magnitude.is_finite() {
        *out = [0; N];
        return f32::NAN;
    }
    if magnitude < LEAST {
        *out = [0; N];
        return 0.0;
    }
    let scale = magnitude / 127.0;
    let inverse = 1.0 / scale;
    for (out, value) in out.iter_mut().zip(x) {
        let rounded = (value * inverse).round_ties_even();
        // SAFETY: |value| <= 127 scale, and two roundings add far less than the half that would
        // carry it past 127, so the number is an int8.
        *out = unsafe { rounded.to_int_unchecked::<i32>() } as i8;
    }
    scale
}

#[inline(always)]
fn sum(values: &[i8]) -> i32 {
    values.iter().map(|&v| i32::from(v)).sum()
}

#[inline(always)]
fn put_words(values: &[i8], words: &mut [i32]) {
    for (word, bytes) in words.iter_mut().zip(values.as_chunks::<4>().0) {
        *word = i32::from_le_bytes(bytes.map(|b| b.to_le_bytes()[0]));
    }
}

/// A block of 32: scale, scale × sum, sum.
#[inline(always)]
pub(super) fn block32(x: &[f32; 32], words: &mut [i32]) -> ([f32; 2], i32) {
    let mut values = [0; 32];
    let scale = round(x, &mut values);
    put_words(&values, words);
    let sum = sum(&values);
    // Exact: at most 32 × 127.
    ([scale, scale * sum as f32], sum)
}

/// A block of 256.
#[inline(always)]
pub(super) fn block256(x: &[f32; 256], words: &mut [i32]) -> SuperBlock {
    let mut values = [0; 256];
    let scale = round(x, &mut values);
    put_words(&values, words);
    let mut sums = [0; 16];
    for (to, values) in sums.iter_mut().zip(values.as_chunks::<16>().0) {
        *to = sum(values);
    }
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
