//! Rounding a block to int8, over the two vector operations it needs; they are exact, so every
//! instruction set gives the same bits.

use super::SuperBlock;

/// Magnitudes from here on have a scale that is a normal number, so its reciprocal is finite.
const LEAST: f32 = 127.0 * f32::MIN_POSITIVE;

/// Sixteen values at a time.
pub(super) trait Sixteen: Copy {
    /// The greatest of the values' bits without their signs. Magnitudes order as their bits do,
    /// infinity and NaN above all numbers.
    fn greatest<const N: usize>(self, x: &[[f32; 16]; N]) -> u32;
    /// The values × `inverse`, to nearest, ties to even, as int8 bytes; and their sum. Products
    /// are at most 127.5 in magnitude.
    fn round(self, x: &[f32; 16], inverse: f32, out: &mut [u8; 16]) -> i32;
}

/// Plain Rust, and the meaning.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Sixteen for Plain {
    #[inline(always)]
    fn greatest<const N: usize>(self, x: &[[f32; 16]; N]) -> u32 {
        let bits = |value: &f32| value.to_bits() & 0x7fff_ffff;
        x.iter().flatten().map(bits).fold(0, u32::max)
    }

    #[inline(always)]
    fn round(self, x: &[f32; 16], inverse: f32, out: &mut [u8; 16]) -> i32 {
        let mut sum = 0;
        for (out, value) in out.iter_mut().zip(x) {
            // Saturates, which the products never need.
            let rounded = (value * inverse).round_ties_even() as i8;
            [*out] = rounded.to_le_bytes();
            sum += i32::from(rounded);
        }
        sum
    }
}

/// The scale of a block of 16 N values, the int8 values as bytes and the sum of each 16; zeros
/// where the block cannot be rounded.
#[inline(always)]
fn block<V: Sixteen, const N: usize>(
    v: V,
    x: &[[f32; 16]; N],
    out: &mut [[u8; 16]; N],
) -> (f32, [i32; N]) {
    let mut sums = [0; N];
    let magnitude = f32::from_bits(v.greatest(x));
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
        *sum = v.round(x, inverse, out);
    }
    (scale, sums)
}

/// A block of 32: scale, scale × sum, sum.
#[inline(always)]
pub(super) fn block32<V: Sixteen>(
    v: V,
    x: &[[f32; 16]; 2],
    out: &mut [[u8; 16]; 2],
) -> ([f32; 2], i32) {
    let (scale, [first, last]) = block(v, x, out);
    let sum = first + last;
    // Exact: at most 32 × 127.
    ([scale, scale * sum as f32], sum)
}

/// A block of 256.
#[inline(always)]
pub(super) fn block256<V: Sixteen>(
    v: V,
    x: &[[f32; 16]; 16],
    out: &mut [[u8; 16]; 16],
) -> SuperBlock {
    let (scale, sums) = block(v, x, out);
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
