//! More activation rows against formats in blocks of 32 weights: as [`tile_k`](super::tile_k), with the arithmetic of
//! [`dot_32`](super::dot_32).

use std::arch::x86_64::*;

use super::dot_32::{Heads32, Quant32, at_each, four_blocks};
use super::rows::*;
use super::tile_k::TURNS;
use crate::activation::panel::{TILE_CHUNK, TILE_TOKENS, Tile32, carve};
use crate::activation::rows::QuantizedRows;
use crate::matmul::plan::deal;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::weights::matrix::QuantMatrix;

/// Registers of an unpacked block of 32: values, d, m.
pub(crate) const LINES_32: usize = 10;

/// The product for a strip of a format in blocks of 32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn tile_32<F: Quant32>(
    w: QuantMatrix<'_>,
    x: QuantizedRows<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    const CHUNK: usize = TILE_CHUNK / 32;
    let (n_blocks, n_pairs) = (x.k / 32, x.k.div_ceil(64));
    let tiles = x.tiles_32();
    for first in (0..n_blocks).step_by(CHUNK) {
        let n = CHUNK.min(n_blocks - first);
        let group_lines = n * LINES_32;
        let mut room = scratch.bytes();
        let strip = carve::<__m512i>(&mut room, w.n_rows().div_ceil(ROWS) * group_lines);
        for (g, lines) in strip.chunks_exact_mut(group_lines).enumerate() {
            let mut rows = Rows::new(&w, g * ROWS, 1);
            rows.skip(first * F::FORMAT.block_bytes());
            // SAFETY: this function has the features, and the rows have `n` blocks from there.
            unsafe { unpack_32::<F>(&mut rows, n, lines) };
        }
        for (i, tile) in tiles.chunks_exact(n_pairs).enumerate() {
            let t = i * TILE_TOKENS;
            for (g, lines) in strip.chunks_exact(group_lines).enumerate() {
                let n_tokens = TILE_TOKENS.min(x.m - t);
                let mut acc = [_mm512_setzero_ps(); TILE_TOKENS];
                if first > 0 {
                    for (i, acc) in acc.iter_mut().enumerate().take(n_tokens) {
                        *acc = load_rows(y.row(t + i), g * ROWS);
                    }
                }
                multiply_32::<F>(lines, &tile[first / 2..], n_tokens, &mut acc);
                for (i, acc) in acc.iter().enumerate().take(n_tokens) {
                    store_rows(y.row(t + i), g * ROWS, 1, *acc);
                }
            }
        }
    }
}

/// The same for few tokens: a few blocks are multiplied as soon as they are unpacked.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn few_32<F: Quant32>(
    w: QuantMatrix<'_>,
    x: QuantizedRows<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    const CHUNK: usize = 16;
    let n_blocks = x.k / 32;
    let mut room = scratch.bytes();
    let lines = carve::<__m512i>(&mut room, CHUNK.min(n_blocks) * LINES_32);
    for (row, apart) in deal(w.n_rows(), ROWS) {
        let mut rows = Rows::new(&w, row, apart);
        let mut acc = [_mm512_setzero_ps(); TILE_TOKENS];
        for first in (0..n_blocks).step_by(CHUNK) {
            let n = CHUNK.min(n_blocks - first);
            let lines = &mut lines[..n * LINES_32];
            // SAFETY: this function has the features, and the rows have `n` blocks from there.
            unsafe { unpack_32::<F>(&mut rows, n, lines) };
            multiply_32::<F>(lines, &x.tiles_32()[first / 2..], x.m, &mut acc);
        }
        for (t, acc) in acc.iter().enumerate().take(x.m) {
            store_rows(y.row(t), row, apart, *acc);
        }
    }
}

