//! Few activation rows against formats in blocks of 32 weights.
//!
//! For each block, in the order of the row, with integers exact and each float operation rounded once:
//!
//! ```text
//! acc = fma(f32(Σ q·x), d · dx, acc)
//! acc = fma(f32(Σ x),   m · dx, acc)      where the format has a minimum
//! ```
//!
//! Four blocks of a row fill two registers, 16 bytes of each block in its own 128-bit lane: first halves in one, second halves in the
//! other. Two `vpdpbusd` leave four partial sums a block. Those of sixteen rows become four registers, one a block, with a lane for each
//! row, and so are `d`, `m` and `acc`.

use std::arch::x86_64::*;

use super::rows::*;
use crate::activation::rows::QuantizedRows;
use crate::matmul::plan::deal;
use crate::matmul::strip::OutStrip;
use crate::weights::format::Format;
use crate::weights::matrix::QuantMatrix;

/// How a format in blocks of 32 is taken apart.
pub(crate) trait Quant32 {
    /// The format. A block begins with `d`, and `m` where there is one.
    const FORMAT: Format;
    /// What is added to a value so that it is unsigned in [`Quant32::quants`].
    const OFFSET: u8;
    /// Whether there is a minimum.
    const HAS_MIN: bool = false;

    /// The unsigned values of four blocks: 0 to 15 of each, then 16 to 31 of each.
    ///
    /// # Safety
    /// AVX-512 with the features of [`Isa::Avx512Vnni`](crate::Isa); whole blocks of the format are readable at the addresses.
    unsafe fn quants(blocks: [*const u8; 4]) -> [__m512i; 2];
}

/// The first four bytes of four blocks of sixteen rows, `[block][row]`: `d`, then `m` where there is one.
#[derive(Clone, Copy)]
pub(crate) struct Heads32([[u32; ROWS]; 4]);

impl Heads32 {
    pub(crate) const ZERO: Heads32 = Heads32([[0; ROWS]; 4]);

    /// Takes those of one row's blocks.
    ///
    /// # Safety
    /// Whole blocks of a format are readable at the addresses.
    #[inline(always)]
    pub(crate) unsafe fn take(&mut self, row: usize, blocks: [*const u8; 4]) {
        for j in 0..4 {
            // SAFETY: a block is at least 18 bytes.
            self.0[j][row] = unsafe { blocks[j].cast::<u32>().read_unaligned() };
        }
    }

    /// `d` and `m` of block `j`: lane `i` is row `i`. (Where there is no `m`, it is whatever follows `d`.)
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    pub(crate) fn block(&self, j: usize) -> [__m512; 2] {
        let heads = dwords(&self.0[j]);
        [low_f16(heads), high_f16(heads)]
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn dwords(v: &[u32; 16]) -> __m512i {
    // SAFETY: 64 bytes.
    unsafe { _mm512_loadu_si512(v.as_ptr().cast()) }
}

/// Byte offsets of blocks `first..first + 4`; past the last of `n_blocks`, that of the last one.
#[inline(always)]
pub(crate) fn four_blocks(first: usize, n_blocks: usize, block_bytes: usize) -> [usize; 4] {
    let block = |j: usize| (first + j).min(n_blocks - 1) * block_bytes;
    [block(0), block(1), block(2), block(3)]
}

/// A pointer moved by each of four offsets.
#[inline(always)]
pub(crate) fn at_each(p: *const u8, at: [usize; 4]) -> [*const u8; 4] {
    [p.wrapping_add(at[0]), p.wrapping_add(at[1]), p.wrapping_add(at[2]), p.wrapping_add(at[3])]
}

/// The product for `M` rows of activations, `x.m == M`, into rows `first..first + M` of `y`.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn dot<F: Quant32, const M: usize>(
    w: QuantMatrix<'_>,
    x: QuantizedRows<'_>,
    y: &mut OutStrip<'_>,
    first: usize,
) {
    let block_bytes = F::FORMAT.block_bytes();
    let n_blocks = x.k / 32;
    let zero = _mm512_setzero_si512();
    for (row, apart) in deal(w.n_rows(), ROWS) {
        let mut rows = Rows::new(&w, row, apart);
        let mut acc = [_mm512_setzero_ps(); M];
        let mut heads = Heads32::ZERO;
        for b in (0..n_blocks).step_by(4) {
            let blocks = four_blocks(0, n_blocks - b, block_bytes);
            let x_blocks = four_blocks(b, n_blocks, 32);
            let mut xs = [[zero; 2]; M];
            let mut start = [zero; M];
            for t in 0..M {
                let x = x.qs[t * x.k..][..x.k].as_ptr().cast::<u8>();
                // SAFETY: two times 16 values of blocks that the row has.
                xs[t] = unsafe {
                    let x = at_each(x, x_blocks);
                    [load_lanes(x, 0), load_lanes(x, 16)]
                };
                if F::OFFSET != 0 {
                    let offset = _mm512_set1_epi8(F::OFFSET as i8);
                    let sums = _mm512_dpbusd_epi32(zero, offset, xs[t][0]);
                    start[t] = _mm512_sub_epi32(zero, _mm512_dpbusd_epi32(sums, offset, xs[t][1]));
                }
            }
            let mut sum = [[zero; 4]; M];
            for g in 0..4 {
                let mut part = [[zero; 4]; M];
                for i in 0..4 {
                    rows.prefetch(4 * g + i, 4 * block_bytes);
                    let blocks = at_each(rows.ptr(4 * g + i), blocks);
                    // SAFETY: this function has the features, and a row has those blocks.
                    let [lo, hi] = unsafe {
                        heads.take(4 * g + i, blocks);
                        F::quants(blocks)
                    };
                    for t in 0..M {
                        let half = _mm512_dpbusd_epi32(start[t], lo, xs[t][0]);
                        part[t][i] = _mm512_dpbusd_epi32(half, hi, xs[t][1]);
                    }
                }
                for t in 0..M {
                    sum[t][g] = sum_dwords(part[t]);
                }
            }
            for t in 0..M {
                sum[t] = transpose_lanes(sum[t]);
            }
            for j in 0..(n_blocks - b).min(4) {
                let [d, m] = heads.block(j);
                for t in 0..M {
                    let i = t * n_blocks + b + j;
                    let dx = _mm512_set1_ps(x.scales[i]);
                    acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[t][j]), _mm512_mul_ps(d, dx), acc[t]);
                    if F::HAS_MIN {
                        let sum = _mm512_set1_ps(x.sums[i] as f32);
                        acc[t] = _mm512_fmadd_ps(sum, _mm512_mul_ps(m, dx), acc[t]);
                    }
                }
            }
            rows.skip(4 * block_bytes);
        }
        for t in 0..M {
            store_rows(y.row(first + t), row, apart, acc[t]);
        }
    }
}

/// [`dot`] for any number of activation rows, four at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn dot_32<F: Quant32>(w: QuantMatrix<'_>, x: QuantizedRows<'_>, mut y: OutStrip<'_>) {
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
