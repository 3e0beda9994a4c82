use std::arch::x86_64::{
    __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_max_epu32, _mm_packs_epi16, _mm_packs_epi32,
    _mm_shuffle_epi32, _mm_storeu_si128, _mm256_add_epi32, _mm256_and_si256,
    _mm256_castsi256_si128, _mm256_cvtps_epi32, _mm256_extracti128_si256, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_max_epu32, _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_si256, _mm512_and_si512, _mm512_cvtepi32_epi8, _mm512_cvtps_epi32,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_max_epu32, _mm512_mul_ps, _mm512_reduce_add_epi32,
    _mm512_reduce_max_epu32, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512,
};

use super::round::Sixteen;
use crate::isa::Isa;

const NO_SIGN: i32 = i32::MAX;

/// AVX2's.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// AVX-512's.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx2 {
    /// `None` where the machine has not all of it.
    pub(super) fn new() -> Option<Self> {
        Isa::Avx2.is_available().then_some(Self(()))
    }
}

impl Avx512 {
    /// `None` where the machine has not all of it.
    pub(super) fn new() -> Option<Self> {
        Isa::Avx512Vnni.is_available().then_some(Self(()))
    }
}

impl Sixteen for Avx2 {
    #[inline(always)]
    fn greatest<const N: usize>(self, x: &[[f32; 16]; N]) -> u32 {
        // SAFETY: an `Avx2` exists only where the instructions do; each load is half of an array
        // of 16.
        unsafe {
            let mask = _mm256_set1_epi32(NO_SIGN);
            let mut greatest = _mm256_setzero_si256();
            for x in x {
                for half in x.as_chunks::<8>().0 {
                    let bits = _mm256_loadu_si256(half.as_ptr().cast());
                    greatest = _mm256_max_epu32(greatest, _mm256_and_si256(bits, mask));
                }
            }
            let [low, high] = halves(greatest);
            let four = _mm_max_epu32(low, high);
            let two = _mm_max_epu32(four, _mm_shuffle_epi32::<0b1110>(four));
            let one = _mm_max_epu32(two, _mm_shuffle_epi32::<0b01>(two));
            _mm_cvtsi128_si32(one).cast_unsigned()
        }
    }

    #[inline(always)]
    fn round(self, x: &[f32; 16], inverse: f32, out: &mut [u8; 16]) -> i32 {
        let [first, last] = [0, 8].map(|at| x[at..at + 8].as_ptr());
        // SAFETY: an `Avx2` exists only where the instructions do; the loads are the two halves of
        // an array of 16 floats, the store an array of 16 bytes.
        unsafe {
            let inverse = _mm256_set1_ps(inverse);
            let first = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(first), inverse));
            let last = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(last), inverse));
            let [a, b] = halves(first);
            let [c, d] = halves(last);
            let bytes = _mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d));
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
            let [low, high] = halves(_mm256_add_epi32(first, last));
            let four = _mm_add_epi32(low, high);
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b1110>(four));
            let one = _mm_add_epi32(two, _mm_shuffle_epi32::<0b01>(two));
            _mm_cvtsi128_si32(one)
        }
    }
}

/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn halves(v: __m256i) -> [std::arch::x86_64::__m128i; 2] {
    // SAFETY: the caller's.
    unsafe { [_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v)] }
}

impl Sixteen for Avx512 {
    #[inline(always)]
    fn greatest<const N: usize>(self, x: &[[f32; 16]; N]) -> u32 {
        // SAFETY: an `Avx512` exists only where the instructions do; each load is an array of 16.
        unsafe {
            let mask = _mm512_set1_epi32(NO_SIGN);
            let mut greatest = _mm512_setzero_si512();
            for x in x {
                let bits = _mm512_loadu_si512(x.as_ptr().cast());
                greatest = _mm512_max_epu32(greatest, _mm512_and_si512(bits, mask));
            }
            _mm512_reduce_max_epu32(greatest)
        }
    }

    #[inline(always)]
    fn round(self, x: &[f32; 16], inverse: f32, out: &mut [u8; 16]) -> i32 {
        // SAFETY: an `Avx512` exists only where the instructions do; the load is an array of 16
        // floats, the store an array of 16 bytes.
        unsafe {
            let scaled = _mm512_mul_ps(_mm512_loadu_ps(x.as_ptr()), _mm512_set1_ps(inverse));
            let rounded = _mm512_cvtps_epi32(scaled);
            _mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(rounded));
            _mm512_reduce_add_epi32(rounded)
        }
    }
}