/// Unpacks `n` blocks of each of sixteen rows.
///
/// # Safety
/// As [`Quant32::quants`]; the rows have that many blocks.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) unsafe fn unpack_32<F: Quant32>(rows: &mut Rows, n: usize, lines: &mut [__m512i]) {
    let mut heads = Heads32::ZERO;
    let mut quants = [[_mm512_setzero_si512(); ROWS]; 2];
    for b in (0..n).step_by(4) {
        let blocks = four_blocks(0, n - b, F::FORMAT.block_bytes());
        for i in 0..ROWS {
            rows.prefetch(i, 4 * F::FORMAT.block_bytes());
            let blocks = at_each(rows.ptr(i), blocks);
            // SAFETY: promised by the caller; `four_blocks` stays among them.
            let [lo, hi] = unsafe {
                heads.take(i, blocks);
                F::quants(blocks)
            };
            (quants[0][i], quants[1][i]) = (lo, hi);
        }
        rows.skip((n - b).min(4) * F::FORMAT.block_bytes());
        let [lo, hi] = [transpose16(&quants[0]), transpose16(&quants[1])];
        let lines = &mut lines.as_chunks_mut::<LINES_32>().0[b..];
        for (j, lines) in lines.iter_mut().take(4).enumerate() {
            lines[..4].copy_from_slice(&lo[4 * j..][..4]);
            lines[4..8].copy_from_slice(&hi[4 * j..][..4]);
            let [d, m] = heads.block(j);
            (lines[8], lines[9]) = (_mm512_castps_si512(d), _mm512_castps_si512(m));
        }
    }
}

/// Adds the products of unpacked blocks with the first tokens of the tile, whose blocks come in pairs, to their `acc`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn multiply_32<F: Quant32>(
    lines: &[__m512i],
    tile: &[Tile32],
    n_tokens: usize,
    acc: &mut [__m512; TILE_TOKENS],
) {
    for (lines, tile) in lines.as_chunks().0.chunks(2).zip(tile) {
        for first in (0..n_tokens).step_by(TURNS) {
            match (lines, n_tokens - first) {
                ([a, b], ..=6) => multiply_tokens_32::<F, 6, 2>([a, b], tile, 0, first, acc),
                ([a, b], 7..=8) => multiply_tokens_32::<F, 8, 2>([a, b], tile, 0, first, acc),
                _ => {
                    for (half, lines) in lines.iter().enumerate() {
                        multiply_tokens_32::<F, TURNS, 1>([lines], tile, half, first, acc);
                    }
                }
            }
        }
    }
}

/// The same for `P` blocks, the first of them in this half of the tile's, and `T` tokens from `first` on.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn multiply_tokens_32<F: Quant32, const T: usize, const P: usize>(
    lines: [&[__m512i; LINES_32]; P],
    tile: &Tile32,
    half: usize,
    first: usize,
    acc: &mut [__m512; TILE_TOKENS],
) {
    let acc: &mut [__m512; T] = acc[first..].first_chunk_mut().expect("tokens of the tile");
    let x: &[[i32; 16]; T] = tile.qs[first..].first_chunk().expect("tokens of the tile");
    let mut sums = [[_mm512_setzero_si512(); T]; P];
    for p in 0..P {
        let starts = &tile.heads[half + p].starts;
        for t in 0..T {
            sums[p][t] = _mm512_set1_epi32(start(F::OFFSET, starts[first + t]));
        }
    }
    for i in 0..8 {
        for p in 0..P {
            for t in 0..T {
                let x = _mm512_set1_epi32(x[t][8 * (half + p) + i]);
                sums[p][t] = _mm512_dpbusd_epi32(sums[p][t], lines[p][i], x);
            }
        }
    }
    for p in 0..P {
        let (d, m) = (_mm512_castsi512_ps(lines[p][8]), _mm512_castsi512_ps(lines[p][9]));
        let heads = &tile.heads[half + p];
        for t in 0..T {
            let dx = _mm512_set1_ps(heads.scales[first + t]);
            acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[p][t]), _mm512_mul_ps(d, dx), acc[t]);
            if F::HAS_MIN {
                let sum = _mm512_set1_ps(heads.sums[first + t]);
                acc[t] = _mm512_fmadd_ps(sum, _mm512_mul_ps(m, dx), acc[t]);
            }
        }
    }
}

/// Where products start with weights that are stored with `offset` added; for 128 it is `start`.
#[inline(always)]
fn start(offset: u8, start: i32) -> i32 {
    if offset == 0 { 0 } else { start >> (7 - offset.trailing_zeros()) }
}
