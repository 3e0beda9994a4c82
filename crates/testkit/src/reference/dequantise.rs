//! What each stored block means, one value at a time, after GGML's block structs (ggml-common.h).
//! Written to be read next to them, not to be fast.

use gogrid_units::WeightType;
use half::{bf16, f16};

use super::coded;

/// The values of `data`, which holds whole blocks of `stored`.
pub fn dequantise(stored: WeightType, data: &[u8]) -> Vec<f32> {
    let value = match stored {
        WeightType::F32 => |b: &[u8], _| f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        WeightType::F16 => |b: &[u8], _| half_at(b, 0),
        WeightType::Bf16 => |b: &[u8], _| bf16::from_le_bytes([b[0], b[1]]).to_f32(),
        WeightType::Q4_0 => q4_0,
        WeightType::Q4_1 => q4_1,
        WeightType::Q5_0 => q5_0,
        WeightType::Q5_1 => q5_1,
        WeightType::Q8_0 => q8_0,
        WeightType::Q2K => q2_k,
        WeightType::Q3K => q3_k,
        WeightType::Q4K => q4_k,
        WeightType::Q5K => q5_k,
        WeightType::Q6K => q6_k,
        WeightType::Iq4Nl => coded::iq4_nl,
        WeightType::Iq4Xs => coded::iq4_xs,
        WeightType::Mxfp4 => coded::mxfp4,
        WeightType::Iq3Xxs => coded::iq3_xxs,
        WeightType::Iq3S => coded::iq3_s,
        WeightType::Iq2Xxs => coded::iq2_xxs,
        WeightType::Iq2Xs => coded::iq2_xs,
        WeightType::Iq2S => coded::iq2_s,
        WeightType::Iq1S => coded::iq1_s,
        WeightType::Iq1M => coded::iq1_m,
        WeightType::Tq1_0 => coded::tq1_0,
        WeightType::Tq2_0 => coded::tq2_0,
    };
    data.chunks_exact(stored.block_bytes())
        .flat_map(|block| (0..stored.block_len()).map(move |i| value(block, i)))
        .collect()
}

pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Blocks of 32 keep value `i` in the low half of byte `i`, and value `16 + i` in its high half.
pub(super) fn nibble_of_32(bytes: &[u8], i: usize) -> u8 {
    if i < 16 {
        bytes[i] & 15
    } else {
        bytes[i - 16] >> 4
    }
}

fn bit(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 8] >> (i % 8) & 1
}

/// `d: f16, qs: [u8; 16]`
fn q4_0(block: &[u8], i: usize) -> f32 {
    half_at(block, 0) * (f32::from(nibble_of_32(&block[2..], i)) - 8.0)
}

/// `d: f16, m: f16, qs: [u8; 16]`
fn q4_1(block: &[u8], i: usize) -> f32 {
    half_at(block, 0) * f32::from(nibble_of_32(&block[4..], i)) + half_at(block, 2)
}

/// `d: f16, qh: [u8; 4], qs: [u8; 16]`; bit `i` of `qh` is the fifth bit of value `i`.
fn q5_0(block: &[u8], i: usize) -> f32 {
    let q = nibble_of_32(&block[6..], i) | bit(&block[2..6], i) << 4;
    half_at(block, 0) * (f32::from(q) - 16.0)
}

/// `d: f16, m: f16, qh: [u8; 4], qs: [u8; 16]`
fn q5_1(block: &[u8], i: usize) -> f32 {
    let q = nibble_of_32(&block[8..], i) | bit(&block[4..8], i) << 4;
    half_at(block, 0) * f32::from(q) + half_at(block, 2)
}

/// `d: f16, qs: [i8; 32]`
fn q8_0(block: &[u8], i: usize) -> f32 {
    half_at(block, 0) * f32::from(block[2 + i].cast_signed())
}

/// Two-bit values of a block of 256: each 32 bytes hold 128 values, value `i` of them in byte
/// `i % 32` at bit `2 (i / 32)`.
pub(super) fn pair_of_256(bytes: &[u8], i: usize) -> u8 {
    let (half, i) = (i / 128, i % 128);
    bytes[32 * half + i % 32] >> (2 * (i / 32)) & 3
}

