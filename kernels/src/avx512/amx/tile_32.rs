//! Many activation rows against formats in blocks of 32 weights.
//!
//! Each block has a scale of its own, in f32, so a register's sums are taken after half of the 64 values it could add up:
//!
//! ```text
//! acc = fma(f32(Σ q·x), d · dx, acc)
//! acc = fma(f32(Σ x),   m · dx, acc)      where the format has a minimum
//! ```
//!
//! Four registers hold the sums of four blocks of 16 tokens with 16 rows, 4 and 5 take turns with the weights, 6 and 7 with the
//! activations; a token's `acc` stays in a vector register.

use std::arch::x86_64::*;

use super::tiles::{Shapes, TILE_ROWS, Tiles};
use super::tokens::{PASS_TOKENS, Tokens};
use crate::activation_tile::{Head32, TILE_CHUNK, carve};
use crate::activations::QuantizedRows;
use crate::avx512::dot_32::Quant32;
use crate::avx512::rows::*;
use crate::avx512::tile::{LINES_32, unpack_32};
use crate::matmul::TILE_STRIP_ROWS;
use crate::{OutStrip, QuantMatrix, StripScratch};

/// Weights and activations of 32 values.
static SHAPES: Shapes = Shapes::WHOLE.with(4, 8, 64).with(5, 8, 64).with(6, 16, 32).with(7, 16, 32);

/// Bytes of scratch for a strip of rows of `k` weights.
pub(super) const fn scratch_bytes(k: usize) -> usize {
    let n_blocks = if k < TILE_CHUNK { k.div_ceil(32) } else { TILE_CHUNK / 32 };
    let strip = 64 * LINES_32 * n_blocks * TILE_STRIP_ROWS / ROWS;
    strip + PASS_TOKENS * n_blocks * size_of::<Head32>() + Tokens::room_bytes(32 * n_blocks) + 3 * 64
}

/// The product for a strip of a format in blocks of 32.
///
/// # Safety
/// The system lets this process use AMX.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(super) unsafe fn tile_32<F: Quant32>(
    w: QuantMatrix<'_>,
    x: QuantizedRows<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    const CHUNK: usize = TILE_CHUNK / 32;
    // SAFETY: promised by the caller.
    let tiles = unsafe { Tiles::new(&SHAPES) };
    let n_blocks = x.k / 32;
    for first in (0..n_blocks).step_by(CHUNK) {
        let n = CHUNK.min(n_blocks - first);
        let group_lines = n * LINES_32;
        let mut room = scratch.bytes();
        let strip = carve::<__m512i>(&mut room, w.n_rows().div_ceil(ROWS) * group_lines);
        for (g, lines) in strip.chunks_exact_mut(group_lines).enumerate() {
            let mut rows = Rows::new(&w, g * ROWS);
            rows.skip(first * F::FORMAT.block_bytes());
            // SAFETY: this function has the features, and the rows have `n` blocks from there.
            unsafe { unpack_32::<F>(&rows, n, lines) };
            for lines in lines.as_chunks_mut::<LINES_32>().0 {
                let offset = _mm512_set1_epi8(F::OFFSET as i8);
                for q in &mut lines[..8] {
                    *q = _mm512_sub_epi8(*q, offset);
                }
            }
        }
        for t in (0..x.m).step_by(PASS_TOKENS) {
            let x = x.rows(t, PASS_TOKENS.min(x.m - t));
            let pass = Pass::pack(room, &x, first, n);
            for (g, lines) in strip.chunks_exact(group_lines).enumerate() {
                for i in 0..pass.tokens.n_tiles() {
                    let n = pass.tokens.len(i);
                    let mut acc = [_mm512_setzero_ps(); TILE_ROWS];
                    if first > 0 {
                        for (j, acc) in acc.iter_mut().enumerate().take(n) {
                            *acc = load_rows(&y.row(t + i * TILE_ROWS + j)[g * ROWS..]);
                        }
                    }
                    multiply::<F>(&tiles, lines.as_chunks().0, &pass, i, &mut acc);
                    for (j, acc) in acc.iter().enumerate().take(n) {
                        store_rows(&mut y.row(t + i * TILE_ROWS + j)[g * ROWS..], *acc);
                    }
                }
            }
        }
    }
}

