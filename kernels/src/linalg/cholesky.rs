//! Cholesky factorization, by blocks.

use std::sync::atomic::{AtomicBool, Ordering};

use super::factor::Factor;
use super::rank_update::add_products;
use super::shared::Shared;
use super::workspace::Workspace;
use crate::table::KernelTable;
use crate::team::Team;

/// Rows that are eliminated at a time.
const BLOCK: usize = 256;
/// Columns of them that one thread solves for.
const COLUMNS: usize = 512;

/// Why a matrix was not factorized.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FactorizeError {
    /// It is not positive definite, as far as f32 can tell.
    #[error("the pivot of column {column} is {pivot:e}")]
    NotPositive {
        /// The column at which elimination ended.
        column: usize,
        /// What should be positive there.
        pivot: f32,
    },
    /// The flag was set meanwhile.
    #[error("cancelled")]
    Cancelled,
}

/// Factorizes the upper triangle of `data [k, k]` in place; the lower one keeps what was there.
pub(super) fn factorize(
    team: &Team,
    kernels: &KernelTable,
    workspace: &Workspace,
    mut data: Vec<f32>,
    k: usize,
    damping: f64,
    cancelled: &AtomicBool,
) -> Result<Factor, (FactorizeError, Vec<f32>)> {
    let diagonal: Vec<f32> = (0..k).map(|i| data[i * k + i]).collect();
    let mean = diagonal.iter().map(|x| f64::from(*x)).sum::<f64>() / k as f64;
    copy_triangle(&mut data, k, true);
    for i in 0..k {
        data[i * k + i] = (f64::from(diagonal[i]) + damping * mean) as f32;
    }
    match eliminate(team, kernels, workspace, &mut data, k, cancelled) {
        Ok(()) => Ok(Factor::new(k, data, diagonal)),
        Err(error) => {
            copy_triangle(&mut data, k, false);
            for i in 0..k {
                data[i * k + i] = diagonal[i];
            }
            Err((error, data))
        }
    }
}

/// Copies the upper triangle to the lower one, or back.
fn copy_triangle(data: &mut [f32], k: usize, down: bool) {
    /// So that the cache holds the lines of both.
    const TILE: usize = 32;
    for first in (0..k).step_by(TILE) {
        for second in (first..k).step_by(TILE) {
            for i in first..k.min(first + TILE) {
                for j in second.max(i + 1)..k.min(second + TILE) {
                    let (to, from) = if down { (j * k + i, i * k + j) } else { (i * k + j, j * k + i) };
                    data[to] = data[from];
                }
            }
        }
    }
}

fn eliminate(
    team: &Team,
    kernels: &KernelTable,
    workspace: &Workspace,
    data: &mut [f32],
    k: usize,
    cancelled: &AtomicBool,
) -> Result<(), FactorizeError> {
    for first in (0..k).step_by(BLOCK) {
        if cancelled.load(Ordering::Relaxed) {
            return Err(FactorizeError::Cancelled);
        }
        let end = k.min(first + BLOCK);
        let (above, below) = data.split_at_mut(end * k);
        let rows = &mut above[first * k..];
        diagonal_block(rows, k, first)?;
        solve(team, kernels, rows, k, first);
        if end < k {
            add_products(team, kernels, workspace, rows, below, k, end, -1.0);
        }
    }
    Ok(())
}

/// Factorizes the square at column `first` of `rows`, in doubles.
fn diagonal_block(rows: &mut [f32], k: usize, first: usize) -> Result<(), FactorizeError> {
    let n = rows.len() / k;
    let mut square: Vec<f64> =
        rows.chunks(k).flat_map(|row| row[first..first + n].iter().map(|x| f64::from(*x))).collect();
    for i in 0..n {
        let pivot = square[i * n + i];
        // A NaN is not positive either.
        if !(pivot > 0.0 && pivot.is_finite()) {
            return Err(FactorizeError::NotPositive { column: first + i, pivot: pivot as f32 });
        }
        let (above, below) = square.split_at_mut((i + 1) * n);
        let row = &mut above[i * n..];
        let inverse = 1.0 / pivot.sqrt();
        row[i..].iter_mut().for_each(|x| *x *= inverse);
        for (j, below) in (i + 1..n).zip(below.chunks_mut(n)) {
            let factor = row[j];
            for (x, y) in below[j..].iter_mut().zip(&row[j..]) {
                *x -= factor * y;
            }
        }
    }
    for (i, (row, square)) in rows.chunks_mut(k).zip(square.chunks(n)).enumerate() {
        for j in i..n {
            row[first + j] = square[j] as f32;
        }
    }
    Ok(())
}

/// Solves for the columns behind the square.
fn solve(team: &Team, kernels: &KernelTable, rows: &mut [f32], k: usize, first: usize) {
    let n = rows.len() / k;
    let behind = first + n;
    let mut square = vec![0.0; n * n];
    for (i, row) in rows.chunks(k).enumerate() {
        square[i * n..][..n].copy_from_slice(&row[first..behind]);
    }
    let shared = Shared::new(rows);
    team.together(|| {
        team.run((k - behind).div_ceil(COLUMNS), |task, _| {
            let start = behind + task * COLUMNS;
            let len = COLUMNS.min(k - start);
            for i in 0..n {
                // SAFETY: columns belong to one task, and this row is not among those above it.
                let row = unsafe { shared.part(i * k + start, len) };
                for j in 0..i {
                    // SAFETY: as above.
                    let above = unsafe { shared.part(j * k + start, len) };
                    kernels.add_scaled(row, above, -square[j * n + i]);
                }
                kernels.scale(row, 1.0 / square[i * n + i]);
            }
        });
    });
}
