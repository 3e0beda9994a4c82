//! Taking apart the blocks whose values come from a code-book or a grid, and those of three values
//! (llama.cpp, ggml-common.h and ggml-quants.c).

use gogrid_units::grids;
use half::bf16;

use super::block::{Block, half_at, read_nibbles_of_32};
use super::super_block::read_crumbs;

/// A power of two (its exponent with a bias of 128), then 16 bytes of nibbles.
pub(super) fn read_mxfp4(block: &mut Block, stored: &[u8]) {
    block.d = power_of_two(stored[0]).to_bits();
    let (values, nibbles) = (&mut block.values.as_chunks_mut().0[0], &stored[1..]);
    read_nibbles_of_32(values, nibbles.first_chunk().expect("16 bytes"));
}

/// 2^(exponent − 128), which is subnormal for the first two.
fn power_of_two(exponent: u8) -> bf16 {
    let exponent = u16::from(exponent);
    bf16::from_bits(match exponent {
        0 | 1 => 0x20 << exponent,
        _ => (exponent - 1) << 7,
    })
}

/// A half, 16 bits with the upper two of each scale, four bytes with the lower four, then the nibbles
/// of 32 values at a time.
pub(super) fn read_iq4_xs(block: &mut Block, stored: &[u8]) {
    block.d = half_at(stored, 0);
    let high = word16(stored, 2);
    for group in 0..8 {
        let low = stored[4 + group / 2] >> (group % 2 * 4) & 15;
        // Two bits.
        let high = (high >> (2 * group) & 3) as u8;
        block.scales[group] = (low | high << 4).cast_signed() - 32;
    }
    let nibbles = stored[8..].as_chunks().0.iter();
    for (values, nibbles) in block.values.as_chunks_mut().0.iter_mut().zip(nibbles) {
        read_nibbles_of_32(values, nibbles);
    }
}

/// A half, 64 bytes of indices, then for each 32 values a word: four times seven bits of signs, and
/// the scale.
pub(super) fn read_iq3_xxs(block: &mut Block, stored: &[u8]) {
    block.d = half_at(stored, 0);
    for group in 0..8 {
        let word = word32(stored, 66 + 4 * group);
        block.scales[group] = odd(word >> 28);
        for eight in 0..4 {
            let at = 4 * group + eight;
            let indices = [stored[2 + 2 * at], stored[3 + 2 * at]].map(usize::from);
            let words = indices.map(|index| grids::IQ3_XXS[index]);
            block.put_fours(at, words, even_signs(word >> (7 * eight)));
        }
    }
}

/// A half, 64 bytes of indices, eight with their ninth bits, 32 of signs, four of scales.
pub(super) fn read_iq3_s(block: &mut Block, stored: &[u8]) {
    block.d = half_at(stored, 0);
    for (group, scale) in block.scales[..8].iter_mut().enumerate() {
        *scale = odd(u32::from(stored[106 + group / 2] >> (group % 2 * 4) & 15));
    }
    for at in 0..32 {
        let words = [2 * at, 2 * at + 1].map(|i| {
            let ninth = usize::from(stored[66 + i / 8] >> (i % 8) & 1);
            grids::IQ3_S[usize::from(stored[2 + i]) | ninth << 8]
        });
        block.put_fours(at, words, stored[74 + at]);
    }
}

/// A half, then for each 32 values four indices and a word: four times seven bits of signs, and the
/// scale.
pub(super) fn read_iq2_xxs(block: &mut Block, stored: &[u8]) {
    block.d = half_at(stored, 0);
    for group in 0..8 {
        let indices = &stored[2 + 8 * group..][..4];
        let word = word32(stored, 6 + 8 * group);
        block.scales[group] = odd(word >> 28);
        for (eight, &index) in indices.iter().enumerate() {
            let entry = grids::IQ2_XXS[usize::from(index)];
            block.put_eight(4 * group + eight, entry, even_signs(word >> (7 * eight)));
        }
    }
}

/// A half, 32 words of nine bits of index and seven of signs, eight bytes of scales.
pub(super) fn read_iq2_xs(block: &mut Block, stored: &[u8]) {
    block.d = half_at(stored, 0);
    block.put_sixteen_scales(&stored[66..74]);
    for at in 0..32 {
        let word = word16(stored, 2 + 2 * at);
        let entry = grids::IQ2_XS[usize::from(word & 511)];
        block.put_eight(at, entry, even_signs(u32::from(word >> 9)));
    }
}

/// A half, 32 bytes of indices, 32 of signs, eight with the upper two bits of the indices, eight of
/// scales.
pub(super) fn read_iq2_s(block: &mut Block, stored: &[u8]) {
    block.d = half_at(stored, 0);
    block.put_sixteen_scales(&stored[74..82]);
    for at in 0..32 {
        let upper = usize::from(stored[66 + at / 4] >> (at % 4 * 2) & 3);
        let entry = grids::IQ2_S[usize::from(stored[2 + at]) | upper << 8];
        block.put_eight(at, entry, stored[34 + at]);
    }
}