/// `scales: [u8; 16], qs: [u8; 64], d: f16, dmin: f16`; one scale (low half) and minimum (high
/// half) for each 16 values.
fn q2_k(block: &[u8], i: usize) -> f32 {
    let scale = block[i / 16];
    let q = pair_of_256(&block[16..80], i);
    half_at(block, 80) * f32::from(scale & 15) * f32::from(q)
        - half_at(block, 82) * f32::from(scale >> 4)
}

/// `hmask: [u8; 32], qs: [u8; 64], scales: [u8; 12], d: f16`; one 6-bit scale minus 32 for each 16
/// values; the third bit of value `i` is bit `i / 32` of `hmask[i % 32]`, and the value is minus 4.
fn q3_k(block: &[u8], i: usize) -> f32 {
    let high = block[i % 32] >> (i / 32) & 1;
    let q = f32::from(pair_of_256(&block[32..96], i) | high << 2) - 4.0;
    let scales = &block[96..108];
    let group = i / 16;
    // Low four bits: halves of the first eight bytes. High two: pairs of the last four.
    let low = if group < 8 {
        scales[group] & 15
    } else {
        scales[group - 8] >> 4
    };
    let top = scales[8 + group % 4] >> (2 * (group / 4)) & 3;
    half_at(block, 108) * (f32::from(low | top << 4) - 32.0) * q
}

/// The 6-bit scale and minimum of group `j` of eight, packed in 12 bytes: the first four groups in
/// the low six bits of bytes `j` and `4 + j`; the others with their low four bits in byte `4 + j`
/// and their high two in the tops of bytes `j - 4` and `j`.
fn scale_and_minimum(scales: &[u8], j: usize) -> (f32, f32) {
    let (scale, minimum) = if j < 4 {
        (scales[j] & 63, scales[j + 4] & 63)
    } else {
        (
            scales[j + 4] & 15 | scales[j - 4] >> 6 << 4,
            scales[j + 4] >> 4 | scales[j] >> 6 << 4,
        )
    };
    (f32::from(scale), f32::from(minimum))
}

/// Four-bit values of a block of 256: each 32 bytes hold 64 values, the first 32 of them in the
/// low halves.
fn nibble_of_256(bytes: &[u8], i: usize) -> u8 {
    bytes[32 * (i / 64) + i % 32] >> (4 * (i / 32 % 2)) & 15
}

/// `d: f16, dmin: f16, scales: [u8; 12], qs: [u8; 128]`
fn q4_k(block: &[u8], i: usize) -> f32 {
    let (scale, minimum) = scale_and_minimum(&block[4..16], i / 32);
    let q = nibble_of_256(&block[16..], i);
    half_at(block, 0) * scale * f32::from(q) - half_at(block, 2) * minimum
}

/// `d: f16, dmin: f16, scales: [u8; 12], qh: [u8; 32], qs: [u8; 128]`; the fifth bit of value `i`
/// is bit `i / 32` of `qh[i % 32]`.
fn q5_k(block: &[u8], i: usize) -> f32 {
    let (scale, minimum) = scale_and_minimum(&block[4..16], i / 32);
    let high = block[16 + i % 32] >> (i / 32) & 1;
    let q = nibble_of_256(&block[48..], i) | high << 4;
    half_at(block, 0) * scale * f32::from(q) - half_at(block, 2) * minimum
}

/// `ql: [u8; 128], qh: [u8; 64], scales: [i8; 16], d: f16`; of each 128 values, value `i` has its
/// low four bits in `ql[i % 64]` (low half for the first 64), its high two in `qh[i % 32]` at bit
/// `2 (i / 32)`, and the whole is minus 32.
fn q6_k(block: &[u8], i: usize) -> f32 {
    let scale = f32::from(block[192 + i / 16].cast_signed());
    let high = pair_of_256(&block[128..192], i);
    let (half, i) = (i / 128, i % 128);
    let low = block[64 * half + i % 64] >> (4 * (i / 64)) & 15;
    half_at(block, 208) * scale * (f32::from(low | high << 4) - 32.0)
}
