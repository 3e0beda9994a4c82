use std::arch::x86_64::{
    __m256, __m512, __m512i, _CMP_LT_OQ, _MM_FROUND_TO_NEAREST_INT, _mm_add_ps, _mm_add_ss,
    _mm_cvtss_f32, _mm_loadu_si128, _mm_max_ps, _mm_max_ss, _mm_movehdup_ps, _mm_movehl_ps,
    _mm_storeu_si128, _mm256_add_ps, _mm256_castps256_ps128, _mm256_extractf128_ps,
    _mm256_loadu_si256, _mm256_max_ps, _mm256_storeu_si256, _mm512_add_epi32, _mm512_add_ps,
    _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_castps_si512, _mm512_castps512_ps256,
    _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtepi8_epi16, _mm512_cvtepi32_epi8,
    _mm512_cvtepi32_ps, _mm512_cvtepu8_epi16, _mm512_cvtepu16_epi32, _mm512_cvtph_ps,
    _mm512_cvtps_epi32, _mm512_cvtps_ph, _mm512_div_ps, _mm512_dpbusd_epi32, _mm512_dpwssd_epi32,
    _mm512_extractf32x8_ps, _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_blend_ps, _mm512_max_epu32, _mm512_max_ps, _mm512_mul_ps, _mm512_mullo_epi32,
    _mm512_or_si512, _mm512_reduce_add_epi32, _mm512_reduce_max_epu32, _mm512_set1_epi8,
    _mm512_set1_epi16, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512,
    _mm512_shuffle_epi8, _mm512_slli_epi16, _mm512_slli_epi32, _mm512_srai_epi32,
    _mm512_srli_epi16, _mm512_storeu_ps, _mm512_sub_epi32, _mm512_sub_ps,
};

use super::dots::{Dots, Word};
use super::floats::{Floats, LANES};
use super::prefetch::{ONCE, SECOND_CACHE, ask, fetch, fetch_ahead};
use super::token::token;

token! {
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI: sixteen floats or rows a vector, and VNNI's dot
    /// product of bytes.
    Avx512: "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni", "avx2", "fma", "f16c"
}

/// Intrinsics that read and write memory only through arrays as long as the vectors, and slices whose
/// length was checked. Used in methods of [`Avx512`] only.
macro_rules! avx512 {
    ($e:expr) => {{
        // SAFETY: an `Avx512` exists only where its instructions were detected, and every pointer here
        // comes from an array or a slice that is as long as the vectors at it.
        unsafe { $e }
    }};
}

/// All bits of a float but its sign.
const NO_SIGN: i32 = i32::MAX;

impl Avx512 {
    /// The lower eight floats and the upper ones.
    #[inline(always)]
    fn halves(self, v: __m512) -> [__m256; 2] {
        avx512!([_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v)])
    }
}

impl Floats for Avx512 {
    type V = __m512;
    const VECTORS_AT_ONCE: usize = 10;

    #[inline(always)]
    fn fetch(self, from: &[u16]) {
        ask::<SECOND_CACHE>(from.as_ptr().cast());
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        avx512!(_mm512_set1_ps(x))
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::V {
        avx512!(_mm512_loadu_ps(from.as_ptr()))
    }

    #[inline(always)]
    fn load_half(self, from: &[u16; LANES]) -> Self::V {
        avx512!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn store_half(self, v: Self::V, to: &mut [u16; LANES]) {
        let to = to.as_mut_ptr().cast();
        avx512!(_mm256_storeu_si256(
            to,
            _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)
        ));
    }

    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        avx512!(_mm512_storeu_ps(to.as_mut_ptr(), v));
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        avx512!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        avx512!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        avx512!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        avx512!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        avx512!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        avx512!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn if_less(self, [a, b]: [Self::V; 2], yes: Self::V, no: Self::V) -> Self::V {
        avx512!({
            let less = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b);
            _mm512_mask_blend_ps(less, no, yes)
        })
    }

    #[inline(always)]
    fn low_bits_to_exponent(self, v: Self::V) -> Self::V {
        avx512!(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(
            _mm512_castps_si512(v)
        )))
    }

    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        let [low, high] = self.halves(v);
        avx512!({
            let eight = _mm256_add_ps(low, high);
            let four = _mm_add_ps(
                _mm256_castps256_ps128(eight),
                _mm256_extractf128_ps::<1>(eight),
            );
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        })
    }

    #[inline(always)]
    fn greatest(self, v: Self::V) -> f32 {
        let [low, high] = self.halves(v);
        avx512!({
            let eight = _mm256_max_ps(low, high);
            let four = _mm_max_ps(
                _mm256_castps256_ps128(eight),
                _mm256_extractf128_ps::<1>(eight),
            );
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        })
    }

    #[inline(always)]
    fn greatest_magnitude<const N: usize>(self, x: &[[f32; LANES]; N]) -> u32 {
        let mut greatest = avx512!(_mm512_setzero_si512());
        for x in x {
            greatest = avx512!({
                let bits = _mm512_loadu_si512(x.as_ptr().cast());
                let magnitudes = _mm512_and_si512(bits, _mm512_set1_epi32(NO_SIGN));
                _mm512_max_epu32(greatest, magnitudes)
            });
        }
        avx512!(_mm512_reduce_max_epu32(greatest))
    }

    #[inline(always)]
    fn round_to_bytes(self, v: Self::V, out: &mut [u8; LANES]) -> i32 {
        avx512!({
            let rounded = _mm512_cvtps_epi32(v);
            _mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(rounded));
            _mm512_reduce_add_epi32(rounded)
        })
    }
}

