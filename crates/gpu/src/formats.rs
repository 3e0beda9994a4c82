//! How each weight type lies in a device's memory, and the text with which kernels read it.
//!
//! A matrix is units of 32 columns, row after row, in up to four planes that begin at multiples of 16
//! bytes, so that loads are wide and aligned. GGUF's blocks of 18 or 210 bytes allow neither.
//!
//! Codes of a code-book are looked up as they are put there, so each takes a byte.

use gogrid_units::WeightType;

/// Columns of a unit.
pub(crate) const UNIT: usize = 32;

/// Words of 32 bits that each plane has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Planes {
    /// The low bits of the values, and floats.
    pub(crate) values: usize,
    /// The fifth or sixth bits.
    pub(crate) high: usize,
    /// Scales with their minima, where they have any.
    pub(crate) scales: usize,
    /// The scales of blocks whose groups have scales of their own.
    pub(crate) blocks: usize,
}

impl Planes {
    /// The planes of `rows` rows of `units` units.
    pub(crate) fn of(ty: WeightType, rows: usize, units: usize) -> Self {
        let [values, high, scales, blocks] =
            plane_words(ty, rows * units).map(|words| words.next_multiple_of(4));
        Self {
            values,
            high,
            scales,
            blocks,
        }
    }

    /// Words of all planes.
    pub(crate) fn words(&self) -> usize {
        self.values + self.high + self.scales + self.blocks
    }

    /// The first word of each plane.
    pub(crate) fn starts(&self) -> [usize; 4] {
        let high = self.values;
        let scales = high + self.high;
        [0, high, scales, scales + self.scales]
    }
}

/// Words that `units` units fill in each plane. Of an even number of rows they are filled to the end.
pub(crate) fn plane_words(ty: WeightType, units: usize) -> [usize; 4] {
    use WeightType as T;
    let blocks = units / 8;
    match ty {
        T::F32 => [32 * units, 0, 0, 0],
        T::F16 | T::Bf16 => [16 * units, 0, 0, 0],
        T::Q4_0 => [4 * units, 0, units.div_ceil(2), 0],
        T::Q4_1 => [4 * units, 0, units, 0],
        T::Q5_0 => [4 * units, units, units.div_ceil(2), 0],
        T::Q5_1 => [4 * units, units, units, 0],
        T::Q8_0 => [8 * units, 0, units.div_ceil(2), 0],
        T::Q2K => [2 * units, 0, 4 * blocks, blocks],
        T::Q3K => [2 * units, units, 4 * blocks, blocks.div_ceil(2)],
        T::Q4K => [4 * units, 0, 4 * blocks, 0],
        T::Q5K => [4 * units, units, 4 * blocks, 0],
        T::Q6K => [4 * units, 2 * units, 4 * blocks, blocks.div_ceil(2)],
        T::Iq4Nl | T::Mxfp4 => [8 * units, 0, units.div_ceil(2), 0],
        T::Iq4Xs | T::Iq3Xxs | T::Iq3S | T::Iq2Xxs | T::Iq2Xs | T::Iq2S | T::Iq1S | T::Iq1M => {
            [8 * units, 0, 4 * blocks, blocks.div_ceil(2)]
        }
        T::Tq1_0 | T::Tq2_0 => [2 * units, 0, 0, blocks.div_ceil(2)],
    }
}

/// How a kernel reads the values of one type.
pub(crate) struct Code {
    /// Parts of a unit with a scale of their own: one of 32 columns, or two of 16.
    pub(crate) halves: usize,
    /// Whether values are moved by a minimum or an offset.
    pub(crate) has_minimum: bool,
    /// Reads a unit: `b#` and the like hold its bits, `d#0`, `m#0` (and `d#1`, `m#1`) scale and minimum of
    /// each half. `g#` is the unit's number in the planes; `#` stands for a suffix.
    load: &'static str,
    /// Eight columns from `8 @` on: `qa` and `qb` become their levels.
    eight: &'static str,
}

impl Code {
    /// The text that reads unit `g#`, with `#` replaced by `suffix`.
    pub(crate) fn load(&self, suffix: &str) -> String {
        self.load.replace('#', suffix)
    }

