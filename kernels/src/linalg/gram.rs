//! Sums of `XᵀX`.

use std::sync::atomic::AtomicBool;

use super::cholesky::{FactorizeError, factorize};
use super::factor::Factor;
use super::rank_update::add_products;
use super::workspace::Workspace;
use crate::table::KernelTable;
use crate::team::Team;

/// `H = XᵀX` of the inputs `X [n, k]` of a matrix: the squared error of its output, when a row of it is off by `e`, is `e·H·eᵀ`.
#[derive(Debug)]
pub struct Gram {
    k: usize,
    n_rows: u64,
    /// `[k, k]`; the upper triangle counts.
    data: Vec<f32>,
}

impl Gram {
    /// Zeros for inputs of `k` columns, or `None` where there is no memory for `4k²` bytes.
    pub fn try_new(k: usize) -> Option<Gram> {
        let data = bytemuck::allocation::try_zeroed_vec(k.checked_mul(k)?).ok()?;
        Some(Gram { k, n_rows: 0, data })
    }

    /// Columns of the inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Inputs that were added.
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// The sums of squares of the columns, `[k]`.
    pub fn diagonal(&self) -> Vec<f32> {
        (0..self.k).map(|i| self.data[i * self.k + i]).collect()
    }

    /// Adds inputs, `[n, k]`. The sums depend on which inputs come in one call.
    ///
    /// # Panics
    /// Where `x` is not whole rows.
    pub fn add(&mut self, team: &Team, kernels: &KernelTable, workspace: &Workspace, x: &[f32]) {
        assert!(x.len().is_multiple_of(self.k), "{} inputs in rows of {}", x.len(), self.k);
        self.n_rows += (x.len() / self.k) as u64;
        if !x.is_empty() {
            add_products(team, kernels, workspace, x, &mut self.data, self.k, 0, 1.0);
        }
    }

    /// `e·H·eᵀ` for each row of `e`, `[n, k]`, summed.
    ///
    /// # Panics
    /// Where `e` is not whole rows.
    pub fn squared_error(&self, kernels: &KernelTable, e: &[f32]) -> f64 {
        assert!(e.len().is_multiple_of(self.k), "{} errors in rows of {}", e.len(), self.k);
        let mut sum = 0.0;
        let mut product = vec![0.0; self.k];
        for e in e.chunks(self.k) {
            // Everything above the diagonal counts twice.
            for (i, x) in e.iter().enumerate() {
                product[i] = 0.5 * self.data[i * self.k + i] * x;
            }
            for (i, x) in e.iter().enumerate() {
                let row = &self.data[i * self.k..][..self.k];
                kernels.add_scaled(&mut product[i + 1..], &row[i + 1..], *x);
            }
            sum += 2.0 * product.iter().zip(e).map(|(p, x)| f64::from(*p) * f64::from(*x)).sum::<f64>();
        }
        sum
    }

    /// The factor `U` of `H + damping · mean(diagonal) · 1 = UᵀU`.
    ///
    /// # Errors
    /// Where that is not positive definite in f32, or `cancelled` is set meanwhile; the matrix comes back as it was.
    pub fn factorize(
        self,
        team: &Team,
        kernels: &KernelTable,
        workspace: &Workspace,
        damping: f64,
        cancelled: &AtomicBool,
    ) -> Result<Factor, (FactorizeError, Gram)> {
        let (k, n_rows) = (self.k, self.n_rows);
        factorize(team, kernels, workspace, self.data, k, damping, cancelled)
            .map_err(|(error, data)| (error, Gram { k, n_rows, data }))
    }
}
