//! Panel products, for blocks of 256 and of 32: four rows, unpacked together, by eight tokens, packed together.
//!
//! With few tokens each block of four rows is multiplied with all of them right after it is unpacked; with more, a strip of rows is
//! unpacked first.

use super::products::Tile;
use crate::activation::rows::QuantizedRows;
use crate::matmul::plan::FEW_ROWS;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::simd::neon::intrinsics::*;
use crate::simd::neon::registers::*;
use crate::weights::block::Block;
use crate::weights::matrix::QuantMatrix;

/// Weights of a row that are unpacked at a time: a strip of 64 rows takes 160 kB, and stays in L2 however long its rows are.
pub(super) const CHUNK: usize = 2048;

/// 16 values of each of four rows or tokens, as [`Tile::weights`] or [`Tile::activations`] arranges them.
pub(super) type Step = [[i8; 16]; 4];

#[inline(always)]
pub(super) fn load_step(step: &Step) -> [int8x16_t; 4] {
    four!(|i| load(&step[i]))
}

#[inline(always)]
pub(super) fn load_steps<const N: usize>(steps: &[Step; N]) -> [[int8x16_t; 4]; N] {
    let mut registers = [[vdupq_n_s8(0); 4]; N];
    each!(N, |i| { registers[i] = load_step(&steps[i]) });
    registers
}

#[inline(always)]
pub(super) fn store_step(to: &mut Step, step: [int8x16_t; 4]) {
    for i in 0..4 {
        store(&mut to[i], step[i]);
    }
}

/// Takes `n` values off the front of `room`, which stays aligned to 4 bytes.
///
/// # Panics
/// Where there is not enough.
pub(super) fn carve<'a, T: bytemuck::Pod>(room: &mut &'a mut [u8], n: usize) -> &'a mut [T] {
    let (front, rest) = std::mem::take(room).split_at_mut(n * size_of::<T>());
    *room = rest;
    bytemuck::cast_slice_mut(front)
}

/// The outputs of tokens `t..t + 4` and rows `r..r + 4`; zeros for tokens and rows that are not there.
#[inline(always)]
pub(super) fn load_tile<T: Tile>(y: &mut OutStrip<'_>, t: usize, r: usize) -> [float32x4_t; 4] {
    T::from_tokens(four!(|i| if t + i < y.m() { load_some(&y.row(t + i)[r..]) } else { vdupq_n_f32(0.0) }))
}

/// The reverse of [`load_tile`].
#[inline(always)]
pub(super) fn store_tile<T: Tile>(y: &mut OutStrip<'_>, t: usize, r: usize, tile: [float32x4_t; 4]) {
    for (i, rows) in T::to_tokens(tile).into_iter().enumerate() {
        if t + i < y.m() {
            store_some(&mut y.row(t + i)[r..], rows);
        }
    }
}

/// `acc + sums · (rows ⊗ tokens)`, the product of the scales rounded first; `rows` as [`Tile::by_row`] gives them.
#[inline(always)]
pub(super) fn add_scaled<T: Tile>(
    acc: &mut [float32x4_t; 4],
    sums: [float32x4_t; 4],
    rows: &[float32x4_t; 4],
    tokens: &[f32; 4],
) {
    let tokens = T::by_token(load_f32(tokens));
    *acc = four!(|i| vfmaq_f32(acc[i], sums[i], vmulq_f32(rows[i], tokens[i])));
}

/// A block of four tokens, arranged for the registers of `T`.
pub(super) trait PackTokens: bytemuck::Pod + Send {
    /// Packs block `b` of the tokens.
    fn pack<T: Tile>(&mut self, x: &QuantizedRows<'_>, tokens: [usize; 4], b: usize);
}

/// A block of four weight rows of format `F`, arranged for the registers of `T`.
pub(super) trait PanelRows<F, T>: bytemuck::Pod {
    /// The activations it is multiplied with.
    type Tokens: PackTokens;

    /// Unpacks a block of each row.
    fn pack(&mut self, blocks: [&F; 4]);

    /// Adds the products of a run of blocks with `Q` (1 or 2) fours of tokens to their `acc`.
    fn multiply<const Q: usize>(isa: T, w: &[Self], x: &[[Self::Tokens; 2]], acc: &mut [[float32x4_t; 4]; 2]);
}

/// The product of a strip.
#[inline(always)]
pub(super) fn product<F: Block, T: Tile, R: PanelRows<F, T>>(
    isa: T,
    w: &QuantMatrix<'_>,
    x: &QuantizedRows<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    let n_blocks = x.k / x.kind.block_len();
    let packed: &[[R::Tokens; 2]] = bytemuck::cast_slice(x.packed_eights());
    let eights = || packed.chunks_exact(n_blocks).zip((0..x.m).step_by(8));
    let rows_of = |r: usize| -> [&[F]; 4] { four!(|i| w.row_blocks((r + i).min(w.n_rows() - 1))) };
    let zero = [[vdupq_n_f32(0.0); 4]; 2];
    if x.m <= FEW_ROWS {
        let rows = &mut carve::<R>(&mut scratch.bytes(), 1)[0];
        for r in (0..w.n_rows()).step_by(4) {
            let blocks = rows_of(r);
            let mut acc = [zero; FEW_ROWS / 8];
            for b in 0..n_blocks {
                rows.pack(four!(|i| &blocks[i][b]));
                for ((x, t), acc) in eights().zip(&mut acc) {
                    multiply_eight(isa, std::slice::from_ref(rows), &x[b..][..1], y.m() - t, acc);
                }
            }
            for ((_, t), acc) in eights().zip(acc) {
                store_eight::<T>(&mut y, t, r, acc);
            }
        }
        return;
    }
    for first in (0..n_blocks).step_by(CHUNK / F::FORMAT.block_len()) {
        let n = (n_blocks - first).min(CHUNK / F::FORMAT.block_len());
        let panel = carve::<R>(&mut scratch.bytes(), w.n_rows().div_ceil(4) * n);
        for (g, panel) in panel.chunks_exact_mut(n).enumerate() {
            let blocks = rows_of(4 * g);
            for (b, rows) in panel.iter_mut().enumerate() {
                rows.pack(four!(|i| &blocks[i][first + b]));
            }
        }
        for (x, t) in eights() {
            for (g, rows) in panel.chunks_exact(n).enumerate() {
                let mut acc = zero;
                if first > 0 {
                    acc = [load_tile::<T>(&mut y, t, 4 * g), load_tile::<T>(&mut y, t + 4, 4 * g)];
                }
                multiply_eight(isa, rows, &x[first..][..n], y.m() - t, &mut acc);
                store_eight::<T>(&mut y, t, 4 * g, acc);
            }
        }
    }
}

/// Adds the products of a run of blocks with eight tokens, of which `n` are there.
#[inline(always)]
fn multiply_eight<F, T: Tile, R: PanelRows<F, T>>(
    isa: T,
    w: &[R],
    x: &[[R::Tokens; 2]],
    n: usize,
    acc: &mut [[float32x4_t; 4]; 2],
) {
    match n {
        ..=4 => R::multiply::<1>(isa, w, x, acc),
        _ => R::multiply::<2>(isa, w, x, acc),
    }
}

/// Stores the sums of rows `r..r + 4` with tokens `t..t + 8`.
#[inline(always)]
fn store_eight<T: Tile>(y: &mut OutStrip<'_>, t: usize, r: usize, [a, b]: [[float32x4_t; 4]; 2]) {
    store_tile::<T>(y, t, r, a);
    store_tile::<T>(y, t + 4, r, b);
}
