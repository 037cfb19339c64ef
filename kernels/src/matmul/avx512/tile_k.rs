//! More activation rows against K-quants: weights are unpacked once, in the order the products take it.
//!
//! Sixteen rows lie as `[4 values of each row]`, 64 bytes: `vpdpbusd` with four activations of one token, broadcast from memory, adds to
//! sixteen sums at once, and no sum is ever taken across lanes. The sums of up to sixteen tokens are registers, and take turns: each waits
//! for its last product while the others are at theirs.
//!
//! With few tokens a block meets them all as soon as it is unpacked; with many, a strip of rows is unpacked and multiplied tile by tile.
//! The arithmetic is that of [`dot_k`](super::dot_k).

use std::arch::x86_64::*;

use super::dot_k::{KQuant, dot_mins, pairs_of_mins, pairs_of_scales};
use super::rows::*;
use crate::activation::panel::{TILE_CHUNK, TILE_TOKENS, TileK, carve};
use crate::activation::rows::QuantizedRows;
use crate::matmul::plan::deal;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::weights::matrix::QuantMatrix;

/// Tokens whose sums take turns, at most.
pub(crate) const TURNS: usize = 16;

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
pub(crate) fn tile_k<F: KQuant>(
    w: QuantMatrix<'_>,
    x: QuantizedRows<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    const CHUNK: usize = TILE_CHUNK / 256;
    let n_blocks = x.k / 256;
    let tiles = x.tiles_k();
    for first in (0..n_blocks).step_by(CHUNK) {
        let n = CHUNK.min(n_blocks - first);
        let group_lines = n * LinesK::<F>::BLOCK;
        let mut room = scratch.bytes();
        let strip = carve::<__m512i>(&mut room, w.n_rows().div_ceil(ROWS) * group_lines);
        for (g, lines) in strip.chunks_exact_mut(group_lines).enumerate() {
            let mut rows = Rows::new(&w, g * ROWS, 1);
            rows.skip(first * F::FORMAT.block_bytes());
            for lines in lines.chunks_exact_mut(LinesK::<F>::BLOCK) {
                // SAFETY: this function has the features, and the rows have that block.
                unsafe { unpack_k::<F>(&rows, lines) };
                rows.skip(F::FORMAT.block_bytes());
            }
        }
        for (i, tile) in tiles.chunks_exact(n_blocks).enumerate() {
            let t = i * TILE_TOKENS;
            let tile = &tile[first..][..n];
            for (g, lines) in strip.chunks_exact(group_lines).enumerate() {
                let n_tokens = TILE_TOKENS.min(x.m - t);
                let mut acc = [_mm512_setzero_ps(); TILE_TOKENS];
                if first > 0 {
                    for (i, acc) in acc.iter_mut().enumerate().take(n_tokens) {
                        *acc = load_rows(y.row(t + i), g * ROWS);
                    }
                }
                for (lines, tile) in lines.chunks_exact(LinesK::<F>::BLOCK).zip(tile) {
                    multiply_k::<F>(lines, tile, n_tokens, &mut acc);
                }
                for (i, acc) in acc.iter().enumerate().take(n_tokens) {
                    store_rows(y.row(t + i), g * ROWS, 1, *acc);
                }
            }
        }
    }
}

/// The same for few tokens: a block is multiplied as soon as it is unpacked.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn few_k<F: KQuant>(
    w: QuantMatrix<'_>,
    x: QuantizedRows<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    let mut room = scratch.bytes();
    let lines = carve::<__m512i>(&mut room, LinesK::<F>::BLOCK);
    for (row, apart) in deal(w.n_rows(), ROWS) {
        let mut rows = Rows::new(&w, row, apart);
        let mut acc = [_mm512_setzero_ps(); TILE_TOKENS];
        for tile in x.tiles_k() {
            // SAFETY: this function has the features, and the rows have that block.
            unsafe { unpack_k::<F>(&rows, lines) };
            rows.skip(F::FORMAT.block_bytes());
            multiply_k::<F>(lines, tile, x.m, &mut acc);
        }
        for (t, acc) in acc.iter().enumerate().take(x.m) {
            store_rows(y.row(t), row, apart, *acc);
        }
    }
}

/// Unpacks a block of each of sixteen rows.
///
/// # Safety
/// As [`KQuant::heads`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
unsafe fn unpack_k<F: KQuant>(rows: &Rows, lines: &mut [__m512i]) {
    // SAFETY: promised by the caller.
    let heads = unsafe { F::heads(rows) };
    for i in 0..ROWS {
        rows.prefetch(i, F::FORMAT.block_bytes());
    }
    // SAFETY: promised by the caller.
    unsafe { F::lines(rows, lines.first_chunk_mut().expect("64 registers of values")) };
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

/// Adds the products of a block of the first tokens of the tile with an unpacked block to their `acc`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn multiply_k<F: KQuant>(lines: &[__m512i], tile: &TileK, n_tokens: usize, acc: &mut [__m512; TILE_TOKENS]) {
    for first in (0..n_tokens).step_by(TURNS) {
        match n_tokens - first {
            ..=6 => multiply_tokens_k::<F, 6>(lines, tile, first, acc),
            7..=8 => multiply_tokens_k::<F, 8>(lines, tile, first, acc),
            9..=12 => multiply_tokens_k::<F, 12>(lines, tile, first, acc),
            _ => multiply_tokens_k::<F, TURNS>(lines, tile, first, acc),
        }
    }
}

