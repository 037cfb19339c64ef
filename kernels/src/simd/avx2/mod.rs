//! AVX2: two registers of eight lanes.

pub(crate) mod rows;

use std::arch::x86_64::*;

use crate::simd::lanes::Lanes;

/// Proof of AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

macro_rules! proven {
    ($e:expr) => {
        // SAFETY: `self` proves the features, and pointers are to arrays as long as the loads and stores.
        unsafe { $e }
    };
}

/// Applies an intrinsic to each half.
macro_rules! halves {
    ($f:ident, $($x:expr),+) => { proven!([$f($($x[0]),+), $f($($x[1]),+)]) };
}

impl Lanes for Avx2 {
    type F = [__m256; 2];

    #[inline(always)]
    unsafe fn new() -> Self {
        Avx2(())
    }

    #[inline(always)]
    fn prefetch(self, x: &u8) {
        proven!(_mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(x).cast()))
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        proven!([_mm256_set1_ps(x); 2])
    }

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> Self::F {
        proven!([_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))])
    }

    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32; 16]) {
        proven!({
            _mm256_storeu_ps(out.as_mut_ptr(), x[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), x[1]);
        })
    }

    #[inline(always)]
    fn f32_le(self, x: &[u8; 64]) -> Self::F {
        proven!([_mm256_loadu_ps(x.as_ptr().cast()), _mm256_loadu_ps(x.as_ptr().add(32).cast())])
    }

    #[inline(always)]
    fn f16_le(self, x: &[u8; 32]) -> Self::F {
        proven!([
            _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().add(16).cast())),
        ])
    }

    #[inline(always)]
    fn splat_f16(self, x: [u8; 2]) -> Self::F {
        proven!([_mm256_cvtph_ps(_mm_set1_epi16(i16::from_le_bytes(x))); 2])
    }

    #[inline(always)]
    fn bf16_le(self, x: &[u8; 32]) -> Self::F {
        let halves = proven!([
            _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().cast())),
            _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().add(16).cast())),
        ]);
        proven!([
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves[0])),
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves[1])),
        ])
    }

    #[inline(always)]
    fn i8(self, x: &[u8; 16]) -> Self::F {
        self.widen(proven!(_mm_loadu_si128(x.as_ptr().cast())))
    }

    #[inline(always)]
    fn nibbles(self, x: &[u8; 16]) -> [Self::F; 2] {
        let [low, high] = proven!({
            let (x, mask, eight) = (_mm_loadu_si128(x.as_ptr().cast()), _mm_set1_epi8(15), _mm_set1_epi8(8));
            let high = _mm_and_si128(_mm_srli_epi16::<4>(x), mask);
            [_mm_sub_epi8(_mm_and_si128(x, mask), eight), _mm_sub_epi8(high, eight)]
        });
        [self.widen(low), self.widen(high)]
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(_mm256_add_ps, a, b)
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(_mm256_sub_ps, a, b)
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(_mm256_mul_ps, a, b)
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(_mm256_div_ps, a, b)
    }

    #[cfg(feature = "quantize")]
    #[inline(always)]
    fn sqrt(self, x: Self::F) -> Self::F {
        halves!(_mm256_sqrt_ps, x)
    }

    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        halves!(_mm256_fmadd_ps, a, b, c)
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(_mm256_max_ps, a, b)
    }

    #[inline(always)]
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        let lt = proven!([_mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0]), _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1])]);
        halves!(_mm256_blendv_ps, y, x, lt)
    }

    #[inline(always)]
    fn shift_left_23(self, x: Self::F) -> Self::F {
        proven!([
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(x[0]))),
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(x[1]))),
        ])
    }

    #[inline(always)]
    fn swap_pairs(self, x: Self::F) -> Self::F {
        proven!([_mm256_permute_ps::<0b10_11_00_01>(x[0]), _mm256_permute_ps::<0b10_11_00_01>(x[1])])
    }

    #[inline(always)]
    fn sum(self, x: Self::F) -> f32 {
        proven!({
            let x = _mm256_add_ps(x[0], x[1]);
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        })
    }

    #[cfg(any(feature = "quantize", feature = "train"))]
    #[inline(always)]
    fn transpose(self, x: [Self::F; 16]) -> [Self::F; 16] {
        let mut out = [self.splat(0.0); 16];
        for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mut block = [proven!(_mm256_setzero_ps()); 8];
            for r in 0..8 {
                block[r] = x[8 * i + r][j];
            }
            let block = transpose_8(self, block);
            for c in 0..8 {
                out[8 * j + c][i] = block[c];
            }
        }
        out
    }
}

/// Eight vectors of eight lanes.
#[cfg(any(feature = "quantize", feature = "train"))]
#[inline(always)]
fn transpose_8(_: Avx2, x: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the first argument proves the features.
    unsafe {
        let mut quads = x;
        for b in [0, 4] {
            let (low, high) = (_mm256_unpacklo_ps(x[b], x[b + 1]), _mm256_unpackhi_ps(x[b], x[b + 1]));
            let (low_2, high_2) =
                (_mm256_unpacklo_ps(x[b + 2], x[b + 3]), _mm256_unpackhi_ps(x[b + 2], x[b + 3]));
            quads[b] = _mm256_shuffle_ps::<0b01_00_01_00>(low, low_2);
            quads[b + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(low, low_2);
            quads[b + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(high, high_2);
            quads[b + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(high, high_2);
        }
        let mut out = quads;
        for i in 0..4 {
            out[i] = _mm256_permute2f128_ps::<0x20>(quads[i], quads[4 + i]);
            out[4 + i] = _mm256_permute2f128_ps::<0x31>(quads[i], quads[4 + i]);
        }
        out
    }
}

impl Avx2 {
    /// Sixteen bytes to f32.
    #[inline(always)]
    fn widen(self, x: __m128i) -> [__m256; 2] {
        proven!([
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(x, x))),
        ])
    }
}
