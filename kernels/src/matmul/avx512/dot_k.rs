//! Few activation rows against K-quants: blocks of 256 weights, integer scales for each 16 or 32 of them.
//!
//! For each block, in the order of the row, with integers exact and each float operation rounded once:
//!
//! ```text
//! acc = fma( f32(Σ_sub scale · Σ q·x), d · dx,    acc)
//! acc = fma(-f32(Σ_sub min · Σ x),     dmin · dx, acc)      where the format has mins
//! ```
//!
//! Sixteen rows go together, because `acc` is a chain. A row's 256 values are four registers; `vpdpbusd` leaves sums of four products,
//! which fit 16 bits, so `vpackssdw` and `vpdpwssd` apply the scales two registers at a time. The sixteen registers of partial sums
//! become one with a lane for each row, and so are `d`, `dmin`, the mins and `acc`.

use std::arch::x86_64::*;

use super::rows::*;
use crate::activation::panel::pairs_of_sums;
use crate::activation::rows::QuantizedRows;
use crate::matmul::plan::deal;
use crate::matmul::strip::OutStrip;
use crate::weights::format::Format;
use crate::weights::matrix::QuantMatrix;

/// The scales of one block of each of sixteen rows: lane `i` is row `i`.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    /// Scale of the scales.
    pub d: __m512,
    /// Scale of the mins.
    pub dmin: __m512,
    /// Byte `j` of lane `i` in register `v`: the signed scale of sub-block `4v + j`.
    pub scales: [__m512i; 4],
    /// The mins likewise, unsigned.
    pub mins: [__m512i; 4],
}

/// How a K-quant is taken apart.
pub(crate) trait KQuant {
    /// The format.
    const FORMAT: Format;
    /// Weights that share a scale: 16 or 32.
    const SUB_LEN: usize;
    /// What is added to a value so that it is unsigned in [`KQuant::quants`].
    const OFFSET: u8;
    /// Whether there are mins.
    const HAS_MINS: bool;
    /// 128-bit lane `l` of register `v` holds weights `16·ORDER[4v + l]..` and the 15 after them.
    const ORDER: [usize; 16];
    /// Whether the sum of four products fits 16 bits.
    const FITS_16_BITS: bool = true;

    /// The scales of sixteen blocks.
    ///
    /// # Safety
    /// AVX-512 with the features of [`Isa::Avx512Vnni`](crate::Isa); every row's pointer is at a whole block of the format.
    unsafe fn heads(rows: &Rows) -> Heads;

    /// The unsigned values of a block.
    ///
    /// # Safety
    /// As [`KQuant::heads`].
    unsafe fn quants(block: *const u8) -> [__m512i; 4];

    /// The same of a block of each of sixteen rows: weights `4i..4i + 4` of each are line `i`.
    ///
    /// # Safety
    /// As [`KQuant::heads`].
    unsafe fn lines(rows: &Rows, lines: &mut [__m512i; 64]);

    /// For each pair of registers of [`KQuant::quants`], packed to words: the number of the scale that a word takes.
    const SCALE_OF_WORD: [[i16; 32]; 2] = {
        let mut at = [[0; 32]; 2];
        let mut word = 0;
        while word < 64 {
            let (lane, register) = (word % 32 / 8, word / 32 * 2 + word % 8 / 4);
            at[word / 32][word % 32] = (Self::ORDER[4 * register + lane] * 16 / Self::SUB_LEN) as i16;
            word += 1;
        }
        at
    };

    /// The same for the dwords of each register.
    const SCALE_OF_DWORD: [[i32; 16]; 4] = {
        let mut at = [[0; 16]; 4];
        let mut dword = 0;
        while dword < 64 {
            at[dword / 16][dword % 16] = (Self::ORDER[dword / 4] * 16 / Self::SUB_LEN) as i32;
            dword += 1;
        }
        at
    };
}

/// A block of activations in the order of a format's registers.
#[derive(Clone, Copy)]
struct XBlock {
    qs: [__m512i; 4],
    /// `-OFFSET · Σ x` over the four values of each lane: where the products start from.
    start: [__m512i; 4],
}

impl XBlock {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    fn new<F: KQuant>(x: &[i8; 256]) -> XBlock {
        let zero = _mm512_setzero_si512();
        let mut b = XBlock { qs: [zero; 4], start: [zero; 4] };
        for v in 0..4 {
            let lane = |l| x[16 * F::ORDER[4 * v + l]..].as_ptr().cast();
            // SAFETY: ORDER's entries are below 16, so 16 of the 256 values are there.
            b.qs[v] = unsafe { load_lanes([lane(0), lane(1), lane(2), lane(3)], 0) };
            if F::OFFSET != 0 {
                let sums = _mm512_dpbusd_epi32(zero, _mm512_set1_epi8(F::OFFSET as i8), b.qs[v]);
                b.start[v] = _mm512_sub_epi32(zero, sums);
            }
        }
        b
    }

