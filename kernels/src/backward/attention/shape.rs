//! Which queries see which keys.

use std::ops::Range;

use super::super::block::{Multiply, PackLeft, PackRight, Right};
use super::super::executor::room;
use super::super::kernels::BackwardKernels;
use crate::matmul::strip::OutStrip;
use crate::tile::Left;

/// Keys of a block. Results of blocks are merged in order, so this is part of the numbers.
pub(super) const KEYS: usize = 64;
/// Rows of a task, one a query and head: about as many.
pub(super) const ROWS: usize = 256;

/// Heads and sequences of a batch of rows. Row `t` holds the queries `[n_heads, head_dim]`, keys and values `[n_kv_heads, head_dim]` of a
/// token.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape<'a> {
    /// Heads of queries: a multiple of those of keys, which neighbours share.
    pub n_heads: usize,
    /// Heads of keys and values.
    pub n_kv_heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// A query at position `i` sees the keys `i − window < j ≤ i`; all up to its own where there is none.
    pub window: Option<usize>,
    /// What each row's queries are multiplied with: `1/√head_dim`, usually.
    pub scales: &'a [f32],
    /// The rows of each sequence, in order. Positions begin with 0 in each; sequences do not see each other.
    pub sequences: &'a [usize],
}

impl AttentionShape<'_> {
    /// Query heads on one head of keys.
    pub(super) fn n_rep(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    pub(super) fn q_width(&self) -> usize {
        self.n_heads * self.head_dim
    }

    pub(super) fn kv_width(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Rows of the batch.
    pub(super) fn m(&self) -> usize {
        self.scales.len()
    }

    /// Queries of a task.
    pub(super) fn queries(&self) -> usize {
        (ROWS / self.n_rep()).max(1)
    }

    /// Panics where the parts do not fit each other.
    pub(super) fn check(&self) {
        let AttentionShape { n_heads, n_kv_heads, head_dim, window, scales, sequences } = *self;
        assert!(n_kv_heads > 0 && n_heads > 0 && head_dim > 0, "attention without heads");
        assert!(n_heads.is_multiple_of(n_kv_heads), "{n_heads} heads on {n_kv_heads}");
        assert_ne!(window, Some(0), "a window of 0");
        assert_eq!(sequences.iter().sum::<usize>(), scales.len(), "rows of all sequences");
    }

    /// The keys that the query at position `i` sees.
    pub(super) fn seen(&self, i: usize) -> Range<usize> {
        self.window.map_or(0, |window| (i + 1).saturating_sub(window))..i + 1
    }

    /// The queries that see one of the keys `keys`, in a sequence of `n`.
    pub(super) fn seeing(&self, keys: &Range<usize>, n: usize) -> Range<usize> {
        keys.start..self.window.map_or(n, |window| n.min(keys.end - 1 + window))
    }

    /// Every sequence's blocks of `len` rows, with each head of keys: what is a task.
    pub(super) fn blocks(&self, len: usize) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut first = 0;
        for n in self.sequences.iter().copied() {
            for start in (0..n).step_by(len) {
                let rows = start..n.min(start + len);
                blocks.extend((0..self.n_kv_heads).map(|kv_head| Block {
                    first,
                    n,
                    rows: rows.clone(),
                    kv_head,
                }));
            }
            first += n;
        }
        blocks
    }
}

/// The longest that one of `n_threads` is busy where each takes the next of `costs`, the largest first, when it is done with one.
pub(super) fn makespan(costs: &[u64], n_threads: usize) -> u64 {
    let mut busy = vec![0; n_threads];
    for cost in costs {
        let next = busy.iter_mut().min().expect("a thread at least");
        *next += cost;
    }
    busy.into_iter().max().expect("a thread at least")
}

/// Rows of a sequence, with a head of keys.
#[derive(Clone)]
pub(super) struct Block {
    /// The sequence's first row in the batch, and its rows.
    pub first: usize,
    pub n: usize,
    /// Positions.
    pub rows: Range<usize>,
    pub kv_head: usize,
}

impl Block {
    /// Queries at `positions`, times their scales if asked for: `[positions][n_rep][head_dim]`.
    pub fn gather(
        &self,
        shape: &AttentionShape<'_>,
        x: &[f32],
        positions: Range<usize>,
        scaled: bool,
        out: &mut [f32],
    ) {
        let group = shape.n_rep() * shape.head_dim;
        for (t, out) in positions.zip(out.chunks_exact_mut(group)) {
            let row = self.first + t;
            let from = &x[row * shape.q_width() + self.kv_head * group..][..group];
            match scaled {
                true => out.iter_mut().zip(from).for_each(|(out, x)| *out = x * shape.scales[row]),
                false => out.copy_from_slice(from),
            }
        }
    }

    /// Keys or values at `positions` as a right factor: transposed, `[head_dim, positions]`, or not.
    pub fn pack_keys<'a>(
        &self,
        kernels: &BackwardKernels,
        shape: &AttentionShape<'_>,
        x: &[f32],
        positions: &Range<usize>,
        transposed: bool,
        buffer: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        let stride = shape.kv_width();
        let data = &x[(self.first + positions.start) * stride + self.kv_head * shape.head_dim..];
        let (right, n, depth) = match transposed {
            true => (Right::ByColumn { data, stride }, positions.len(), shape.head_dim),
            false => (Right::ByDepth { data, stride }, shape.head_dim, positions.len()),
        };
        pack_right(kernels, right, n, depth, buffer)
    }
}

/// Packs a whole right factor, `[depth, n]`.
pub(super) fn pack_right<'a>(
    kernels: &BackwardKernels,
    right: Right<'_>,
    n: usize,
    depth: usize,
    buffer: &'a mut Vec<f32>,
) -> &'a [f32] {
    let packed = room(buffer, n.next_multiple_of(kernels.tile.1) * depth);
    // SAFETY: a table is handed out for an available ISA only.
    unsafe {
        (kernels.pack_right)(PackRight { right, columns: 0..n, depth: 0..depth, packed: &mut *packed })
    };
    packed
}

/// Packs a whole left factor, `[m, depth]`.
pub(super) fn pack_left<'a>(
    kernels: &BackwardKernels,
    left: Left<'_>,
    m: usize,
    depth: usize,
    buffer: &'a mut Vec<f32>,
) -> &'a [f32] {
    let packed = room(buffer, m.next_multiple_of(kernels.tile.0) * depth);
    // SAFETY: a table is handed out for an available ISA only.
    unsafe {
        (kernels.pack_left)(PackLeft { left, rows: 0..m, depth: 0..depth, scale: 1.0, packed: &mut *packed })
    };
    packed
}

/// `out = left · right`, or `+=`, from packed factors; `out [m, n]`.
pub(super) fn multiply(
    kernels: &BackwardKernels,
    left: &[f32],
    right: &[f32],
    (m, n, depth): (usize, usize, usize),
    out: &mut [f32],
    add: bool,
) {
    let out = OutStrip::whole(out, m, n);
    // SAFETY: a table is handed out for an available ISA only.
    unsafe { (kernels.multiply)(Multiply { left, left_depth: depth, depth: 0..depth, right, out, add }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_a_thread_is_busy() {
        assert_eq!(makespan(&[], 3), 0);
        assert_eq!(makespan(&[9; 8], 8), 9);
        assert_eq!(makespan(&[9; 8], 5), 18);
        assert_eq!(makespan(&[7, 4, 3, 2], 2), 9);
    }
}
