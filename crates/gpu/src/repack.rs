//! From the blocks of a GGUF file to the planes of [`formats`](crate::formats).

use gogrid_kernels::WholeNumbers;
use gogrid_units::WeightType;

use crate::formats::{Planes, UNIT};

/// Puts rows in GGUF's layout into planes.
pub(crate) struct Repack<'a> {
    pub(crate) ty: WeightType,
    /// Columns; a last unit that they do not fill has zeros.
    pub(crate) cols: usize,
    pub(crate) planes: Planes,
    /// All planes.
    pub(crate) words: &'a mut [u32],
}

impl Repack<'_> {
    /// Takes the bytes of row `row` of the planes.
    pub(crate) fn put_row(&mut self, row: usize, bytes: &[u8]) {
        let first = row * self.cols.div_ceil(UNIT);
        if self.ty.block_len() == 1 {
            return self.put_floats(first, bytes);
        }
        let mut levels = [0u8; 256];
        let blocks = bytes.chunks_exact(self.ty.block_bytes());
        let units = self.ty.block_len() / UNIT;
        for (index, block) in blocks.enumerate() {
            let unit = first + index * units;
            if WholeNumbers::part(self.ty).is_some() {
                self.put_whole_numbers(unit, &WholeNumbers::of(self.ty, block));
                continue;
            }
            read_levels(self.ty, block, &mut levels);
            for (unit, levels) in (unit..unit + units).zip(levels.chunks_exact(UNIT)) {
                self.put_levels(unit, levels);
            }
            self.put_scales(unit, block);
        }
    }

    /// A block of codes that were looked up.
    fn put_whole_numbers(&mut self, unit: usize, block: &WholeNumbers) {
        let [_, _, scales, blocks] = self.planes.starts();
        let units = self.ty.block_len() / UNIT;
        let bytes = |numbers: &[i8]| {
            numbers
                .iter()
                .map(|n| n.cast_unsigned())
                .collect::<Vec<_>>()
        };
        self.put_words(8 * unit, &bytes(&block.values[..units * UNIT]));
        let half = block.half.to_le_bytes();
        if units == 1 {
            return self.put_half(scales, unit, &half);
        }
        self.put_words(scales + 4 * (unit / 8), &bytes(&block.scales));
        self.put_half(blocks, unit / 8, &half);
    }

    /// A row of floats begins a unit of its own.
    fn put_floats(&mut self, unit: usize, bytes: &[u8]) {
        let width = self.ty.block_bytes();
        let words = &mut self.words[unit * UNIT * width / 4..];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks(4)) {
            let mut whole = [0; 4];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u32::from_le_bytes(whole);
        }
    }

    /// The levels of one unit: bits below the fourth, or all of two and eight, and those above.
    fn put_levels(&mut self, unit: usize, levels: &[u8]) {
        use WeightType as T;
        let [_, high, ..] = self.planes.starts();
        match self.ty {
            T::Q8_0 => {
                for (word, levels) in self.words[8 * unit..]
                    .iter_mut()
                    .zip(levels.chunks_exact(4))
                {
                    *word = u32::from_le_bytes([levels[0], levels[1], levels[2], levels[3]]);
                }
            }
            T::Q2K | T::Q3K | T::Tq1_0 | T::Tq2_0 => {
                for (word, levels) in self.words[2 * unit..]
                    .iter_mut()
                    .zip(levels.chunks_exact(16))
                {
                    *word = gather(levels, 2, |level| level & 3);
                }
            }
            _ => {
                for (word, levels) in self.words[4 * unit..]
                    .iter_mut()
                    .zip(levels.chunks_exact(8))
                {
                    let byte = |i: usize| levels[i] & 15 | (levels[4 + i] & 15) << 4;
                    *word = u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)]);
                }
            }
        }
        match self.ty {
            T::Q5_0 | T::Q5_1 | T::Q5K => {
                self.words[high + unit] = gather(levels, 1, |level| level >> 4);
            }
            T::Q3K => self.words[high + unit] = gather(levels, 1, |level| level >> 2),
            T::Q6K => {
                let words = self.words[high + 2 * unit..].iter_mut();
                for (word, levels) in words.zip(levels.chunks_exact(16)) {
                    *word = gather(levels, 2, |level| level >> 4);
                }
            }
            _ => {}
        }
    }

    /// The scales of a block that begins at `unit`.
    fn put_scales(&mut self, unit: usize, block: &[u8]) {
        use WeightType as T;
        let [_, _, scales, blocks] = self.planes.starts();
        let (four, index) = (scales + 4 * (unit / 8), unit / 8);
        match self.ty {
            T::Q4_0 | T::Q5_0 | T::Q8_0 => self.put_half(scales, unit, block),
            T::Q4_1 | T::Q5_1 => self.put_words(scales + unit, &block[..4]),
            T::Q2K => {
                self.put_words(four, &block[..16]);
                self.put_words(blocks + index, &block[80..84]);
            }
            T::Q3K => {
                self.put_words(four, &q3_k_scales(&block[96..108]));
                self.put_half(blocks, index, &block[108..]);
            }
            T::Q4K | T::Q5K => self.put_words(four, &block[..16]),
            T::Q6K => {
                self.put_words(four, &block[192..208]);
                self.put_half(blocks, index, &block[208..]);
            }
            T::Tq1_0 => self.put_half(blocks, index, &block[52..]),
            T::Tq2_0 => self.put_half(blocks, index, &block[64..]),
            other => unreachable!("{other} has no levels"),
        }
    }

    fn put_words(&mut self, at: usize, bytes: &[u8]) {
        for (word, bytes) in self.words[at..].iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
    }

    /// A half at `index` of a plane of halves.
    fn put_half(&mut self, plane: usize, index: usize, bytes: &[u8]) {
        let half = u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        let (word, at) = (&mut self.words[plane + index / 2], 16 * (index % 2));
        *word = *word & !(0xffff << at) | half << at;
    }
}