    /// The text that makes `qa` and `qb` of columns `8 i` to `8 i + 7`.
    pub(crate) fn eight(&self, suffix: &str, i: &str) -> String {
        self.eight.replace('#', suffix).replace('@', i)
    }

    /// As [`load`](Self::load), without the bits of the levels.
    pub(crate) fn load_scales(&self, suffix: &str) -> String {
        let bits = BITS.iter().fold(self.load.to_owned(), |text, (load, ..)| {
            text.replace(load, "")
        });
        bits.replace('#', suffix)
    }

    /// As [`eight`](Self::eight), where only the scales were read before: it reads the words that it needs.
    pub(crate) fn eight_alone(&self, suffix: &str, i: &str) -> String {
        let found = BITS.iter().filter(|(load, ..)| self.load.contains(load));
        let text = found.fold(self.eight.to_owned(), |text, (_, bits, word)| {
            text.replace(bits, word)
        });
        text.replace('#', suffix).replace('@', i)
    }

    pub(crate) const fn of(ty: WeightType) -> Self {
        use WeightType as T;
        let (halves, has_minimum, load, eight) = match ty {
            T::F32 => (1, false, FLOAT, F32),
            T::F16 => (1, false, FLOAT, F16),
            T::Bf16 => (1, false, FLOAT, BF16),
            T::Q4_0 => (1, true, Q4_0, FOUR),
            T::Q4_1 => (1, true, Q4_1, FOUR),
            T::Q5_0 => (1, true, Q5_0, FIVE),
            T::Q5_1 => (1, true, Q5_1, FIVE),
            T::Q8_0 => (1, false, Q8_0, EIGHT),
            T::Q2K => (2, true, Q2_K, TWO),
            T::Q3K => (2, true, Q3_K, THREE),
            T::Q4K => (1, true, Q4_K, FOUR),
            T::Q5K => (1, true, Q5_K, FIVE),
            T::Q6K => (2, true, Q6_K, SIX),
            T::Iq4Nl => (1, false, Q8_0, EIGHT),
            T::Mxfp4 => (1, false, MXFP4, EIGHT),
            T::Iq4Xs | T::Iq3S => (1, false, WHOLE, EIGHT),
            T::Iq3Xxs => (1, false, QUARTERS, EIGHT),
            T::Iq2Xxs | T::Iq1S => (1, false, EIGHTHS, EIGHT),
            T::Iq2Xs | T::Iq2S | T::Iq1M => (2, false, EIGHTHS_OF_16, EIGHT),
            T::Tq1_0 | T::Tq2_0 => (1, true, TQ, TWO),
        };
        Self {
            halves,
            has_minimum,
            load,
            eight,
        }
    }
}

/// What the kernels' texts use: halves, signed bytes, and the six-bit scales of Q4_K and Q5_K.
pub(crate) const FUNCTIONS: &str = "
fn half_at(plane: u32, index: u32) -> f32 {
    let pair = unpack2x16float(w1[plane + (index >> 1u)]);
    return select(pair.x, pair.y, (index & 1u) == 1u);
}
fn upper_half_at(plane: u32, index: u32) -> f32 {
    let pair = w1[plane + (index >> 1u)];
    return bitcast<f32>(select(pair << 16u, pair & 0xffff0000u, (index & 1u) == 1u));
}
fn signed_byte(word: u32, at: u32) -> f32 {
    return f32(bitcast<i32>(word << (24u - at)) >> 24u);
}
fn two_scales(block: u32, j: u32) -> u32 {
    return w1[p.scales + 4u * block + (j >> 1u)] >> (16u * (j & 1u));
}
fn six_bits(block: u32, j: u32) -> vec2<f32> {
    let s = w4[(p.scales >> 2u) + block];
    let at = 8u * (j & 3u);
    let low = vec2<u32>(s.y >> at, s.z >> at);
    let tops = (low >> vec2<u32>(6u)) & vec2<u32>(3u);
    let last = s.w >> at;
    let late = vec2<u32>(last & 15u, (last >> 4u) & 15u) | (tops << vec2<u32>(4u));
    let levels = vec2<f32>(select(late, low & vec2<u32>(63u), j < 4u));
    return levels * unpack2x16float(s.x) * vec2<f32>(1.0, -1.0);
}
fn pairs(bits: u32) -> vec4<u32> {
    return vec4<u32>(bits, bits >> 2u, bits >> 4u, bits >> 6u) & vec4<u32>(3u);
}
fn ones(bits: u32) -> vec4<u32> {
    return vec4<u32>(bits, bits >> 1u, bits >> 2u, bits >> 3u) & vec4<u32>(1u);
}
";

