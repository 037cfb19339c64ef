//! Splits products into tasks and hands them to the team.

use std::sync::{Mutex, PoisonError};

use crate::activation::packed::PANEL_MIN_ROWS;
use crate::activation::rows::Activations;
use crate::cancel::CancelFlags;
use crate::low_rank::addend::Addends;
use crate::low_rank::shrink::Shrink;
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
    matmul_with(team, kernels, products, x, scratch, cancel, None);
}

/// [`matmul`], and low-rank addends of the products. Once `cancel` is set, `addends.u` is unspecified as well.
///
/// # Panics
/// As [`matmul`], and where an addend's rows are not all there or `addends.u` is too short.
pub fn matmul_with(
    team: &Team,
    kernels: &KernelTable,
    products: &mut [Product<'_>],
    x: Activations<'_>,
    scratch: &[Mutex<StripScratch>],
    cancel: CancelFlags<'_>,
    addends: Option<Addends<'_, '_>>,
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
    // The team begins tasks in order: what the addends need comes first, and is there before the first strip is done.
    let shrink = addends.map(Shrink::new);
    let n_first = shrink.as_ref().map_or(0, Shrink::n_tasks);
    let n_tasks = n_first + strips().map(|s| s.n_tasks).sum::<usize>();
    team.run(n_tasks, |task, worker| {
        // A panic of a task leaves numbers, which the next one overwrites.
        let lock = || scratch[worker].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shrink) = shrink.as_ref().filter(|_| task < n_first) {
            return shrink.run(task, kernels, &mut lock(), cancel);
        }
        if cancel.is_set() {
            return;
        }
        let mut task = task - n_first;
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
            let out = y.columns(0, rows.len());
            if panel {
                kernels.panel(w, x, out, &mut lock());
            } else {
                kernels.dot(w, x, out, &mut lock());
            }
            if let Some(shrink) = &shrink {
                shrink.expand(i, rows.start, y, kernels, cancel);
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
