use std::arch::x86_64::{
    __m128i, __m256, __m256i, _CMP_LT_OQ, _MM_FROUND_TO_NEAREST_INT, _mm_add_epi32, _mm_add_ps,
    _mm_add_ss, _mm_cvtsi128_si32, _mm_cvtss_f32, _mm_loadu_si128, _mm_max_epu32, _mm_max_ps,
    _mm_max_ss, _mm_movehdup_ps, _mm_movehl_ps, _mm_packs_epi16, _mm_packs_epi32,
    _mm_shuffle_epi32, _mm_storeu_si128, _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps,
    _mm256_and_si256, _mm256_blendv_ps, _mm256_broadcastsi128_si256, _mm256_castps_si256,
    _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_castsi256_si128, _mm256_cmp_ps,
    _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16, _mm256_cvtepu16_epi32,
    _mm256_cvtph_ps, _mm256_cvtps_epi32, _mm256_cvtps_ph, _mm256_div_ps, _mm256_extractf128_ps,
    _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_fnmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_max_epu32, _mm256_max_ps,
    _mm256_mul_ps, _mm256_mullo_epi32, _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_sign_epi8,
    _mm256_slli_epi16, _mm256_slli_epi32, _mm256_srai_epi32, _mm256_srli_epi16, _mm256_storeu_ps,
    _mm256_sub_epi32, _mm256_sub_ps, _mm256_xor_si256,
};

use super::dots::{Dots, Word};
use super::floats::{Floats, LANES};
use super::prefetch::{AGAIN, SECOND_CACHE, ask, fetch, fetch_ahead};
use super::token::token;

token! {
    /// x86-64 with AVX2, FMA and F16C. Floats: two halves of eight. Products: eight rows a vector,
    /// and byte products are summed in 16 bits as long as they fit.
    Avx2: "avx2", "fma", "f16c"
}

/// Intrinsics that read and write memory only through arrays as long as the vectors, and slices whose
/// length was checked. Used in methods of [`Avx2`] only.
macro_rules! avx2 {
    ($e:expr) => {{
        // SAFETY: an `Avx2` exists only where its instructions were detected, and every pointer here
        // comes from an array or a slice that is as long as the vectors at it.
        unsafe { $e }
    }};
}

/// All bits of a float but its sign.
const NO_SIGN: i32 = i32::MAX;

impl Avx2 {
    #[inline(always)]
    fn load16(self, from: &[u8]) -> __m128i {
        let from = &from[..16];
        avx2!(_mm_loadu_si128(from.as_ptr().cast()))
    }

    /// Products of four unsigned bytes and four signed ones, summed in pairs to 16 bits. The greatest
    /// sum is 2 × 127 × the greatest unsigned byte.
    #[inline(always)]
    fn products(self, weights: __m256i, input: Word) -> __m256i {
        avx2!(_mm256_maddubs_epi16(
            weights,
            _mm256_set1_epi32(i32::from_ne_bytes(input))
        ))
    }

    /// The same for bytes 128 too high: |w − 128| ≤ 128 takes the input with the sign of w − 128, so
    /// the greatest sum is 2 × 128 × 127, which fits, where the bytes themselves would not.
    #[inline(always)]
    fn centred_products(self, weights: __m256i, input: Word) -> __m256i {
        avx2!({
            let signed = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
            let magnitude = _mm256_sign_epi8(signed, signed);
            let input = _mm256_sign_epi8(_mm256_set1_epi32(i32::from_ne_bytes(input)), signed);
            _mm256_maddubs_epi16(magnitude, input)
        })
    }

    /// Adds pairs of 16-bit sums to 32-bit ones.
    #[inline(always)]
    fn widen(self, sum: __m256i, v: __m256i) -> __m256i {
        avx2!({
            let ones = _mm256_set1_epi16(1);
            _mm256_add_epi32(sum, _mm256_madd_epi16(v, ones))
        })
    }

    #[inline(always)]
    fn add16(self, a: __m256i, b: __m256i) -> __m256i {
        avx2!(_mm256_add_epi16(a, b))
    }

    /// Adds the products of 4 × 4 bytes of at most `BITS` bits a lane with 16 inputs.
    #[inline(always)]
    fn dot<const BITS: usize>(
        self,
        sum: __m256i,
        weights: &[__m256i; 4],
        inputs: &[Word; 4],
    ) -> __m256i {
        if BITS == 8 {
            let sum = self.widen(sum, self.centred_products(weights[0], inputs[0]));
            let sum = self.widen(sum, self.centred_products(weights[1], inputs[1]));
            let sum = self.widen(sum, self.centred_products(weights[2], inputs[2]));
            return self.widen(sum, self.centred_products(weights[3], inputs[3]));
        }
        // At most 2 × 63 × 127 each, so two of them fit 16 bits; of 31 × 127 × 2, four.
        let first = self.add16(
            self.products(weights[0], inputs[0]),
            self.products(weights[1], inputs[1]),
        );
        let last = self.add16(
            self.products(weights[2], inputs[2]),
            self.products(weights[3], inputs[3]),
        );
        if BITS == 6 {
            return self.widen(self.widen(sum, first), last);
        }
        self.widen(sum, self.add16(first, last))
    }