/// Loads of a whole unit's bits, how its eighths find theirs, and the words that have them.
const BITS: [(&str, &str, &str); 4] = [
    ("let b# = w4[g#];", "b#[@]", "w1[4u * g# + @]"),
    (
        "let b# = vec2<u32>(w1[2u * g#], w1[2u * g# + 1u]);",
        "b#[@ >> 1u]",
        "w1[2u * g# + (@ >> 1u)]",
    ),
    (
        "let e# = vec2<u32>(w1[p.high + 2u * g#], w1[p.high + 2u * g# + 1u]);",
        "e#[@ >> 1u]",
        "w1[p.high + 2u * g# + (@ >> 1u)]",
    ),
    ("let e# = w1[p.high + g#];", "e# >>", "w1[p.high + g#] >>"),
];

const FLOAT: &str = "let d#0 = 1.0; let m#0 = 0.0;";
const F32: &str = "qa = bitcast<vec4<f32>>(w4[8u * g# + 2u * @]); qb = bitcast<vec4<f32>>(w4[8u * g# + 2u * @ + 1u]);";
const F16: &str = "{ let w = w4[4u * g# + @];
    qa = vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y));
    qb = vec4<f32>(unpack2x16float(w.z), unpack2x16float(w.w)); }";
const BF16: &str = "{ let w = w4[4u * g# + @]; let low = w << vec4<u32>(16u);
    let high = w & vec4<u32>(0xffff0000u);
    qa = bitcast<vec4<f32>>(vec4<u32>(low.x, high.x, low.y, high.y));
    qb = bitcast<vec4<f32>>(vec4<u32>(low.z, high.z, low.w, high.w)); }";
const Q4_0: &str = "let b# = w4[g#]; let d#0 = half_at(p.scales, g#); let m#0 = -8.0 * d#0;";
const Q4_1: &str = "let b# = w4[g#]; let s# = unpack2x16float(w1[p.scales + g#]);
    let d#0 = s#.x; let m#0 = s#.y;";
const Q5_0: &str = "let b# = w4[g#]; let e# = w1[p.high + g#];
    let d#0 = half_at(p.scales, g#); let m#0 = -16.0 * d#0;";
const Q5_1: &str = "let b# = w4[g#]; let e# = w1[p.high + g#];
    let s# = unpack2x16float(w1[p.scales + g#]); let d#0 = s#.x; let m#0 = s#.y;";
const Q8_0: &str = "let d#0 = half_at(p.scales, g#); let m#0 = 0.0;";
const Q2_K: &str = "let b# = vec2<u32>(w1[2u * g#], w1[2u * g# + 1u]);
    let s# = two_scales(g# >> 3u, g# & 7u); let t# = unpack2x16float(w1[p.blocks + (g# >> 3u)]);
    let d#0 = t#.x * f32(s# & 15u); let m#0 = -t#.y * f32((s# >> 4u) & 15u);
    let d#1 = t#.x * f32((s# >> 8u) & 15u); let m#1 = -t#.y * f32((s# >> 12u) & 15u);";
const Q3_K: &str = "let b# = vec2<u32>(w1[2u * g#], w1[2u * g# + 1u]); let e# = w1[p.high + g#];
    let s# = two_scales(g# >> 3u, g# & 7u); let t# = half_at(p.blocks, g# >> 3u);
    let d#0 = t# * signed_byte(s#, 0u); let m#0 = -4.0 * d#0;
    let d#1 = t# * signed_byte(s#, 8u); let m#1 = -4.0 * d#1;";
const Q4_K: &str = "let b# = w4[g#]; let s# = six_bits(g# >> 3u, g# & 7u);
    let d#0 = s#.x; let m#0 = s#.y;";
const Q5_K: &str =
    "let b# = w4[g#]; let e# = w1[p.high + g#]; let s# = six_bits(g# >> 3u, g# & 7u);
    let d#0 = s#.x; let m#0 = s#.y;";
