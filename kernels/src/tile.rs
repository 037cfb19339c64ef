//! Tiles of products of f32 matrices: as many sums as the registers hold, and operands packed in the order in which these take them.

use std::ops::Range;

use crate::ops::load;
use crate::simd::lanes::{LANES, Lanes};

/// Where a left factor, `[m, depth]`, lies.
#[derive(Clone, Copy)]
pub(crate) enum Left<'a> {
    /// Element `(i, d)` is `data[d · stride + i]`.
    ByDepth { data: &'a [f32], stride: usize },
    /// Element `(i, d)` is `data[i · stride + d]`.
    ByRow { data: &'a [f32], stride: usize },
}

/// `sums[i][v] += Σ left[d][i] · right[d][v]`, fused, in rising order of `d`, for the first `N` of the `V` vectors of each `right[d]`.
#[inline(always)]
pub(crate) fn tile<S: Lanes, const M: usize, const V: usize, const N: usize>(
    s: S,
    left: &[f32],
    right: &[f32],
    mut sums: [[S::F; N]; M],
) -> [[S::F; N]; M] {
    let right = right.as_chunks::<LANES>().0.as_chunks::<V>().0;
    for (left, right) in left.as_chunks::<M>().0.iter().zip(right) {
        let mut r = [s.splat(0.0); N];
        for v in 0..N {
            r[v] = s.load(&right[v]);
        }
        for i in 0..M {
            let l = s.splat(left[i]);
            for v in 0..N {
                sums[i][v] = s.fma(l, r[v], sums[i][v]);
            }
        }
    }
    sums
}

/// Element `(i, d)` goes to `packed[i / M][d][i % M]`, times `scale`; both counted from the first of `rows` and `depth`. Rows that fill up a
/// tile are zeros.
#[inline(always)]
pub(crate) fn pack_left<S: Lanes, const M: usize>(
    s: S,
    left: Left<'_>,
    rows: Range<usize>,
    depth: Range<usize>,
    scale: f32,
    packed: &mut [f32],
) {
    let tiles = packed.chunks_exact_mut(M * depth.len()).take(rows.len().div_ceil(M));
    for (tile, packed) in tiles.enumerate() {
        let first = rows.start + tile * M;
        let n = M.min(rows.end - first);
        match left {
            Left::ByDepth { data, stride } => {
                for (d, packed) in packed.as_chunks_mut::<M>().0.iter_mut().enumerate() {
                    let from = &data[(depth.start + d) * stride + first..][..n];
                    match from.as_array::<M>() {
                        Some(from) => *packed = from.map(|x| x * scale),
                        None => {
                            *packed = [0.0; M];
                            packed.iter_mut().zip(from).for_each(|(packed, x)| *packed = x * scale);
                        }
                    }
                }
            }
            Left::ByRow { data, stride } => {
                let row = |i: usize| &data[(first + i) * stride + depth.start..][..depth.len()];
                let rows = std::array::from_fn(|i| if i < n { row(i) } else { &[][..] });
                transpose_rows(s, rows, scale, M, packed);
            }
        }
    }
}

/// Element `d` of row `i`, times `scale`, goes to `out[d · stride + i]` for `i < stride`, as far as `out` reaches; a row that is empty counts as
/// zeros.
#[inline(always)]
pub(crate) fn transpose_rows<S: Lanes>(s: S, rows: [&[f32]; 16], scale: f32, stride: usize, out: &mut [f32]) {
    let scale = s.splat(scale);
    for first in (0..rows[0].len()).step_by(LANES) {
        let mut x = [s.splat(0.0); LANES];
        for i in 0..LANES {
            if !rows[i].is_empty() {
                x[i] = s.mul(load(s, rows[i], first), scale);
            }
        }
        let columns = s.transpose(x);
        for (d, column) in columns.into_iter().take(rows[0].len() - first).enumerate() {
            // What a vector writes past `stride` is written again with the next.
            let out = &mut out[(first + d) * stride..];
            match out.first_chunk_mut() {
                Some(out) => s.store(column, out),
                None => s.store_part(column, &mut out[..stride.min(LANES)]),
            }
        }
    }
}

/// Element `(d, j)`, `data[d · stride + j]`, goes to `packed[j / width][d][j % width]`; columns that fill up a tile are zeros.
#[inline(always)]
pub(crate) fn pack_right(
    data: &[f32],
    stride: usize,
    n: usize,
    depth: usize,
    width: usize,
    packed: &mut [f32],
) {
    for (tile, packed) in packed.chunks_exact_mut(width * depth).take(n.div_ceil(width)).enumerate() {
        let columns = tile * width..n.min((tile + 1) * width);
        for (d, packed) in packed.chunks_exact_mut(width).enumerate() {
            packed[..columns.len()].copy_from_slice(&data[d * stride..][columns.clone()]);
            packed[columns.len()..].fill(0.0);
        }
    }
}
