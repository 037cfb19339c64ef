//! A block of a product: what one thread computes from packed operands.

use std::ops::Range;

use crate::matmul::strip::OutStrip;
use crate::ops::{load, store};
use crate::simd::lanes::{LANES, Lanes};
use crate::tile::{Left, pack_left, pack_right, tile, transpose_rows};
use crate::weights::format::Format;
use crate::weights::matrix::QuantMatrix;
use crate::weights::unpack::{Unpacked32, UnpackedK, unpack_32, unpack_256};

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
/// block, and `packed` has room for sixteen rows of [`DEPTH`] behind the panels.
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
pub(crate) fn pack_left_job<S: Lanes, const M: usize>(s: S, job: PackLeft<'_>) {
    pack_left::<S, M>(s, job.left, job.rows, job.depth, job.scale, job.packed)
}

#[inline(always)]
pub(crate) fn pack_right_job<S: Lanes, const V: usize>(s: S, job: PackRight<'_>) {
    let PackRight { right, columns, depth, packed } = job;
    let (width, n, len) = (V * LANES, columns.len(), depth.len());
    let (packed, rows) = packed.split_at_mut(n.div_ceil(width) * width * len);
    match right {
        Right::ByDepth { data, stride } => {
            pack_right(&data[depth.start * stride + columns.start..], stride, n, len, width, packed);
        }
        Right::ByColumn { data, stride } => {
            for first in (0..packed.len() / len.max(1)).step_by(LANES) {
                let column = |j: usize| &data[(columns.start + first + j) * stride..][depth.clone()];
                let columns = std::array::from_fn(|j| if first + j < n { column(j) } else { &[][..] });
                place_columns(s, columns, first, width, len, packed);
            }
        }
        Right::WeightRows(w) => {
            for d in 0..len {
                let mut place = |j: usize, x: S::F| {
                    let at = j / width * width * len + d * width + j % width;
                    store(s, x, packed, at);
                };
                weights(s, w, depth.start + d, columns.clone(), &mut place);
                for j in (n.next_multiple_of(LANES)..n.next_multiple_of(width)).step_by(LANES) {
                    place(j, s.splat(0.0));
                }
            }
        }
        Right::WeightColumns(w) => {
            let row_len = len.next_multiple_of(LANES);
            for first in (0..packed.len() / len.max(1)).step_by(LANES) {
                let n_rows = n.saturating_sub(first).min(LANES);
                for (j, row) in rows.chunks_exact_mut(row_len).take(n_rows).enumerate() {
                    weights(s, w, columns.start + first + j, depth.clone(), |d, x| store(s, x, row, d));
                }
                let column = |j: usize| &rows[j * row_len..][..len];
                let columns = std::array::from_fn(|j| if j < n_rows { column(j) } else { &[][..] });
                place_columns(s, columns, first, width, len, packed);
            }
        }
    }
}

/// Sixteen columns of a right factor, from column `first` on; zeros where they are empty.
#[inline(always)]
fn place_columns<S: Lanes>(
    s: S,
    columns: [&[f32]; LANES],
    first: usize,
    width: usize,
    depth: usize,
    packed: &mut [f32],
) {
    let panel = &mut packed[first / width * width * depth..][..width * depth];
    let first = first % width;
    if columns[0].is_empty() {
        panel.chunks_exact_mut(width).for_each(|columns| columns[first..][..LANES].fill(0.0));
        return;
    }
    transpose_rows(s, columns, 1.0, width, &mut panel[first..]);
}

