//! More activation rows: weights are unpacked once to panels, in the order the products take them.
//!
//! A panel has a register of four values of each lane's row: multiplied with four activations of one token, it adds to the sums of all
//! rows at once, and no sum is ever taken across lanes. The sums of as many tokens as there are accumulators take turns: each waits for
//! its last product while the others are at theirs.
//!
//! With few tokens a block meets them all as soon as it is unpacked; with many, a strip of rows is unpacked and multiplied tile by tile.
//! The arithmetic is that of [`dot`](super::dot).

mod blocks_256;
mod blocks_32;

pub(crate) use blocks_32::{N_32, panel_32, unpack_32};
pub(crate) use blocks_256::{dot_pairs, panel_k};

use crate::activation::panel::TILE_TOKENS;
use crate::matmul::rows::store_apart;
use crate::matmul::strip::OutStrip;
use crate::simd::row_lanes::RowLanes;

/// The sums of a tile's tokens.
type Sums<S> = [<S as RowLanes>::F; TILE_TOKENS];

/// Reads the sums of rows `row..` and the `n` tokens from `t` on; zeros for other tokens.
#[inline(always)]
fn load_sums<S: RowLanes>(s: S, y: &mut OutStrip<'_>, t: usize, n: usize, row: usize) -> Sums<S> {
    let mut acc = [s.splat_f32(0.0); TILE_TOKENS];
    for (i, acc) in acc.iter_mut().enumerate().take(n) {
        *acc = s.load_rows(&y.row(t + i)[row..]);
    }
    acc
}

/// Writes them.
#[inline(always)]
fn store_sums<S: RowLanes>(s: S, y: &mut OutStrip<'_>, t: usize, n: usize, row: usize, acc: &Sums<S>) {
    for (i, acc) in acc.iter().enumerate().take(n) {
        s.store_rows(*acc, &mut y.row(t + i)[row..]);
    }
}

/// Writes those of rows `first`, `first + apart` and so on.
#[inline(always)]
fn store_sums_apart<S: RowLanes>(
    s: S,
    y: &mut OutStrip<'_>,
    n: usize,
    (first, apart): (usize, usize),
    acc: &Sums<S>,
) {
    for (t, acc) in acc.iter().enumerate().take(n) {
        store_apart(&s.to_array(*acc)[..S::ROWS], y.row(t), first, apart);
    }
}
