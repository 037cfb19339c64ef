//! The first product of each addend of a parallel step, as tasks in front of those of the weight matrices.

use std::marker::PhantomData;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread::yield_now;

use crate::activation::rows::Activations;
use crate::cancel::CancelFlags;
use crate::low_rank::addend::{Addend, Addends};
use crate::matmul::plan::FEW_ROWS;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::table::KernelTable;

/// Rows of A that meet activations at a time, as far as kernels go.
const ROWS: usize = 4;
/// Where there are few activations: bytes of A in a task at least.
const TASK_BYTES: usize = 16 << 10;
/// Where there are many: rows of activations and of A in a task.
const TASK_ROWS: [usize; 2] = [32, 64];

/// Looks at the counter before the core is offered to another thread.
const SPINS: u32 = 4096;

/// `x·Aᵀ` of each addend, computed by some tasks of a step and read by those that come after them.
pub(crate) struct Shrink<'s, 'a> {
    n: usize,
    addend: &'s (dyn Fn(usize) -> Addend<'a> + Sync),
    /// `[m, rank]` of each addend, one after the other.
    u: *mut f32,
    n_tasks: usize,
    n_done: AtomicUsize,
    _u: PhantomData<&'s mut [f32]>,
}

// SAFETY: each task writes a part of `u` of its own, and `u` is read after all of them.
unsafe impl Sync for Shrink<'_, '_> {}

impl<'s, 'a> Shrink<'s, 'a> {
    /// # Panics
    /// Where the `x` of an addend is not whole rows, or `u` is shorter than the outputs.
    pub fn new(addends: Addends<'s, 'a>) -> Shrink<'s, 'a> {
        let Addends { n, addend, u } = addends;
        let (mut n_tasks, mut n_outputs) = (0, 0);
        for addend in (0..n).map(addend) {
            assert_eq!(
                addend.x.len(),
                addend.m() * addend.pair.k(),
                "activations in rows of {}",
                addend.pair.k()
            );
            n_tasks += n_tasks_of(&addend);
            n_outputs += addend.m() * addend.pair.rank();
        }
        assert!(n_outputs <= u.len(), "room for {} outputs of {n_outputs}", u.len());
        let n_done = AtomicUsize::new(0);
        Shrink { n, addend, u: u.as_mut_ptr(), n_tasks, n_done, _u: PhantomData }
    }

    pub fn n_tasks(&self) -> usize {
        self.n_tasks
    }

    /// Does task number `task`, unless `cancel` is set. Each is done once, in the step that `u` is borrowed for.
    pub fn run(
        &self,
        task: usize,
        kernels: &KernelTable,
        scratch: &mut StripScratch,
        cancel: CancelFlags<'_>,
    ) {
        // Counted in any case, by unwinding too: others wait for it.
        let _done = Done(&self.n_done);
        if cancel.is_set() {
            return;
        }
        let (mut task, mut first) = (task, 0);
        for addend in (0..self.n).map(self.addend) {
            let (m, k, rank) = (addend.m(), addend.pair.k(), addend.pair.rank());
            if task >= n_tasks_of(&addend) {
                task -= n_tasks_of(&addend);
                first += m * rank;
                continue;
            }
            let [t, r] = cut(&addend);
            let n_strips = rank.div_ceil(r);
            let (t0, r0) = (task / n_strips * t, task % n_strips * r);
            let (t, r) = (t.min(m - t0), r.min(rank - r0));
            let x = Activations::F32 { m: t, k, x: &addend.x[t0 * k..][..t * k] };
            let y = self.u.wrapping_add(first + t0 * rank + r0);
            // `new` asserted that `u`, which is borrowed for `'s`, is long enough for all addends; their shapes are the same each time.
            // SAFETY: inside an addend's `[m, rank]` each task has rows and columns of its own, and nobody reads before all are done.
            let y = unsafe { OutStrip::new(y, rank, r, t) };
            return kernels.dot(addend.pair.a().rows(r0, r), x, y, scratch);
        }
    }

    /// Adds `scale · u·Bᵀ` of each addend of `product` to the outputs of weight rows from `first` on, once all tasks of [`Shrink::run`] are
    /// done; they have to be under way. Nothing is added once `cancel` is set.
    pub fn expand(
        &self,
        product: usize,
        first: usize,
        mut y: OutStrip<'_>,
        kernels: &KernelTable,
        cancel: CancelFlags<'_>,
    ) {
        if !self.wait(cancel) {
            return;
        }
        let mut first_u = 0;
        for addend in (0..self.n).map(self.addend) {
            let n_u = addend.m() * addend.pair.rank();
            if addend.product == product {
                // SAFETY: `new` asserted the length, with the same shapes. All tasks that write are done, which `wait` acquired.
                let u = unsafe { std::slice::from_raw_parts(self.u.add(first_u), n_u) };
                kernels.expand(addend.pair, first, u, addend.scale, y.rows(addend.first_row, addend.m()));
            }
            first_u += n_u;
        }
    }

    /// Waits until all tasks are done; false once `cancel` is set. They were begun before this one and are short, so this rarely takes long.
    fn wait(&self, cancel: CancelFlags<'_>) -> bool {
        let mut spins = 0;
        while self.n_done.load(Acquire) < self.n_tasks {
            if cancel.is_set() {
                return false;
            }
            spins += 1;
            if spins % SPINS == 0 { yield_now() } else { std::hint::spin_loop() }
        }
        true
    }
}

/// Counts a task when it is dropped.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Release);
    }
}

/// Rows of activations and of A in a task.
fn cut(addend: &Addend<'_>) -> [usize; 2] {
    if addend.m() > FEW_ROWS {
        return TASK_ROWS;
    }
    let rows = TASK_BYTES / addend.pair.a().row_bytes().max(1);
    [addend.m(), rows.next_multiple_of(ROWS).max(ROWS)]
}

fn n_tasks_of(addend: &Addend<'_>) -> usize {
    let [t, r] = cut(addend);
    addend.m().div_ceil(t.max(1)) * addend.pair.rank().div_ceil(r)
}
