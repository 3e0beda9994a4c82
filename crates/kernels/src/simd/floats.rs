//! Sixteen floats at a time, on every instruction set by the same operations in the same order.
//!
//! A kernel is written once over [`Floats`] and compiled for each instruction set. Every operation
//! here is exact or correctly rounded (IEEE 754), so equal bits follow from one source.

use super::token::{Call, InstructionSet};

/// Floats in one vector.
pub(crate) const LANES: usize = 16;

/// Operations on vectors of sixteen floats.
pub(crate) trait Floats: InstructionSet {
    /// The vector.
    type V: Copy;
    /// How many vectors a loop may hold in registers, beside one that it works with.
    const VECTORS_AT_ONCE: usize;

    /// Asks for the line of memory at `from` to come near, without waiting. Changes no result.
    fn fetch(self, from: &[u16]);

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// 16 floats from memory.
    fn load(self, from: &[f32; LANES]) -> Self::V;
    /// 16 halves from memory, converted, which is exact.
    fn load_half(self, from: &[u16; LANES]) -> Self::V;
    /// All lanes to memory, each rounded to the nearest half, ties to even.
    fn store_half(self, v: Self::V, to: &mut [u16; LANES]);
    /// All lanes to memory.
    fn store(self, v: Self::V, to: &mut [f32; LANES]);
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a > b ? a : b`, so `b` where either is not a number.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? yes : no`.
    fn if_less(self, ab: [Self::V; 2], yes: Self::V, no: Self::V) -> Self::V;
    /// The bits as integers, 23 to the left: a small integer in the low bits becomes an exponent.
    fn low_bits_to_exponent(self, v: Self::V) -> Self::V;
    /// The sum: lanes `i` and `i + 8`, then 4, 2, 1 apart.
    fn sum(self, v: Self::V) -> f32;
    /// The greatest, in the order of [`sum`](Floats::sum).
    fn greatest(self, v: Self::V) -> f32;

    /// The greatest of the values' bits without their signs. Magnitudes order as their bits do,
    /// infinity and NaN above all numbers.
    fn greatest_magnitude<const N: usize>(self, x: &[[f32; LANES]; N]) -> u32;
    /// The values, which are below 127.5 in magnitude, to nearest, ties to even, as int8 bytes; and
    /// the sum of those.
    fn round_to_bytes(self, v: Self::V, out: &mut [u8; LANES]) -> i32;
}

/// A computation on floats.
pub(crate) trait Kernel {
    /// Its result.
    type Out;

    /// Computes. As for [`Call::call`], implementors mark it `#[inline(always)]`, and all that they
    /// hand `s` to.
    fn run<S: Floats>(self, s: S) -> Self::Out;
}

/// A [`Kernel`] as a [`Call`].
pub(super) struct Run<K>(pub(super) K);

impl<S: Floats, K: Kernel> Call<S> for Run<K> {
    type Out = K::Out;

    #[inline(always)]
    fn call(self, s: S) -> K::Out {
        self.0.run(s)
    }
}

/// The floats of `from`, 16 at most, and zeros after them.
#[inline(always)]
pub(crate) fn load_part<S: Floats>(s: S, from: &[f32]) -> S::V {
    let mut all = [0.0; LANES];
    all[..from.len()].copy_from_slice(from);
    s.load(&all)
}

/// Stores the first lanes, as many as `to` holds: 16 at most.
#[inline(always)]
pub(crate) fn store_part<S: Floats>(s: S, v: S::V, to: &mut [f32]) {
    let mut all = [0.0; LANES];
    s.store(v, &mut all);
    to.copy_from_slice(&all[..to.len()]);
}
