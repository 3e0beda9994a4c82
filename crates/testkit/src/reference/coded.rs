//! The blocks whose values come from a code-book or a grid, and those of three values, one value at a
//! time, as gguf-py's `quants.py` has them.

use gogrid_units::grids;

use super::dequantise::{half_at, nibble_of_32, pair_of_256};

/// What the codes of `iq4_nl` and `iq4_xs` stand for.
const IQ4: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];
/// Floats of four bits, doubled.
const MXFP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];
const IQ3_XXS: [f32; 8] = [4.0, 12.0, 20.0, 28.0, 36.0, 44.0, 52.0, 62.0];
const IQ3_S: [f32; 8] = [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0];
const IQ2: [f32; 3] = [8.0, 25.0, 43.0];

fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from(u16_at(block, at)) | u32::from(u16_at(block, at + 2)) << 16
}

/// Nibble `i` of bytes, the low half of a byte first.
fn nibble(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 2] >> (4 * (i % 2)) & 15
}

/// `d: f16, qs: [u8; 16]`
pub(super) fn iq4_nl(block: &[u8], i: usize) -> f32 {
    half_at(block, 0) * f32::from(IQ4[usize::from(nibble_of_32(&block[2..], i))])
}

/// `d: f16, scales_h: u16, scales_l: [u8; 4], qs: [u8; 128]`; one 6-bit scale minus 32 for each 32
/// values.
pub(super) fn iq4_xs(block: &[u8], i: usize) -> f32 {
    let group = i / 32;
    // Two bits.
    let high = (u16_at(block, 2) >> (2 * group) & 3) as u8;
    let scale = f32::from(nibble(&block[4..8], group) | high << 4) - 32.0;
    let code = nibble_of_32(&block[8 + 16 * group..], i % 32);
    half_at(block, 0) * scale * f32::from(IQ4[usize::from(code)])
}

/// `e: u8, qs: [u8; 16]`; the scale is 2^(e - 127), half of it since values are doubled.
pub(super) fn mxfp4(block: &[u8], i: usize) -> f32 {
    let scale = 2f32.powi(i32::from(block[0]) - 127) * 0.5;
    scale * f32::from(MXFP4[usize::from(nibble_of_32(&block[1..], i))])
}

/// 1 or -1: bit `i` of seven stored signs, the eighth of which makes their number even.
fn even_sign(signs: u32, i: usize) -> f32 {
    let signs = signs & 127;
    let bit = match i {
        7 => signs.count_ones() & 1,
        _ => signs >> i & 1,
    };
    sign(bit == 1)
}

fn sign(is_negative: bool) -> f32 {
    if is_negative { -1.0 } else { 1.0 }
}

/// `d: f16, qs: [u8; 64], scales_and_signs: [u32; 8]`
pub(super) fn iq3_xxs(block: &[u8], i: usize) -> f32 {
    let word = u32_at(block, 66 + 4 * (i / 32));
    let entry = grids::IQ3_XXS[usize::from(block[2 + i / 4])];
    let level = IQ3_XXS[usize::from(entry >> (3 * (i % 4)) & 7)];
    let scale = half_at(block, 0) * (0.5 + (word >> 28) as f32) * 0.5;
    scale * level * even_sign(word >> (7 * (i % 32 / 8)), i % 8)
}

/// `d: f16, qs: [u8; 64], qh: [u8; 8], signs: [u8; 32], scales: [u8; 4]`; bit `j` of `qh` is the ninth
/// bit of index `j`.
pub(super) fn iq3_s(block: &[u8], i: usize) -> f32 {
    let index = i / 4;
    let ninth = block[66 + index / 8] >> (index % 8) & 1;
    let entry = grids::IQ3_S[usize::from(block[2 + index]) + 256 * usize::from(ninth)];
    let level = IQ3_S[usize::from(entry >> (3 * (i % 4)) & 7)];
    let scale = half_at(block, 0) * (1.0 + 2.0 * f32::from(nibble(&block[106..], i / 32)));
    scale * level * sign(block[74 + i / 8] >> (i % 8) & 1 == 1)
}

/// The level of value `i % 8` of an entry of two-bit indices.
fn iq2(entry: u16, i: usize) -> f32 {
    IQ2[usize::from(entry >> (2 * (i % 8)) & 3)]
}

/// The scale of the group of 16 that value `i` is in, one nibble each.
fn iq2_scale(block: &[u8], scales: &[u8], i: usize) -> f32 {
    half_at(block, 0) * (0.5 + f32::from(nibble(scales, i / 16))) * 0.25
}

/// `d: f16`, then for each 32 values `[u8; 4]` of indices and a `u32` of signs and scale.
pub(super) fn iq2_xxs(block: &[u8], i: usize) -> f32 {
    let group = &block[2 + 8 * (i / 32)..];
    let eight = i % 32 / 8;
    let word = u32_at(group, 4);
    let scale = half_at(block, 0) * (0.5 + (word >> 28) as f32) * 0.25;
    let level = iq2(grids::IQ2_XXS[usize::from(group[eight])], i);
    scale * level * even_sign(word >> (7 * eight), i % 8)
}

