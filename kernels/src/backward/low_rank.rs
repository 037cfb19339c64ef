//! LoRA's thin products, `y += scale · (x·Aᵀ)·Bᵀ`, and their derivatives.

use super::block::Right;
use super::executor::Executor;
use super::product::{Shape, rows_of};
use crate::tile::Left;

impl Executor {
    /// `u = x·Aᵀ`: `x [m, k]`, `a [rank, k]`, `u [m, rank]`.
    ///
    /// # Panics
    /// Where shapes do not fit.
    pub fn low_rank_down(&mut self, k: usize, a: &[f32], x: &[f32], u: &mut [f32]) {
        let (m, rank) = (rows_of("inputs", x, k), rows_of("weights of A", a, k));
        assert_eq!(u.len(), m * rank, "{m} rows of rank {rank}");
        let (left, right) = (Left::ByRow { data: x, stride: k }, Right::ByColumn { data: a, stride: k });
        self.multiply(Shape { m, n: rank, depth: k }, left, 1.0, right, u, false);
    }

    /// `y += (scale · u)·Bᵀ`: `u [m, rank]`, `b [n, rank]`, `y [m, n]`.
    ///
    /// # Panics
    /// Where shapes do not fit.
    pub fn low_rank_up(&mut self, rank: usize, b: &[f32], scale: f32, u: &[f32], y: &mut [f32]) {
        let (m, n) = (rows_of("inner values", u, rank), rows_of("weights of B", b, rank));
        assert_eq!(y.len(), m * n, "outputs of {m} rows");
        let (left, right) =
            (Left::ByRow { data: u, stride: rank }, Right::ByColumn { data: b, stride: rank });
        self.multiply(Shape { m, n, depth: rank }, left, scale, right, y, true);
    }

    /// The derivative of [`Executor::low_rank_up`]: `du = (scale · dy)·B`, `db += (scale · dy)ᵀ·u`; `dy [m, n]`, `du [m, rank]`, `db [n, rank]`.
    ///
    /// # Panics
    /// Where shapes do not fit.
    #[allow(clippy::too_many_arguments)]
    pub fn low_rank_up_backward(
        &mut self,
        rank: usize,
        b: &[f32],
        scale: f32,
        u: &[f32],
        dy: &[f32],
        du: &mut [f32],
        db: &mut [f32],
    ) {
        let (m, n) = (rows_of("inner values", u, rank), rows_of("weights of B", b, rank));
        assert_eq!((dy.len(), du.len(), db.len()), (m * n, m * rank, n * rank), "gradients of {m} rows");
        let (left, right) = (Left::ByRow { data: dy, stride: n }, Right::ByDepth { data: b, stride: rank });
        self.multiply(Shape { m, n: rank, depth: n }, left, scale, right, du, false);
        let (left, right) = (Left::ByDepth { data: dy, stride: n }, Right::ByDepth { data: u, stride: rank });
        self.multiply(Shape { m: n, n: rank, depth: m }, left, scale, right, db, true);
    }

    /// The gradient of A from [`Executor::low_rank_down`]: `da += duᵀ·x`; `x [m, k]`, `du [m, rank]`, `da [rank, k]`.
    ///
    /// # Panics
    /// Where shapes do not fit.
    pub fn low_rank_down_backward(&mut self, k: usize, x: &[f32], du: &[f32], da: &mut [f32]) {
        let (m, rank) = (rows_of("inputs", x, k), rows_of("gradients of A", da, k));
        assert_eq!(du.len(), m * rank, "gradients of {m} rows of rank {rank}");
        let (left, right) = (Left::ByDepth { data: du, stride: rank }, Right::ByDepth { data: x, stride: k });
        self.multiply(Shape { m: rank, n: k, depth: m }, left, 1.0, right, da, true);
    }

    /// The gradient of the inputs of [`Executor::low_rank_down`]: `dx = du·A`, or `dx += du·A` where `add`; `du [m, rank]`, `a [rank, k]`,
    /// `dx [m, k]`.
    ///
    /// # Panics
    /// Where shapes do not fit.
    pub fn low_rank_inputs_backward(&mut self, k: usize, a: &[f32], du: &[f32], dx: &mut [f32], add: bool) {
        let rank = rows_of("weights of A", a, k);
        let m = rows_of("inner gradients", du, rank);
        assert_eq!(dx.len(), m * k, "gradients of {m} rows");
        let (left, right) = (Left::ByRow { data: du, stride: rank }, Right::ByDepth { data: a, stride: k });
        self.multiply(Shape { m, n: k, depth: rank }, left, 1.0, right, dx, add);
    }
}
