//! Products of matrices on all threads.

use super::block::{DEPTH, Multiply, PackLeft, PackRight, Right};
use super::executor::{Executor, Output, lock, room};
use crate::matmul::strip::OutStrip;
use crate::tile::Left;
use crate::weights::matrix::QuantMatrix;

/// How much of a left factor is packed at a time.
const LEFT_DEPTH: usize = 2048;
/// Columns of a task: a multiple of the longest block of weights, and of a panel's columns. With [`DEPTH`], what the second-level
/// cache holds.
const COLUMNS: usize = 256;

/// A product `[m, n]` of factors `depth` deep.
pub(super) struct Shape {
    pub m: usize,
    pub n: usize,
    pub depth: usize,
}

impl Executor {
    /// `y = x·Wᵀ` in f32: `x [m, k]`, `y [m, rows of W]`.
    ///
    /// # Panics
    /// Where shapes do not fit.
    pub fn product(&mut self, w: QuantMatrix<'_>, x: &[f32], y: &mut [f32]) {
        let (n, depth) = (w.n_rows(), w.k());
        let m = rows_of("inputs", x, depth);
        assert_eq!(y.len(), m * n, "outputs of {m} rows");
        let shape = Shape { m, n, depth };
        self.multiply(shape, Left::ByRow { data: x, stride: depth }, 1.0, Right::WeightColumns(w), y, false);
    }

    /// The derivative of [`Executor::product`]: `dx = dy·W`, or `dx += dy·W` where `add`; `dy [m, rows of W]`, `dx [m, k]`.
    ///
    /// # Panics
    /// Where shapes do not fit.
    pub fn product_backward(&mut self, w: QuantMatrix<'_>, dy: &[f32], dx: &mut [f32], add: bool) {
        let (n, depth) = (w.k(), w.n_rows());
        let m = rows_of("gradients of outputs", dy, depth);
        assert_eq!(dx.len(), m * n, "gradients of inputs of {m} rows");
        let shape = Shape { m, n, depth };
        self.multiply(shape, Left::ByRow { data: dy, stride: depth }, 1.0, Right::WeightRows(w), dx, add);
    }

    /// `out = (scale · left) · right`, or `+=`; `out [m, n]`.
    pub(super) fn multiply(
        &mut self,
        Shape { m, n, depth }: Shape,
        left: Left<'_>,
        scale: f32,
        right: Right<'_>,
        out: &mut [f32],
        add: bool,
    ) {
        assert_eq!(out.len(), m * n, "a product of {m} x {n}");
        if depth == 0 && !add {
            out.fill(0.0);
        }
        if m == 0 || n == 0 {
            return;
        }
        let kernels = self.backward();
        let (tile_rows, tile_columns) = kernels.tile;
        let n_tiles = m.div_ceil(tile_rows);
        let (team, workers) = (&*self.team, &self.workers);
        let n_column_blocks = n.div_ceil(COLUMNS);
        // Few columns leave threads idle unless they share the rows.
        let n_row_blocks = (2 * team.n_threads()).div_ceil(n_column_blocks).min(n_tiles);
        let tiles_a_block = n_tiles.div_ceil(n_row_blocks);
        let n_row_blocks = n_tiles.div_ceil(tiles_a_block);
        let out = Output::new(out);
        team.together(|| {
            for first in (0..depth).step_by(LEFT_DEPTH) {
                let depth = first..depth.min(first + LEFT_DEPTH);
                let packed = room(&mut self.left, n_tiles * tile_rows * depth.len());
                team.for_each_chunk(packed, tile_rows * depth.len(), |i, packed| {
                    let rows = i * tile_rows..m.min((i + 1) * tile_rows);
                    // SAFETY: a table is handed out for an available ISA only.
                    unsafe {
                        (kernels.pack_left)(PackLeft { left, rows, depth: depth.clone(), scale, packed })
                    }
                });
                let packed = &*packed;
                team.run(n_column_blocks * n_row_blocks, |task, worker| {
                    let columns = task / n_row_blocks * COLUMNS;
                    let columns = columns..n.min(columns + COLUMNS);
                    let tiles = task % n_row_blocks * tiles_a_block;
                    let rows = tiles * tile_rows..m.min((tiles + tiles_a_block) * tile_rows);
                    let left = &packed[tiles * tile_rows * depth.len()..];
                    let panels = columns.len().next_multiple_of(tile_columns) * DEPTH;
                    let buffers = &mut *lock(&workers[worker]);
                    let right_room = room(&mut buffers.right, panels + 16 * DEPTH);
                    for part in depth.clone().step_by(DEPTH) {
                        let part = part..depth.end.min(part + DEPTH);
                        let (columns, job_depth) = (columns.clone(), part.clone());
                        let at = rows.start * n + columns.start;
                        // `out` has `m` rows of `n` and is borrowed meanwhile.
                        // SAFETY: these rows and columns are this task's alone.
                        let out = unsafe { OutStrip::new(out.at(at), n, columns.len(), rows.len()) };
                        // SAFETY: a table is handed out for an available ISA only.
                        unsafe {
                            (kernels.pack_right)(PackRight {
                                right,
                                columns,
                                depth: job_depth,
                                packed: right_room,
                            });
                            (kernels.multiply)(Multiply {
                                left,
                                left_depth: depth.len(),
                                depth: part.start - depth.start..part.end - depth.start,
                                right: right_room,
                                out,
                                add: add || part.start > 0,
                            });
                        }
                    }
                });
            }
        });
    }
}

/// Rows of a matrix with rows of `width`.
pub(super) fn rows_of(what: &str, x: &[f32], width: usize) -> usize {
    assert!(width > 0 && x.len().is_multiple_of(width), "{} {what} in rows of {width}", x.len());
    x.len() / width
}