/// Some tokens over a chunk of blocks.
struct Pass<'a> {
    tokens: Tokens<'a>,
    /// `[tile][block]`: scales of sixteen tokens, then their sums; zeros where there is no token.
    heads: &'a [[[f32; TILE_ROWS]; 2]],
    n_blocks: usize,
}

impl<'a> Pass<'a> {
    /// The rows of `x` in blocks `first..first + n_blocks`.
    fn pack(mut room: &'a mut [u8], x: &QuantizedRows<'a>, first: usize, n_blocks: usize) -> Pass<'a> {
        let tokens = Tokens::new(&mut room, x, 32 * first, 32 * n_blocks);
        let heads = carve::<[[f32; TILE_ROWS]; 2]>(&mut room, tokens.n_tiles() * n_blocks);
        heads.fill([[0.0; TILE_ROWS]; 2]);
        for t in 0..x.m {
            for b in 0..n_blocks {
                let at = t * (x.k / 32) + first + b;
                let [scales, sums] = &mut heads[t / TILE_ROWS * n_blocks + b];
                (scales[t % TILE_ROWS], sums[t % TILE_ROWS]) = (x.scales[at], x.sums[at] as f32);
            }
        }
        Pass { tokens, heads, n_blocks }
    }
}

/// Sums of a tile of tokens with sixteen rows.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Sums([[i32; ROWS]; TILE_ROWS]);

/// Adds the products of sixteen rows with the tokens of tile `i` to `acc`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn multiply<F: Quant32>(
    tiles: &Tiles,
    lines: &[[__m512i; LINES_32]],
    pass: &Pass<'_>,
    i: usize,
    acc: &mut [__m512; TILE_ROWS],
) {
    let n_blocks = pass.n_blocks;
    let heads = &pass.heads[i * n_blocks..][..n_blocks];
    let mut sums = [Sums([[0; ROWS]; TILE_ROWS]); 4];
    let mut regs = *acc;
    for b in (0..n_blocks + 2).step_by(2) {
        if b < n_blocks {
            let next = (b + 1).min(n_blocks - 1);
            let ((x, stride), (x_next, _)) = (pass.tokens.at(i, 32 * b), pass.tokens.at(i, 32 * next));
            (tiles.zero::<0>(), tiles.zero::<1>());
            // SAFETY: a tile has sixteen tokens of 32 values from there, and a block eight lines.
            unsafe {
                tiles.load::<6>(x, stride);
                tiles.load::<4>(lines[b].as_ptr().cast(), 64);
                tiles.dot_signed::<0, 6, 4>();
                tiles.load::<7>(x_next, stride);
                tiles.load::<5>(lines[next].as_ptr().cast(), 64);
                tiles.dot_signed::<1, 7, 5>();
            }
        }
        if b >= 2 {
            for j in b - 2..b.min(n_blocks) {
                add_block::<F>(&lines[j], &heads[j], &sums[j % 4].0, &mut regs);
            }
        }
        if b < n_blocks {
            tiles.store::<0>(&mut sums[b % 4].0);
            tiles.store::<1>(&mut sums[(b + 1) % 4].0);
        }
    }
    *acc = regs;
}

/// Adds a block's sums, scaled.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn add_block<F: Quant32>(
    lines: &[__m512i; LINES_32],
    [scales, x_sums]: &[[f32; TILE_ROWS]; 2],
    sums: &[[i32; ROWS]; TILE_ROWS],
    acc: &mut [__m512; TILE_ROWS],
) {
    let (d, m) = (_mm512_castsi512_ps(lines[8]), _mm512_castsi512_ps(lines[9]));
    for t in 0..TILE_ROWS {
        let dx = _mm512_set1_ps(scales[t]);
        let s = _mm512_cvtepi32_ps(bytemuck::cast(sums[t]));
        acc[t] = _mm512_fmadd_ps(s, _mm512_mul_ps(d, dx), acc[t]);
        if F::HAS_MIN {
            acc[t] = _mm512_fmadd_ps(_mm512_set1_ps(x_sums[t]), _mm512_mul_ps(m, dx), acc[t]);
        }
    }
}
