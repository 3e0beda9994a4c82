use std::arch::aarch64::{
    float32x4_t, int8x16_t, int16x8_t, int32x4_t, uint8x16_t, vaddq_f32, vaddq_s32, vaddvq_s32,
    vandq_s32, vandq_u8, vandq_u32, vbslq_f32, vcgtq_f32, vcltq_f32, vcombine_s8, vcombine_s16,
    vcvt_f16_f32, vcvt_f32_f16, vcvtnq_s32_f32, vcvtq_f32_s32, vdivq_f32, vdupq_laneq_s32,
    vdupq_n_f32, vdupq_n_s32, vdupq_n_u8, vdupq_n_u32, veorq_u8, vfmaq_f32, vfmsq_f32, vget_low_s8,
    vget_low_s16, vgetq_lane_f32, vld1_s8, vld1_u8, vld1_u16, vld1q_f32, vld1q_s8, vld1q_u8,
    vmaxq_u32, vmaxvq_u32, vmlal_high_s8, vmlal_s8, vmlaq_s32, vmlsq_s32, vmovl_s8, vmovl_u8,
    vmovl_u16, vmull_high_s8, vmull_high_s16, vmull_s8, vmull_s16, vmulq_f32, vorrq_u8,
    vpaddlq_s16, vpaddq_s32, vqmovn_s16, vqmovn_s32, vqtbl1q_u8, vreinterpret_f16_u16,
    vreinterpret_u16_f16, vreinterpretq_f32_s32, vreinterpretq_f32_u32, vreinterpretq_s8_s32,
    vreinterpretq_s8_u8, vreinterpretq_s16_s32, vreinterpretq_s32_f32, vreinterpretq_s32_s8,
    vreinterpretq_s32_s16, vreinterpretq_s32_u16, vreinterpretq_u32_f32, vshlq_n_s32, vshlq_n_u8,
    vshlq_n_u32, vshrq_n_s32, vshrq_n_u8, vst1_u16, vst1q_f32, vst1q_s8, vsubq_f32,
};
use std::arch::asm;

use super::dots::{Dots, Word};
use super::floats::{Floats, LANES};
use super::token::{InstructionSet, token};

token! {
    /// aarch64 as all of it is: sixteen lanes are four registers of four. Products of bytes are summed
    /// in 16 bits as long as they fit.
    Neon: "neon"
}

token! {
    /// aarch64 with the dot product of bytes (FEAT_DotProd).
    NeonDot: "neon", "dotprod"
}

/// The instruction sets of aarch64, which differ in how they multiply bytes.
pub(crate) trait Arm: InstructionSet {
    /// Adds, in each lane, the products of 4 × 4 signed bytes with 16 inputs. Without `WIDE`, four products
    /// add up within 16 bits; with it, two do.
    fn dot<const WIDE: bool, const T: usize>(
        self,
        sums: &mut [[int32x4_t; 4]; T],
        weights: &[[int8x16_t; 4]; 4],
        inputs: &[int8x16_t; T],
    );
}

/// Intrinsics that read and write memory only through arrays as long as the registers. Used in what
/// takes an [`Arm`], or is called by that.
macro_rules! neon {
    ($e:expr) => {{
        // SAFETY: every aarch64 this is compiled for has NEON, and every pointer here comes from an
        // array that is as long as the registers at it.
        #[allow(unused_unsafe, reason = "one may stand inside another")]
        unsafe {
            $e
        }
    }};
}

/// The four parts of a vector, by one expression of the part's number.
macro_rules! four {
    ($i:ident => $e:expr) => {
        neon!([
            {
                let $i = 0;
                $e
            },
            {
                let $i = 1;
                $e
            },
            {
                let $i = 2;
                $e
            },
            {
                let $i = 3;
                $e
            },
        ])
    };
}

/// Four lanes' products of a word of each with word `WORD` of `x`, added to `sum`.
#[inline(always)]
fn sdot<const WORD: u8>(_: NeonDot, mut sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // The intrinsic is not stable.
    // SAFETY: it reads and writes these registers alone, and who has a `NeonDot` has its instructions,
    // of which the directive tells the assembler.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sum:v}.4s, {w:v}.16b, {x:v}.4b[{word}]",
            sum = inout(vreg) sum,
            w = in(vreg) w,
            x = in(vreg) x,
            word = const WORD,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Four halves as floats, which is exact.
#[inline(always)]
fn widen(halves: [u16; 4]) -> float32x4_t {
    neon!(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(
        halves.as_ptr()
    ))))
}

