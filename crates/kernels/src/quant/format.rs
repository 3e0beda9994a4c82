use gogrid_units::WeightType;
use half::{bf16, f16};

use super::CodeBook;

/// The values that one scale of a quantised format covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScaleOf {
    /// The 32 values of a block, by a half of its own.
    Block,
    /// This many values of a block of 256, by a small integer times the block's half.
    Group(usize),
}

/// What the bits of a value mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Levels {
    /// Even steps: the value is the unsigned number less this.
    Even(i32),
    /// The bits are a code.
    Book(&'static CodeBook),
}

impl Levels {
    /// The value, of at most eight bits, so it is exact.
    pub(crate) fn value(self, bits: u8) -> f32 {
        match self {
            Self::Even(offset) => (i32::from(bits) - offset) as f32,
            Self::Book(book) => f32::from(book.values[usize::from(bits)]),
        }
    }

    /// What one of the values' units is of the block's half.
    pub(crate) fn part(self) -> f32 {
        match self {
            Self::Even(_) => 1.0,
            Self::Book(book) => book.part(),
        }
    }
}

/// How the 16 bits of a block's scale are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HalfType {
    F16,
    /// Has every power of two that an f32 has.
    Bf16,
}

/// A quantised format: value = scale × level, or scale × level ± minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Bits of one value, stored unsigned.
    pub(crate) bits: usize,
    /// What they mean.
    pub(crate) levels: Levels,
    /// The values that a scale covers.
    pub(crate) scale_of: ScaleOf,
    /// Whether a minimum goes with each scale.
    pub(crate) mins: bool,
    /// How a block's scale is kept.
    pub(crate) halves: HalfType,
}

impl Format {
    /// The format of a quantised type, `None` for the float types.
    pub(crate) const fn of(ty: WeightType) -> Option<Self> {
        use Levels::{Book, Even};
        use ScaleOf::{Block, Group};
        let (bits, levels, scale_of, mins) = match ty {
            WeightType::F32 | WeightType::F16 | WeightType::Bf16 => return None,
            WeightType::Q4_0 => (4, Even(8), Block, false),
            WeightType::Q4_1 => (4, Even(0), Block, true),
            WeightType::Q5_0 => (5, Even(16), Block, false),
            WeightType::Q5_1 => (5, Even(0), Block, true),
            WeightType::Q8_0 => (8, Even(128), Block, false),
            WeightType::Q2K => (2, Even(0), Group(16), true),
            WeightType::Q3K => (3, Even(4), Group(16), false),
            WeightType::Q4K => (4, Even(0), Group(32), true),
            WeightType::Q5K => (5, Even(0), Group(32), true),
            WeightType::Q6K => (6, Even(32), Group(16), false),
            WeightType::Iq4Nl => (4, Book(&CodeBook::IQ4), Block, false),
            WeightType::Iq4Xs => (4, Book(&CodeBook::IQ4), Group(32), false),
            WeightType::Mxfp4 => (4, Book(&CodeBook::MXFP4), Block, false),
            WeightType::Iq3Xxs => (4, Book(&CodeBook::IQ3_XXS), Group(32), false),
            WeightType::Iq3S => (4, Book(&CodeBook::IQ3_S), Group(32), false),
            WeightType::Iq2Xxs => (3, Book(&CodeBook::IQ2), Group(32), false),
            WeightType::Iq2Xs | WeightType::Iq2S => (3, Book(&CodeBook::IQ2), Group(16), false),
            WeightType::Iq1S => (3, Book(&CodeBook::IQ1), Group(32), false),
            WeightType::Iq1M => (3, Book(&CodeBook::IQ1), Group(16), false),
            WeightType::Tq1_0 | WeightType::Tq2_0 => (2, Even(1), Group(32), false),
        };
        let halves = match ty {
            WeightType::Mxfp4 => HalfType::Bf16,
            _ => HalfType::F16,
        };
        Some(Self {
            bits,
            levels,
            scale_of,
            mins,
            halves,
        })
    }

    /// Values in a block.
    pub(crate) const fn block_len(self) -> usize {
        match self.scale_of {
            ScaleOf::Block => 32,
            ScaleOf::Group(_) => 256,
        }
    }

    /// See [`units_in_line`].
    pub(crate) const fn units_in_line(self) -> usize {
        match self.scale_of {
            ScaleOf::Group(group) => units_in_line(group, self.mins),
            ScaleOf::Block => 2,
        }
    }

    /// The value of a block's half.
    pub(crate) fn half(self, bits: u16) -> f32 {
        match self.halves {
            HalfType::F16 => f16::from_bits(bits).to_f32(),
            HalfType::Bf16 => bf16::from_bits(bits).to_f32(),
        }
    }
}

/// Groups of 32 values whose group scales fill a vector of 16 rows: with minima, or a scale for each 16
/// values, two; else four. `group` is the values of a scale.
pub(crate) const fn units_in_line(group: usize, mins: bool) -> usize {
    if group == 32 && !mins { 4 } else { 2 }
}
