//! Products with more activation rows: the weights are unpacked once to panels, in the order in which products read them.
//!
//! A register of a panel holds four values of each lane's row. Multiplied with four activations of one token, it adds to the sums of all
//! rows at once, and nothing is summed across lanes. As many tokens as there are accumulators are multiplied with a register, so that the
//! latency of a product is hidden behind the other tokens'.
//!
//! With few tokens each block is multiplied with all of them right after it is unpacked; with many, a strip of rows is unpacked first and
//! then multiplied with one group of tokens after the other. The arithmetic is that of [`dot`](super::dot).

mod blocks_256;
mod blocks_32;

pub(crate) use blocks_32::{N_32, panel_32, unpack_32};
pub(crate) use blocks_256::{dot_pairs, panel_k};

use crate::activation::packed::PACK_TOKENS;
use crate::matmul::rows::store_apart;
use crate::matmul::strip::OutStrip;
use crate::simd::row_lanes::RowLanes;

/// A sum for each row and token of a group.
type Sums<S> = [<S as RowLanes>::F; PACK_TOKENS];

/// What `T` tokens of a group have, from token `first` on.
#[inline(always)]
fn of_tokens<A, const T: usize>(all: &[A; PACK_TOKENS], first: usize) -> &[A; T] {
    all[first..].first_chunk().expect("tokens of the group")
}

/// Reads the sums of rows `row..` and the `n` tokens from `t` on; zeros for other tokens.
#[inline(always)]
fn load_sums<S: RowLanes>(s: S, y: &mut OutStrip<'_>, t: usize, n: usize, row: usize) -> Sums<S> {
    let mut acc = [s.splat_f32(0.0); PACK_TOKENS];
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