impl Arm for NeonDot {
    #[inline(always)]
    fn dot<const WIDE: bool, const T: usize>(
        self,
        sums: &mut [[int32x4_t; 4]; T],
        weights: &[[int8x16_t; 4]; 4],
        inputs: &[int8x16_t; T],
    ) {
        self.part::<0, T>(sums, weights, inputs);
        self.part::<1, T>(sums, weights, inputs);
        self.part::<2, T>(sums, weights, inputs);
        self.part::<3, T>(sums, weights, inputs);
    }
}

impl NeonDot {
    /// The products of part `J` of the lanes. The parts are no loop: that was left rolled, its sums in
    /// memory.
    #[inline(always)]
    fn part<const J: usize, const T: usize>(
        self,
        sums: &mut [[int32x4_t; 4]; T],
        weights: &[[int8x16_t; 4]; 4],
        inputs: &[int8x16_t; T],
    ) {
        for (sums, x) in sums.iter_mut().zip(inputs) {
            sums[J] = sdot::<0>(self, sums[J], weights[0][J], *x);
        }
        for (sums, x) in sums.iter_mut().zip(inputs) {
            sums[J] = sdot::<1>(self, sums[J], weights[1][J], *x);
        }
        for (sums, x) in sums.iter_mut().zip(inputs) {
            sums[J] = sdot::<2>(self, sums[J], weights[2][J], *x);
        }
        for (sums, x) in sums.iter_mut().zip(inputs) {
            sums[J] = sdot::<3>(self, sums[J], weights[3][J], *x);
        }
    }
}

impl Arm for Neon {
    #[inline(always)]
    fn dot<const WIDE: bool, const T: usize>(
        self,
        sums: &mut [[int32x4_t; 4]; T],
        weights: &[[int8x16_t; 4]; 4],
        inputs: &[int8x16_t; T],
    ) {
        for (sums, x) in sums.iter_mut().zip(inputs) {
            let x = words(*x);
            *sums = four!(j => {
                let w = [weights[0][j], weights[1][j], weights[2][j], weights[3][j]];
                if WIDE {
                    let sum = pair_products(sums[j], [w[0], w[1]], [x[0], x[1]]);
                    pair_products(sum, [w[2], w[3]], [x[2], x[3]])
                } else {
                    four_products(sums[j], w, x)
                }
            });
        }
    }
}

/// Each word of `x` in every lane.
#[inline(always)]
fn words(x: int8x16_t) -> [int8x16_t; 4] {
    neon!({
        let x = vreinterpretq_s32_s8(x);
        [
            vreinterpretq_s8_s32(vdupq_laneq_s32::<0>(x)),
            vreinterpretq_s8_s32(vdupq_laneq_s32::<1>(x)),
            vreinterpretq_s8_s32(vdupq_laneq_s32::<2>(x)),
            vreinterpretq_s8_s32(vdupq_laneq_s32::<3>(x)),
        ]
    })
}

/// 16-bit sums of a lane's four products, two lanes a register, added to 32-bit ones.
#[inline(always)]
fn add_lanes(sum: int32x4_t, low: int16x8_t, high: int16x8_t) -> int32x4_t {
    neon!(vaddq_s32(
        sum,
        vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high))
    ))
}

#[inline(always)]
fn pair_products(sum: int32x4_t, w: [int8x16_t; 2], x: [int8x16_t; 2]) -> int32x4_t {
    neon!({
        let low = vmull_s8(vget_low_s8(w[0]), vget_low_s8(x[0]));
        let low = vmlal_s8(low, vget_low_s8(w[1]), vget_low_s8(x[1]));
        let high = vmull_high_s8(w[0], x[0]);
        add_lanes(sum, low, vmlal_high_s8(high, w[1], x[1]))
    })
}

#[inline(always)]
fn four_products(sum: int32x4_t, w: [int8x16_t; 4], x: [int8x16_t; 4]) -> int32x4_t {
    neon!({
        let low = vmull_s8(vget_low_s8(w[0]), vget_low_s8(x[0]));
        let low = vmlal_s8(low, vget_low_s8(w[1]), vget_low_s8(x[1]));
        let low = vmlal_s8(low, vget_low_s8(w[2]), vget_low_s8(x[2]));
        let low = vmlal_s8(low, vget_low_s8(w[3]), vget_low_s8(x[3]));
        let high = vmull_high_s8(w[0], x[0]);
        let high = vmlal_high_s8(high, w[1], x[1]);
        let high = vmlal_high_s8(high, w[2], x[2]);
        add_lanes(sum, low, vmlal_high_s8(high, w[3], x[3]))
    })
}

