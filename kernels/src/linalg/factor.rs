//! Cholesky factors.

use std::ops::Range;

use super::product::{BlockJob, ProductBlockFn};
use crate::tile::Left;

/// The upper triangular `U` of `H = UᵀU`, beside what `H` was.
#[derive(Debug)]
pub struct Factor {
    k: usize,
    /// `[k, k]`: `U` above and on the diagonal, `H` below it.
    data: Vec<f32>,
    /// The diagonal of `H` before damping.
    diagonal: Vec<f32>,
}

impl Factor {
    /// `data [k, k]`: `U` above and on the diagonal.
    pub(super) fn new(k: usize, data: Vec<f32>, diagonal: Vec<f32>) -> Factor {
        debug_assert!(data.len() == k * k && diagonal.len() == k);
        Factor { k, data, diagonal }
    }

    /// The factor of a multiple of the unit matrix, for inputs that nothing is known of; `None` where there is no memory.
    pub fn try_unit(k: usize) -> Option<Factor> {
        let mut data = bytemuck::allocation::try_zeroed_vec(k.checked_mul(k)?).ok()?;
        for i in 0..k {
            data[i * k + i] = 1.0;
        }
        Some(Factor { k, data, diagonal: vec![1.0; k] })
    }

    /// Columns.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The diagonal of `H`, `[k]`, without damping.
    pub fn diagonal(&self) -> &[f32] {
        &self.diagonal
    }

    /// `U[i][j]` for `j ≥ i`.
    pub fn at(&self, i: usize, j: usize) -> f32 {
        debug_assert!(i <= j, "row {i}, column {j} of an upper triangle");
        self.data[i * self.k + j]
    }

    /// `Σ U[i][j] · right[j − first][..]` for the rows `i` of `rows` and `first ≤ j < k`: `[rows, n]`, where `right` is `[k − first, n]`.
    ///
    /// # Safety
    /// The CPU has the features of `product`'s instruction set.
    pub(crate) unsafe fn times(
        &self,
        product: ProductBlockFn,
        rows: Range<usize>,
        first: usize,
        right: &[f32],
        packed: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let n = out.len() / rows.len();
        let left = Left::ByRow { data: &self.data[rows.start * self.k + first..], stride: self.k };
        let (m, depth, right_stride) = (rows.len(), self.k - first, n);
        // SAFETY: the caller vouches for the CPU.
        unsafe { product(BlockJob { left, right, right_stride, m, n, depth, packed, out }) }
    }
}
