//! The first product, for several pairs in one parallel step.

use std::sync::{Mutex, PoisonError};

use crate::activation::rows::Activations;
use crate::cancel::CancelFlags;
use crate::low_rank::pair::LowRankPair;
use crate::matmul::plan::FEW_ROWS;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::table::KernelTable;
use crate::team::Team;

/// Rows of A that meet activations at a time, as far as kernels go.
const ROWS: usize = 4;
/// Where there are few activations: bytes of A in a task at least.
const TASK_BYTES: usize = 16 << 10;
/// Where there are many: rows of activations and of A in a task.
const TASK_ROWS: [usize; 2] = [32, 64];

/// `u = x·Aᵀ`
#[derive(Clone, Copy)]
pub struct ShrinkJob<'a> {
    /// Has the A.
    pub pair: &'a LowRankPair,
    /// `[m, k]`
    pub x: &'a [f32],
}

impl ShrinkJob<'_> {
    /// Rows of activations.
    fn m(&self) -> usize {
        self.x.len() / self.pair.k()
    }

    /// Rows of activations and of A in a task.
    fn cut(&self) -> [usize; 2] {
        if self.m() > FEW_ROWS {
            return TASK_ROWS;
        }
        let rows = TASK_BYTES / self.pair.a().row_bytes().max(1);
        [self.m(), rows.next_multiple_of(ROWS).max(ROWS)]
    }

    fn n_tasks(&self) -> usize {
        let [t, r] = self.cut();
        self.m().div_ceil(t.max(1)) * self.pair.rank().div_ceil(r)
    }
}

/// Computes `n` jobs in one parallel step. Their outputs `[m, rank]` lie in `u` one after the other.
///
/// `scratch` has one entry for each thread of the team. Once `cancel` is set, no further task is begun, and the outputs are unspecified.
///
/// # Panics
/// Where a job's `x` is not whole rows, or `u` is shorter than the outputs.
pub fn shrink<'a>(
    team: &Team,
    kernels: &KernelTable,
    n: usize,
    job: impl Fn(usize) -> ShrinkJob<'a> + Sync,
    u: &mut [f32],
    scratch: &[Mutex<StripScratch>],
    cancel: CancelFlags<'_>,
) {
    let (mut n_tasks, mut n_outputs) = (0, 0);
    for job in (0..n).map(&job) {
        assert_eq!(job.x.len(), job.m() * job.pair.k(), "activations in rows of {}", job.pair.k());
        n_tasks += job.n_tasks();
        n_outputs += job.m() * job.pair.rank();
    }
    assert!(n_outputs <= u.len(), "room for {} outputs of {n_outputs}", u.len());
    let u = Output(u.as_mut_ptr());
    team.run(n_tasks, |mut task, worker| {
        if cancel.is_set() {
            return;
        }
        let mut first = 0;
        for job in (0..n).map(&job) {
            let (m, k, rank) = (job.m(), job.pair.k(), job.pair.rank());
            if task >= job.n_tasks() {
                task -= job.n_tasks();
                first += m * rank;
                continue;
            }
            let [t, r] = job.cut();
            let n_strips = rank.div_ceil(r);
            let (t0, r0) = (task / n_strips * t, task % n_strips * r);
            let (t, r) = (t.min(m - t0), r.min(rank - r0));
            let x = Activations::F32 { m: t, k, x: &job.x[t0 * k..][..t * k] };
            // Jobs take parts of `u` one after the other, and it was asserted to be long enough for all of them.
            // SAFETY: `u` is borrowed until `run` returns; inside a job's `[m, rank]` each task has rows and columns of its own.
            let y = unsafe { OutStrip::new(u.at(first + t0 * rank + r0), rank, r, t) };
            // A panic of a task leaves numbers, which the next one overwrites.
            let scratch = &mut *scratch[worker].lock().unwrap_or_else(PoisonError::into_inner);
            return kernels.dot(job.pair.a().rows(r0, r), x, y, scratch);
        }
    });
}

struct Output(*mut f32);

impl Output {
    fn at(&self, i: usize) -> *mut f32 {
        self.0.wrapping_add(i)
    }
}

// SAFETY: tasks write disjoint parts.
unsafe impl Sync for Output {}