/// The greater of each lane: `b` where either is not a number.
#[inline(always)]
fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    neon!(vbslq_f32(vcgtq_f32(a, b), a, b))
}

/// `v` folded to one by `f`: lanes 8 apart, then 4, 2, 1.
macro_rules! fold {
    ($v:ident, $vector:ident, $scalar:expr) => {{
        let four = $vector($vector($v[0], $v[2]), $vector($v[1], $v[3]));
        let lane = [
            vgetq_lane_f32::<0>(four),
            vgetq_lane_f32::<1>(four),
            vgetq_lane_f32::<2>(four),
            vgetq_lane_f32::<3>(four),
        ];
        let two = [$scalar(lane[0], lane[2]), $scalar(lane[1], lane[3])];
        $scalar(two[0], two[1])
    }};
}

impl<A: Arm> Floats for A {
    type V = [float32x4_t; 4];
    const VECTORS_AT_ONCE: usize = 7;

    // Not tried: no processor of this kind was at hand to measure it.
    #[inline(always)]
    fn fetch(self, _from: &[u16]) {}

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        neon!([vdupq_n_f32(x); 4])
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::V {
        four!(i => neon!(vld1q_f32(from.as_ptr().add(4 * i))))
    }

    #[inline(always)]
    fn load_half(self, from: &[u16; LANES]) -> Self::V {
        let from = from.as_chunks().0;
        four!(i => widen(from[i]))
    }

    #[inline(always)]
    fn store_half(self, v: Self::V, to: &mut [u16; LANES]) {
        let to = to.as_mut_ptr();
        four!(i => neon!(vst1_u16(to.add(4 * i), vreinterpret_u16_f16(vcvt_f16_f32(v[i])))));
    }

    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        four!(i => neon!(vst1q_f32(to.as_mut_ptr().add(4 * i), v[i])));
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        four!(i => vaddq_f32(a[i], b[i]))
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        four!(i => vsubq_f32(a[i], b[i]))
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        four!(i => vmulq_f32(a[i], b[i]))
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        four!(i => vdivq_f32(a[i], b[i]))
    }

    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        four!(i => vfmaq_f32(c[i], a[i], b[i]))
    }

    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        four!(i => max(a[i], b[i]))
    }

    #[inline(always)]
    fn if_less(self, [a, b]: [Self::V; 2], yes: Self::V, no: Self::V) -> Self::V {
        four!(i => vbslq_f32(vcltq_f32(a[i], b[i]), yes[i], no[i]))
    }

    #[inline(always)]
    fn low_bits_to_exponent(self, v: Self::V) -> Self::V {
        four!(i => vreinterpretq_f32_s32(vshlq_n_s32::<23>(vreinterpretq_s32_f32(v[i]))))
    }

    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        neon!(fold!(v, vaddq_f32, |a: f32, b: f32| a + b))
    }

    #[inline(always)]
    fn greatest(self, v: Self::V) -> f32 {
        neon!(fold!(v, max, |a: f32, b: f32| if a > b { a } else { b }))
    }

    #[inline(always)]
    fn greatest_magnitude<const N: usize>(self, x: &[[f32; LANES]; N]) -> u32 {
        let mut greatest = neon!(vdupq_n_u32(0));
        for x in x {
            for v in Floats::load(self, x) {
                greatest = neon!({
                    let magnitude = vandq_u32(vreinterpretq_u32_f32(v), vdupq_n_u32(0x7fff_ffff));
                    vmaxq_u32(greatest, magnitude)
                });
            }
        }
        neon!(vmaxvq_u32(greatest))
    }

    #[inline(always)]
    fn round_to_bytes(self, v: Self::V, out: &mut [u8; LANES]) -> i32 {
        let rounded = four!(i => vcvtnq_s32_f32(v[i]));
        neon!({
            let first = vcombine_s16(vqmovn_s32(rounded[0]), vqmovn_s32(rounded[1]));
            let last = vcombine_s16(vqmovn_s32(rounded[2]), vqmovn_s32(rounded[3]));
            let bytes = vcombine_s8(vqmovn_s16(first), vqmovn_s16(last));
            vst1q_s8(out.as_mut_ptr().cast(), bytes);
            let sums = vaddq_s32(
                vaddq_s32(rounded[0], rounded[1]),
                vaddq_s32(rounded[2], rounded[3]),
            );
            vaddvq_s32(sums)
        })
    }
}

