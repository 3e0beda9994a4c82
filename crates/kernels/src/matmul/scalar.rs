use half::{bf16, f16};

use super::lanes::{Input, Kernel, Lanes, whole_tile};
use crate::activations::Word;
use crate::packed::{TILE, VECTOR};

/// Plain Rust, and the meaning of every operation.
#[derive(Clone, Copy)]
pub(super) struct Scalar;

#[inline(always)]
fn each<A: Copy, B, const N: usize>(a: [A; N], f: impl Fn(A) -> B) -> [B; N] {
    a.map(f)
}

#[inline(always)]
fn lanes<T>(f: impl FnMut(usize) -> T) -> [T; TILE] {
    std::array::from_fn(f)
}

fn halves(pairs: i32) -> [i32; 2] {
    [pairs << 16 >> 16, pairs >> 16]
}

fn pair(low: i32, high: i32) -> i32 {
    low & 0xffff | high << 16
}

impl Lanes for Scalar {
    const LANES: usize = TILE;
    const TOKENS: usize = 4;
    type Bytes = [u8; VECTOR];
    type Ints = [i32; TILE];
    type Floats = [f32; TILE];

    fn enter<K: Kernel, const T: usize>(self, input: Input<'_>, out: &mut [[f32; TILE]; T]) {
        whole_tile::<Self, K, T>(self, input, out);
    }

    fn fetch_ahead(self, _from: &[u8]) {}

    fn bytes(self, from: &[u8]) -> Self::Bytes {
        *from.first_chunk().expect("a whole vector")
    }

    fn field<const SHIFT: i32, const MASK: u8>(self, v: Self::Bytes) -> Self::Bytes {
        each(v, |byte| byte >> SHIFT & MASK)
    }

    fn raised<const SHIFT: i32, const MASK: u8>(self, v: Self::Bytes) -> Self::Bytes {
        each(v, |byte| byte << SHIFT & MASK)
    }

    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        std::array::from_fn(|i| a[i] | b[i])
    }

    fn begin<const BITS: usize, const OFFSET: i32>(self, sum: i32) -> Self::Ints {
        self.ints(-OFFSET * sum)
    }

    fn dot<const BITS: usize>(
        self,
        mut sum: Self::Ints,
        weights: &[Self::Bytes; 4],
        inputs: &[Word; 4],
    ) -> Self::Ints {
        for (weights, input) in weights.iter().zip(inputs) {
            let input = input.map(|b| i32::from(i8::from_le_bytes([b])));
            for (sum, bytes) in sum.iter_mut().zip(weights.as_chunks::<4>().0) {
                for (byte, input) in bytes.iter().zip(input) {
                    *sum += i32::from(*byte) * input;
                }
            }
        }
        sum
    }

    fn ints(self, value: i32) -> Self::Ints {
        [value; TILE]
    }

    fn add_product(self, a: Self::Ints, b: Self::Ints, c: Self::Ints) -> Self::Ints {
        lanes(|i| a[i].wrapping_add(b[i].wrapping_mul(c[i])))
    }

    fn sub_times<const OFFSET: i32>(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        lanes(|i| a[i].wrapping_sub(b[i].wrapping_mul(OFFSET)))
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
        [value; TILE]
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
