use std::arch::x86_64::{
    __m128i, __m256, __m256i, _mm_loadu_si128, _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps,
    _mm256_and_si256, _mm256_castsi256_ps, _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps,
    _mm256_cvtepu8_epi16, _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_fmadd_ps,
    _mm256_fnmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_mul_ps, _mm256_mullo_epi32, _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_sign_epi8, _mm256_slli_epi16, _mm256_slli_epi32,
    _mm256_srai_epi32, _mm256_srli_epi16, _mm256_storeu_ps, _mm256_sub_epi32, _mm256_xor_si256,
};

use super::lanes::{Input, Kernel, Lanes, whole_tile};
use super::prefetch::{AGAIN, fetch_ahead};
use crate::activations::Word;
use crate::isa::Isa;
use crate::packed::TILE;

/// Eight rows a vector; byte products are summed in 16 bits as long as they fit.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    /// `None` where the machine has not all of it.
    pub(super) fn new() -> Option<Self> {
        Isa::Avx2.is_available().then_some(Self(()))
    }
}

/// Intrinsics that read and write memory only through slices whose length was checked.
macro_rules! with_features {
    ($e:expr) => {{
        // SAFETY: an `Avx2` exists only where `new` found the instructions, and every pointer
        // here comes from a slice that was just checked to be as long as the vector.
        unsafe { $e }
    }};
}

#[target_feature(enable = "avx2,fma,f16c")]
fn entered<K: Kernel, const T: usize>(lanes: Avx2, input: Input<'_>, out: &mut [[f32; TILE]; T]) {
    whole_tile::<Avx2, K, T>(lanes, input, out);
}

#[inline(always)]
fn load16(from: &[u8]) -> __m128i {
    let from = &from[..16];
    with_features!(_mm_loadu_si128(from.as_ptr().cast()))
}

/// Products of four unsigned bytes and four signed ones, summed in pairs to 16 bits. The greatest
/// sum is 2 × 127 × the greatest unsigned byte.
#[inline(always)]
fn products(weights: __m256i, input: Word) -> __m256i {
    with_features!(_mm256_maddubs_epi16(
        weights,
        _mm256_set1_epi32(i32::from_ne_bytes(input))
    ))
}

/// The same for bytes 128 too high: |w − 128| ≤ 128 takes the input with the sign of w − 128, so
/// the greatest sum is 2 × 128 × 127, which fits, where the bytes themselves would not.
#[inline(always)]
fn centred_products(weights: __m256i, input: Word) -> __m256i {
    with_features!({
        let signed = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
        let magnitude = _mm256_sign_epi8(signed, signed);
        let input = _mm256_sign_epi8(_mm256_set1_epi32(i32::from_ne_bytes(input)), signed);
        _mm256_maddubs_epi16(magnitude, input)
    })
}

/// Adds pairs of 16-bit sums to 32-bit ones.
#[inline(always)]
fn widen(sum: __m256i, v: __m256i) -> __m256i {
    with_features!({
        let ones = _mm256_set1_epi16(1);
        _mm256_add_epi32(sum, _mm256_madd_epi16(v, ones))
    })
}

#[inline(always)]
fn add16(a: __m256i, b: __m256i) -> __m256i {
    with_features!(_mm256_add_epi16(a, b))
}

impl Lanes for Avx2 {
    const LANES: usize = 8;
    const TOKENS: usize = 4;
    type Bytes = __m256i;
    type Ints = __m256i;
    type Floats = __m256;

    #[inline(always)]
    fn enter<K: Kernel, const T: usize>(self, input: Input<'_>, out: &mut [[f32; TILE]; T]) {
        with_features!(entered::<K, T>(self, input, out));
    }

    #[inline(always)]
    fn fetch_ahead(self, from: &[u8]) {
        // A tile is gone through twice, for half of its rows each time.
        fetch_ahead::<AGAIN>(from);
    }

