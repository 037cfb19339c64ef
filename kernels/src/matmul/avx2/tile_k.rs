//! More activation rows against K-quants: weights are unpacked once, in the order the products take it.
//!
//! Eight rows lie as `[4 values of each row]`, 32 bytes: `vpdpbusd` with four activations of one token, broadcast, adds to eight sums
//! at once, and no sum is ever taken across lanes. The sums of eight tokens are registers, and take turns. Plain AVX2 adds several
//! `vpmaddubsw` in 16 bits.
//!
//! With few tokens a block meets them all as soon as it is unpacked; with many, a strip of rows is unpacked and multiplied tile by tile.
//! The arithmetic is that of [`dot_k`](super::dot_k).

use std::arch::x86_64::*;

use super::dot_k::{KQuant, dot_mins, pairs_of_mins, pairs_of_scales};
use super::rows::*;
use super::vnni::Sums;
use crate::activation::panel::{TILE_CHUNK, TILE_TOKENS, TileK, carve};
use crate::activation::rows::QuantizedRows;
use crate::matmul::plan::deal;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::weights::matrix::QuantMatrix;

/// Tokens whose sums take turns.
pub(super) const TURNS: usize = 8;

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
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn tile_k<S: Sums, F: KQuant>(
    w: QuantMatrix<'_>,
    x: QuantizedRows<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    const CHUNK: usize = TILE_CHUNK / 256;
    let n_blocks = x.k / 256;
    let tiles = x.tiles_k();
    let mut quants = [[_mm256_setzero_si256(); ROWS]; 8];
    for first in (0..n_blocks).step_by(CHUNK) {
        let n = CHUNK.min(n_blocks - first);
        let group_lines = n * LinesK::<F>::BLOCK;
        let mut room = scratch.bytes();
        let strip = carve::<__m256i>(&mut room, w.n_rows().div_ceil(ROWS) * group_lines);
        for (g, lines) in strip.chunks_exact_mut(group_lines).enumerate() {
            let mut rows = Rows::new(&w, g * ROWS, 1);
            rows.skip(first * F::FORMAT.block_bytes());
            for lines in lines.chunks_exact_mut(LinesK::<F>::BLOCK) {
                // SAFETY: this function has the features, and the rows have that block.
                unsafe { unpack_k::<S, F>(&rows, lines, &mut quants) };
                rows.skip(F::FORMAT.block_bytes());
            }
        }
        for (i, tile) in tiles.chunks_exact(n_blocks).enumerate() {
            let t = i * TILE_TOKENS;
            let tile = &tile[first..][..n];
            for (g, lines) in strip.chunks_exact(group_lines).enumerate() {
                let n_tokens = TILE_TOKENS.min(x.m - t);
                let mut acc = [_mm256_setzero_ps(); TILE_TOKENS];
                if first > 0 {
                    for (i, acc) in acc.iter_mut().enumerate().take(n_tokens) {
                        *acc = load_rows(y.row(t + i), g * ROWS);
                    }
                }
                for (lines, tile) in lines.chunks_exact(LinesK::<F>::BLOCK).zip(tile) {
                    multiply_k::<S, F>(lines, tile, n_tokens, &mut acc);
                }
                for (i, acc) in acc.iter().enumerate().take(n_tokens) {
                    store_rows(y.row(t + i), g * ROWS, 1, *acc);
                }
            }
        }
    }
}

/// The same for few tokens: a block is multiplied as soon as it is unpacked.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn few_k<S: Sums, F: KQuant>(
    w: QuantMatrix<'_>,
    x: QuantizedRows<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    let mut quants = [[_mm256_setzero_si256(); ROWS]; 8];
    let mut room = scratch.bytes();
    let lines = carve::<__m256i>(&mut room, LinesK::<F>::BLOCK);
    for (row, apart) in deal(w.n_rows(), ROWS) {
        let mut rows = Rows::new(&w, row, apart);
        let mut acc = [_mm256_setzero_ps(); TILE_TOKENS];
        for tile in x.tiles_k() {
            // SAFETY: this function has the features, and the rows have that block.
            unsafe { unpack_k::<S, F>(&rows, lines, &mut quants) };
            rows.skip(F::FORMAT.block_bytes());
            multiply_k::<S, F>(lines, tile, x.m, &mut acc);
        }
        for (t, acc) in acc.iter().enumerate().take(x.m) {
            store_rows(y.row(t), row, apart, *acc);
        }
    }
}

