//! Many activation rows: a strip of weights is unpacked once, in the order the products take it, then multiplied tile by tile.
//!
//! Sixteen rows lie as `[4 values of each row]`, 64 bytes: `vpdpbusd` with four activations of one token, broadcast from memory, adds to
//! sixteen sums at once, and no sum is ever taken across lanes. The sums of up to sixteen tokens are registers, and take turns: each waits
//! for its last product while the others are at theirs.
//!
//! The arithmetic is that of [`dot_k`](super::dot_k) and [`dot_32`](super::dot_32).

use std::arch::x86_64::*;

use super::dot_32::{Heads32, Quant32, at_each, four_blocks};
use super::dot_k::{KQuant, dot_mins, pairs_of_mins, pairs_of_scales};
use super::rows::*;
use crate::activation_tile::{TILE_CHUNK, TILE_TOKENS, Tile32, TileK, carve};
use crate::activations::QuantizedRows;
use crate::matmul::deal;
use crate::{OutStrip, QuantMatrix, StripScratch};

/// Tokens whose sums take turns; half as many where no more are left.
const TURNS: usize = 16;

/// Where the registers of an unpacked K block are: 64 of values, then those of scales, one of d, one of dmin, and pairs of mins or, where
/// values are stored with an offset, of scales.
struct LinesK<F>(F);

impl<F: KQuant> LinesK<F> {
    const SUBS: usize = 256 / F::SUB_LEN;
    const SCALES: usize = 64;
    const D: usize = Self::SCALES + Self::SUBS;
    const DMIN: usize = Self::D + 1;
    const PAIRS: usize = Self::DMIN + 1;
    const BLOCK: usize = Self::PAIRS + Self::SUBS / 2;
}

/// The product for a strip of K-quants.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(super) fn tile_k<F: KQuant>(
    w: QuantMatrix<'_>,
    x: QuantizedRows<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    const CHUNK: usize = TILE_CHUNK / 256;
    let n_blocks = x.k / 256;
    let tiles = x.tiles_k();
    let groups = deal(w.n_rows(), ROWS, x.m);
    let mut quants = [[_mm512_setzero_si512(); ROWS]; 4];
    for first in (0..n_blocks).step_by(CHUNK) {
        let n = CHUNK.min(n_blocks - first);
        let group_lines = n * LinesK::<F>::BLOCK;
        let mut room = scratch.bytes();
        let strip = carve::<__m512i>(&mut room, w.n_rows().div_ceil(ROWS) * group_lines);
        for ((row, apart), lines) in groups.clone().zip(strip.chunks_exact_mut(group_lines)) {
            let mut rows = Rows::new(&w, row, apart);
            rows.skip(first * F::FORMAT.block_bytes());
            for lines in lines.chunks_exact_mut(LinesK::<F>::BLOCK) {
                // SAFETY: this function has the features, and the rows have that block.
                unsafe { unpack_k::<F>(&rows, lines, &mut quants) };
                rows.skip(F::FORMAT.block_bytes());
            }
        }
        for (i, tile) in tiles.chunks_exact(n_blocks).enumerate() {
            let t = i * TILE_TOKENS;
            let tile = &tile[first..][..n];
            for ((row, apart), lines) in groups.clone().zip(strip.chunks_exact(group_lines)) {
                let n_tokens = TILE_TOKENS.min(x.m - t);
                let mut acc = [_mm512_setzero_ps(); TILE_TOKENS];
                if first > 0 {
                    for (i, acc) in acc.iter_mut().enumerate().take(n_tokens) {
                        *acc = load_rows(y.row(t + i), row, apart);
                    }
                }
                for (lines, tile) in lines.chunks_exact(LinesK::<F>::BLOCK).zip(tile) {
                    for first in (0..n_tokens).step_by(TURNS) {
                        if n_tokens - first > TURNS / 2 {
                            multiply_k::<F, TURNS>(lines, tile, first, &mut acc);
                        } else {
                            multiply_k::<F, { TURNS / 2 }>(lines, tile, first, &mut acc);
                        }
                    }
                }
                for (i, acc) in acc.iter().enumerate().take(n_tokens) {
                    store_rows(y.row(t + i), row, apart, *acc);
                }
            }
        }
    }
}

