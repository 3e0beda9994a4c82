use half::{bf16, f16};

use super::dots::{Dots, Word};
use super::floats::{Floats, LANES};
use super::token::{Call, InstructionSet};

/// Plain Rust, on any machine: the meaning of every operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar;

/// Four bytes a lane.
const BYTES: usize = 4 * LANES;

impl InstructionSet for Scalar {
    fn enter<C: Call<Self>>(self, call: C) -> C::Out {
        call.call(self)
    }
}

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// `v` folded to one by `f`: lanes 8 apart, then 4, 2, 1.
fn fold(mut v: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    for apart in [8, 4, 2, 1] {
        for i in 0..apart {
            v[i] = f(v[i], v[i + apart]);
        }
    }
    v[0]
}

#[inline(always)]
fn each<A: Copy, B, const N: usize>(a: [A; N], f: impl Fn(A) -> B) -> [B; N] {
    a.map(f)
}

#[inline(always)]
fn lanes<T>(f: impl FnMut(usize) -> T) -> [T; LANES] {
    std::array::from_fn(f)
}

/// Adds the products of 4 × 4 bytes a lane with 16 inputs.
fn add_dot(sum: &mut [i32; LANES], weights: &[[u8; BYTES]; 4], inputs: &[Word; 4]) {
    for (weights, input) in weights.iter().zip(inputs) {
        let input = input.map(|b| i32::from(i8::from_le_bytes([b])));
        for (sum, bytes) in sum.iter_mut().zip(weights.as_chunks::<4>().0) {
            for (byte, input) in bytes.iter().zip(input) {
                *sum += i32::from(*byte) * input;
            }
        }
    }
}

fn halves(pairs: i32) -> [i32; 2] {
    [pairs << 16 >> 16, pairs >> 16]
}

fn pair(low: i32, high: i32) -> i32 {
    low & 0xffff | high << 16
}

impl Floats for Scalar {
    type V = [f32; LANES];
    const VECTORS_AT_ONCE: usize = 5;

    #[inline(always)]
    fn fetch(self, _from: &[u16]) {}

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::V {
        *from
    }

    #[inline(always)]
    fn load_half(self, from: &[u16; LANES]) -> Self::V {
        from.map(|bits| f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn store_half(self, v: Self::V, to: &mut [u16; LANES]) {
        *to = v.map(|x| f16::from_f32(x).to_bits());
    }

    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        *to = v;
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, max)
    }

    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    fn if_less(self, [a, b]: [Self::V; 2], yes: Self::V, no: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] < b[i] { yes[i] } else { no[i] })
    }

    #[inline(always)]
    fn low_bits_to_exponent(self, v: Self::V) -> Self::V {
        v.map(|x| f32::from_bits(x.to_bits() << 23))
    }

    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        fold(v, |a, b| a + b)
    }

    #[inline(always)]
    fn greatest(self, v: Self::V) -> f32 {
        fold(v, max)
    }

    #[inline(always)]
    fn greatest_magnitude<const N: usize>(self, x: &[[f32; LANES]; N]) -> u32 {
        let bits = |value: &f32| value.to_bits() & 0x7fff_ffff;
        x.iter().flatten().map(bits).fold(0, u32::max)
    }

    #[inline(always)]
    fn round_to_bytes(self, v: Self::V, out: &mut [u8; LANES]) -> i32 {
        let mut sum = 0;
        for (out, value) in out.iter_mut().zip(v) {
            // `as` saturates, which the values never need.
            let rounded = value.round_ties_even() as i8;
            [*out] = rounded.to_le_bytes();
            sum += i32::from(rounded);
        }
        sum
    }
}

impl Dots for Scalar {
    const LANES: usize = LANES;
    // In tests, so that what two tiles share is tried on any processor.
    const ABREAST: bool = cfg!(test);
    type Bytes = [u8; BYTES];
    type Ints = [i32; LANES];
    type Floats = [f32; LANES];

    fn fetch_ahead(self, _from: &[u8]) {}

    fn fetch_next(self, _from: &[u8], _distance: usize) {}

    fn bytes(self, from: &[u8]) -> Self::Bytes {
        *from.first_chunk().expect("a whole vector")
    }

