//! What the tiles of both kinds of blocks share.

use super::products::Tile;
use crate::matmul::strip::OutStrip;
use crate::simd::neon::intrinsics::*;
use crate::simd::neon::registers::*;

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
