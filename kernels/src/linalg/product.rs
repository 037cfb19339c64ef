//! A block of a product of f32 matrices.

use crate::simd::lanes::{LANES, Lanes};

/// How far sums go before they are added to what came before.
const DEPTH: usize = 256;

/// Where the left factor, `[m, depth]`, lies.
#[derive(Clone, Copy)]
pub(crate) enum Left<'a> {
    /// Element `(i, k)` is `data[k · stride + i]`.
    ByDepth { data: &'a [f32], stride: usize },
    /// Element `(i, k)` is `data[i · stride + k]`.
    ByRow { data: &'a [f32], stride: usize },
}

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
        pack_left::<M>(left, m, first, len, packed_left);
        pack_right(&right[first * right_stride..], right_stride, n, len, V * LANES, packed_right);
        for j in 0..n_tiles {
            let right = &packed_right[j * V * LANES * len..][..V * LANES * len];
            for i in 0..m_tiles {
                let left = &packed_left[i * M * len..][..M * len];
                let sums = tile::<S, M, V>(s, left, right);
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

/// `Σ left[k][i] · right[k][v]`
#[inline(always)]
fn tile<S: Lanes, const M: usize, const V: usize>(s: S, left: &[f32], right: &[f32]) -> [[S::F; V]; M] {
    let mut sums = [[s.splat(0.0); V]; M];
    let right = right.as_chunks::<LANES>().0.as_chunks::<V>().0;
    for (left, right) in left.as_chunks::<M>().0.iter().zip(right) {
        let mut r = [s.splat(0.0); V];
        for v in 0..V {
            r[v] = s.load(&right[v]);
        }
        for i in 0..M {
            let l = s.splat(left[i]);
            for v in 0..V {
                sums[i][v] = s.fma(l, r[v], sums[i][v]);
            }
        }
    }
    sums
}

/// Element `(i, k)` goes to `packed[i / M][k][i % M]`; rows that fill up a tile are zeros.
#[inline(always)]
fn pack_left<const M: usize>(left: Left<'_>, m: usize, first: usize, len: usize, packed: &mut [f32]) {
    for (tile, packed) in packed.chunks_exact_mut(M * len).take(m.div_ceil(M)).enumerate() {
        let rows = tile * M..m.min((tile + 1) * M);
        let packed = packed.as_chunks_mut::<M>().0;
        if rows.len() < M {
            packed.fill([0.0; M]);
        }
        match left {
            Left::ByDepth { data, stride } => {
                for (k, packed) in packed.iter_mut().enumerate() {
                    let from = &data[(first + k) * stride..][rows.clone()];
                    match from.as_array::<M>() {
                        Some(from) => *packed = *from,
                        None => packed[..from.len()].copy_from_slice(from),
                    }
                }
            }
            Left::ByRow { data, stride } => {
                for (i, row) in rows.enumerate() {
                    let from = &data[row * stride + first..][..len];
                    for (packed, x) in packed.iter_mut().zip(from) {
                        packed[i] = *x;
                    }
                }
            }
        }
    }
}

/// Element `(k, j)` goes to `packed[j / width][k][j % width]`; columns that fill up a tile are zeros.
#[inline(always)]
fn pack_right(right: &[f32], stride: usize, n: usize, len: usize, width: usize, packed: &mut [f32]) {
    for (tile, packed) in packed.chunks_exact_mut(width * len).take(n.div_ceil(width)).enumerate() {
        let columns = tile * width..n.min((tile + 1) * width);
        for (k, packed) in packed.chunks_exact_mut(width).enumerate() {
            packed[..columns.len()].copy_from_slice(&right[k * stride..][columns.clone()]);
            packed[columns.len()..].fill(0.0);
        }
    }
}