impl<A: Arm> Dots for A {
    const LANES: usize = LANES;
    // A tile by four tokens has all the registers that there are.
    const ABREAST: bool = false;
    type Bytes = [uint8x16_t; 4];
    type Ints = [int32x4_t; 4];
    type Floats = [float32x4_t; 4];

    // Not tried: no processor of this kind was at hand to measure it.
    #[inline(always)]
    fn fetch_ahead(self, _from: &[u8]) {}

    #[inline(always)]
    fn fetch_next(self, _from: &[u8], _distance: usize) {}

    #[inline(always)]
    fn bytes(self, from: &[u8]) -> Self::Bytes {
        let from = from[..64].as_chunks::<16>().0;
        four!(i => neon!(vld1q_u8(from[i].as_ptr())))
    }

    #[inline(always)]
    fn field<const SHIFT: i32, const MASK: u8>(self, v: Self::Bytes) -> Self::Bytes {
        let mask = neon!(vdupq_n_u8(MASK));
        match SHIFT {
            0 => four!(i => vandq_u8(v[i], mask)),
            1 => four!(i => vandq_u8(vshrq_n_u8::<1>(v[i]), mask)),
            2 => four!(i => vandq_u8(vshrq_n_u8::<2>(v[i]), mask)),
            3 => four!(i => vandq_u8(vshrq_n_u8::<3>(v[i]), mask)),
            4 => four!(i => vandq_u8(vshrq_n_u8::<4>(v[i]), mask)),
            5 => four!(i => vandq_u8(vshrq_n_u8::<5>(v[i]), mask)),
            6 => four!(i => vandq_u8(vshrq_n_u8::<6>(v[i]), mask)),
            _ => unreachable!(),
        }
    }

    #[inline(always)]
    fn raised<const SHIFT: i32, const MASK: u8>(self, v: Self::Bytes) -> Self::Bytes {
        let mask = neon!(vdupq_n_u8(MASK));
        match SHIFT {
            1 => four!(i => vandq_u8(vshlq_n_u8::<1>(v[i]), mask)),
            2 => four!(i => vandq_u8(vshlq_n_u8::<2>(v[i]), mask)),
            3 => four!(i => vandq_u8(vshlq_n_u8::<3>(v[i]), mask)),
            4 => four!(i => vandq_u8(vshlq_n_u8::<4>(v[i]), mask)),
            _ => unreachable!(),
        }
    }

    #[inline(always)]
    fn look_up(self, table: &[u8; 16], v: Self::Bytes) -> Self::Bytes {
        let table = neon!(vld1q_u8(table.as_ptr()));
        four!(i => vqtbl1q_u8(table, v[i]))
    }

