//! Few activation rows against K-quants: blocks of 256 weights, integer scales for each 16 or 32 of them.
//!
//! For each block, in the order of the row, with integers exact and each float operation rounded once:
//!
//! ```text
//! acc = fma( f32(Σ_sub scale · Σ q·x), d · dx,    acc)
//! acc = fma(-f32(Σ_sub min · Σ x),     dmin · dx, acc)      where the format has mins
//! ```
//!
//! Eight rows go together, because `acc` is a chain. A row's 256 values are eight registers; `vpmaddubsw` leaves sums of two products in
//! 16 bits, which `vpmaddwd` multiplies by the scales and adds up. (`vpdpbusd` would be a step too far: its sums of four would have to be
//! packed to words again.) The eight registers of partial sums become one with a lane for each row, and so are `d`, `dmin`, the mins and
//! `acc`.

use std::arch::x86_64::*;

use super::rows::*;
use crate::activation::panel::pairs_of_sums;
use crate::activation::rows::QuantizedRows;
use crate::matmul::plan::deal;
use crate::matmul::strip::OutStrip;
use crate::weights::format::Format;
use crate::weights::matrix::QuantMatrix;

/// The scales of one block of each of eight rows: lane `i` is row `i`.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    /// Scale of the scales.
    pub d: __m256,
    /// Scale of the mins.
    pub dmin: __m256,
    /// Byte `j` of lane `i` in register `v`: the signed scale of sub-block `4v + j`.
    pub scales: [__m256i; 4],
    /// The mins likewise, unsigned.
    pub mins: [__m256i; 4],
}

/// How a K-quant is taken apart.
pub(super) trait KQuant {
    /// The format.
    const FORMAT: Format;
    /// Weights that share a scale: 16 or 32.
    const SUB_LEN: usize;
    /// Bits of an unsigned value; 8 are signed ones instead, in `−127..=127`.
    const BITS: u32;
    /// What is added to a value so that it is unsigned.
    const OFFSET: u8 = 0;
    /// Whether there are mins.
    const HAS_MINS: bool = false;

    /// The scales of eight blocks.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA and F16C; every row's pointer is at a whole block of the format.
    unsafe fn heads(rows: &Rows) -> Heads;

    /// The values of a block, 32 a register.
    ///
    /// # Safety
    /// As [`KQuant::heads`].
    unsafe fn quants(block: *const u8) -> [__m256i; 8];
}

/// For a row's sixteen scales in bytes: those of even sub-blocks, then of odd ones; or eight twice.
const EVEN_ODD: [[i8; 16]; 2] = [
    [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15],
    [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7],
];

/// For `vpshufb`: word `j` of each lane everywhere.
const WORD: [[i8; 32]; 8] = {
    let mut words = [[0; 32]; 8];
    let mut i = 0;
    while i < 256 {
        words[i / 32][i % 32] = (2 * (i / 32) + i % 2) as i8;
        i += 1;
    }
    words
};

/// `Σ_sub scale · Σ q·x` of a row and a block in eight partial sums; `scales` are in words, even sub-blocks first.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_block<F: KQuant>(
    q: &[__m256i; 8],
    x: &[i8; 256],
    even_odd_sums: &[i16; 16],
    scales: __m256i,
) -> __m256i {
    let mut sum = _mm256_setzero_si256();
    if F::OFFSET != 0 {
        // SAFETY: 32 bytes.
        let sums = unsafe { load(even_odd_sums.as_ptr().cast()) };
        let excess = _mm256_sll_epi32(
            _mm256_madd_epi16(scales, sums),
            _mm_cvtsi32_si128(F::OFFSET.trailing_zeros() as i32),
        );
        sum = _mm256_sub_epi32(sum, excess);
    }
    for j in 0..8 {
        // SAFETY: 32 of 256 bytes, and all 32.
        let (x, word) = unsafe { (load(x[32 * j..].as_ptr().cast()), load(WORD[j].as_ptr().cast())) };
        let products = if F::BITS == 8 {
            _mm256_maddubs_epi16(_mm256_abs_epi8(q[j]), _mm256_sign_epi8(x, q[j]))
        } else {
            _mm256_maddubs_epi16(q[j], x)
        };
        let scaled = _mm256_madd_epi16(products, _mm256_shuffle_epi8(scales, word));
        sum = _mm256_add_epi32(sum, scaled);
    }
    sum
}

/// Pairs of mins as words: those of sub-blocks `2j` and `2j + 1` of each row in register `j`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn pairs_of_mins(mins: [__m256i; 4]) -> [__m256i; 8] {
    // Bytes 0 and 1 (2 and 3) of each dword, widened with zeros.
    let first =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1));
    let second = _mm256_broadcastsi128_si256(_mm_setr_epi8(
        2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15, -1,
    ));
    let mut pairs = [_mm256_setzero_si256(); 8];
    for v in 0..4 {
        pairs[2 * v] = _mm256_shuffle_epi8(mins[v], first);
        pairs[2 * v + 1] = _mm256_shuffle_epi8(mins[v], second);
    }
    pairs
}

