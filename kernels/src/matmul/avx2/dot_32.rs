//! Few activation rows against formats in blocks of 32 weights.
//!
//! For each block, in the order of the row, with integers exact and each float operation rounded once:
//!
//! ```text
//! acc = fma(f32(Σ q·x), d · dx, acc)
//! acc = fma(f32(Σ x),   m · dx, acc)      where the format has a minimum
//! ```
//!
//! Two blocks of a row fill two registers, 16 bytes of each block in its own 128-bit lane: first halves in one, second halves in the
//! other. `vpmaddubsw` and `vpmaddwd` leave four partial sums a block. Those of eight rows become two registers, one
//! a block, with a lane for each row, and so are `d`, `m` and `acc`. Signed values of 8 bits are multiplied as `|q| · (x · sign q)`:
//! an offset of 128 would saturate `vpmaddubsw`, while `|−128|` is an unsigned byte, and `x` is never −128.

use std::arch::x86_64::*;

use super::rows::*;
use crate::activation::rows::QuantizedRows;
use crate::matmul::plan::deal;
use crate::matmul::strip::OutStrip;
use crate::weights::format::Format;
use crate::weights::matrix::QuantMatrix;

/// How a format in blocks of 32 is taken apart.
pub(super) trait Quant32 {
    /// The format. A block begins with `d`, and `m` where there is one.
    const FORMAT: Format;
    /// Bits of an unsigned value; 8 are signed ones instead.
    const BITS: u32;
    /// What is added to a value so that it is unsigned.
    const OFFSET: u8 = 0;
    /// Whether there is a minimum.
    const HAS_MIN: bool = false;

    /// The values of two blocks: 0 to 15 of each, then 16 to 31 of each.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA and F16C; whole blocks of the format are readable at the addresses.
    unsafe fn quants(blocks: [*const u8; 2]) -> [__m256i; 2];
}

/// `d` and `m` of two blocks of eight rows, gathered as halves: `[block][row]`.
#[derive(Clone, Copy)]
pub(super) struct Heads32 {
    d: [[u16; ROWS]; 2],
    m: [[u16; ROWS]; 2],
}

impl Heads32 {
    pub(super) const ZERO: Heads32 = Heads32 { d: [[0; ROWS]; 2], m: [[0; ROWS]; 2] };

    /// Takes those of one row's blocks.
    ///
    /// # Safety
    /// Whole blocks of the format are readable at the addresses.
    #[inline(always)]
    pub(super) unsafe fn take<F: Quant32>(&mut self, row: usize, blocks: [*const u8; 2]) {
        for j in 0..2 {
            let halves = blocks[j].cast::<u16>();
            // SAFETY: a block is at least 18 bytes.
            unsafe {
                self.d[j][row] = halves.read_unaligned();
                if F::HAS_MIN {
                    self.m[j][row] = halves.add(1).read_unaligned();
                }
            }
        }
    }

    /// `d` and `m` of block `j`: lane `i` is row `i`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn block(&self, j: usize) -> [__m256; 2] {
        // SAFETY: twice 16 bytes.
        let (d, m) = unsafe {
            (_mm_loadu_si128(self.d[j].as_ptr().cast()), _mm_loadu_si128(self.m[j].as_ptr().cast()))
        };
        [_mm256_cvtph_ps(d), _mm256_cvtph_ps(m)]
    }
}

/// Byte offsets of blocks `first` and `first + 1`; past the last of `n_blocks`, that of the last one.
#[inline(always)]
pub(super) fn two_blocks(first: usize, n_blocks: usize, block_bytes: usize) -> [usize; 2] {
    [first * block_bytes, (first + 1).min(n_blocks - 1) * block_bytes]
}

/// A pointer moved by each of two offsets.
#[inline(always)]
pub(super) fn at_each(p: *const u8, at: [usize; 2]) -> [*const u8; 2] {
    [p.wrapping_add(at[0]), p.wrapping_add(at[1])]
}

/// `acc + Σ q·x` over the four values of each dword.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_products<F: Quant32>(acc: __m256i, q: __m256i, x: __m256i) -> __m256i {
    let pairs = if F::BITS == 8 {
        _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(x, q))
    } else {
        _mm256_maddubs_epi16(q, x)
    };
    _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// The product for `M` rows of activations, `x.m == M`, into rows `first..first + M` of `y`.
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot<F: Quant32, const M: usize>(
    w: QuantMatrix<'_>,
    x: QuantizedRows<'_>,
    y: &mut OutStrip<'_>,
    first: usize,
) {
    let block_bytes = F::FORMAT.block_bytes();
    let n_blocks = x.k / 32;
    let zero = _mm256_setzero_si256();
    for (row, apart) in deal(w.n_rows(), ROWS) {
        let mut rows = Rows::new(&w, row, apart);
        let mut acc = [_mm256_setzero_ps(); M];
        let mut heads = Heads32::ZERO;
        for b in (0..n_blocks).step_by(2) {
            let blocks = two_blocks(0, n_blocks - b, block_bytes);
            let x_blocks = two_blocks(b, n_blocks, 32);
            let mut xs = [[zero; 2]; M];
            let mut start = [zero; M];
            for t in 0..M {
                let x = at_each(x.qs[t * x.k..][..x.k].as_ptr().cast::<u8>(), x_blocks);
                // SAFETY: two times 16 values of blocks that the row has.
                xs[t] = unsafe { [load_lanes(x, 0), load_lanes(x, 16)] };
                if F::OFFSET != 0 {
                    let offset = _mm256_set1_epi8(F::OFFSET as i8);
                    let sums = add_products::<F>(add_products::<F>(zero, offset, xs[t][0]), offset, xs[t][1]);
                    start[t] = _mm256_sub_epi32(zero, sums);
                }
            }
            let mut sum = [[zero; 2]; M];
            for g in 0..2 {
                let mut part = [[zero; 4]; M];
                for i in 0..4 {
                    rows.prefetch(4 * g + i, 2 * block_bytes);
                    let blocks = at_each(rows.ptr(4 * g + i), blocks);
                    // SAFETY: this function has the features, and a row has those blocks.
                    let [lo, hi] = unsafe {
                        heads.take::<F>(4 * g + i, blocks);
                        F::quants(blocks)
                    };
                    for t in 0..M {
                        let half = add_products::<F>(start[t], lo, xs[t][0]);
                        part[t][i] = add_products::<F>(half, hi, xs[t][1]);
                    }
                }
                for t in 0..M {
                    sum[t][g] = sum_dwords(part[t]);
                }
            }
            for t in 0..M {
                sum[t] = transpose_lanes(sum[t]);
            }
            for j in 0..(n_blocks - b).min(2) {
                let [d, m] = heads.block(j);
                for t in 0..M {
                    let i = t * n_blocks + b + j;
                    let dx = _mm256_set1_ps(x.scales[i]);
                    acc[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[t][j]), _mm256_mul_ps(d, dx), acc[t]);
                    if F::HAS_MIN {
                        let sum = _mm256_set1_ps(x.sums[i] as f32);
                        acc[t] = _mm256_fmadd_ps(sum, _mm256_mul_ps(m, dx), acc[t]);
                    }
                }
            }
            rows.skip(2 * block_bytes);
        }
        for t in 0..M {
            store_rows(y.row(first + t), row, apart, acc[t]);
        }
    }
}

/// [`dot`] for any number of activation rows, four at a time.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot_32<F: Quant32>(w: QuantMatrix<'_>, x: QuantizedRows<'_>, mut y: OutStrip<'_>) {
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