    #[inline(always)]
    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        four!(i => vorrq_u8(a[i], b[i]))
    }

    #[inline(always)]
    fn begin<const BITS: usize, const OFFSET: i32>(self, sum: i32) -> Self::Ints {
        // Eight bits: `dots` takes the offset off each byte.
        self.ints(if BITS == 8 { 0 } else { -OFFSET * sum })
    }

    #[inline(always)]
    fn dots<const BITS: usize, const N: usize, const T: usize>(
        self,
        sums: &mut [[Self::Ints; T]; N],
        weights: &[[Self::Bytes; 4]; N],
        inputs: &[&[Word; 4]; T],
    ) {
        let mut x = neon!([vreinterpretq_s8_s32(vdupq_n_s32(0)); T]);
        for (x, input) in x.iter_mut().zip(inputs) {
            *x = neon!(vld1q_s8(input.as_ptr().cast()));
        }
        for (sums, weights) in sums.iter_mut().zip(weights) {
            let signed = four!(g => four!(j => {
                let bytes = weights[g][j];
                // Of eight bits they are 128 too high; of fewer, positive either way.
                let bytes = if BITS == 8 { veorq_u8(bytes, vdupq_n_u8(128)) } else { bytes };
                vreinterpretq_s8_u8(bytes)
            }));
            // At most 63 × 127 each, so four fit 16 bits; of 128 × 127, two.
            if BITS == 8 {
                self.dot::<true, T>(sums, &signed, &x);
            } else {
                self.dot::<false, T>(sums, &signed, &x);
            }
        }
    }

    #[inline(always)]
    fn ints(self, value: i32) -> Self::Ints {
        neon!([vdupq_n_s32(value); 4])
    }

    #[inline(always)]
    fn add_product(self, a: Self::Ints, b: Self::Ints, c: Self::Ints) -> Self::Ints {
        four!(i => vmlaq_s32(a[i], b[i], c[i]))
    }

    #[inline(always)]
    fn centre<const BITS: usize, const OFFSET: i32>(
        self,
        products: Self::Ints,
        inputs: Self::Ints,
    ) -> Self::Ints {
        if BITS == 8 {
            // `dots` has taken it off.
            return products;
        }
        four!(i => vmlsq_s32(products[i], inputs[i], vdupq_n_s32(OFFSET)))
    }

    #[inline(always)]
    fn signed_pairs(self, from: &[u8]) -> Self::Ints {
        let from = from[..32].as_chunks::<8>().0;
        four!(i => vreinterpretq_s32_s16(vmovl_s8(neon!(vld1_s8(from[i].as_ptr().cast())))))
    }

    #[inline(always)]
    fn nibble_pairs(self, from: &[u8]) -> (Self::Ints, Self::Ints) {
        let from = from[..32].as_chunks::<8>().0;
        let bytes = four!(i => vreinterpretq_s32_u16(vmovl_u8(neon!(vld1_u8(from[i].as_ptr())))));
        let mask = neon!(vdupq_n_s32(0x000f_000f));
        // A byte is below 256, so nothing moves in from the number above.
        (
            four!(i => vandq_s32(bytes[i], mask)),
            four!(i => vandq_s32(vshrq_n_s32::<4>(bytes[i]), mask)),
        )
    }

    #[inline(always)]
    fn low(self, pairs: Self::Ints) -> Self::Ints {
        four!(i => vshrq_n_s32::<16>(vshlq_n_s32::<16>(pairs[i])))
    }

    #[inline(always)]
    fn high(self, pairs: Self::Ints) -> Self::Ints {
        four!(i => vshrq_n_s32::<16>(pairs[i]))
    }

    #[inline(always)]
    fn pair_dot(self, sum: Self::Ints, a: Self::Ints, b: i32) -> Self::Ints {
        let b = neon!(vreinterpretq_s16_s32(vdupq_n_s32(b)));
        four!(i => {
            let a = vreinterpretq_s16_s32(a[i]);
            let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
            vaddq_s32(sum[i], vpaddq_s32(low, vmull_high_s16(a, b)))
        })
    }

    #[inline(always)]
    fn floats(self, value: f32) -> Self::Floats {
        self.splat(value)
    }

    #[inline(always)]
    fn to_floats(self, v: Self::Ints) -> Self::Floats {
        four!(i => vcvtq_f32_s32(v[i]))
    }

    #[inline(always)]
    fn f32s(self, from: &[u8]) -> Self::Floats {
        let from = from[..64].as_chunks::<16>().0;
        four!(i => neon!(vld1q_f32(from[i].as_ptr().cast())))
    }

    #[inline(always)]
    fn f16s(self, from: &[u8]) -> Self::Floats {
        let from = from[..32].as_chunks::<2>().0.as_chunks::<4>().0;
        four!(i => widen(four!(k => u16::from_le_bytes(from[i][k]))))
    }

    #[inline(always)]
    fn bf16s(self, from: &[u8]) -> Self::Floats {
        let from = from[..32].as_chunks::<8>().0;
        four!(i => {
            let bits = vmovl_u16(neon!(vld1_u16(from[i].as_ptr().cast())));
            vreinterpretq_f32_u32(vshlq_n_u32::<16>(bits))
        })
    }

    #[inline(always)]
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        Floats::add(self, a, b)
    }

    #[inline(always)]
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        Floats::mul(self, a, b)
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        self.fma(a, b, c)
    }

    #[inline(always)]
    fn mul_sub_from(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        four!(i => vfmsq_f32(c[i], a[i], b[i]))
    }

    #[inline(always)]
    fn store(self, v: Self::Floats, to: &mut [f32]) {
        let to = to[..16].as_chunks_mut::<4>().0;
        four!(i => neon!(vst1q_f32(to[i].as_mut_ptr(), v[i])));
    }
}