/// The same of scales, which are signed.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn pairs_of_scales(scales: [__m256i; 4]) -> [__m256i; 8] {
    // Bytes 0 and 1 (2 and 3) of each dword, to the tops of words.
    let first =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13));
    let second = _mm256_add_epi8(first, _mm256_set1_epi16(0x200));
    let mut pairs = [_mm256_setzero_si256(); 8];
    for v in 0..4 {
        pairs[2 * v] = _mm256_srai_epi16::<8>(_mm256_shuffle_epi8(scales[v], first));
        pairs[2 * v + 1] = _mm256_srai_epi16::<8>(_mm256_shuffle_epi8(scales[v], second));
    }
    pairs
}

/// `Σ_sub min · Σ x` for eight rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot_mins(mins: &[__m256i], sums: &[i32]) -> __m256i {
    let mut sum = _mm256_setzero_si256();
    for j in 0..mins.len().min(sums.len()) {
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(mins[j], _mm256_set1_epi32(sums[j])));
    }
    sum
}

/// The product for `M` rows of activations, `x.m == M`, into rows `first..first + M` of `y`.
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot<F: KQuant, const M: usize>(
    w: QuantMatrix<'_>,
    x: QuantizedRows<'_>,
    y: &mut OutStrip<'_>,
    first: usize,
) {
    let block_bytes = F::FORMAT.block_bytes();
    let qs = x.qs.as_chunks::<256>().0;
    let sums = x.sums.as_chunks::<16>().0;
    let n_blocks = x.k / 256;
    let zero = _mm256_setzero_si256();
    // SAFETY: 16 bytes.
    let even_odd = unsafe { _mm_loadu_si128(EVEN_ODD[F::SUB_LEN / 32].as_ptr().cast()) };
    for (row, apart) in deal(w.n_rows(), ROWS) {
        let mut rows = Rows::new(&w, row, apart);
        let mut acc = [_mm256_setzero_ps(); M];
        for b in 0..n_blocks {
            // SAFETY: this function has the features, and rows have `n_blocks` blocks.
            let heads = unsafe { F::heads(&rows) };
            // Back to a row in each 128-bit lane: row 4·lane + register.
            let scales = split_lanes(transpose4(heads.scales));
            let mut even_odd_sums = [[0; 16]; M];
            if F::OFFSET != 0 {
                for t in 0..M {
                    for j in 0..8 {
                        even_odd_sums[t][j] = sums[t * n_blocks + b][2 * j];
                        even_odd_sums[t][j + 8] = sums[t * n_blocks + b][2 * j + 1];
                    }
                }
            }
            let mut sum = [[zero; 2]; M];
            for g in 0..2 {
                let mut part = [[zero; 4]; M];
                for i in 0..4 {
                    rows.prefetch(4 * g + i, block_bytes);
                    // SAFETY: as for the heads.
                    let q = unsafe { F::quants(rows.ptr(4 * g + i)) };
                    let scales = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales[i][g], even_odd));
                    for t in 0..M {
                        part[t][i] = dot_block::<F>(&q, &qs[t * n_blocks + b], &even_odd_sums[t], scales);
                    }
                }
                for t in 0..M {
                    sum[t][g] = sum_dwords(part[t]);
                }
            }
            let mins = if F::HAS_MINS { pairs_of_mins(heads.mins) } else { [zero; 8] };
            for t in 0..M {
                let dx = _mm256_set1_ps(x.scales[t * n_blocks + b]);
                let s = _mm256_cvtepi32_ps(sum_lanes(sum[t]));
                acc[t] = _mm256_fmadd_ps(s, _mm256_mul_ps(heads.d, dx), acc[t]);
                if F::HAS_MINS {
                    let pairs = pairs_of_sums(&sums[t * n_blocks + b], F::SUB_LEN);
                    let m = _mm256_cvtepi32_ps(dot_mins(&mins[..128 / F::SUB_LEN], &pairs));
                    acc[t] = _mm256_fnmadd_ps(m, _mm256_mul_ps(heads.dmin, dx), acc[t]);
                }
            }
            rows.skip(block_bytes);
        }
        for t in 0..M {
            store_rows(y.row(first + t), row, apart, acc[t]);
        }
    }
}

/// [`dot`] for any number of activation rows, four at a time.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot_k<F: KQuant>(w: QuantMatrix<'_>, x: QuantizedRows<'_>, mut y: OutStrip<'_>) {
    for first in (0..x.m).step_by(4) {
        let x = x.rows(first, (x.m - first).min(4));
        match x.m {
            1 => dot::<F, 1>(w, x, &mut y, first),
            2 => dot::<F, 2>(w, x, &mut y, first),
            3 => dot::<F, 3>(w, x, &mut y, first),
            _ => dot::<F, 4>(w, x, &mut y, first),
        }
    }
}