impl Dots for Avx512 {
    const LANES: usize = 16;
    const ABREAST: bool = true;
    type Bytes = __m512i;
    type Ints = __m512i;
    type Floats = __m512;

    #[inline(always)]
    fn fetch_ahead(self, from: &[u8]) {
        fetch_ahead::<ONCE>(from);
    }

    #[inline(always)]
    fn fetch_next(self, from: &[u8], distance: usize) {
        fetch::<SECOND_CACHE>(from, distance);
    }

    #[inline(always)]
    fn bytes(self, from: &[u8]) -> __m512i {
        let from = &from[..64];
        avx512!(_mm512_loadu_si512(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn field<const SHIFT: i32, const MASK: u8>(self, v: __m512i) -> __m512i {
        avx512!({
            let mask = _mm512_set1_epi8(i8::from_le_bytes([MASK]));
            // Sixteen-bit shifts: bits from the byte above are masked off.
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
        avx512!({
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
    fn look_up(self, table: &[u8; 16], v: __m512i) -> __m512i {
        avx512!({
            let table = _mm_loadu_si128(table.as_ptr().cast());
            _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), v)
        })
    }

    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        avx512!(_mm512_or_si512(a, b))
    }

    #[inline(always)]
    fn begin<const BITS: usize, const OFFSET: i32>(self, sum: i32) -> __m512i {
        self.ints(-OFFSET * sum)
    }

    #[inline(always)]
    fn dots<const BITS: usize, const N: usize, const T: usize>(
        self,
        sums: &mut [[__m512i; T]; N],
        weights: &[[__m512i; 4]; N],
        inputs: &[&[Word; 4]; T],
    ) {
        // Each input is broadcast once for all tiles, and no product waits for the one before it.
        for g in 0..4 {
            for t in 0..T {
                let x = self.ints(i32::from_ne_bytes(inputs[t][g]));
                for n in 0..N {
                    sums[n][t] = avx512!(_mm512_dpbusd_epi32(sums[n][t], weights[n][g], x));
                }
            }
        }
    }

    #[inline(always)]
    fn ints(self, value: i32) -> __m512i {
        avx512!(_mm512_set1_epi32(value))
    }

    #[inline(always)]
    fn add_product(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        avx512!(_mm512_add_epi32(a, _mm512_mullo_epi32(b, c)))
    }

    #[inline(always)]
    fn centre<const BITS: usize, const OFFSET: i32>(
        self,
        products: __m512i,
        inputs: __m512i,
    ) -> __m512i {
        avx512!({
            let times = _mm512_mullo_epi32(inputs, _mm512_set1_epi32(OFFSET));
            _mm512_sub_epi32(products, times)
        })
    }

    #[inline(always)]
    fn signed_pairs(self, from: &[u8]) -> __m512i {
        let from = &from[..32];
        avx512!(_mm512_cvtepi8_epi16(_mm256_loadu_si256(
            from.as_ptr().cast()
        )))
    }

    #[inline(always)]
    fn nibble_pairs(self, from: &[u8]) -> (__m512i, __m512i) {
        let from = &from[..32];
        avx512!({
            let bytes = _mm512_cvtepu8_epi16(_mm256_loadu_si256(from.as_ptr().cast()));
            let low = _mm512_and_si512(bytes, _mm512_set1_epi16(15));
            (low, _mm512_srli_epi16::<4>(bytes))
        })
    }

    #[inline(always)]
    fn low(self, pairs: __m512i) -> __m512i {
        avx512!(_mm512_srai_epi32::<16>(_mm512_slli_epi32::<16>(pairs)))
    }

    #[inline(always)]
    fn high(self, pairs: __m512i) -> __m512i {
        avx512!(_mm512_srai_epi32::<16>(pairs))
    }

    #[inline(always)]
    fn pair_dot(self, sum: __m512i, a: __m512i, b: i32) -> __m512i {
        avx512!(_mm512_dpwssd_epi32(sum, a, _mm512_set1_epi32(b)))
    }

    #[inline(always)]
    fn floats(self, value: f32) -> __m512 {
        self.splat(value)
    }

    #[inline(always)]
    fn to_floats(self, v: __m512i) -> __m512 {
        avx512!(_mm512_cvtepi32_ps(v))
    }

    #[inline(always)]
    fn f32s(self, from: &[u8]) -> __m512 {
        let from = &from[..64];
        avx512!(_mm512_loadu_ps(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn f16s(self, from: &[u8]) -> __m512 {
        let from = &from[..32];
        avx512!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn bf16s(self, from: &[u8]) -> __m512 {
        let from = &from[..32];
        avx512!({
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        })
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        Floats::add(self, a, b)
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        Floats::mul(self, a, b)
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        self.fma(a, b, c)
    }

    #[inline(always)]
    fn mul_sub_from(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        avx512!(_mm512_fnmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn store(self, v: __m512, to: &mut [f32]) {
        let to = &mut to[..16];
        avx512!(_mm512_storeu_ps(to.as_mut_ptr(), v));
    }
}
