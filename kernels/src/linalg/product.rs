//! A block of a product of f32 matrices.

use crate::simd::lanes::{LANES, Lanes};
use crate::tile::{Left, pack_left, pack_right, tile};

/// How far sums go before they are added to what came before.
const DEPTH: usize = 256;

/// `out[i][j] = Σ left(i, k) · right[k · right_stride + j]`, `[m, n]`.
pub(crate) struct BlockJob<'a> {
    pub left: Left<'a>,
    pub right: &'a [f32],
    pub right_stride: usize,
    pub m: usize,
    pub n: usize,
    pub depth: usize,
    pub packed: &'a mut Vec<f32>,
    pub out: &'a mut [f32],
}

/// [`product_block`] for one instruction set.
///
/// # Safety
/// The CPU has its features.
pub(crate) type ProductBlockFn = unsafe fn(BlockJob<'_>);

/// Computes the block in tiles of `M` rows by `V` vectors.
#[inline(always)]
pub(crate) fn product_block<S: Lanes, const M: usize, const V: usize>(s: S, job: BlockJob<'_>) {
    let BlockJob { left, right, right_stride, m, n, depth, packed, out } = job;
    assert_eq!(out.len(), m * n, "a block of {m} x {n}");
    out.fill(0.0);
    let (m_tiles, n_tiles) = (m.div_ceil(M), n.div_ceil(V * LANES));
    let left_len = m_tiles * M * DEPTH;
    packed.resize((left_len + n_tiles * V * LANES * DEPTH).max(packed.len()), 0.0);
    let (packed_left, packed_right) = packed.split_at_mut(left_len);
    for first in (0..depth).step_by(DEPTH) {
        let len = DEPTH.min(depth - first);
        pack_left::<S, M>(s, left, 0..m, first..first + len, 1.0, packed_left);
        pack_right(&right[first * right_stride..], right_stride, n, len, V * LANES, packed_right);
        for j in 0..n_tiles {
            let right = &packed_right[j * V * LANES * len..][..V * LANES * len];
            for i in 0..m_tiles {
                let left = &packed_left[i * M * len..][..M * len];
                let sums = tile::<S, M, V, V>(s, left, right, [[s.splat(0.0); V]; M]);
                let columns = j * V * LANES..n.min((j + 1) * V * LANES);
                for (i, sums) in (i * M..m).zip(&sums) {
                    let row = &mut out[i * n + columns.start..i * n + columns.end];
                    for (out, sum) in row.chunks_mut(LANES).zip(sums) {
                        let mut lanes = [0.0; LANES];
                        s.store(*sum, &mut lanes);
                        out.iter_mut().zip(lanes).for_each(|(out, sum)| *out += sum);
                    }
                }
            }
        }
    }
}