/// Calls `place(j, x)` for each sixteen weights `x` of `range`, whole blocks, of a row, with the number of the first, counted from the start of
/// `range`. Behind the end of the row are zeros. The weights are those of [`dequantize_row`](crate::dequantize_row).
#[inline(always)]
fn weights<S: Lanes>(
    s: S,
    w: QuantMatrix<'_>,
    row: usize,
    range: Range<usize>,
    mut place: impl FnMut(usize, S::F),
) {
    let format = w.format();
    let bytes_of = |weights: usize| format.row_bytes(weights).expect("whole blocks");
    let bytes = &w.row(row)[bytes_of(range.start)..bytes_of(range.end)];
    match format {
        Format::F32 => floats(bytes, |bytes| s.f32_le(bytes), place),
        Format::F16 => floats(bytes, |bytes| s.f16_le(bytes), place),
        Format::BF16 => floats(bytes, |bytes| s.bf16_le(bytes), place),
        _ if format.block_len() == 32 => {
            let mut u = Unpacked32::ZERO;
            for (i, block) in bytes.chunks_exact(format.block_bytes()).enumerate() {
                let has_min = unpack_32(format, block, &mut u);
                let (d, m) = (s.splat(u.d), s.splat(u.m));
                let qs = bytemuck::cast_slice::<i8, u8>(&u.qs).as_chunks::<LANES>().0;
                for (j, qs) in qs.iter().enumerate() {
                    let x = s.mul(d, s.i8(qs));
                    place(32 * i + LANES * j, if has_min { s.add(x, m) } else { x });
                }
            }
        }
        _ => {
            let mut u = UnpackedK::ZERO;
            for (i, block) in bytes.chunks_exact(format.block_bytes()).enumerate() {
                unpack_256(format, block, &mut u);
                let qs = bytemuck::cast_slice::<i8, u8>(&u.qs).as_chunks::<LANES>().0;
                for (j, qs) in qs.iter().enumerate() {
                    let scale = s.splat(u.d * u.scales[j] as f32);
                    // Zero where there are no mins.
                    let min = s.splat(u.dmin * u.mins[j] as f32);
                    place(256 * i + LANES * j, s.sub(s.mul(scale, s.i8(qs)), min));
                }
            }
        }
    }
}

/// Sixteen weights of `N` bytes at a time.
#[inline(always)]
fn floats<F, const N: usize>(bytes: &[u8], load: impl Fn(&[u8; N]) -> F, mut place: impl FnMut(usize, F)) {
    let (whole, rest) = bytes.as_chunks::<N>();
    for (i, bytes) in whole.iter().enumerate() {
        place(LANES * i, load(bytes));
    }
    if !rest.is_empty() {
        let mut last = [0; N];
        last[..rest.len()].copy_from_slice(rest);
        place(LANES * whole.len(), load(&last));
    }
}

#[inline(always)]
pub(crate) fn multiply<S: Lanes, const M: usize, const V: usize>(s: S, job: Multiply<'_>) {
    let Multiply { left, left_depth, depth, right, mut out, add } = job;
    let (width, len) = (V * LANES, depth.len());
    let (m, n) = (out.m(), out.n_rows());
    for i in 0..m.div_ceil(M) {
        let left = &left[(i * left_depth + depth.start) * M..][..len * M];
        let rows = i * M..m.min((i + 1) * M);
        for j in 0..n.div_ceil(width) {
            let right = &right[j * width * len..][..width * len];
            let columns = j * width..n.min((j + 1) * width);
            match columns.len() <= LANES {
                true => add_tile::<S, M, V, 1>(s, left, right, rows.clone(), columns, &mut out, add),
                false => add_tile::<S, M, V, V>(s, left, right, rows.clone(), columns, &mut out, add),
            }
        }
    }
}

/// A tile of the output, of whose vectors in a row the first `N` are wanted.
#[inline(always)]
fn add_tile<S: Lanes, const M: usize, const V: usize, const N: usize>(
    s: S,
    left: &[f32],
    right: &[f32],
    rows: Range<usize>,
    columns: Range<usize>,
    out: &mut OutStrip<'_>,
    add: bool,
) {
    let mut sums = [[s.splat(0.0); N]; M];
    if add {
        for i in 0..M {
            if i < rows.len() {
                let row = &out.row(rows.start + i)[columns.clone()];
                for v in 0..N {
                    sums[i][v] = load(s, row, (v * LANES).min(row.len()));
                }
            }
        }
    }
    let sums = tile::<S, M, V, N>(s, left, right, sums);
    for i in 0..M {
        if i < rows.len() {
            let row = &mut out.row(rows.start + i)[columns.clone()];
            for v in 0..N {
                let at = (v * LANES).min(row.len());
                store(s, sums[i][v], row, at);
            }
        }
    }
}
