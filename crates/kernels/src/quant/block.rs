use gogrid_units::WeightType;

use super::format::{Format, ScaleOf};
use super::{coded_block, super_block};

/// One block of a quantised format, taken apart. Only the first [`Format::block_len`] values and
/// the format's own scales and minima mean anything.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Block {
    /// The bits of the block's scale, of the format's type of halves.
    pub(crate) d: u16,
    /// Those of the block's minimum, or of the scale of its groups' minima.
    pub(crate) m: u16,
    /// The unsigned values or codes, in order.
    pub(crate) values: [u8; 256],
    /// The scale of each group, in order.
    pub(crate) scales: [i8; 16],
    /// The minimum of each group, in order.
    pub(crate) mins: [u8; 16],
}

impl Block {
    pub(crate) const EMPTY: Self = Self {
        d: 0,
        m: 0,
        values: [0; 256],
        scales: [0; 16],
        mins: [0; 16],
    };

    /// Takes apart the bytes of one block as a GGUF file holds them (llama.cpp, ggml-common.h).
    /// The length is the caller's duty; `ty` is a quantised type.
    pub(crate) fn read(ty: WeightType, stored: &[u8]) -> Self {
        let mut block = Self::EMPTY;
        block.read_into(ty, stored);
        block
    }

    /// [`read`](Self::read) in the place of what it was.
    pub(crate) fn read_into(&mut self, ty: WeightType, stored: &[u8]) {
        assert_eq!(stored.len(), ty.block_bytes(), "one block of {ty}");
        let block = self;
        match ty {
            WeightType::Q4_0 | WeightType::Iq4Nl => block.read_small::<false>(4, stored),
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
            WeightType::Q2K => super_block::read_q2(block, stored),
            WeightType::Q3K => super_block::read_q3(block, stored),
            WeightType::Q4K => super_block::read_q4(block, stored),
            WeightType::Q5K => super_block::read_q5(block, stored),
            WeightType::Q6K => super_block::read_q6(block, stored),
            WeightType::Iq4Xs => coded_block::read_iq4_xs(block, stored),
            WeightType::Mxfp4 => coded_block::read_mxfp4(block, stored),
            WeightType::Iq3Xxs => coded_block::read_iq3_xxs(block, stored),
            WeightType::Iq3S => coded_block::read_iq3_s(block, stored),
            WeightType::Iq2Xxs => coded_block::read_iq2_xxs(block, stored),
            WeightType::Iq2Xs => coded_block::read_iq2_xs(block, stored),
            WeightType::Iq2S => coded_block::read_iq2_s(block, stored),
            WeightType::Iq1S => coded_block::read_iq1_s(block, stored),
            WeightType::Iq1M => coded_block::read_iq1_m(block, stored),
            WeightType::Tq1_0 => coded_block::read_tq1(block, stored),
            WeightType::Tq2_0 => coded_block::read_tq2(block, stored),
            WeightType::F32 | WeightType::F16 | WeightType::Bf16 => unreachable!("no blocks"),
        }
    }

    /// Scale, minimum if any, four bytes of fifth bits if any, then 16 bytes of nibbles.
    fn read_small<const MINS: bool>(&mut self, bits: u8, stored: &[u8]) {
        self.d = half_at(stored, 0);
        let mut at = 2;
        if MINS {
            self.m = half_at(stored, at);
            at += 2;
        }
        let nibbles = stored.last_chunk().expect("16 bytes of nibbles");
        read_nibbles_of_32(&mut self.values.as_chunks_mut().0[0], nibbles);
        if bits == 5 {
            for (i, value) in self.values[..32].iter_mut().enumerate() {
                *value |= (stored[at + i / 8] >> (i % 8) & 1) << 4;
            }
        }
    }

    /// The values as floats, in order; `out` is one block long.
    pub(crate) fn dequantise(&self, format: Format, out: &mut [f32]) {
        let d = format.half(self.d) * format.levels.part();
        let m = format.half(self.m);
        for (i, (out, &value)) in out.iter_mut().zip(&self.values).enumerate() {
            let value = format.levels.value(value);
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

/// Low nibbles the first 16 values, high nibbles the rest.
pub(super) fn read_nibbles_of_32(values: &mut [u8; 32], nibbles: &[u8; 16]) {
    for (i, &byte) in nibbles.iter().enumerate() {
        values[i] = byte & 15;
        values[i + 16] = byte >> 4;
    }
}

pub(super) fn half_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}
