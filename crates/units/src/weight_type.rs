use std::fmt;
use std::str::FromStr;

/// How a weight matrix is stored: its element type, or its block format as GGML defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of a single.
    Bf16,
    /// Blocks of 32: f16 scale, 4-bit values minus 8.
    Q4_0,
    /// Blocks of 32: f16 scale and minimum, 4-bit values.
    Q4_1,
    /// Blocks of 32: f16 scale, 5-bit values minus 16.
    Q5_0,
    /// Blocks of 32: f16 scale and minimum, 5-bit values.
    Q5_1,
    /// Blocks of 32: f16 scale, 8-bit values.
    Q8_0,
    /// Blocks of 256: 16 groups of 2-bit values with 4-bit scales and minima.
    Q2K,
    /// Blocks of 256: 16 groups of 3-bit values with 6-bit scales.
    Q3K,
    /// Blocks of 256: 8 groups of 4-bit values with 6-bit scales and minima.
    Q4K,
    /// Blocks of 256: 8 groups of 5-bit values with 6-bit scales and minima.
    Q5K,
    /// Blocks of 256: 16 groups of 6-bit values with 8-bit scales.
    Q6K,
    /// Blocks of 32: f16 scale, 4-bit codes for 16 values that lie closer together near zero.
    Iq4Nl,
    /// Blocks of 256: 8 groups of the same codes with 6-bit scales.
    Iq4Xs,
    /// Blocks of 32: a power of two as scale, 4-bit floats (OCP Microscaling Formats 1.0).
    Mxfp4,
    /// Blocks of 256: 8 groups with 4-bit scales, four values at a time out of a grid of 256.
    Iq3Xxs,
    /// Blocks of 256: 8 groups with 4-bit scales, four values at a time out of a grid of 512.
    Iq3S,
    /// Blocks of 256: 8 groups with 4-bit scales, eight values at a time out of a grid of 256.
    Iq2Xxs,
    /// Blocks of 256: 16 groups with 4-bit scales, eight values at a time out of a grid of 512.
    Iq2Xs,
    /// Blocks of 256: 16 groups with 4-bit scales, eight values at a time out of a grid of 1,024.
    Iq2S,
    /// Blocks of 256: 8 groups with 3-bit scales, eight values at a time out of a grid of 2,048.
    Iq1S,
    /// Blocks of 256: 16 groups with 3-bit scales, and the same grid.
    Iq1M,
    /// Blocks of 256: f16 scale, values of -1, 0 and 1, five in a byte.
    Tq1_0,
    /// Blocks of 256: f16 scale, 2-bit values minus 1.
    Tq2_0,
}

impl WeightType {
    /// Every supported type.
    pub const ALL: [Self; 25] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
        Self::Mxfp4,
        Self::Iq3Xxs,
        Self::Iq3S,
        Self::Iq2Xxs,
        Self::Iq2Xs,
        Self::Iq2S,
        Self::Iq1S,
        Self::Iq1M,
        Self::Tq1_0,
        Self::Tq2_0,
    ];

    /// Values in one block; a row holds a whole number of blocks.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0
            | Self::Q4_1
            | Self::Q5_0
            | Self::Q5_1
            | Self::Q8_0
            | Self::Iq4Nl
            | Self::Mxfp4 => 32,
            Self::Q2K
            | Self::Q3K
            | Self::Q4K
            | Self::Q5K
            | Self::Q6K
            | Self::Iq4Xs
            | Self::Iq3Xxs
            | Self::Iq3S
            | Self::Iq2Xxs
            | Self::Iq2Xs
            | Self::Iq2S
            | Self::Iq1S
            | Self::Iq1M
            | Self::Tq1_0
            | Self::Tq2_0 => 256,
        }
    }

    /// Bytes of one block in a GGUF file.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
            Self::Iq4Nl => 18,
            Self::Iq4Xs => 136,
            Self::Mxfp4 => 17,
            Self::Iq3Xxs => 98,
            Self::Iq3S => 110,
            Self::Iq2Xxs => 66,
            Self::Iq2Xs => 74,
            Self::Iq2S => 82,
            Self::Iq1S => 50,
            Self::Iq1M => 56,
            Self::Tq1_0 => 54,
            Self::Tq2_0 => 66,
        }
    }

    /// Bytes of a row of `len` values in a GGUF file, or `None` when `len` is not a whole number
    /// of blocks.
    pub const fn row_bytes(self, len: usize) -> Option<usize> {
        if !len.is_multiple_of(self.block_len()) {
            return None;
        }
        (len / self.block_len()).checked_mul(self.block_bytes())
    }

    /// The name GGML's tools use, in lower case: `q4_k`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q8_0 => "q8_0",
            Self::Q2K => "q2_k",
            Self::Q3K => "q3_k",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
            Self::Iq4Nl => "iq4_nl",
            Self::Iq4Xs => "iq4_xs",
            Self::Mxfp4 => "mxfp4",
            Self::Iq3Xxs => "iq3_xxs",
            Self::Iq3S => "iq3_s",
            Self::Iq2Xxs => "iq2_xxs",
            Self::Iq2Xs => "iq2_xs",
            Self::Iq2S => "iq2_s",
            Self::Iq1S => "iq1_s",
            Self::Iq1M => "iq1_m",
            Self::Tq1_0 => "tq1_0",
            Self::Tq2_0 => "tq2_0",
        }
    }
}

impl fmt::Display for WeightType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for WeightType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|ty| ty.name() == name);
        known.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|ty| ty.name()).collect();
            format!("unknown weight type {name:?}; one of {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_whole_blocks() {
        assert_eq!(WeightType::Q4_1.row_bytes(576), Some(360));
        assert_eq!(WeightType::Q4K.row_bytes(576), None);
    }

    #[test]
    fn names_round_trip() {
        for ty in WeightType::ALL {
            assert_eq!(ty.name().parse(), Ok(ty));
        }
    }
}