    fn field<const SHIFT: i32, const MASK: u8>(self, v: Self::Bytes) -> Self::Bytes {
        each(v, |byte| byte >> SHIFT & MASK)
    }

    fn raised<const SHIFT: i32, const MASK: u8>(self, v: Self::Bytes) -> Self::Bytes {
        each(v, |byte| byte << SHIFT & MASK)
    }

    fn look_up(self, table: &[u8; 16], v: Self::Bytes) -> Self::Bytes {
        each(v, |byte| table[usize::from(byte & 15)])
    }

    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        std::array::from_fn(|i| a[i] | b[i])
    }

    fn begin<const BITS: usize, const OFFSET: i32>(self, sum: i32) -> Self::Ints {
        self.ints(-OFFSET * sum)
    }

    fn dots<const BITS: usize, const N: usize, const T: usize>(
        self,
        sums: &mut [[Self::Ints; T]; N],
        weights: &[[Self::Bytes; 4]; N],
        inputs: &[&[Word; 4]; T],
    ) {
        for (sums, weights) in sums.iter_mut().zip(weights) {
            for (sum, inputs) in sums.iter_mut().zip(inputs) {
                add_dot(sum, weights, inputs);
            }
        }
    }

    fn ints(self, value: i32) -> Self::Ints {
        [value; LANES]
    }

    fn add_product(self, a: Self::Ints, b: Self::Ints, c: Self::Ints) -> Self::Ints {
        lanes(|i| a[i].wrapping_add(b[i].wrapping_mul(c[i])))
    }

    fn centre<const BITS: usize, const OFFSET: i32>(
        self,
        products: Self::Ints,
        inputs: Self::Ints,
    ) -> Self::Ints {
        lanes(|i| products[i].wrapping_sub(inputs[i].wrapping_mul(OFFSET)))
    }

    fn signed_pairs(self, from: &[u8]) -> Self::Ints {
        let at = |i: usize| i32::from(i8::from_le_bytes([from[i]]));
        lanes(|i| pair(at(2 * i), at(2 * i + 1)))
    }

    fn nibble_pairs(self, from: &[u8]) -> (Self::Ints, Self::Ints) {
        let at = |i: usize, shift: u32| i32::from(from[i] >> shift & 15);
        let both = |shift| lanes(|i| pair(at(2 * i, shift), at(2 * i + 1, shift)));
        (both(0), both(4))
    }

    fn low(self, pairs: Self::Ints) -> Self::Ints {
        each(pairs, |p| halves(p)[0])
    }

    fn high(self, pairs: Self::Ints) -> Self::Ints {
        each(pairs, |p| halves(p)[1])
    }

    fn pair_dot(self, sum: Self::Ints, a: Self::Ints, b: i32) -> Self::Ints {
        let [b_low, b_high] = halves(b);
        lanes(|i| {
            let [low, high] = halves(a[i]);
            sum[i].wrapping_add(low * b_low + high * b_high)
        })
    }

    fn floats(self, value: f32) -> Self::Floats {
        [value; LANES]
    }

    fn to_floats(self, v: Self::Ints) -> Self::Floats {
        // `as` rounds to nearest, ties to even, as the vector instructions do.
        each(v, |v| v as f32)
    }

    fn f32s(self, from: &[u8]) -> Self::Floats {
        let bytes = from.as_chunks().0;
        lanes(|i| f32::from_le_bytes(bytes[i]))
    }

    fn f16s(self, from: &[u8]) -> Self::Floats {
        let bytes = from.as_chunks().0;
        lanes(|i| f16::from_le_bytes(bytes[i]).to_f32())
    }

    fn bf16s(self, from: &[u8]) -> Self::Floats {
        let bytes = from.as_chunks().0;
        lanes(|i| bf16::from_le_bytes(bytes[i]).to_f32())
    }

    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        lanes(|i| a[i] + b[i])
    }

    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        lanes(|i| a[i] * b[i])
    }

    fn mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        lanes(|i| a[i].mul_add(b[i], c[i]))
    }

    fn mul_sub_from(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        lanes(|i| (-a[i]).mul_add(b[i], c[i]))
    }

    fn store(self, v: Self::Floats, to: &mut [f32]) {
        to.copy_from_slice(&v);
    }
}
