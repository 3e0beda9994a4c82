use std::ops::Range;

use gogrid_units::WeightType;
use half::{bf16, f16};

/// Values of a stretch: a multiple of every block's.
const STRETCH_VALUES: usize = 256;
/// Stretches that are made; a power of two. Rows of a thousand values are any four of them, and
/// their bytes stay in a core's cache.
const STRETCHES: usize = 512;

/// Stretches of random weights in one type. Any of them side by side make a row, so that rows are
/// made as fast as bytes are copied.
#[derive(Debug)]
pub(super) struct Stretches {
    bytes: Vec<u8>,
    /// Bytes of each.
    pub(super) len: usize,
}

impl Stretches {
    /// Weights of zero mean whose squares add up to about 1 over a row of `cols`, so that a product with
    /// them is about as large as what goes in.
    pub(super) fn new(ty: WeightType, cols: usize, seed: u64) -> Self {
        let len = STRETCH_VALUES / ty.block_len() * ty.block_bytes();
        let mut bytes = vec![0; STRETCHES * len];
        // A width is far below 2^24.
        let deviation = 1.0 / (cols as f32).sqrt();
        let mut random = Random(seed);
        match Blocks::of(ty) {
            None => fill_floats(ty, deviation, &mut random, &mut bytes),
            Some(blocks) => {
                random.fill(&mut bytes);
                let block_bytes = bytes.chunks_exact_mut(ty.block_bytes());
                block_bytes.for_each(|block| {
                    blocks.scale(deviation, block);
                    finish(ty, deviation / blocks.deviation, block);
                });
            }
        }
        Self { bytes, len }
    }

    /// The stretch that a random number stands for.
    pub(super) fn pick(&self, random: u64) -> &[u8] {
        // Less than their number.
        let start = (random % STRETCHES as u64) as usize * self.len;
        &self.bytes[start..start + self.len]
    }
}

/// How a block of random bytes becomes one of weights. All of its other bytes may be anything, but for
/// the types of [`finish`].
struct Blocks {
    /// The halves to set: where in the block, and how many times the block's scale.
    halves: &'static [(usize, f32)],
    /// Scales and minima of a super-block that are kept under 16. The block's own scale is then a normal
    /// half: a device may take halves below that for zero.
    small: Range<usize>,
    /// The standard deviation of weights whose scale is 1.
    deviation: f32,
}

impl Blocks {
    /// `None` for floats. The second half sets a mean of zero where values begin at zero; the deviations
    /// follow from uniform integers, or were measured, and a test measures them.
    fn of(ty: WeightType) -> Option<Self> {
        let of = |halves, small, deviation| {
            Some(Self {
                halves,
                small,
                deviation,
            })
        };
        match ty {
            WeightType::F32 | WeightType::F16 | WeightType::Bf16 => None,
            WeightType::Q4_0 => of(&[(0, 1.0)], 0..0, 4.6),
            WeightType::Q4_1 => of(&[(0, 1.0), (2, -7.5)], 0..0, 4.6),
            WeightType::Q5_0 => of(&[(0, 1.0)], 0..0, 9.2),
            WeightType::Q5_1 => of(&[(0, 1.0), (2, -15.5)], 0..0, 9.2),
            WeightType::Q8_0 => of(&[(0, 1.0)], 0..0, 73.9),
            WeightType::Q2K => of(&[(80, 1.0), (82, 1.5)], 0..0, 13.9),
            WeightType::Q3K => of(&[(108, 1.0)], 0..0, 43.3),
            WeightType::Q4K => of(&[(0, 1.0), (2, 7.5)], 4..12, 63.5),
            WeightType::Q5K => of(&[(0, 1.0), (2, 15.5)], 4..12, 129.7),
            WeightType::Q6K => of(&[(208, 1.0)], 192..208, 162.6),
            WeightType::Iq4Nl => of(&[(0, 1.0)], 0..0, 67.5),
            WeightType::Iq4Xs => of(&[(0, 1.0)], 0..0, 1247.0),
            WeightType::Iq3Xxs => of(&[(0, 1.0)], 0..0, 142.6),
            WeightType::Iq3S => of(&[(0, 1.0)], 0..0, 139.9),
            WeightType::Iq2Xxs => of(&[(0, 1.0)], 0..0, 53.4),
            WeightType::Iq2Xs => of(&[(0, 1.0)], 0..0, 55.9),
            WeightType::Iq2S => of(&[(0, 1.0)], 0..0, 56.3),
            WeightType::Iq1S => of(&[(0, 1.0)], 0..0, 7.2),
            WeightType::Tq1_0 => of(&[(52, 1.0)], 0..0, 0.82),
            WeightType::Tq2_0 => of(&[(64, 1.0)], 0..0, 0.71),
            // `finish` sets their scales.
            WeightType::Mxfp4 => of(&[], 0..0, 5.85),
            WeightType::Iq1M => of(&[], 0..0, 7.2),
        }
    }

    fn scale(&self, deviation: f32, block: &mut [u8]) {
        let scale = deviation / self.deviation;
        for &(at, times) in self.halves {
            let half = f16::from_f32(times * scale);
            block[at..at + 2].copy_from_slice(&half.to_le_bytes());
        }
        block[self.small.clone()]
            .iter_mut()
            .for_each(|byte| *byte &= 15);
    }
}

/// What is left to do to a block of the types whose scale is no half, and of the one whose random values
/// would not be around zero.
fn finish(ty: WeightType, scale: f32, block: &mut [u8]) {
    match ty {
        WeightType::Mxfp4 => {
            // One of the two powers of two about the scale, by the random byte that is there, such that
            // the square is right in the mean.
            let lower = scale.log2().floor();
            let ratio = scale / lower.exp2();
            let upper = 3.0 * f32::from(block[0]) < 256.0 * (ratio * ratio - 1.0);
            // Far from both ends.
            block[0] = (lower + 128.0) as u8 + u8::from(upper);
        }
        WeightType::Iq1M => {
            let bits = f16::from_f32(scale).to_bits();
            for (i, word) in block[48..].chunks_exact_mut(2).enumerate() {
                // Four bits.
                word[1] = word[1] & 15 | ((bits >> (4 * i) & 15) as u8) << 4;
            }
        }
        // Two bits of 3 mean 2, which quantisers do not make.
        WeightType::Tq2_0 => {
            let values = block[..64].iter_mut();
            values.for_each(|byte| *byte &= !((*byte & *byte >> 1 & 0x55) << 1));
        }
        _ => {}
    }
}

/// Floats between the bounds that give a uniform distribution this deviation.
fn fill_floats(ty: WeightType, deviation: f32, random: &mut Random, out: &mut [u8]) {
    let bound = deviation * 3_f32.sqrt();
    for float in out.chunks_exact_mut(ty.block_bytes()) {
        // 24 bits, which an f32 has.
        let unit = (random.next() >> 40) as f32 / (1 << 24) as f32;
        let value = bound * (2.0 * unit - 1.0);
        match ty {
            WeightType::F16 => float.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
            WeightType::Bf16 => float.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
            _ => float.copy_from_slice(&value.to_le_bytes()),
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn fill(&mut self, out: &mut [u8]) {
        for word in out.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            word.copy_from_slice(&bytes[..word.len()]);
        }
    }
}

/// SplitMix64's finalizer: each bit of `value` moves each bit of the answer.
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
