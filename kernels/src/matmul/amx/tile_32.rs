//! Many activation rows against formats in blocks of 32 weights.
//!
//! Each block has a scale of its own, in f32, so a register's sums are taken after half of the 64 values it could add up:
//!
//! ```text
//! acc = fma(f32(Σ q·x), d · dx, acc)
//! acc = fma(f32(Σ x),   m · dx, acc)      where the format has a minimum
//! ```
//!
//! Registers 0 and 1 are the sums of 16 tokens with 16 rows for two blocks, 4 and 5 their weights, 6 and 7 their activations. While they
//! multiply, the vector units scale and add the two blocks before; a token's `acc` stays in a vector register.

use std::arch::x86_64::*;

use super::registers::{Shapes, TILE_ROWS, TileRegisters};
use crate::activation::packed::{BlockScales32, PACK_TOKENS, PANEL_CHUNK, Packed32, carve};
use crate::activation::rows::QuantizedRows;
use crate::matmul::formats::{Format32, offset_32};
use crate::matmul::panel::{N_32, unpack_32};
use crate::matmul::plan::STRIP_ROWS;
use crate::matmul::rows::Rows;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::simd::avx512::rows::Avx512Rows;
use crate::simd::row_lanes::RowLanes;
use crate::weights::matrix::QuantMatrix;

/// Weight rows of a register.
const ROWS: usize = Avx512Rows::ROWS;

/// Weights and activations of 32 values.
pub(super) static SHAPES: Shapes =
    Shapes::WHOLE.with(4, 8, 64).with(5, 8, 64).with(6, 16, 32).with(7, 16, 32);

/// Bytes of scratch for a strip of rows of `k` weights.
pub(super) const fn scratch_bytes(k: usize) -> usize {
    let n_blocks = if k < PANEL_CHUNK { k.div_ceil(32) } else { PANEL_CHUNK / 32 };
    64 * N_32 * n_blocks * STRIP_ROWS / ROWS
}

/// The product for a strip of a format in blocks of 32 on registers of [`SHAPES`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn tile_32<R: TileRegisters, F: Format32>(
    registers: &R,
    w: QuantMatrix<'_>,
    x: QuantizedRows<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    const CHUNK: usize = PANEL_CHUNK / 32;
    // SAFETY: this function has the features.
    let s = unsafe { Avx512Rows::new() };
    let (n_blocks, n_pairs) = (x.k / 32, x.k.div_ceil(64));
    let groups = x.packed_32();
    for first in (0..n_blocks).step_by(CHUNK) {
        let n = CHUNK.min(n_blocks - first);
        let group_len = n * N_32;
        let mut room = scratch.bytes();
        let strip = carve::<__m512i>(&mut room, w.n_rows().div_ceil(ROWS) * group_len);
        for (g, panel) in strip.chunks_exact_mut(group_len).enumerate() {
            let mut rows = Rows::neighbours(s, &w, g * ROWS);
            rows.skip(first * F::FORMAT.block_bytes());
            // SAFETY: this function has the features, and the rows have `n` blocks from there.
            unsafe { unpack_32::<Avx512Rows, F>(s, &mut rows, n, panel) };
            for panel in panel.as_chunks_mut::<N_32>().0 {
                let offset = _mm512_set1_epi8(const { offset_32::<Avx512Rows, F>() } as i8);
                for q in &mut panel[..8] {
                    *q = _mm512_sub_epi8(*q, offset);
                }
            }
        }
        for (i, packed) in groups.chunks_exact(n_pairs).enumerate() {
            for (g, panel) in strip.chunks_exact(group_len).enumerate() {
                for first_token in (0..PACK_TOKENS.min(x.m - i * PACK_TOKENS)).step_by(TILE_ROWS) {
                    let t = i * PACK_TOKENS + first_token;
                    let n = TILE_ROWS.min(x.m - t);
                    let mut acc = [_mm512_setzero_ps(); TILE_ROWS];
                    if first > 0 {
                        for (j, acc) in acc.iter_mut().enumerate().take(n) {
                            *acc = s.load_rows(&y.row(t + j)[g * ROWS..]);
                        }
                    }
                    multiply::<R, F>(
                        registers,
                        panel.as_chunks().0,
                        &packed[first / 2..],
                        first_token,
                        &mut acc,
                    );
                    for (j, acc) in acc.iter().enumerate().take(n) {
                        s.store_rows(*acc, &mut y.row(t + j)[g * ROWS..]);
                    }
                }
            }
        }
    }
}

/// Sums of a tile of tokens with sixteen rows.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Sums([[i32; ROWS]; TILE_ROWS]);

/// Adds the products of sixteen rows, block after block, with sixteen tokens from `first` on to `acc`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn multiply<R: TileRegisters, F: Format32>(
    registers: &R,
    panel: &[[__m512i; N_32]],
    packed: &[Packed32],
    first: usize,
    acc: &mut [__m512; TILE_ROWS],
) {
    let n_blocks = panel.len();
    let mut sums = [Sums([[0; ROWS]; TILE_ROWS]); 4];
    let mut regs = *acc;
    for b in (0..n_blocks + 2).step_by(2) {
        if b < n_blocks {
            let x: &[[[i32; 8]; 2]] = bytemuck::cast_slice(&packed[b / 2].qs[first..][..TILE_ROWS]);
            let next = (b + 1).min(n_blocks - 1);
            registers.zero::<0>();
            registers.zero::<1>();
            registers.load::<6>(bytemuck::cast_slice(x));
            registers.load::<4>(bytemuck::cast_slice(&panel[b][..8]));
            registers.dot_signed::<0, 6, 4>();
            registers.load_after::<7>(bytemuck::cast_slice(x), 32);
            registers.load::<5>(bytemuck::cast_slice(&panel[next][..8]));
            registers.dot_signed::<1, 7, 5>();
        }
        for j in b.saturating_sub(2)..b.min(n_blocks) {
            add_block::<F>(&panel[j], &packed[j / 2].blocks[j % 2], first, &sums[j % 4].0, &mut regs);
        }
        if b < n_blocks {
            registers.store::<0>(&mut sums[b % 4].0);
            registers.store::<1>(&mut sums[(b + 1) % 4].0);
        }
    }
    *acc = regs;
}

/// Adds a block's sums with the tokens from `first` on, scaled.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn add_block<F: Format32>(
    panel: &[__m512i; N_32],
    of_x: &BlockScales32,
    first: usize,
    sums: &[[i32; ROWS]; TILE_ROWS],
    acc: &mut [__m512; TILE_ROWS],
) {
    let (d, m) = (_mm512_castsi512_ps(panel[8]), _mm512_castsi512_ps(panel[9]));
    let scales: &[f32; TILE_ROWS] = of_x.scales[first..].first_chunk().expect("sixteen tokens");
    let x_sums: &[f32; TILE_ROWS] = of_x.sums[first..].first_chunk().expect("sixteen tokens");
    for t in 0..TILE_ROWS {
        let dx = _mm512_set1_ps(scales[t]);
        let s = _mm512_cvtepi32_ps(bytemuck::cast(sums[t]));
        acc[t] = _mm512_fmadd_ps(s, _mm512_mul_ps(d, dx), acc[t]);
        if F::HAS_MIN {
            acc[t] = _mm512_fmadd_ps(_mm512_set1_ps(x_sums[t]), _mm512_mul_ps(m, dx), acc[t]);
        }
    }
}
