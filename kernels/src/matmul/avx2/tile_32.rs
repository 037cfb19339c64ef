//! More activation rows against formats in blocks of 32 weights: as [`tile_k`](super::tile_k), with the arithmetic of
//! [`dot_32`](super::dot_32).

use std::arch::x86_64::*;

use super::dot_32::{Heads32, Quant32, at_each, two_blocks};
use super::rows::*;
use super::tile_k::{TURNS, flip_top_bits};
use super::vnni::Sums;
use crate::activation::panel::{TILE_CHUNK, TILE_TOKENS, Tile32, carve};
use crate::activation::rows::QuantizedRows;
use crate::matmul::plan::deal;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::weights::matrix::QuantMatrix;

/// Registers of an unpacked block of 32: values, d, m.
const LINES_32: usize = 10;

/// The product for a strip of a format in blocks of 32.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn tile_32<S: Sums, F: Quant32>(
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
        let strip = carve::<__m256i>(&mut room, w.n_rows().div_ceil(ROWS) * group_lines);
        for (g, lines) in strip.chunks_exact_mut(group_lines).enumerate() {
            let mut rows = Rows::new(&w, g * ROWS, 1);
            rows.skip(first * F::FORMAT.block_bytes());
            // SAFETY: this function has the features, and the rows have `n` blocks from there.
            unsafe { unpack_32::<S, F>(&mut rows, n, lines) };
        }
        for (i, tile) in tiles.chunks_exact(n_pairs).enumerate() {
            let t = i * TILE_TOKENS;
            for (g, lines) in strip.chunks_exact(group_lines).enumerate() {
                let n_tokens = TILE_TOKENS.min(x.m - t);
                let mut acc = [_mm256_setzero_ps(); TILE_TOKENS];
                if first > 0 {
                    for (i, acc) in acc.iter_mut().enumerate().take(n_tokens) {
                        *acc = load_rows(y.row(t + i), g * ROWS);
                    }
                }
                multiply_32::<S, F>(lines, &tile[first / 2..], n_tokens, &mut acc);
                for (i, acc) in acc.iter().enumerate().take(n_tokens) {
                    store_rows(y.row(t + i), g * ROWS, 1, *acc);
                }
            }
        }
    }
}

/// The same for few tokens: a few blocks are multiplied as soon as they are unpacked.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn few_32<S: Sums, F: Quant32>(
    w: QuantMatrix<'_>,
    x: QuantizedRows<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    const CHUNK: usize = 16;
    let n_blocks = x.k / 32;
    let mut room = scratch.bytes();
    let lines = carve::<__m256i>(&mut room, CHUNK.min(n_blocks) * LINES_32);
    for (row, apart) in deal(w.n_rows(), ROWS) {
        let mut rows = Rows::new(&w, row, apart);
        let mut acc = [_mm256_setzero_ps(); TILE_TOKENS];
        for first in (0..n_blocks).step_by(CHUNK) {
            let n = CHUNK.min(n_blocks - first);
            let lines = &mut lines[..n * LINES_32];
            // SAFETY: this function has the features, and the rows have `n` blocks from there.
            unsafe { unpack_32::<S, F>(&mut rows, n, lines) };
            multiply_32::<S, F>(lines, &x.tiles_32()[first / 2..], x.m, &mut acc);
        }
        for (t, acc) in acc.iter().enumerate().take(x.m) {
            store_rows(y.row(t), row, apart, *acc);
        }
    }
}

/// Unpacks `n` blocks of each of eight rows.
///
/// # Safety
/// As [`Quant32::quants`]; the rows have that many blocks.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn unpack_32<S: Sums, F: Quant32>(rows: &mut Rows, n: usize, lines: &mut [__m256i]) {
    let mut heads = Heads32::ZERO;
    let mut quants = [[_mm256_setzero_si256(); ROWS]; 2];
    for b in (0..n).step_by(2) {
        let blocks = two_blocks(0, n - b, F::FORMAT.block_bytes());
        for i in 0..ROWS {
            rows.prefetch(i, 2 * F::FORMAT.block_bytes());
            let blocks = at_each(rows.ptr(i), blocks);
            // SAFETY: promised by the caller; `two_blocks` stays among them.
            let q = unsafe {
                heads.take::<F>(i, blocks);
                F::quants(blocks)
            };
            for h in 0..2 {
                quants[h][i] = if offset_32::<S, F>() == 128 { flip_top_bits(q[h]) } else { q[h] };
            }
        }
        rows.skip((n - b).min(2) * F::FORMAT.block_bytes());
        let [lo, hi] = [transpose8(&quants[0]), transpose8(&quants[1])];
        let lines = &mut lines.as_chunks_mut::<LINES_32>().0[b..];
        for (j, lines) in lines.iter_mut().take(2).enumerate() {
            lines[..4].copy_from_slice(&lo[4 * j..][..4]);
            lines[4..8].copy_from_slice(&hi[4 * j..][..4]);
            let [d, m] = heads.block(j);
            (lines[8], lines[9]) = (_mm256_castps_si256(d), _mm256_castps_si256(m));
        }
    }
}

/// Adds the products of unpacked blocks with the first tokens of the tile, whose blocks come in pairs, to their `acc`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_32<S: Sums, F: Quant32>(
    lines: &[__m256i],
    tile: &[Tile32],
    n_tokens: usize,
    acc: &mut [__m256; TILE_TOKENS],
) {
    for (b, lines) in lines.as_chunks().0.iter().enumerate() {
        for first in (0..n_tokens).step_by(TURNS) {
            multiply_tokens_32::<S, F>(lines, &tile[b / 2], b % 2, first, acc);
        }
    }
}

/// The same for a block, in that half of the tile's, and [`TURNS`] tokens from `first` on.
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_tokens_32<S: Sums, F: Quant32>(
    lines: &[__m256i; LINES_32],
    tile: &Tile32,
    half: usize,
    first: usize,
    acc: &mut [__m256; TILE_TOKENS],
) {
    let (d, m) = (_mm256_castsi256_ps(lines[8]), _mm256_castsi256_ps(lines[9]));
    let heads = &tile.heads[half];
    let mut sums = [_mm256_setzero_si256(); TURNS];
    for t in 0..TURNS {
        sums[t] = _mm256_set1_epi32(start(offset_32::<S, F>(), heads.starts[first + t]));
    }
    let x: &[[i32; 16]; TURNS] = tile.qs[first..].first_chunk().expect("tokens of the tile");
    // SAFETY: `S` is for this CPU.
    let sums = unsafe { S::dot(F::BITS, &lines[..8], x, 8 * half, sums) };
    for t in 0..TURNS {
        let (dx, acc) = (_mm256_set1_ps(heads.scales[first + t]), &mut acc[first + t]);
        *acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[t]), _mm256_mul_ps(d, dx), *acc);
        if F::HAS_MIN {
            *acc = _mm256_fmadd_ps(_mm256_set1_ps(heads.sums[first + t]), _mm256_mul_ps(m, dx), *acc);
        }
    }
}

/// Where products start with weights that are stored with `offset` added; for 128 it is `start`.
#[inline(always)]
fn start(offset: u8, start: i32) -> i32 {
    if offset == 0 { 0 } else { start >> (7 - offset.trailing_zeros()) }
}

/// What is added to a value.
const fn offset_32<S: Sums, F: Quant32>() -> u8 {
    if F::BITS == 8 && S::UNSIGNED { 128 } else { F::OFFSET }
}