    /// The lower half and the upper one.
    #[inline(always)]
    fn halves(self, v: __m256i) -> [__m128i; 2] {
        avx2!([_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v)])
    }

    /// Sum of eight floats: 4 apart, 2, 1.
    #[inline(always)]
    fn sum8(self, v: __m256) -> f32 {
        avx2!({
            let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        })
    }

    /// Greatest of eight floats: 4 apart, 2, 1.
    #[inline(always)]
    fn greatest8(self, v: __m256) -> f32 {
        avx2!({
            let four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        })
    }

    /// The bits as integers, 23 to the left.
    #[inline(always)]
    fn shift(self, v: __m256) -> __m256 {
        avx2!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(
            _mm256_castps_si256(v)
        )))
    }
}

impl Floats for Avx2 {
    type V = [__m256; 2];
    const VECTORS_AT_ONCE: usize = 7;

    #[inline(always)]
    fn fetch(self, from: &[u16]) {
        ask::<SECOND_CACHE>(from.as_ptr().cast());
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        avx2!([_mm256_set1_ps(x); 2])
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::V {
        let from = from.as_ptr();
        avx2!([_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))])
    }

    #[inline(always)]
    fn load_half(self, from: &[u16; LANES]) -> Self::V {
        let from = from.as_ptr().cast::<__m128i>();
        avx2!([
            _mm256_cvtph_ps(_mm_loadu_si128(from)),
            _mm256_cvtph_ps(_mm_loadu_si128(from.add(1))),
        ])
    }

    #[inline(always)]
    fn store_half(self, v: Self::V, to: &mut [u16; LANES]) {
        let to = to.as_mut_ptr().cast::<__m128i>();
        avx2!({
            _mm_storeu_si128(to, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[0]));
            _mm_storeu_si128(
                to.add(1),
                _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[1]),
            );
        });
    }

    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        let to = to.as_mut_ptr();
        avx2!({
            _mm256_storeu_ps(to, v[0]);
            _mm256_storeu_ps(to.add(8), v[1]);
        });
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        avx2!([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        avx2!([_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        avx2!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        avx2!([_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        avx2!([_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        avx2!([
            _mm256_fmadd_ps(a[0], b[0], c[0]),
            _mm256_fmadd_ps(a[1], b[1], c[1]),
        ])
    }

    #[inline(always)]
    fn if_less(self, [a, b]: [Self::V; 2], yes: Self::V, no: Self::V) -> Self::V {
        avx2!([
            _mm256_blendv_ps(no[0], yes[0], _mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0])),
            _mm256_blendv_ps(no[1], yes[1], _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1])),
        ])
    }

    #[inline(always)]
    fn low_bits_to_exponent(self, v: Self::V) -> Self::V {
        [self.shift(v[0]), self.shift(v[1])]
    }

    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        self.sum8(avx2!(_mm256_add_ps(v[0], v[1])))
    }

    #[inline(always)]
    fn greatest(self, v: Self::V) -> f32 {
        self.greatest8(avx2!(_mm256_max_ps(v[0], v[1])))
    }

    #[inline(always)]
    fn greatest_magnitude<const N: usize>(self, x: &[[f32; LANES]; N]) -> u32 {
        let mut greatest = avx2!(_mm256_setzero_si256());
        for x in x {
            for half in x.as_chunks::<8>().0 {
                greatest = avx2!({
                    let bits = _mm256_loadu_si256(half.as_ptr().cast());
                    let magnitudes = _mm256_and_si256(bits, _mm256_set1_epi32(NO_SIGN));
                    _mm256_max_epu32(greatest, magnitudes)
                });
            }
        }
        let [low, high] = self.halves(greatest);
        avx2!({
            let four = _mm_max_epu32(low, high);
            let two = _mm_max_epu32(four, _mm_shuffle_epi32::<0b1110>(four));
            let one = _mm_max_epu32(two, _mm_shuffle_epi32::<0b01>(two));
            _mm_cvtsi128_si32(one).cast_unsigned()
        })
    }

    #[inline(always)]
    fn round_to_bytes(self, v: Self::V, out: &mut [u8; LANES]) -> i32 {
        let [first, last] = avx2!([_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1])]);
        let ([a, b], [c, d]) = (self.halves(first), self.halves(last));
        let [low, high] = self.halves(avx2!(_mm256_add_epi32(first, last)));
        avx2!({
            let bytes = _mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d));
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
            let four = _mm_add_epi32(low, high);
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b1110>(four));
            let one = _mm_add_epi32(two, _mm_shuffle_epi32::<0b01>(two));
            _mm_cvtsi128_si32(one)
        })
    }
}