/// A half, 32 bytes of indices, then for each 32 values a word: four times the upper three bits, the
/// scale, and whether values are moved down.
pub(super) fn read_iq1_s(block: &mut Block, stored: &[u8]) {
    block.d = half_at(stored, 0);
    for group in 0..8 {
        let word = word16(stored, 34 + 2 * group);
        block.scales[group] = odd(u32::from(word >> 12 & 7));
        for eight in 0..4 {
            let at = 4 * group + eight;
            let upper = usize::from(word >> (3 * eight) & 7);
            let entry = grids::IQ1[usize::from(stored[2 + at]) | upper << 8];
            block.put_moved(at, entry, word >> 15 == 1);
        }
    }
}

/// 32 bytes of indices, 16 bytes of nibbles (the upper three bits, and whether values are moved down),
/// then four words of four scales of three bits, whose upper nibbles are the half.
pub(super) fn read_iq1_m(block: &mut Block, stored: &[u8]) {
    let words = [0, 1, 2, 3].map(|i| word16(stored, 48 + 2 * i));
    block.d = (0..4).fold(0, |half, i| half | words[i] >> 12 << (4 * i));
    for (group, scale) in block.scales.iter_mut().enumerate() {
        *scale = odd(u32::from(words[group / 4] >> (group % 4 * 3) & 7));
    }
    for at in 0..32 {
        let nibble = stored[32 + at / 2] >> (at % 2 * 4);
        let entry = grids::IQ1[usize::from(stored[at]) | usize::from(nibble & 7) << 8];
        block.put_moved(at, entry, nibble & 8 != 0);
    }
}

/// Five values a byte, each a digit of base three of its 256th parts: 32 bytes of 160 values, 16 of 80,
/// four of four each; then a half.
pub(super) fn read_tq1(block: &mut Block, stored: &[u8]) {
    block.d = half_at(stored, 52);
    block.scales = [1; 16];
    let mut values = block.values.iter_mut();
    for (bytes, digits) in [
        (&stored[..32], 5),
        (&stored[32..48], 5),
        (&stored[48..52], 4),
    ] {
        for power in [1, 3, 9, 27, 81].into_iter().take(digits) {
            // Bytes first: they end first, and no value is passed over.
            for (byte, value) in bytes.iter().zip(values.by_ref()) {
                // Below three.
                *value = ((u16::from(byte.wrapping_mul(power)) * 3) >> 8) as u8;
            }
        }
    }
}

/// 64 bytes of two-bit values, a half.
pub(super) fn read_tq2(block: &mut Block, stored: &[u8]) {
    block.d = half_at(stored, 64);
    block.scales = [1; 16];
    read_crumbs(&mut block.values, &stored[..64]);
}

impl Block {
    /// Values `8 at ..` from two grid entries of four three-bit indices.
    fn put_fours(&mut self, at: usize, words: [u16; 2], signs: u8) {
        for (i, value) in self.eight(at).iter_mut().enumerate() {
            // Three bits.
            let index = (words[i / 4] >> (i % 4 * 3) & 7) as u8;
            *value = index | (signs >> i & 1) << 3;
        }
    }

    /// Values `8 at ..` from a grid entry of eight two-bit indices.
    fn put_eight(&mut self, at: usize, word: u16, signs: u8) {
        for (i, value) in self.eight(at).iter_mut().enumerate() {
            // Two bits.
            let index = (word >> (2 * i) & 3) as u8;
            *value = index | (signs >> i & 1) << 2;
        }
    }

    /// The same, where all values are moved up or down.
    fn put_moved(&mut self, at: usize, word: u16, down: bool) {
        self.put_eight(at, word, if down { 255 } else { 0 });
    }

    fn eight(&mut self, at: usize) -> &mut [u8; 8] {
        &mut self.values.as_chunks_mut().0[at]
    }

    /// Four bits for each group of 16 values.
    fn put_sixteen_scales(&mut self, bytes: &[u8]) {
        for (group, scale) in self.scales.iter_mut().enumerate() {
            *scale = odd(u32::from(bytes[group / 2] >> (group % 2 * 4) & 15));
        }
    }
}

/// Eight signs of which seven are stored: an even number of them is set.
fn even_signs(bits: u32) -> u8 {
    // Seven bits.
    let seven = (bits & 127) as u8;
    // One bit.
    seven | (seven.count_ones() as u8 & 1) << 7
}

/// 2 s + 1, of a scale of at most four bits.
fn odd(scale: u32) -> i8 {
    // At most 31.
    (2 * scale + 1) as i8
}

fn word16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn word32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