/// The same for `T` tokens from `first` on; on its own, as the sums find fewer registers in a caller's loops.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn multiply_tokens_k<F: KQuant, const T: usize>(
    lines: &[__m512i],
    tile: &TileK,
    first: usize,
    acc: &mut [__m512; TILE_TOKENS],
) {
    let acc: &mut [__m512; T] = acc[first..].first_chunk_mut().expect("tokens of the tile");
    let starts = starts_k::<F, T>(lines, tile, first);
    let sums = if T > TURNS / 2 {
        add_subs::<F, T>(lines, tile, first, starts)
    } else {
        add_pairs_of_subs::<F, T>(lines, tile, first, starts)
    };
    let d = _mm512_castsi512_ps(lines[LinesK::<F>::D]);
    let dmin = _mm512_castsi512_ps(lines[LinesK::<F>::DMIN]);
    let pairs = &lines[LinesK::<F>::PAIRS..][..LinesK::<F>::SUBS / 2];
    for t in 0..T {
        let dx = _mm512_set1_ps(tile.scales[first + t]);
        acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[t]), _mm512_mul_ps(d, dx), acc[t]);
        if F::HAS_MINS {
            let m = _mm512_cvtepi32_ps(dot_mins(pairs, tile.pairs(first + t, F::SUB_LEN)));
            acc[t] = _mm512_fnmadd_ps(m, _mm512_mul_ps(dmin, dx), acc[t]);
        }
    }
}

/// What the offset adds, to be taken away: `-offset · Σ_sub scale · Σ x`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn starts_k<F: KQuant, const T: usize>(lines: &[__m512i], tile: &TileK, first: usize) -> [__m512i; T] {
    let zero = _mm512_setzero_si512();
    let mut sums = [zero; T];
    if F::OFFSET != 0 {
        let pairs = &lines[LinesK::<F>::PAIRS..][..LinesK::<F>::SUBS / 2];
        for t in 0..T {
            let excess = dot_mins(pairs, tile.pairs(first + t, F::SUB_LEN));
            let excess = _mm512_sll_epi32(excess, _mm_cvtsi32_si128(F::OFFSET.trailing_zeros() as i32));
            sums[t] = _mm512_sub_epi32(zero, excess);
        }
    }
    sums
}

/// `sums + Σ_sub scale · Σ q·x` for sixteen rows and `T` tokens, whose products and sums fill the registers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn add_subs<F: KQuant, const T: usize>(
    lines: &[__m512i],
    tile: &TileK,
    first: usize,
    mut sums: [__m512i; T],
) -> [__m512i; T] {
    for sub in 0..LinesK::<F>::SUBS {
        let n = F::SUB_LEN / 4;
        let x: &[[i32; 16]; T] = tile.qs[sub * n / 16][first..].first_chunk().expect("tokens of the tile");
        let mut products = [_mm512_setzero_si512(); T];
        for (i, w) in lines[sub * n..][..n].iter().enumerate() {
            for t in 0..T {
                let x = _mm512_set1_epi32(x[t][sub * n % 16 + i]);
                products[t] = _mm512_dpbusd_epi32(products[t], *w, x);
            }
        }
        let scale = lines[LinesK::<F>::SCALES + sub];
        for t in 0..T {
            sums[t] = _mm512_add_epi32(sums[t], _mm512_mullo_epi32(products[t], scale));
        }
    }
    sums
}

/// The same by two sub-blocks at a time: the sums of a few tokens alone do not take turns for long enough.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn add_pairs_of_subs<F: KQuant, const T: usize>(
    lines: &[__m512i],
    tile: &TileK,
    first: usize,
    mut sums: [__m512i; T],
) -> [__m512i; T] {
    let n = F::SUB_LEN / 4;
    let scales = lines[LinesK::<F>::SCALES..][..LinesK::<F>::SUBS].chunks_exact(16 / n);
    for ((lines, x), scales) in lines[..64].as_chunks::<16>().0.iter().zip(&tile.qs).zip(scales) {
        let x: &[[i32; 16]; T] = x[first..].first_chunk().expect("tokens of the tile");
        for sub in (0..16 / n).step_by(2) {
            let mut products = [[_mm512_setzero_si512(); T]; 2];
            for i in 0..n {
                for p in 0..2 {
                    let at = (sub + p) * n + i;
                    for t in 0..T {
                        let x = _mm512_set1_epi32(x[t][at]);
                        products[p][t] = _mm512_dpbusd_epi32(products[p][t], lines[at], x);
                    }
                }
            }
            for p in 0..2 {
                for t in 0..T {
                    let scaled = _mm512_mullo_epi32(products[p][t], scales[sub + p]);
                    sums[t] = _mm512_add_epi32(sums[t], scaled);
                }
            }
        }
    }
    sums
}
