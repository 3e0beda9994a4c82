//! Sixteen floats at a time, on every instruction set by the same operations in the same order.
//!
//! A kernel is written once over [`Lanes`]; [`run`] compiles it for each instruction set. Every
//! operation here is exact or correctly rounded (IEEE 754), so equal bits follow from one source.

mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::isa::Isa;

/// Floats in one vector.
pub(crate) const LANES: usize = 16;

/// Sixteen floats and what can be done with them.
///
/// # Safety
/// Every method may only run where the processor has the implementor's instructions; pointers must
/// be readable or writable for the lanes they name, at any alignment.
pub(crate) trait Lanes {
    /// The vector.
    type V: Copy;

    /// `x` in every lane.
    unsafe fn splat(x: f32) -> Self::V;
    /// 16 floats from memory.
    unsafe fn load(from: *const f32) -> Self::V;
    /// 16 halves from memory, converted, which is exact.
    unsafe fn load_half(from: *const u16) -> Self::V;
    /// All lanes to memory.
    unsafe fn store(to: *mut f32, v: Self::V);
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a > b ? a : b`, so `b` where either is not a number.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? yes : no`.
    unsafe fn if_less(a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// The bits as integers, 23 to the left: a small integer in the low bits becomes an exponent.
    unsafe fn low_bits_to_exponent(v: Self::V) -> Self::V;
    /// The sum: lanes `i` and `i + 8`, then 4, 2, 1 apart.
    unsafe fn sum(v: Self::V) -> f32;
    /// The greatest, in the order of [`sum`](Lanes::sum).
    unsafe fn greatest(v: Self::V) -> f32;
}

/// A computation over lanes.
pub(crate) trait Kernel {
    /// What it gives.
    type Out;

    /// Computes. Implementors mark it `#[inline(always)]`, and all that it calls with an `L`, so
    /// that it is compiled for the instructions of whoever calls it. Closures cannot be marked so:
    /// none of them may use `L`.
    ///
    /// # Safety
    /// The processor has the instructions of `L`.
    unsafe fn run<L: Lanes>(self) -> Self::Out;
}

/// Runs `kernel` with the instructions of `isa`, which this machine has: a team's step checks that.
#[inline]
pub(crate) fn run<K: Kernel>(isa: Isa, kernel: K) -> K::Out {
    debug_assert!(isa.is_available());
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has these instructions.
        Isa::Avx2 => unsafe { x86::run_avx2(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has these instructions.
        Isa::Avx512Vnni => unsafe { x86::run_avx512(kernel) },
        // SAFETY: plain Rust needs none.
        _ => unsafe { kernel.run::<scalar::Scalar>() },
    }
}

/// The first `len` floats at `from` and zeros after them; `len` is at most 16.
///
/// # Safety
/// As for [`Lanes`]; `from` is readable for `len` floats.
#[inline(always)]
pub(crate) unsafe fn load_part<L: Lanes>(from: *const f32, len: usize) -> L::V {
    let mut all = [0.0; LANES];
    // SAFETY: both are valid for `len` floats, which is at most 16; the caller has `L`.
    unsafe {
        std::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), len.min(LANES));
        L::load(all.as_ptr())
    }
}

/// Stores the first `len` lanes; `len` is at most 16.
///
/// # Safety
/// As for [`Lanes`]; `to` is writable for `len` floats.
#[inline(always)]
pub(crate) unsafe fn store_part<L: Lanes>(to: *mut f32, v: L::V, len: usize) {
    let mut all = [0.0; LANES];
    // SAFETY: both are valid for `len` floats, which is at most 16; the caller has `L`.
    unsafe {
        L::store(all.as_mut_ptr(), v);
        std::ptr::copy_nonoverlapping(all.as_ptr(), to, len.min(LANES));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation on given vectors, as bits.
    struct Everything<'a>([&'a [f32; 16]; 3], &'a [u16; 16]);

    impl Kernel for Everything<'_> {
        type Out = Vec<u32>;

        #[inline(always)]
        unsafe fn run<L: Lanes>(self) -> Vec<u32> {
            let mut out = vec![];
            let mut keep = |v: [f32; 16]| out.extend(v.map(f32::to_bits));
            // SAFETY: the caller has `L`; the arrays hold 16.
            unsafe {
                let [a, b, c] = self.0.map(|v| L::load(v.as_ptr()));
                let values = [
                    L::add(a, b),
                    L::sub(a, b),
                    L::mul(a, b),
                    L::div(a, b),
                    L::fma(a, b, c),
                    L::max(a, b),
                    L::if_less(a, b, b, c),
                    L::low_bits_to_exponent(a),
                    L::load_half(self.1.as_ptr()),
                    L::splat(L::sum(a)),
                    L::splat(L::greatest(a)),
                ];
                for v in values {
                    let mut lanes = [0.0; 16];
                    L::store(lanes.as_mut_ptr(), v);
                    keep(lanes);
                }
            }
            out
        }
    }

    #[test]
    fn every_operation_gives_the_same_bits_on_every_instruction_set() {
        let mut seed = 1u64;
        let mut float = || {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let x = ((seed >> 40) as f32 / (1u32 << 23) as f32 - 1.0) * 8.0;
            if seed & 0xf00 == 0 { 0.0 } else { x }
        };
        for _ in 0..1000 {
            let [a, b, c] = std::array::from_fn(|_| std::array::from_fn(|_| float()));
            let halves = std::array::from_fn(|_| half::f16::from_f32(float() * 1e-5).to_bits());
            let want = run(Isa::Scalar, Everything([&a, &b, &c], &halves));
            for isa in Isa::available() {
                assert_eq!(run(isa, Everything([&a, &b, &c], &halves)), want, "{isa}");
            }
        }
    }
}
