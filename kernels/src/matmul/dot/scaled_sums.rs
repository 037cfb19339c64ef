//! `Σ_sub scale · Σ q·x` of one row's block, by instruction set.

use std::arch::x86_64::*;

use crate::matmul::formats::{FormatK, order};
use crate::simd::avx2::rows::{Avx2Rows, Maddubs};
use crate::simd::avx512::rows::Avx512Rows;
use crate::simd::row_lanes::{DotI8, RowLanes};

/// The sum over a block of 256 weights.
pub(crate) trait ScaledSums: DotI8 {
    /// Partial sums of `Σ_sub scale · Σ q·x` in dwords. `q` are the values as [`FormatK::values`] gives them, `x` the activations in the same
    /// order, `scales` one for each sub-block, in bytes.
    fn scaled_sums<F: FormatK>(self, q: &[Self::I; 8], x: &[Self::I], scales: __m128i) -> Self::I;
}

macro_rules! proven {
    ($e:expr) => {
        // SAFETY: `self` proves the features; loads are of arrays as long as a register.
        unsafe { $e }
    };
}

/// Which scale belongs where, for formats in registers of 64 bytes.
struct In64Bytes<F>(F);

impl<F: FormatK> In64Bytes<F> {
    /// For each pair of registers, packed to words: the number of the scale that a word takes.
    const SCALE_OF_WORD: [[i16; 32]; 2] = {
        let order = order::<F>(4);
        let mut at = [[0; 32]; 2];
        let mut word = 0;
        while word < 64 {
            let (quarter, register) = (word % 32 / 8, word / 32 * 2 + word % 8 / 4);
            at[word / 32][word % 32] = (order[4 * register + quarter] * 16 / F::SUB_LEN) as i16;
            word += 1;
        }
        at
    };

    /// For each register: the number of the scale that a dword takes.
    const SCALE_OF_DWORD: [[i32; 16]; 4] = {
        let order = order::<F>(4);
        let mut at = [[0; 16]; 4];
        let mut dword = 0;
        while dword < 64 {
            at[dword / 16][dword % 16] = (order[dword / 4] * 16 / F::SUB_LEN) as i32;
            dword += 1;
        }
        at
    };
}

impl ScaledSums for Avx512Rows {
    /// `vpdpbusd` leaves sums of four products. Where these fit 16 bits, `vpackssdw` and `vpdpwssd` apply the scales two registers at a
    /// time.
    #[inline(always)]
    fn scaled_sums<F: FormatK>(self, q: &[__m512i; 8], x: &[__m512i], scales: __m128i) -> __m512i {
        let zero = self.zero();
        let mut p = [zero; 4];
        for v in 0..4 {
            p[v] = proven!(_mm512_dpbusd_epi32(zero, q[v], x[v]));
        }
        proven!(if F::BITS < 8 {
            let load = |at: &[i16; 32]| _mm512_loadu_si512(at.as_ptr().cast());
            let scales = _mm512_castsi256_si512(_mm256_cvtepi8_epi16(scales));
            let [first, second] = &In64Bytes::<F>::SCALE_OF_WORD;
            let first = _mm512_permutexvar_epi16(load(first), scales);
            let second = _mm512_permutexvar_epi16(load(second), scales);
            let sum = _mm512_dpwssd_epi32(zero, _mm512_packs_epi32(p[0], p[1]), first);
            _mm512_dpwssd_epi32(sum, _mm512_packs_epi32(p[2], p[3]), second)
        } else {
            // Four products reach 4 · 241 · 127.
            let scales = _mm512_cvtepi8_epi32(scales);
            let mut sum = zero;
            for v in 0..4 {
                let at = _mm512_loadu_si512(In64Bytes::<F>::SCALE_OF_DWORD[v].as_ptr().cast());
                let scales = _mm512_permutexvar_epi32(at, scales);
                sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(p[v], scales));
            }
            sum
        })
    }
}

/// For a row's sixteen scales in bytes: those of even sub-blocks, then of odd ones; or eight twice.
const EVEN_ODD: [[i8; 16]; 2] = [
    [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15],
    [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7],
];

/// Which scale belongs where, for formats in registers of 32 bytes.
struct In32Bytes<F>(F);

impl<F: FormatK> In32Bytes<F> {
    /// For `vpshufb`: the word of the scale that a quarter takes, where [`EVEN_ODD`] has put it.
    const SCALE_OF_QUARTER: [[i8; 32]; 8] = {
        let order = order::<F>(2);
        let mut at = [[0; 32]; 8];
        let mut byte = 0;
        while byte < 256 {
            let chunk = order[byte / 16];
            assert!(F::SUB_LEN == 32 || chunk % 2 == byte / 16 % 2, "even sub-blocks are in first quarters");
            at[byte / 32][byte % 32] = (chunk / 2 * 2 + byte % 2) as i8;
            byte += 1;
        }
        at
    };
}

impl ScaledSums for Avx2Rows<Maddubs> {
    /// `vpmaddubsw` leaves sums of two products in 16 bits, which `vpmaddwd` multiplies by the scales and adds up. (`vpdpbusd` would be a
    /// step too far: its sums of four would have to be packed to words again.)
    #[inline(always)]
    fn scaled_sums<F: FormatK>(self, q: &[__m256i; 8], x: &[__m256i], scales: __m128i) -> __m256i {
        let mut sum = self.zero();
        proven!({
            let even_odd = _mm_loadu_si128(EVEN_ODD[F::SUB_LEN / 32].as_ptr().cast());
            let scales = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, even_odd));
            for j in 0..8 {
                let at = _mm256_loadu_si256(In32Bytes::<F>::SCALE_OF_QUARTER[j].as_ptr().cast());
                let products = if F::BITS == 8 {
                    _mm256_maddubs_epi16(_mm256_abs_epi8(q[j]), _mm256_sign_epi8(x[j], q[j]))
                } else {
                    _mm256_maddubs_epi16(q[j], x[j])
                };
                let scaled = _mm256_madd_epi16(products, _mm256_shuffle_epi8(scales, at));
                sum = _mm256_add_epi32(sum, scaled);
            }
        });
        sum
    }
}