/// Unpacks a block of each of sixteen rows; `quants` is room.
///
/// # Safety
/// As [`KQuant::heads`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
unsafe fn unpack_k<F: KQuant>(rows: &Rows, lines: &mut [__m512i], quants: &mut [[__m512i; ROWS]; 4]) {
    // SAFETY: promised by the caller.
    let heads = unsafe { F::heads(rows) };
    for i in 0..ROWS {
        rows.prefetch(i, F::FORMAT.block_bytes());
        // SAFETY: promised by the caller.
        let q = unsafe { F::quants(rows.ptr(i)) };
        for v in 0..4 {
            quants[v][i] = q[v];
        }
    }
    for v in 0..4 {
        let dwords = transpose16(&quants[v]);
        for i in 0..16 {
            lines[4 * F::ORDER[4 * v + i / 4] + i % 4] = dwords[i];
        }
    }
    for j in 0..LinesK::<F>::SUBS {
        let to_the_top = _mm512_sll_epi32(heads.scales[j / 4], _mm_cvtsi32_si128(24 - 8 * (j % 4) as i32));
        lines[LinesK::<F>::SCALES + j] = _mm512_srai_epi32::<24>(to_the_top);
    }
    lines[LinesK::<F>::D] = _mm512_castps_si512(heads.d);
    let n = LinesK::<F>::SUBS / 2;
    if F::HAS_MINS {
        lines[LinesK::<F>::DMIN] = _mm512_castps_si512(heads.dmin);
        lines[LinesK::<F>::PAIRS..][..n].copy_from_slice(&pairs_of_mins(heads.mins)[..n]);
    } else if F::OFFSET != 0 {
        lines[LinesK::<F>::PAIRS..][..n].copy_from_slice(&pairs_of_scales(heads.scales)[..n]);
    }
}

/// Adds the products of a block of `T` tokens of the tile, from `first` on, with an unpacked block to their `acc`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn multiply_k<F: KQuant, const T: usize>(
    lines: &[__m512i],
    tile: &TileK,
    first: usize,
    acc: &mut [__m512; TILE_TOKENS],
) {
    let zero = _mm512_setzero_si512();
    let pairs = &lines[LinesK::<F>::PAIRS..][..LinesK::<F>::SUBS / 2];
    let mut sums = [zero; T];
    if F::OFFSET != 0 {
        // What the offset adds: offset · Σ_sub scale · Σ x.
        for t in 0..T {
            let excess = dot_mins(pairs, tile.pairs(first + t, F::SUB_LEN));
            let excess = _mm512_sll_epi32(excess, _mm_cvtsi32_si128(F::OFFSET.trailing_zeros() as i32));
            sums[t] = _mm512_sub_epi32(zero, excess);
        }
    }
    for sub in 0..LinesK::<F>::SUBS {
        let n = F::SUB_LEN / 4;
        let x: &[[i32; 16]; T] = tile.qs[sub * n / 16][first..].first_chunk().expect("tokens of the tile");
        let products = dot_lines(&lines[sub * n..][..n], x, sub * n % 16, [zero; T]);
        let scale = lines[LinesK::<F>::SCALES + sub];
        for t in 0..T {
            sums[t] = _mm512_add_epi32(sums[t], _mm512_mullo_epi32(products[t], scale));
        }
    }
    let d = _mm512_castsi512_ps(lines[LinesK::<F>::D]);
    let dmin = _mm512_castsi512_ps(lines[LinesK::<F>::DMIN]);
    for t in 0..T {
        let (dx, acc) = (_mm512_set1_ps(tile.scales[first + t]), &mut acc[first + t]);
        *acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[t]), _mm512_mul_ps(d, dx), *acc);
        if F::HAS_MINS {
            let m = _mm512_cvtepi32_ps(dot_mins(pairs, tile.pairs(first + t, F::SUB_LEN)));
            *acc = _mm512_fnmadd_ps(m, _mm512_mul_ps(dmin, dx), *acc);
        }
    }
}

/// `sums + Σ w·x` of sixteen rows and `T` tokens, for four values a register of `w`; those of token `t` are `x[t][at..]`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn dot_lines<const T: usize>(
    w: &[__m512i],
    x: &[[i32; 16]; T],
    at: usize,
    mut sums: [__m512i; T],
) -> [__m512i; T] {
    for (i, w) in w.iter().enumerate() {
        for t in 0..T {
            sums[t] = _mm512_dpbusd_epi32(sums[t], *w, _mm512_set1_epi32(x[t][at + i]));
        }
    }
    sums
}