impl Dots for Avx2 {
    const LANES: usize = 8;
    const ABREAST: bool = false;
    type Bytes = __m256i;
    type Ints = __m256i;
    type Floats = __m256;

    #[inline(always)]
    fn fetch_ahead(self, from: &[u8]) {
        // A tile is gone through twice, for half of its rows each time.
        fetch_ahead::<AGAIN>(from);
    }

    #[inline(always)]
    fn fetch_next(self, from: &[u8], distance: usize) {
        fetch::<SECOND_CACHE>(from, distance);
    }

    #[inline(always)]
    fn bytes(self, from: &[u8]) -> __m256i {
        let from = &from[..32];
        avx2!(_mm256_loadu_si256(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn field<const SHIFT: i32, const MASK: u8>(self, v: __m256i) -> __m256i {
        avx2!({
            let mask = _mm256_set1_epi8(i8::from_le_bytes([MASK]));
            // Sixteen-bit shifts: bits from the byte above are masked off.
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
        avx2!({
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
    fn look_up(self, table: &[u8; 16], v: __m256i) -> __m256i {
        avx2!({
            let table = _mm_loadu_si128(table.as_ptr().cast());
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), v)
        })
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        avx2!(_mm256_or_si256(a, b))
    }

    #[inline(always)]
    fn begin<const BITS: usize, const OFFSET: i32>(self, sum: i32) -> __m256i {
        // Eight bits: `dots` takes the offset off each byte.
        self.ints(if BITS == 8 { 0 } else { -OFFSET * sum })
    }

    #[inline(always)]
    fn dots<const BITS: usize, const N: usize, const T: usize>(
        self,
        sums: &mut [[__m256i; T]; N],
        weights: &[[__m256i; 4]; N],
        inputs: &[&[Word; 4]; T],
    ) {
        for n in 0..N {
            for t in 0..T {
                sums[n][t] = self.dot::<BITS>(sums[n][t], &weights[n], inputs[t]);
            }
        }
    }

    #[inline(always)]
    fn ints(self, value: i32) -> __m256i {
        avx2!(_mm256_set1_epi32(value))
    }

    #[inline(always)]
    fn add_product(self, a: __m256i, b: __m256i, c: __m256i) -> __m256i {
        avx2!(_mm256_add_epi32(a, _mm256_mullo_epi32(b, c)))
    }

    #[inline(always)]
    fn centre<const BITS: usize, const OFFSET: i32>(
        self,
        products: __m256i,
        inputs: __m256i,
    ) -> __m256i {
        if BITS == 8 {
            // `dots` has taken it off.
            return products;
        }
        avx2!({
            let times = _mm256_mullo_epi32(inputs, _mm256_set1_epi32(OFFSET));
            _mm256_sub_epi32(products, times)
        })
    }

    #[inline(always)]
    fn signed_pairs(self, from: &[u8]) -> __m256i {
        avx2!(_mm256_cvtepi8_epi16(self.load16(from)))
    }

    #[inline(always)]
    fn nibble_pairs(self, from: &[u8]) -> (__m256i, __m256i) {
        avx2!({
            let bytes = _mm256_cvtepu8_epi16(self.load16(from));
            let low = _mm256_and_si256(bytes, _mm256_set1_epi16(15));
            (low, _mm256_srli_epi16::<4>(bytes))
        })
    }

    #[inline(always)]
    fn low(self, pairs: __m256i) -> __m256i {
        avx2!(_mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(pairs)))
    }

    #[inline(always)]
    fn high(self, pairs: __m256i) -> __m256i {
        avx2!(_mm256_srai_epi32::<16>(pairs))
    }

    #[inline(always)]
    fn pair_dot(self, sum: __m256i, a: __m256i, b: i32) -> __m256i {
        avx2!(_mm256_add_epi32(
            sum,
            _mm256_madd_epi16(a, _mm256_set1_epi32(b))
        ))
    }

    #[inline(always)]
    fn floats(self, value: f32) -> __m256 {
        avx2!(_mm256_set1_ps(value))
    }

    #[inline(always)]
    fn to_floats(self, v: __m256i) -> __m256 {
        avx2!(_mm256_cvtepi32_ps(v))
    }

    #[inline(always)]
    fn f32s(self, from: &[u8]) -> __m256 {
        let from = &from[..32];
        avx2!(_mm256_loadu_ps(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn f16s(self, from: &[u8]) -> __m256 {
        avx2!(_mm256_cvtph_ps(self.load16(from)))
    }

    #[inline(always)]
    fn bf16s(self, from: &[u8]) -> __m256 {
        avx2!({
            let bits = _mm256_cvtepu16_epi32(self.load16(from));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        })
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        avx2!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn mul_sub_from(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        avx2!(_mm256_fnmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn store(self, v: __m256, to: &mut [f32]) {
        let to = &mut to[..8];
        avx2!(_mm256_storeu_ps(to.as_mut_ptr(), v));
    }
}