/// `d: f16, qs: [u16; 32], scales: [u8; 8]`; nine bits of `qs` are the index, seven the signs.
pub(super) fn iq2_xs(block: &[u8], i: usize) -> f32 {
    let word = u16_at(block, 2 + 2 * (i / 8));
    let level = iq2(grids::IQ2_XS[usize::from(word & 511)], i);
    iq2_scale(block, &block[66..], i) * level * even_sign(u32::from(word >> 9), i % 8)
}

/// `d: f16, qs: [u8; 32], signs: [u8; 32], qh: [u8; 8], scales: [u8; 8]`
pub(super) fn iq2_s(block: &[u8], i: usize) -> f32 {
    let index = i / 8;
    let high = block[66 + index / 4] >> (2 * (index % 4)) & 3;
    let entry = grids::IQ2_S[usize::from(block[2 + index]) + 256 * usize::from(high)];
    let signs = block[34 + index];
    iq2_scale(block, &block[74..], i) * iq2(entry, i) * sign(signs >> (i % 8) & 1 == 1)
}

/// Value `i % 8` of an entry of the grid of -1, 0 and 1, moved by an eighth.
fn iq1(entry: u16, i: usize, down: bool) -> f32 {
    f32::from(entry >> (2 * (i % 8)) & 3) - 1.0 + 0.125 * sign(down)
}

/// `d: f16, qs: [u8; 32], qh: [u16; 8]`; of `qh`, 4 x 3 bits belong to indices, three are the scale, and
/// the last says which way values are moved.
pub(super) fn iq1_s(block: &[u8], i: usize) -> f32 {
    let word = u16_at(block, 34 + 2 * (i / 32));
    let high = word >> (3 * (i % 32 / 8)) & 7;
    let entry = grids::IQ1[usize::from(block[2 + i / 8]) + 256 * usize::from(high)];
    let scale = half_at(block, 0) * (2.0 * f32::from(word >> 12 & 7) + 1.0);
    scale * iq1(entry, i, word >> 15 == 1)
}

/// `qs: [u8; 32], qh: [u8; 16], scales: [u16; 4]`; the top nibbles of the scales are the f16 scale of
/// the block, their other bits four scales of 16 values each.
pub(super) fn iq1_m(block: &[u8], i: usize) -> f32 {
    let words = [0, 1, 2, 3].map(|j| u16_at(block, 48 + 2 * j));
    let [a, b, c, d] = words.map(|word| word >> 12);
    let half = (a | b << 4 | c << 8 | d << 12).to_le_bytes();
    let high = nibble(&block[32..], i / 8);
    let entry = grids::IQ1[usize::from(block[i / 8]) + 256 * usize::from(high & 7)];
    let scale = words[i / 64] >> (3 * (i / 16 % 4)) & 7;
    half_at(&half, 0) * (2.0 * f32::from(scale) + 1.0) * iq1(entry, i, high & 8 != 0)
}

/// `qs: [u8; 48], qh: [u8; 4], d: f16`; a byte has five values (four, in `qh`), each a digit of base
/// three behind the point; 32 bytes, then 16, then four, each with its first digits first.
pub(super) fn tq1_0(block: &[u8], i: usize) -> f32 {
    let (byte, digit) = match i {
        0..160 => (i % 32, i / 32),
        160..240 => (32 + i % 16, (i - 160) / 16),
        _ => (48 + i % 4, (i - 240) / 4),
    };
    let power = [1, 3, 9, 27, 81][digit];
    let rest = u16::from(block[byte].wrapping_mul(power));
    half_at(block, 52) * (f32::from(rest * 3 / 256) - 1.0)
}

/// `qs: [u8; 64], d: f16`
pub(super) fn tq2_0(block: &[u8], i: usize) -> f32 {
    half_at(block, 64) * (f32::from(pair_of_256(block, i)) - 1.0)
}

#[cfg(test)]
mod tests {
    use gogrid_units::WeightType;

    use crate::reference::dequantise;

    /// `peers/weight_types.py` says what is in the lines.
    #[test]
    fn blocks_with_code_books_mean_what_they_mean_to_gguf_py() {
        let bytes = |text: &str| -> Vec<u8> {
            let pairs = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
            let pairs = pairs.map(|pair| u8::from_str_radix(pair, 16));
            pairs.collect::<Result<_, _>>().expect("hexadecimal digits")
        };
        for line in include_str!("../../golden/weight_types.txt").lines() {
            let parts: Vec<_> = line.split(' ').collect();
            let ty: WeightType = parts[0].parse().expect("a weight type");
            let values = dequantise(ty, &bytes(parts[1])).into_iter();
            let ours: Vec<u8> = values.flat_map(|v| (v + 0.0).to_le_bytes()).collect();
            assert_eq!(ours, bytes(parts[2]), "{ty}");
        }
    }
}
