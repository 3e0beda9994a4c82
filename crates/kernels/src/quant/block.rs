use gogrid_units::WeightType;
use half::f16;

use super::format::{Format, ScaleOf};
use super::super_block;

/// One block of a quantised format, taken apart. Only the first [`Format::block_len`] values and
/// the format's own scales and minima mean anything.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Block {
    /// The block's scale.
    pub(crate) d: f16,
    /// The block's minimum, or the scale of its groups' minima.
    pub(crate) m: f16,
    /// The unsigned values, in order.
    pub(crate) values: [u8; 256],
    /// The scale of each group, in order.
    pub(crate) scales: [i8; 16],
    /// The minimum of each group, in order.
    pub(crate) mins: [u8; 16],
}

impl Block {
    pub(crate) const EMPTY: Self = Self {
        d: f16::ZERO,
        m: f16::ZERO,
        values: [0; 256],
        scales: [0; 16],
        mins: [0; 16],
    };

    /// Takes apart the bytes of one block as a GGUF file holds them (llama.cpp, ggml-common.h).
    /// The length is the caller's duty; `ty` is a quantised type.
    pub(crate) fn read(ty: WeightType, stored: &[u8]) -> Self {
        assert_eq!(stored.len(), ty.block_bytes(), "one block of {ty}");
        let mut block = Self::EMPTY;
        match ty {
            WeightType::Q4_0 => block.read_small::<false>(4, stored),
            WeightType::Q4_1 => block.read_small::<true>(4, stored),
            WeightType::Q5_0 => block.read_small::<false>(5, stored),
            WeightType::Q5_1 => block.read_small::<true>(5, stored),
            WeightType::Q8_0 => {
                block.d = half_at(stored, 0);
                for (value, &byte) in block.values.iter_mut().zip(&stored[2..]) {
                    // From two's complement to the excess of 128 that Format::offset names.
                    *value = byte ^ 0x80;
                }
            }
            WeightType::Q2K => super_block::read_q2(&mut block, stored),
            WeightType::Q3K => super_block::read_q3(&mut block, stored),
            WeightType::Q4K => super_block::read_q4(&mut block, stored),
            WeightType::Q5K => super_block::read_q5(&mut block, stored),
            WeightType::Q6K => super_block::read_q6(&mut block, stored),
            WeightType::F32 | WeightType::F16 | WeightType::Bf16 => unreachable!("no blocks"),
        }
        block
    }

    /// Scale, minimum if any, four bytes of fifth bits if any, then 16 bytes of nibbles: values
    /// 0..16 are the low ones, 16..32 the high ones.
    fn read_small<const MINS: bool>(&mut self, bits: u8, stored: &[u8]) {
        self.d = half_at(stored, 0);
        let mut at = 2;
        if MINS {
            self.m = half_at(stored, at);
            at += 2;
        }
        for (i, &byte) in stored[stored.len() - 16..].iter().enumerate() {
            self.values[i] = byte & 15;
            self.values[i + 16] = byte >> 4;
        }
        if bits == 5 {
            for (i, value) in self.values[..32].iter_mut().enumerate() {
                *value |= (stored[at + i / 8] >> (i % 8) & 1) << 4;
            }
        }
    }

    /// The values as floats, in order; `out` is one block long.
    pub(crate) fn dequantise(&self, format: Format, out: &mut [f32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        let values = self.values.iter().map(|&v| i32::from(v) - format.offset);
        for (i, (out, value)) in out.iter_mut().zip(values).enumerate() {
            // Exact: at most eight bits.
            let value = value as f32;
            *out = match format.scale_of {
                ScaleOf::Block if format.mins => d * value + m,
                ScaleOf::Block => d * value,
                ScaleOf::Group(len) => {
                    let scaled = d * f32::from(self.scales[i / len]) * value;
                    if format.mins {
                        scaled - m * f32::from(self.mins[i / len])
                    } else {
                        scaled
                    }
                }
            };
        }
    }
}

pub(super) fn half_at(bytes: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]])
}
