use gogrid_units::WeightType;

/// The values that one scale of a quantised format covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScaleOf {
    /// The 32 values of a block, by an f16 scale of its own.
    Block,
    /// This many values of a block of 256, by a small integer times the block's f16 scale.
    Group(usize),
}

/// A quantised format: value = scale × (bits − offset), or scale × bits ± minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Bits of one value, stored unsigned.
    pub(crate) bits: usize,
    /// The unsigned value less the signed one.
    pub(crate) offset: i32,
    /// The values that a scale covers.
    pub(crate) scale_of: ScaleOf,
    /// Whether a minimum goes with each scale.
    pub(crate) mins: bool,
}

impl Format {
    /// The format of a quantised type, `None` for the float types.
    pub(crate) const fn of(ty: WeightType) -> Option<Self> {
        let (bits, offset, scale_of, mins) = match ty {
            WeightType::F32 | WeightType::F16 | WeightType::Bf16 => return None,
            WeightType::Q4_0 => (4, 8, ScaleOf::Block, false),
            WeightType::Q4_1 => (4, 0, ScaleOf::Block, true),
            WeightType::Q5_0 => (5, 16, ScaleOf::Block, false),
            WeightType::Q5_1 => (5, 0, ScaleOf::Block, true),
            WeightType::Q8_0 => (8, 128, ScaleOf::Block, false),
            WeightType::Q2K => (2, 0, ScaleOf::Group(16), true),
            WeightType::Q3K => (3, 4, ScaleOf::Group(16), false),
            WeightType::Q4K => (4, 0, ScaleOf::Group(32), true),
            WeightType::Q5K => (5, 0, ScaleOf::Group(32), true),
            WeightType::Q6K => (6, 32, ScaleOf::Group(16), false),
        };
        Some(Self {
            bits,
            offset,
            scale_of,
            mins,
        })
    }

    /// Values in a block.
    pub(crate) const fn block_len(self) -> usize {
        match self.scale_of {
            ScaleOf::Block => 32,
            ScaleOf::Group(_) => 256,
        }
    }
}
