use std::arch::x86_64::{
    __m512, __m512i, _mm256_loadu_si256, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512,
    _mm512_castsi512_ps, _mm512_cvtepi8_epi16, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi16,
    _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_dpbusd_epi32, _mm512_dpwssd_epi32,
    _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps,
    _mm512_mullo_epi32, _mm512_or_si512, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_slli_epi16, _mm512_slli_epi32, _mm512_srai_epi32, _mm512_srli_epi16,
    _mm512_storeu_ps, _mm512_sub_epi32,
};

use super::lanes::{Input, Kernel, Lanes, whole_tile};
use super::prefetch::{ONCE, fetch_ahead};
use crate::activations::Word;
use crate::isa::Isa;
use crate::packed::TILE;

/// Sixteen rows a vector, with the byte dot product of VNNI.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    /// `None` where the machine has not all of it.
    pub(super) fn new() -> Option<Self> {
        Isa::Avx512Vnni.is_available().then_some(Self(()))
    }
}

/// Intrinsics that read and write memory only through slices whose length was checked.
macro_rules! with_features {
    ($e:expr) => {{
        // SAFETY: an `Avx512` exists only where `new` found the instructions, and every pointer
        // here comes from a slice that was just checked to be as long as the vector.
        unsafe { $e }
    }};
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn entered<K: Kernel, const T: usize>(lanes: Avx512, input: Input<'_>, out: &mut [[f32; TILE]; T]) {
    whole_tile::<Avx512, K, T>(lanes, input, out);
}

impl Lanes for Avx512 {
    const LANES: usize = 16;
    const TOKENS: usize = 8;
    type Bytes = __m512i;
    type Ints = __m512i;
    type Floats = __m512;

    #[inline(always)]
    fn enter<K: Kernel, const T: usize>(self, input: Input<'_>, out: &mut [[f32; TILE]; T]) {
        with_features!(entered::<K, T>(self, input, out));
    }

    #[inline(always)]
    fn fetch_ahead(self, from: &[u8]) {
        fetch_ahead::<ONCE>(from);
    }

    #[inline(always)]
    fn bytes(self, from: &[u8]) -> __m512i {
        let from = &from[..64];
        with_features!(_mm512_loadu_si512(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn field<const SHIFT: i32, const MASK: u8>(self, v: __m512i) -> __m512i {
        with_features!({
            let mask = _mm512_set1_epi8(i8::from_le_bytes([MASK]));
            // Sixteen-bit shifts: what comes from the byte above is masked off.
            let shifted = match SHIFT {
                0 => v,
                1 => _mm512_srli_epi16::<1>(v),
                2 => _mm512_srli_epi16::<2>(v),
                3 => _mm512_srli_epi16::<3>(v),
                4 => _mm512_srli_epi16::<4>(v),
                5 => _mm512_srli_epi16::<5>(v),
                6 => _mm512_srli_epi16::<6>(v),
                _ => unreachable!(),
            };
            _mm512_and_si512(shifted, mask)
        })
    }

    #[inline(always)]
    fn raised<const SHIFT: i32, const MASK: u8>(self, v: __m512i) -> __m512i {
        with_features!({
            let mask = _mm512_set1_epi8(i8::from_le_bytes([MASK]));
            let shifted = match SHIFT {
                1 => _mm512_slli_epi16::<1>(v),
                2 => _mm512_slli_epi16::<2>(v),
                3 => _mm512_slli_epi16::<3>(v),
                4 => _mm512_slli_epi16::<4>(v),
                _ => unreachable!(),
            };
            _mm512_and_si512(shifted, mask)
        })
    }

    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        with_features!(_mm512_or_si512(a, b))
    }

    #[inline(always)]
    fn begin<const BITS: usize, const OFFSET: i32>(self, sum: i32) -> __m512i {
        self.ints(-OFFSET * sum)
    }

    #[inline(always)]
    fn dot<const BITS: usize>(
        self,
        sum: __m512i,
        weights: &[__m512i; 4],
        inputs: &[Word; 4],
    ) -> __m512i {
        with_features!({
            let sum = _mm512_dpbusd_epi32(
                sum,
                weights[0],
                _mm512_set1_epi32(i32::from_ne_bytes(inputs[0])),
            );
            let sum = _mm512_dpbusd_epi32(
                sum,
                weights[1],
                _mm512_set1_epi32(i32::from_ne_bytes(inputs[1])),
            );
            let sum = _mm512_dpbusd_epi32(
                sum,
                weights[2],
                _mm512_set1_epi32(i32::from_ne_bytes(inputs[2])),
            );
            _mm512_dpbusd_epi32(
                sum,
                weights[3],
                _mm512_set1_epi32(i32::from_ne_bytes(inputs[3])),
            )
        })
    }

    #[inline(always)]
    fn ints(self, value: i32) -> __m512i {
        with_features!(_mm512_set1_epi32(value))
    }

    #[inline(always)]
    fn add_product(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        with_features!(_mm512_add_epi32(a, _mm512_mullo_epi32(b, c)))
    }

    #[inline(always)]
    fn sub_times<const OFFSET: i32>(self, a: __m512i, b: __m512i) -> __m512i {
        with_features!({
            let times = _mm512_mullo_epi32(b, _mm512_set1_epi32(OFFSET));
            _mm512_sub_epi32(a, times)
        })
    }

    #[inline(always)]
    fn signed_pairs(self, from: &[u8]) -> __m512i {
        let from = &from[..32];
        with_features!(_mm512_cvtepi8_epi16(_mm256_loadu_si256(
            from.as_ptr().cast()
        )))
    }

    #[inline(always)]
    fn nibble_pairs(self, from: &[u8]) -> (__m512i, __m512i) {
        let from = &from[..32];
        with_features!({
            let bytes = _mm512_cvtepu8_epi16(_mm256_loadu_si256(from.as_ptr().cast()));
            let low = _mm512_and_si512(bytes, _mm512_set1_epi16(15));
            (low, _mm512_srli_epi16::<4>(bytes))
        })
    }

    #[inline(always)]
    fn low(self, pairs: __m512i) -> __m512i {
        with_features!(_mm512_srai_epi32::<16>(_mm512_slli_epi32::<16>(pairs)))
    }

    #[inline(always)]
    fn high(self, pairs: __m512i) -> __m512i {
        with_features!(_mm512_srai_epi32::<16>(pairs))
    }

    #[inline(always)]
    fn pair_dot(self, sum: __m512i, a: __m512i, b: i32) -> __m512i {
        with_features!(_mm512_dpwssd_epi32(sum, a, _mm512_set1_epi32(b)))
    }

    #[inline(always)]
    fn floats(self, value: f32) -> __m512 {
        with_features!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn to_floats(self, v: __m512i) -> __m512 {
        with_features!(_mm512_cvtepi32_ps(v))
    }

    #[inline(always)]
    fn f32s(self, from: &[u8]) -> __m512 {
        let from = &from[..64];
        with_features!(_mm512_loadu_ps(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn f16s(self, from: &[u8]) -> __m512 {
        let from = &from[..32];
        with_features!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn bf16s(self, from: &[u8]) -> __m512 {
        let from = &from[..32];
        with_features!({
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        })
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        with_features!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        with_features!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        with_features!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn mul_sub_from(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        with_features!(_mm512_fnmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn store(self, v: __m512, to: &mut [f32]) {
        let to = &mut to[..16];
        with_features!(_mm512_storeu_ps(to.as_mut_ptr(), v));
    }
}