/// Registers of an unpacked block of 32: values, d, m.
pub(super) const LINES_32: usize = 10;

/// The product for a strip of a format in blocks of 32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(super) fn tile_32<F: Quant32>(
    w: QuantMatrix<'_>,
    x: QuantizedRows<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    const CHUNK: usize = TILE_CHUNK / 32;
    let (n_blocks, n_pairs) = (x.k / 32, x.k.div_ceil(64));
    let tiles = x.tiles_32();
    let groups = deal(w.n_rows(), ROWS, x.m);
    for first in (0..n_blocks).step_by(CHUNK) {
        let n = CHUNK.min(n_blocks - first);
        let group_lines = n * LINES_32;
        let mut room = scratch.bytes();
        let strip = carve::<__m512i>(&mut room, w.n_rows().div_ceil(ROWS) * group_lines);
        for ((row, apart), lines) in groups.clone().zip(strip.chunks_exact_mut(group_lines)) {
            let mut rows = Rows::new(&w, row, apart);
            rows.skip(first * F::FORMAT.block_bytes());
            // SAFETY: this function has the features, and the rows have `n` blocks from there.
            unsafe { unpack_32::<F>(rows, n, lines) };
        }
        for (i, tile) in tiles.chunks_exact(n_pairs).enumerate() {
            let t = i * TILE_TOKENS;
            let tile = &tile[first / 2..];
            for ((row, apart), lines) in groups.clone().zip(strip.chunks_exact(group_lines)) {
                let n_tokens = TILE_TOKENS.min(x.m - t);
                let mut acc = [_mm512_setzero_ps(); TILE_TOKENS];
                if first > 0 {
                    for (i, acc) in acc.iter_mut().enumerate().take(n_tokens) {
                        *acc = load_rows(y.row(t + i), row, apart);
                    }
                }
                for (b, lines) in lines.as_chunks().0.iter().enumerate() {
                    for first in (0..n_tokens).step_by(TURNS) {
                        if n_tokens - first > TURNS / 2 {
                            multiply_32::<F, TURNS>(lines, &tile[b / 2], b % 2, first, &mut acc);
                        } else {
                            multiply_32::<F, { TURNS / 2 }>(lines, &tile[b / 2], b % 2, first, &mut acc);
                        }
                    }
                }
                for (i, acc) in acc.iter().enumerate().take(n_tokens) {
                    store_rows(y.row(t + i), row, apart, *acc);
                }
            }
        }
    }
}

/// Unpacks `n` blocks of each of sixteen rows.
///
/// # Safety
/// As [`Quant32::quants`]; the rows have that many blocks.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(super) unsafe fn unpack_32<F: Quant32>(mut rows: Rows, n: usize, lines: &mut [__m512i]) {
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
        rows.skip(4 * F::FORMAT.block_bytes());
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

/// Adds the products of one of the tile's two blocks, of `T` tokens from `first` on, with an unpacked block to their `acc`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn multiply_32<F: Quant32, const T: usize>(
    lines: &[__m512i; LINES_32],
    tile: &Tile32,
    half: usize,
    first: usize,
    acc: &mut [__m512; TILE_TOKENS],
) {
    let (d, m) = (_mm512_castsi512_ps(lines[8]), _mm512_castsi512_ps(lines[9]));
    let heads = &tile.heads[half];
    let mut sums = [_mm512_setzero_si512(); T];
    for t in 0..T {
        sums[t] = _mm512_set1_epi32(start(F::OFFSET, heads.starts[first + t]));
    }
    let x: &[[i32; 16]; T] = tile.qs[first..].first_chunk().expect("tokens of the tile");
    let sums = dot_lines(&lines[..8], x, 8 * half, sums);
    for t in 0..T {
        let (dx, acc) = (_mm512_set1_ps(heads.scales[first + t]), &mut acc[first + t]);
        *acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[t]), _mm512_mul_ps(d, dx), *acc);
        if F::HAS_MIN {
            *acc = _mm512_fmadd_ps(_mm512_set1_ps(heads.sums[first + t]), _mm512_mul_ps(m, dx), *acc);
        }
    }
}

/// Where products start with weights that are stored with `offset` added; for 128 it is `start`.
#[inline(always)]
fn start(offset: u8, start: i32) -> i32 {
    if offset == 0 { 0 } else { start >> (7 - offset.trailing_zeros()) }
}
