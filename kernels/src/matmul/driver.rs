//! Splits products into tasks and hands them to the team.

use std::sync::{Mutex, PoisonError};

use crate::activation::packed::PANEL_MIN_ROWS;
use crate::activation::rows::Activations;
use crate::cancel::CancelFlags;
use crate::matmul::plan::Tasks;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::table::KernelTable;
use crate::team::Team;
use crate::weights::matrix::QuantMatrix;

/// One matrix of a [`matmul`], and where its product goes: `y [m, n_rows]`.
pub struct Product<'a> {
    /// Weights `[n_rows, k]`.
    pub w: QuantMatrix<'a>,
    /// Output `[m, n_rows]`.
    pub y: &'a mut [f32],
}

/// Matrices that one [`matmul`] takes at most.
const MAX_PRODUCTS: usize = 4;

/// Multiplies the activations with several matrices in one parallel step.
///
/// `scratch` has one entry for each thread of the team, of at least [`scratch_bytes`](crate::matmul::scratch_bytes). Once `cancel` is
/// set, no further task is begun, and the outputs are unspecified.
///
/// # Panics
/// If shapes do not fit, activations have not the form that a matrix's format asks for, or there are more than four matrices.
pub fn matmul(
    team: &Team,
    kernels: &KernelTable,
    products: &mut [Product<'_>],
    x: Activations<'_>,
    scratch: &[Mutex<StripScratch>],
    cancel: CancelFlags<'_>,
) {
    matmul_then(team, kernels, products, x, scratch, cancel, None);
}

/// What a task goes on with: the number of its product, its first weight row, and the outputs that it has just written.
pub type Then<'a> = &'a (dyn Fn(usize, usize, OutStrip<'_>) + Sync);

/// [`matmul`], where each task calls `then` with its outputs while they are still in the cache.
///
/// # Panics
/// As [`matmul`], and if `then` does.
pub fn matmul_then(
    team: &Team,
    kernels: &KernelTable,
    products: &mut [Product<'_>],
    x: Activations<'_>,
    scratch: &[Mutex<StripScratch>],
    cancel: CancelFlags<'_>,
    then: Option<Then<'_>>,
) {
    let m = x.m();
    let panel = m >= PANEL_MIN_ROWS;
    let n_products = products.len();
    assert!(n_products <= MAX_PRODUCTS, "{n_products} products at once");
    let mut strips = [const { None }; MAX_PRODUCTS];
    for (i, (strip, p)) in strips.iter_mut().zip(products).enumerate() {
        *strip = Some(Strip::new(p, m, team.n_threads(), i + 1 == n_products));
    }
    let strips = || strips.iter().flatten();
    let n_tasks = strips().map(|s| s.n_tasks).sum();
    team.run(n_tasks, |mut task, worker| {
        if cancel.is_set() {
            return;
        }
        for (i, strip) in strips().enumerate() {
            if task >= strip.n_tasks {
                task -= strip.n_tasks;
                continue;
            }
            let rows = strip.tasks.rows(task);
            let w = strip.w.rows(rows.start, rows.len());
            // `products` borrows the output until `run` returns.
            // SAFETY: `Tasks` has every row in one task, and `Strip::new` asserted that the output has `m` rows of `n_rows`.
            let mut y = unsafe { OutStrip::new(strip.y.0.add(rows.start), strip.w.n_rows(), rows.len(), m) };
            // A panic of a task leaves numbers, which the next one overwrites.
            let scratch = &mut *scratch[worker].lock().unwrap_or_else(PoisonError::into_inner);
            let out = y.columns(0, rows.len());
            if panel {
                kernels.panel(w, x, out, scratch);
            } else {
                kernels.dot(w, x, out, scratch);
            }
            if let Some(then) = then {
                then(i, rows.start, y);
            }
            return;
        }
    });
}

/// A product cut into tasks.
struct Strip<'a> {
    w: QuantMatrix<'a>,
    y: Output,
    tasks: Tasks,
    n_tasks: usize,
}

struct Output(*mut f32);
// SAFETY: tasks write disjoint columns.
unsafe impl Sync for Output {}

impl<'a> Strip<'a> {
    fn new(p: &mut Product<'a>, m: usize, n_threads: usize, last: bool) -> Self {
        let n_rows = p.w.n_rows();
        assert_eq!(p.y.len(), m * n_rows, "output of a product of {m} x {n_rows}");
        let tasks = Tasks::new(n_rows, p.w.bytes().len(), m, n_threads, last);
        Strip { w: p.w, y: Output(p.y.as_mut_ptr()), n_tasks: tasks.len(), tasks }
    }
}