    #[inline(always)]
    fn bytes(self, from: &[u8]) -> __m256i {
        let from = &from[..32];
        with_features!(_mm256_loadu_si256(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn field<const SHIFT: i32, const MASK: u8>(self, v: __m256i) -> __m256i {
        with_features!({
            let mask = _mm256_set1_epi8(i8::from_le_bytes([MASK]));
            // Sixteen-bit shifts: what comes from the byte above is masked off.
            let shifted = match SHIFT {
                0 => v,
                1 => _mm256_srli_epi16::<1>(v),
                2 => _mm256_srli_epi16::<2>(v),
                3 => _mm256_srli_epi16::<3>(v),
                4 => _mm256_srli_epi16::<4>(v),
                5 => _mm256_srli_epi16::<5>(v),
                6 => _mm256_srli_epi16::<6>(v),
                _ => unreachable!(),
            };
            _mm256_and_si256(shifted, mask)
        })
    }

    #[inline(always)]
    fn raised<const SHIFT: i32, const MASK: u8>(self, v: __m256i) -> __m256i {
        with_features!({
            let mask = _mm256_set1_epi8(i8::from_le_bytes([MASK]));
            let shifted = match SHIFT {
                1 => _mm256_slli_epi16::<1>(v),
                2 => _mm256_slli_epi16::<2>(v),
                3 => _mm256_slli_epi16::<3>(v),
                4 => _mm256_slli_epi16::<4>(v),
                _ => unreachable!(),
            };
            _mm256_and_si256(shifted, mask)
        })
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        with_features!(_mm256_or_si256(a, b))
    }

    #[inline(always)]
    fn begin<const BITS: usize, const OFFSET: i32>(self, sum: i32) -> __m256i {
        // Eight bits: `dot` takes the offset off each byte.
        self.ints(if BITS == 8 { 0 } else { -OFFSET * sum })
    }

    #[inline(always)]
    fn dot<const BITS: usize>(
        self,
        sum: __m256i,
        weights: &[__m256i; 4],
        inputs: &[Word; 4],
    ) -> __m256i {
        if BITS == 8 {
            let sum = widen(sum, centred_products(weights[0], inputs[0]));
            let sum = widen(sum, centred_products(weights[1], inputs[1]));
            let sum = widen(sum, centred_products(weights[2], inputs[2]));
            return widen(sum, centred_products(weights[3], inputs[3]));
        }
        // At most 2 × 63 × 127 each, so two of them fit 16 bits; of 31 × 127 × 2, four.
        let first = add16(
            products(weights[0], inputs[0]),
            products(weights[1], inputs[1]),
        );
        let last = add16(
            products(weights[2], inputs[2]),
            products(weights[3], inputs[3]),
        );
        if BITS == 6 {
            return widen(widen(sum, first), last);
        }
        widen(sum, add16(first, last))
    }

    #[inline(always)]
    fn ints(self, value: i32) -> __m256i {
        with_features!(_mm256_set1_epi32(value))
    }

    #[inline(always)]
    fn add_product(self, a: __m256i, b: __m256i, c: __m256i) -> __m256i {
        with_features!(_mm256_add_epi32(a, _mm256_mullo_epi32(b, c)))
    }

    #[inline(always)]
    fn sub_times<const OFFSET: i32>(self, a: __m256i, b: __m256i) -> __m256i {
        with_features!({
            let times = _mm256_mullo_epi32(b, _mm256_set1_epi32(OFFSET));
            _mm256_sub_epi32(a, times)
        })
    }

    #[inline(always)]
    fn signed_pairs(self, from: &[u8]) -> __m256i {
        with_features!(_mm256_cvtepi8_epi16(load16(from)))
    }

    #[inline(always)]
    fn nibble_pairs(self, from: &[u8]) -> (__m256i, __m256i) {
        with_features!({
            let bytes = _mm256_cvtepu8_epi16(load16(from));
            let low = _mm256_and_si256(bytes, _mm256_set1_epi16(15));
            (low, _mm256_srli_epi16::<4>(bytes))
        })
    }

    #[inline(always)]
    fn low(self, pairs: __m256i) -> __m256i {
        with_features!(_mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(pairs)))
    }

    #[inline(always)]
    fn high(self, pairs: __m256i) -> __m256i {
        with_features!(_mm256_srai_epi32::<16>(pairs))
    }

    #[inline(always)]
    fn pair_dot(self, sum: __m256i, a: __m256i, b: i32) -> __m256i {
        with_features!(_mm256_add_epi32(
            sum,
            _mm256_madd_epi16(a, _mm256_set1_epi32(b))
        ))
    }

    #[inline(always)]
    fn floats(self, value: f32) -> __m256 {
        with_features!(_mm256_set1_ps(value))
    }

    #[inline(always)]
    fn to_floats(self, v: __m256i) -> __m256 {
        with_features!(_mm256_cvtepi32_ps(v))
    }

    #[inline(always)]
    fn f32s(self, from: &[u8]) -> __m256 {
        let from = &from[..32];
        with_features!(_mm256_loadu_ps(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn f16s(self, from: &[u8]) -> __m256 {
        with_features!(_mm256_cvtph_ps(load16(from)))
    }

    #[inline(always)]
    fn bf16s(self, from: &[u8]) -> __m256 {
        with_features!({
            let bits = _mm256_cvtepu16_epi32(load16(from));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        })
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        with_features!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        with_features!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        with_features!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn mul_sub_from(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        with_features!(_mm256_fnmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn store(self, v: __m256, to: &mut [f32]) {
        let to = &mut to[..8];
        with_features!(_mm256_storeu_ps(to.as_mut_ptr(), v));
    }
}
