//! AVX-512: one register of sixteen lanes.

pub(crate) mod rows;

use std::arch::x86_64::*;

use crate::simd::lanes::Lanes;

/// Proof of AVX-512 F, BW, VL and DQ.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

macro_rules! proven {
    ($e:expr) => {
        // SAFETY: `self` proves the features, and pointers are to arrays as long as the loads and stores.
        unsafe { $e }
    };
}

impl Lanes for Avx512 {
    type F = __m512;

    #[inline(always)]
    unsafe fn new() -> Self {
        Avx512(())
    }

    #[inline(always)]
    fn prefetch(self, x: &u8) {
        proven!(_mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(x).cast()))
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        proven!(_mm512_set1_ps(x))
    }

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> __m512 {
        proven!(_mm512_loadu_ps(x.as_ptr()))
    }

    #[inline(always)]
    fn store(self, x: __m512, out: &mut [f32; 16]) {
        proven!(_mm512_storeu_ps(out.as_mut_ptr(), x))
    }

    #[inline(always)]
    fn f32_le(self, x: &[u8; 64]) -> __m512 {
        proven!(_mm512_loadu_ps(x.as_ptr().cast()))
    }

    #[inline(always)]
    fn f16_le(self, x: &[u8; 32]) -> __m512 {
        proven!(_mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())))
    }

    #[inline(always)]
    fn splat_f16(self, x: [u8; 2]) -> __m512 {
        proven!(_mm512_cvtph_ps(_mm256_set1_epi16(i16::from_le_bytes(x))))
    }

    #[inline(always)]
    fn bf16_le(self, x: &[u8; 32]) -> __m512 {
        proven!({
            let x = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(x))
        })
    }

    #[inline(always)]
    fn i8(self, x: &[u8; 16]) -> __m512 {
        proven!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast()))))
    }

    #[inline(always)]
    fn nibbles(self, x: &[u8; 16]) -> [__m512; 2] {
        proven!({
            let (x, mask, eight) = (_mm_loadu_si128(x.as_ptr().cast()), _mm_set1_epi8(15), _mm_set1_epi8(8));
            let low = _mm_sub_epi8(_mm_and_si128(x, mask), eight);
            let high = _mm_sub_epi8(_mm_and_si128(_mm_srli_epi16::<4>(x), mask), eight);
            [_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(low)), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(high))]
        })
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_div_ps(a, b))
    }

    #[cfg(feature = "quantize")]
    #[inline(always)]
    fn sqrt(self, x: __m512) -> __m512 {
        proven!(_mm512_sqrt_ps(x))
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        proven!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn select_lt(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        proven!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x))
    }

    #[inline(always)]
    fn shift_left_23(self, x: __m512) -> __m512 {
        proven!(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(x))))
    }

    #[inline(always)]
    fn swap_pairs(self, x: __m512) -> __m512 {
        proven!(_mm512_permute_ps::<0b10_11_00_01>(x))
    }

    #[inline(always)]
    fn sum(self, x: __m512) -> f32 {
        proven!({
            let x = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        })
    }

    #[cfg(any(feature = "quantize", feature = "train"))]
    #[inline(always)]
    fn transpose(self, x: [__m512; 16]) -> [__m512; 16] {
        let zero = self.splat(0.0);
        // Quarters of a register are transposed in blocks of four vectors, then exchanged.
        let mut blocks = [zero; 16];
        for b in (0..16).step_by(4) {
            proven!({
                let (low, high) = (_mm512_unpacklo_ps(x[b], x[b + 1]), _mm512_unpackhi_ps(x[b], x[b + 1]));
                let (low_2, high_2) =
                    (_mm512_unpacklo_ps(x[b + 2], x[b + 3]), _mm512_unpackhi_ps(x[b + 2], x[b + 3]));
                blocks[b] = _mm512_shuffle_ps::<0b01_00_01_00>(low, low_2);
                blocks[b + 1] = _mm512_shuffle_ps::<0b11_10_11_10>(low, low_2);
                blocks[b + 2] = _mm512_shuffle_ps::<0b01_00_01_00>(high, high_2);
                blocks[b + 3] = _mm512_shuffle_ps::<0b11_10_11_10>(high, high_2);
            });
        }
        let mut out = [zero; 16];
        for i in 0..4 {
            proven!({
                let even = _mm512_shuffle_f32x4::<0b10_00_10_00>(blocks[i], blocks[4 + i]);
                let odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(blocks[i], blocks[4 + i]);
                let even_2 = _mm512_shuffle_f32x4::<0b10_00_10_00>(blocks[8 + i], blocks[12 + i]);
                let odd_2 = _mm512_shuffle_f32x4::<0b11_01_11_01>(blocks[8 + i], blocks[12 + i]);
                out[i] = _mm512_shuffle_f32x4::<0b10_00_10_00>(even, even_2);
                out[4 + i] = _mm512_shuffle_f32x4::<0b10_00_10_00>(odd, odd_2);
                out[8 + i] = _mm512_shuffle_f32x4::<0b11_01_11_01>(even, even_2);
                out[12 + i] = _mm512_shuffle_f32x4::<0b11_01_11_01>(odd, odd_2);
            });
        }
        out
    }
}