const Q6_K: &str =
    "let b# = w4[g#]; let e# = vec2<u32>(w1[p.high + 2u * g#], w1[p.high + 2u * g# + 1u]);
    let s# = two_scales(g# >> 3u, g# & 7u); let t# = half_at(p.blocks, g# >> 3u);
    let d#0 = t# * signed_byte(s#, 0u); let m#0 = -32.0 * d#0;
    let d#1 = t# * signed_byte(s#, 8u); let m#1 = -32.0 * d#1;";

const MXFP4: &str = "let d#0 = upper_half_at(p.scales, g#); let m#0 = 0.0;";
/// Groups of 32 whole numbers, or of parts of the block's half.
const WHOLE: &str = "let d#0 = half_at(p.blocks, g# >> 3u)
        * signed_byte(two_scales(g# >> 3u, g# & 7u), 0u);
    let m#0 = 0.0;";
const QUARTERS: &str = "let d#0 = 0.25 * half_at(p.blocks, g# >> 3u)
        * signed_byte(two_scales(g# >> 3u, g# & 7u), 0u);
    let m#0 = 0.0;";
const EIGHTHS: &str = "let d#0 = 0.125 * half_at(p.blocks, g# >> 3u)
        * signed_byte(two_scales(g# >> 3u, g# & 7u), 0u);
    let m#0 = 0.0;";
const EIGHTHS_OF_16: &str = "let s# = two_scales(g# >> 3u, g# & 7u);
    let t# = 0.125 * half_at(p.blocks, g# >> 3u);
    let d#0 = t# * signed_byte(s#, 0u); let m#0 = 0.0;
    let d#1 = t# * signed_byte(s#, 8u); let m#1 = 0.0;";
const TQ: &str = "let b# = vec2<u32>(w1[2u * g#], w1[2u * g# + 1u]);
    let d#0 = half_at(p.blocks, g# >> 3u); let m#0 = -d#0;";

const FOUR: &str = "{ let w = b#[@]; qa = vec4<f32>(unpack4xU8(w & 0x0f0f0f0fu));
    qb = vec4<f32>(unpack4xU8((w >> 4u) & 0x0f0f0f0fu)); }";
const FIVE: &str = "{ let w = b#[@]; let h = e# >> (8u * @);
    qa = vec4<f32>(unpack4xU8(w & 0x0f0f0f0fu) | (ones(h) << vec4<u32>(4u)));
    qb = vec4<f32>(unpack4xU8((w >> 4u) & 0x0f0f0f0fu) | (ones(h >> 4u) << vec4<u32>(4u))); }";
const SIX: &str = "{ let w = b#[@]; let h = e#[@ >> 1u] >> (16u * (@ & 1u));
    qa = vec4<f32>(unpack4xU8(w & 0x0f0f0f0fu) | (pairs(h) << vec4<u32>(4u)));
    qb = vec4<f32>(unpack4xU8((w >> 4u) & 0x0f0f0f0fu) | (pairs(h >> 8u) << vec4<u32>(4u))); }";
const TWO: &str = "{ let h = b#[@ >> 1u] >> (16u * (@ & 1u));
    qa = vec4<f32>(pairs(h)); qb = vec4<f32>(pairs(h >> 8u)); }";
const THREE: &str = "{ let h = b#[@ >> 1u] >> (16u * (@ & 1u)); let k = e# >> (8u * @);
    qa = vec4<f32>(pairs(h) | (ones(k) << vec4<u32>(2u)));
    qb = vec4<f32>(pairs(h >> 8u) | (ones(k >> 4u) << vec4<u32>(2u))); }";
const EIGHT: &str = "{ qa = vec4<f32>(unpack4xI8(w1[8u * g# + 2u * @]));
    qb = vec4<f32>(unpack4xI8(w1[8u * g# + 2u * @ + 1u])); }";

#[cfg(test)]
mod tests {
    use super::*;
    use gogrid_kernels::WholeNumbers;

    #[test]
    fn scales_stand_for_the_part_that_the_code_book_says() {
        for ty in WeightType::ALL {
            let load = Code::of(ty).load("_");
            let factor = match WholeNumbers::part(ty) {
                Some(0.25) => "0.25 *",
                Some(0.125) => "0.125 *",
                _ => "let",
            };
            assert!(load.contains(factor), "{ty}: {load}");
        }
    }
}
