//! A block of a product: what one thread computes from packed operands.

use std::ops::Range;

use crate::matmul::strip::OutStrip;
use crate::ops::{load, store};
use crate::simd::lanes::{LANES, Lanes};
use crate::tile::{Left, pack_left, pack_right, tile};
use crate::weights::dequantize::dequantize_row;
use crate::weights::matrix::QuantMatrix;

/// How far a right factor is packed at a time. A multiple of the longest block of weights.
pub(super) const DEPTH: usize = 256;

/// Where a right factor, `[depth, n]`, lies.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    /// Element `(d, j)` is `data[d · stride + j]`.
    ByDepth { data: &'a [f32], stride: usize },
    /// Element `(d, j)` is `data[j · stride + d]`.
    ByColumn { data: &'a [f32], stride: usize },
    /// Element `(d, j)` is weight `j` of row `d`.
    WeightRows(QuantMatrix<'a>),
    /// Element `(d, j)` is weight `d` of row `j`.
    WeightColumns(QuantMatrix<'a>),
}

/// Packs rows `rows` of a left factor, `depth` deep: `[tile][depth][rows of a tile]`.
pub(crate) struct PackLeft<'a> {
    pub left: Left<'a>,
    pub rows: Range<usize>,
    pub depth: Range<usize>,
    pub scale: f32,
    pub packed: &'a mut [f32],
}

/// Packs columns `columns` of a right factor, `depth` deep: `[panel][depth][columns of a panel]`. Where they are weights, both begin with a
/// block, and `packed` has room for a row of them behind the panels.
pub(crate) struct PackRight<'a> {
    pub(super) right: Right<'a>,
    pub columns: Range<usize>,
    pub depth: Range<usize>,
    pub packed: &'a mut [f32],
}

/// `out[i][j] = Σ left(i, d) · right(d, j)`, or `+=`, from packed operands.
pub(crate) struct Multiply<'a> {
    /// Tiles of `left_depth`, of which `depth` are used.
    pub left: &'a [f32],
    pub left_depth: usize,
    pub depth: Range<usize>,
    /// Panels as deep as `depth`.
    pub right: &'a [f32],
    pub out: OutStrip<'a>,
    pub add: bool,
}

#[inline(always)]
pub(crate) fn pack_left_job<S: Lanes, const M: usize>(_: S, job: PackLeft<'_>) {
    pack_left::<M>(job.left, job.rows, job.depth, job.scale, job.packed)
}

#[inline(always)]
pub(crate) fn pack_right_job<S: Lanes, const V: usize>(_: S, job: PackRight<'_>) {
    let PackRight { right, columns, depth, packed } = job;
    let (width, n, len) = (V * LANES, columns.len(), depth.len());
    let (packed, row) = packed.split_at_mut(n.div_ceil(width) * width * len);
    match right {
        Right::ByDepth { data, stride } => {
            pack_right(&data[depth.start * stride + columns.start..], stride, n, len, width, packed);
        }
        Right::ByColumn { data, stride } => {
            for j in 0..n {
                scatter(&data[(columns.start + j) * stride..][depth.clone()], j, width, packed);
            }
            clear_rest(n, len, width, packed);
        }
        Right::WeightRows(w) => {
            let row = &mut row[..n];
            for d in 0..len {
                dequantize_part(w, depth.start + d, columns.clone(), row);
                for (panel, part) in packed.chunks_exact_mut(width * len).zip(row.chunks(width)) {
                    let to = &mut panel[d * width..][..width];
                    to[..part.len()].copy_from_slice(part);
                    to[part.len()..].fill(0.0);
                }
            }
        }
        Right::WeightColumns(w) => {
            let row = &mut row[..len];
            for j in 0..n {
                dequantize_part(w, columns.start + j, depth.clone(), row);
                scatter(row, j, width, packed);
            }
            clear_rest(n, len, width, packed);
        }
    }
}

/// Column `j` of a right factor.
#[inline(always)]
fn scatter(column: &[f32], j: usize, width: usize, packed: &mut [f32]) {
    let panel = &mut packed[j / width * width * column.len()..][..width * column.len()];
    for (to, x) in panel.chunks_exact_mut(width).zip(column) {
        to[j % width] = *x;
    }
}

/// Fills up the last panel with zeros.
#[inline(always)]
fn clear_rest(n: usize, depth: usize, width: usize, packed: &mut [f32]) {
    if !n.is_multiple_of(width) {
        let last = &mut packed[n / width * width * depth..];
        last.chunks_exact_mut(width).for_each(|columns| columns[n % width..].fill(0.0));
    }
}

/// Weights `range`, whole blocks, of a row.
#[inline(always)]
fn dequantize_part(w: QuantMatrix<'_>, row: usize, range: Range<usize>, out: &mut [f32]) {
    let bytes = |weights: usize| w.format().row_bytes(weights).expect("whole blocks");
    dequantize_row(w.format(), &w.row(row)[bytes(range.start)..bytes(range.end)], out);
}

#[inline(always)]
pub(crate) fn multiply<S: Lanes, const M: usize, const V: usize>(s: S, job: Multiply<'_>) {
    let Multiply { left, left_depth, depth, right, mut out, add } = job;
    let (width, len) = (V * LANES, depth.len());
    let (m, n) = (out.m(), out.n_rows());
    for i in 0..m.div_ceil(M) {
        let left = &left[(i * left_depth + depth.start) * M..][..len * M];
        let n_rows = M.min(m - i * M);
        for j in 0..n.div_ceil(width) {
            let right = &right[j * width * len..][..width * len];
            let columns = j * width..n.min((j + 1) * width);
            let mut sums = [[s.splat(0.0); V]; M];
            if add {
                for t in 0..M {
                    if t < n_rows {
                        let row = &out.row(i * M + t)[columns.clone()];
                        for v in 0..V {
                            sums[t][v] = load(s, row, (v * LANES).min(row.len()));
                        }
                    }
                }
            }
            let sums = tile::<S, M, V>(s, left, right, sums);
            for t in 0..M {
                if t < n_rows {
                    let row = &mut out.row(i * M + t)[columns.clone()];
                    for v in 0..V {
                        let at = (v * LANES).min(row.len());
                        store(s, sums[t][v], row, at);
                    }
                }
            }
        }
    }
}