    /// Sixteen partial sums of `Σ_sub scale · Σ q·x`; `scales` are the sixteen of the row, in bytes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    fn dot<F: KQuant>(&self, q: &[__m512i; 4], scales: __m128i) -> __m512i {
        let p0 = _mm512_dpbusd_epi32(self.start[0], q[0], self.qs[0]);
        let p1 = _mm512_dpbusd_epi32(self.start[1], q[1], self.qs[1]);
        let p2 = _mm512_dpbusd_epi32(self.start[2], q[2], self.qs[2]);
        let p3 = _mm512_dpbusd_epi32(self.start[3], q[3], self.qs[3]);
        let zero = _mm512_setzero_si512();
        if F::FITS_16_BITS {
            let scales = _mm512_castsi256_si512(_mm256_cvtepi8_epi16(scales));
            let s01 = _mm512_permutexvar_epi16(words(&F::SCALE_OF_WORD[0]), scales);
            let s23 = _mm512_permutexvar_epi16(words(&F::SCALE_OF_WORD[1]), scales);
            let sum = _mm512_dpwssd_epi32(zero, _mm512_packs_epi32(p0, p1), s01);
            _mm512_dpwssd_epi32(sum, _mm512_packs_epi32(p2, p3), s23)
        } else {
            let scales = _mm512_cvtepi8_epi32(scales);
            let mut sum = zero;
            let p = [p0, p1, p2, p3];
            for v in 0..4 {
                let scales = _mm512_permutexvar_epi32(dwords(&F::SCALE_OF_DWORD[v]), scales);
                sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(p[v], scales));
            }
            sum
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn words(v: &[i16; 32]) -> __m512i {
    // SAFETY: 64 bytes.
    unsafe { _mm512_loadu_si512(v.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn dwords(v: &[i32; 16]) -> __m512i {
    // SAFETY: 64 bytes.
    unsafe { _mm512_loadu_si512(v.as_ptr().cast()) }
}

/// Pairs of mins as words: those of sub-blocks `2j` and `2j + 1` of each row in register `j`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn pairs_of_mins(mins: [__m512i; 4]) -> [__m512i; 8] {
    // Bytes 0 and 1 (2 and 3) of each dword, widened with zeros.
    let first = _mm512_set4_epi32(
        0x800d_800cu32 as i32,
        0x8009_8008u32 as i32,
        0x8005_8004u32 as i32,
        0x8001_8000u32 as i32,
    );
    let second = _mm512_add_epi8(first, _mm512_set1_epi16(2));
    let mut pairs = [_mm512_setzero_si512(); 8];
    for v in 0..4 {
        pairs[2 * v] = _mm512_shuffle_epi8(mins[v], first);
        pairs[2 * v + 1] = _mm512_shuffle_epi8(mins[v], second);
    }
    pairs
}

/// The same of scales, which are signed.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn pairs_of_scales(scales: [__m512i; 4]) -> [__m512i; 8] {
    // Bytes 0 and 1 (2 and 3) of each dword, to the tops of words.
    let first = _mm512_set4_epi32(0x0d80_0c80, 0x0980_0880, 0x0580_0480, 0x0180_0080);
    let second = _mm512_add_epi8(first, _mm512_set1_epi16(0x200));
    let mut pairs = [_mm512_setzero_si512(); 8];
    for v in 0..4 {
        pairs[2 * v] = _mm512_srai_epi16::<8>(_mm512_shuffle_epi8(scales[v], first));
        pairs[2 * v + 1] = _mm512_srai_epi16::<8>(_mm512_shuffle_epi8(scales[v], second));
    }
    pairs
}

/// `Σ_sub min · Σ x` for sixteen rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn dot_mins(mins: &[__m512i], sums: &[i32]) -> __m512i {
    let mut sum = _mm512_setzero_si512();
    for j in 0..mins.len().min(sums.len()) {
        sum = _mm512_dpwssd_epi32(sum, mins[j], _mm512_set1_epi32(sums[j]));
    }
    sum
}

/// The product for `M` rows of activations, `x.m == M`, into rows `first..first + M` of `y`.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
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
    for (row, apart) in deal(w.n_rows(), ROWS) {
        let mut rows = Rows::new(&w, row, apart);
        let mut acc = [_mm512_setzero_ps(); M];
        for b in 0..n_blocks {
            // SAFETY: this function has the features, and rows have `n_blocks` blocks.
            let heads = unsafe { F::heads(&rows) };
            // Back to a row in each 128-bit lane: row 4·lane + register.
            let scales = split_lanes(transpose4(heads.scales));

            let mut xs = [XBlock { qs: [_mm512_setzero_si512(); 4], start: [_mm512_setzero_si512(); 4] }; M];
            for t in 0..M {
                xs[t] = XBlock::new::<F>(&qs[t * n_blocks + b]);
            }
            let mut sum = [[_mm512_setzero_si512(); 4]; M];
            for g in 0..4 {
                let mut part = [[_mm512_setzero_si512(); 4]; M];
                for i in 0..4 {
                    let block = rows.ptr(4 * g + i);
                    rows.prefetch(4 * g + i, block_bytes);
                    // SAFETY: as for the heads.
                    let q = unsafe { F::quants(block) };
                    for t in 0..M {
                        part[t][i] = xs[t].dot::<F>(&q, scales[i][g]);
                    }
                }
                for t in 0..M {
                    sum[t][g] = sum_dwords(part[t]);
                }
            }
            let mins = if F::HAS_MINS { pairs_of_mins(heads.mins) } else { [_mm512_setzero_si512(); 8] };
            for t in 0..M {
                let dx = _mm512_set1_ps(x.scales[t * n_blocks + b]);
                let s = _mm512_cvtepi32_ps(sum_lanes(sum[t]));
                acc[t] = _mm512_fmadd_ps(s, _mm512_mul_ps(heads.d, dx), acc[t]);
                if F::HAS_MINS {
                    let pairs = pairs_of_sums(&sums[t * n_blocks + b], F::SUB_LEN);
                    let m = _mm512_cvtepi32_ps(dot_mins(&mins[..128 / F::SUB_LEN], &pairs));
                    acc[t] = _mm512_fnmadd_ps(m, _mm512_mul_ps(heads.dmin, dx), acc[t]);
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn dot_k<F: KQuant>(w: QuantMatrix<'_>, x: QuantizedRows<'_>, mut y: OutStrip<'_>) {
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
