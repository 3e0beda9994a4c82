//! Taking apart the blocks of 256 (the K-quants; llama.cpp, ggml-common.h and ggml-quants.c).

use super::block::{Block, half_at};

/// 16 bytes of scale (low nibble) and minimum (high nibble), 64 of values, two halves.
pub(super) fn read_q2(block: &mut Block, stored: &[u8]) {
    for (i, &byte) in stored[..16].iter().enumerate() {
        block.scales[i] = signed(byte & 15);
        block.mins[i] = byte >> 4;
    }
    read_crumbs(&mut block.values, &stored[16..80]);
    block.d = half_at(stored, 80);
    block.m = half_at(stored, 82);
}

/// 32 bytes of third bits, 64 of values, 12 of scales, a half.
pub(super) fn read_q3(block: &mut Block, stored: &[u8]) {
    let (high, rest) = stored.split_at(32);
    let (low, rest) = rest.split_at(64);
    read_crumbs(&mut block.values, low);
    add_bits(&mut block.values, high, 2);
    for (i, scale) in block.scales.iter_mut().enumerate() {
        let low = rest[i % 8] >> (i / 8 * 4) & 15;
        let high = rest[8 + i % 4] >> (i / 4 * 2) & 3;
        *scale = signed(low | high << 4) - 32;
    }
    block.d = half_at(rest, 12);
}

/// Two halves, 12 bytes of scales and minima, 128 of nibbles.
pub(super) fn read_q4(block: &mut Block, stored: &[u8]) {
    read_scales_and_mins(block, stored);
    read_nibbles(&mut block.values, &stored[16..]);
}

/// As the 4-bit one, with 32 bytes of fifth bits before the nibbles.
pub(super) fn read_q5(block: &mut Block, stored: &[u8]) {
    read_scales_and_mins(block, stored);
    let (high, low) = stored[16..].split_at(32);
    read_nibbles(&mut block.values, low);
    add_bits(&mut block.values, high, 4);
}

/// 128 bytes of nibbles, 64 of upper bits, 16 scales, a half. Each half of the block has 64 bytes
/// of nibbles (the low ones first) and 32 of upper bits.
pub(super) fn read_q6(block: &mut Block, stored: &[u8]) {
    let (low, rest) = stored.split_at(128);
    let (high, rest) = rest.split_at(64);
    let halves = block.values.as_chunks_mut::<128>().0.iter_mut();
    let bits = low.as_chunks::<64>().0.iter().zip(high.as_chunks::<32>().0);
    for (values, (low, high)) in halves.zip(bits) {
        let [a, b, c, d] = values.as_chunks_mut::<32>().0 else {
            unreachable!("128 are four times 32")
        };
        for i in 0..32 {
            a[i] = low[i] & 15 | (high[i] & 3) << 4;
            b[i] = low[i + 32] & 15 | (high[i] >> 2 & 3) << 4;
            c[i] = low[i] >> 4 | (high[i] >> 4 & 3) << 4;
            d[i] = low[i + 32] >> 4 | (high[i] >> 6) << 4;
        }
    }
    for (scale, &byte) in block.scales.iter_mut().zip(rest) {
        *scale = i8::from_le_bytes([byte]);
    }
    block.d = half_at(rest, 16);
}

/// Each 32 bytes hold 128 values: bits 0..2 the first 32, bits 2..4 the next, and so on.
pub(super) fn read_crumbs(values: &mut [u8; 256], bytes: &[u8]) {
    let halves = values.as_chunks_mut::<128>().0.iter_mut();
    for (values, bytes) in halves.zip(bytes.as_chunks::<32>().0) {
        let quarters = values.as_chunks_mut::<32>().0;
        for (quarter, values) in quarters.iter_mut().enumerate() {
            for i in 0..32 {
                values[i] = bytes[i] >> (2 * quarter) & 3;
            }
        }
    }
}

/// Each 32 bytes hold 64 values: low nibbles the first 32, high nibbles the rest.
fn read_nibbles(values: &mut [u8; 256], bytes: &[u8]) {
    let parts = values.as_chunks_mut::<64>().0.iter_mut();
    for (values, bytes) in parts.zip(bytes.as_chunks::<32>().0) {
        for i in 0..32 {
            values[i] = bytes[i] & 15;
            values[i + 32] = bytes[i] >> 4;
        }
    }
}

/// Adds to each value its bit of `high`, at `place`: bit `n` of its 32 bytes is that of the values from
/// `32 n` on.
fn add_bits(values: &mut [u8; 256], high: &[u8], place: u32) {
    let high: &[u8; 32] = high.as_array().expect("32 bytes");
    for (bit, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for i in 0..32 {
            values[i] |= (high[i] >> bit & 1) << place;
        }
    }
}

/// Two halves, then eight 6-bit scales and eight 6-bit minima in 12 bytes: the first four of each
/// in the low bits of eight bytes, the last four in nibbles of four more and the bits left over.
fn read_scales_and_mins(block: &mut Block, stored: &[u8]) {
    block.d = half_at(stored, 0);
    block.m = half_at(stored, 2);
    let (scales, rest) = stored[4..16].split_at(4);
    let (mins, both) = rest.split_at(4);
    for i in 0..4 {
        block.scales[i] = signed(scales[i] & 63);
        block.mins[i] = mins[i] & 63;
        block.scales[i + 4] = signed(both[i] & 15 | scales[i] >> 6 << 4);
        block.mins[i + 4] = both[i] >> 4 | mins[i] >> 6 << 4;
    }
}

/// A value of at most seven bits.
fn signed(value: u8) -> i8 {
    i8::try_from(value).expect("at most seven bits")
}