/// Unpacks a block of each of eight rows; `quants` is room.
///
/// # Safety
/// As [`KQuant::heads`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn unpack_k<S: Sums, F: KQuant>(
    rows: &Rows,
    lines: &mut [__m256i],
    quants: &mut [[__m256i; ROWS]; 8],
) {
    // SAFETY: promised by the caller.
    let heads = unsafe { F::heads(rows) };
    for i in 0..ROWS {
        rows.prefetch(i, F::FORMAT.block_bytes());
        // SAFETY: promised by the caller.
        let q = unsafe { F::quants(rows.ptr(i)) };
        for j in 0..8 {
            quants[j][i] = if offset_k::<S, F>() == 128 { flip_top_bits(q[j]) } else { q[j] };
        }
    }
    for j in 0..8 {
        lines[8 * j..][..8].copy_from_slice(&transpose8(&quants[j]));
    }
    for j in 0..LinesK::<F>::SUBS {
        let to_the_top = _mm256_sll_epi32(heads.scales[j / 4], _mm_cvtsi32_si128(24 - 8 * (j % 4) as i32));
        lines[LinesK::<F>::SCALES + j] = _mm256_srai_epi32::<24>(to_the_top);
    }
    lines[LinesK::<F>::D] = _mm256_castps_si256(heads.d);
    let n = LinesK::<F>::SUBS / 2;
    if F::HAS_MINS {
        lines[LinesK::<F>::DMIN] = _mm256_castps_si256(heads.dmin);
        lines[LinesK::<F>::PAIRS..][..n].copy_from_slice(&pairs_of_mins(heads.mins)[..n]);
    } else if offset_k::<S, F>() != 0 {
        lines[LinesK::<F>::PAIRS..][..n].copy_from_slice(&pairs_of_scales(heads.scales)[..n]);
    }
}

/// Adds the products of a block of the first tokens of the tile with an unpacked block to their `acc`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_k<S: Sums, F: KQuant>(
    lines: &[__m256i],
    tile: &TileK,
    n_tokens: usize,
    acc: &mut [__m256; TILE_TOKENS],
) {
    for first in (0..n_tokens).step_by(TURNS) {
        multiply_tokens_k::<S, F>(lines, tile, first, acc);
    }
}

/// The same for [`TURNS`] tokens from `first` on.
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_tokens_k<S: Sums, F: KQuant>(
    lines: &[__m256i],
    tile: &TileK,
    first: usize,
    acc: &mut [__m256; TILE_TOKENS],
) {
    let zero = _mm256_setzero_si256();
    let pairs = &lines[LinesK::<F>::PAIRS..][..LinesK::<F>::SUBS / 2];
    let mut sums = [zero; TURNS];
    if offset_k::<S, F>() != 0 {
        // What the offset adds: offset · Σ_sub scale · Σ x.
        for t in 0..TURNS {
            let excess = dot_mins(pairs, tile.pairs(first + t, F::SUB_LEN));
            let excess =
                _mm256_sll_epi32(excess, _mm_cvtsi32_si128(offset_k::<S, F>().trailing_zeros() as i32));
            sums[t] = _mm256_sub_epi32(zero, excess);
        }
    }
    for sub in 0..LinesK::<F>::SUBS {
        let n = F::SUB_LEN / 4;
        let x: &[[i32; 16]; TURNS] =
            tile.qs[sub * n / 16][first..].first_chunk().expect("tokens of the tile");
        // SAFETY: `S` is for this CPU.
        let products = unsafe { S::dot(F::BITS, &lines[sub * n..][..n], x, sub * n % 16, [zero; TURNS]) };
        let scale = lines[LinesK::<F>::SCALES + sub];
        for t in 0..TURNS {
            sums[t] = _mm256_add_epi32(sums[t], _mm256_mullo_epi32(products[t], scale));
        }
    }
    let d = _mm256_castsi256_ps(lines[LinesK::<F>::D]);
    let dmin = _mm256_castsi256_ps(lines[LinesK::<F>::DMIN]);
    for t in 0..TURNS {
        let (dx, acc) = (_mm256_set1_ps(tile.scales[first + t]), &mut acc[first + t]);
        *acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[t]), _mm256_mul_ps(d, dx), *acc);
        if F::HAS_MINS {
            let m = _mm256_cvtepi32_ps(dot_mins(pairs, tile.pairs(first + t, F::SUB_LEN)));
            *acc = _mm256_fnmadd_ps(m, _mm256_mul_ps(dmin, dx), *acc);
        }
    }
}

/// Adds 128 to signed bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn flip_top_bits(q: __m256i) -> __m256i {
    _mm256_xor_si256(q, _mm256_set1_epi8(-128))
}

/// What is added to a value in the strip.
const fn offset_k<S: Sums, F: KQuant>() -> u8 {
    if F::BITS == 8 && S::UNSIGNED { 128 } else { F::OFFSET }
}
