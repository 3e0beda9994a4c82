//! What the codes of formats stand for whose values are no even steps.

/// The values of a format's codes. Those of grids have their sign in the highest bit of the code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CodeBook {
    /// By code. Codes of three bits use the first eight.
    pub(crate) values: [i8; 16],
    /// A block's scale is its half, halved so many times: values are then whole numbers.
    pub(crate) halvings: u32,
}

impl CodeBook {
    /// `iq4_nl` and `iq4_xs`.
    pub(crate) const IQ4: Self = Self {
        values: [
            -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
        ],
        halvings: 0,
    };
    /// Floats of one bit of mantissa and two of exponent, doubled.
    pub(crate) const MXFP4: Self = Self {
        values: [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12],
        halvings: 0,
    };
    /// A group's scale s stands for (s + 1/2) / 2, a quarter of 2 s + 1.
    pub(crate) const IQ3_XXS: Self = Self {
        values: with_signs([4, 12, 20, 28, 36, 44, 52, 62]),
        halvings: 2,
    };
    /// A group's scale s stands for 2 s + 1.
    pub(crate) const IQ3_S: Self = Self {
        values: with_signs([1, 3, 5, 7, 9, 11, 13, 15]),
        halvings: 0,
    };
    /// `iq2_xxs`, `iq2_xs` and `iq2_s`. A group's scale s stands for (s + 1/2) / 4, an eighth of 2 s + 1.
    pub(crate) const IQ2: Self = Self {
        values: [8, 25, 43, 0, -8, -25, -43, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        halvings: 3,
    };
    /// `iq1_s` and `iq1_m`: -1, 0 and 1 are moved by an eighth, up or (from code 4 on) down.
    pub(crate) const IQ1: Self = Self {
        values: [-7, 1, 9, 0, -9, -1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        halvings: 3,
    };

    /// What one of the values' units is of the block's half.
    pub(crate) const fn part(&self) -> f32 {
        1.0 / (1_u32 << self.halvings) as f32
    }

    /// How much must be added so that no value is below zero, 16 or 128. Values of five bits are left
    /// by 16, of eight by 128.
    pub(crate) const fn offset(&self) -> u8 {
        let mut code = 0;
        while code < 16 {
            if self.values[code] < -16 || self.values[code] > 15 {
                return 128;
            }
            code += 1;
        }
        16
    }

    /// The values with the offset added.
    pub(crate) const fn raised(&self) -> [u8; 16] {
        let mut raised = [0; 16];
        let mut code = 0;
        while code < 16 {
            raised[code] = self.values[code]
                .cast_unsigned()
                .wrapping_add(self.offset());
            code += 1;
        }
        raised
    }
}

/// Magnitudes, then the same below zero.
const fn with_signs(magnitudes: [i8; 8]) -> [i8; 16] {
    let mut values = [0; 16];
    let mut code = 0;
    while code < 8 {
        values[code] = magnitudes[code];
        values[code + 8] = -magnitudes[code];
        code += 1;
    }
    values
}