/// A word of `bits` bits of each level, the first lowest.
fn gather(levels: &[u8], bits: usize, of: impl Fn(u8) -> u8) -> u32 {
    let mask = (1u32 << bits) - 1;
    let levels = levels.iter().enumerate();
    levels.fold(0, |word, (i, &level)| {
        word | (u32::from(of(level)) & mask) << (i * bits)
    })
}

/// Sixteen scales minus 32 as signed bytes, from their twelve bytes: low four bits in the halves of the
/// first eight, high two in the pairs of the last four.
fn q3_k_scales(packed: &[u8]) -> [u8; 16] {
    std::array::from_fn(|group| {
        let low = match group {
            0..8 => packed[group] & 15,
            _ => packed[group - 8] >> 4,
        };
        let top = packed[8 + group % 4] >> (2 * (group / 4)) & 3;
        (low | top << 4).wrapping_sub(32)
    })
}

/// The levels of a block in the order of its values, as its bits are stored: unsigned, but Q8_0's.
/// After GGML's block structs (ggml-common.h).
fn read_levels(ty: WeightType, block: &[u8], levels: &mut [u8; 256]) {
    use WeightType as T;
    let nibble_of_32 = |bytes: &[u8], i: usize| bytes[i % 16] >> (4 * (i / 16)) & 15;
    let nibble_of_256 =
        |bytes: &[u8], i: usize| bytes[32 * (i / 64) + i % 32] >> (4 * (i / 32 % 2)) & 15;
    let pair = |bytes: &[u8], i: usize| bytes[32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4)) & 3;
    let bit = |bytes: &[u8], i: usize| bytes[i / 8] >> (i % 8) & 1;
    let column_bit = |bytes: &[u8], i: usize| bytes[i % 32] >> (i / 32) & 1;
    let len = ty.block_len();
    let mut fill = |level: &dyn Fn(usize) -> u8| {
        for (i, to) in levels[..len].iter_mut().enumerate() {
            *to = level(i);
        }
    };
    match ty {
        T::Q4_0 => fill(&|i| nibble_of_32(&block[2..], i)),
        T::Q4_1 => fill(&|i| nibble_of_32(&block[4..], i)),
        T::Q5_0 => fill(&|i| nibble_of_32(&block[6..], i) | bit(&block[2..6], i) << 4),
        T::Q5_1 => fill(&|i| nibble_of_32(&block[8..], i) | bit(&block[4..8], i) << 4),
        T::Q8_0 => fill(&|i| block[2 + i]),
        T::Q2K => fill(&|i| pair(&block[16..80], i)),
        T::Q3K => fill(&|i| pair(&block[32..96], i) | column_bit(&block[..32], i) << 2),
        T::Q4K => fill(&|i| nibble_of_256(&block[16..], i)),
        T::Q5K => fill(&|i| nibble_of_256(&block[48..], i) | column_bit(&block[16..48], i) << 4),
        T::Q6K => fill(&|i| {
            let within = i % 128;
            let low = block[64 * (i / 128) + within % 64] >> (4 * (within / 64)) & 15;
            low | pair(&block[128..192], i) << 4
        }),
        T::Tq1_0 => fill(&|i| {
            let (byte, digit) = match i {
                0..160 => (i % 32, i / 32),
                160..240 => (32 + i % 16, (i - 160) / 16),
                _ => (48 + i % 4, (i - 240) / 4),
            };
            let rest = block[byte].wrapping_mul([1, 3, 9, 27, 81][digit]);
            // Below three.
            ((u16::from(rest) * 3) >> 8) as u8
        }),
        T::Tq2_0 => fill(&|i| pair(&block[..64], i)),
        other => unreachable!("{other} has no levels"),
    }
}
