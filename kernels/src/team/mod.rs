//! A team of threads that stays together for a whole forward pass.
//!
//! Waking a pool costs microseconds, a layer has a dozen parallel steps, and a token of a small model takes about a millisecond. So a
//! region ([`Team::together`]) is entered once a pass: its leader, the thread that entered, runs the pass as ordinary sequential code, and
//! the others wait for the next step, spinning at first and then yielding. Between passes they linger for a moment, as the next token is
//! soon to come. The tasks of a step are handed out one by one, and nobody waits for a thread that the system does not schedule: a busy
//! neighbour on one core does not stall the rest.

mod door;
mod place;
mod sync;
mod threads;

use std::panic::resume_unwind;

use door::Door;
use place::Place;
use sync::{Arc, Mutex, lock};
use threads::Threads;

/// The threads of an engine: the caller's, and a pool of its own where it has more than one.
///
/// # Nesting
/// A thread takes part in one region at a time. Inside a task, or inside another team's region, [`Team::together`] and [`Team::run`] do all
/// of their work on the calling thread: correct, only not parallel. Nothing waits for a thread that waits for it.
pub struct Team {
    threads: Option<Threads>,
    n_threads: usize,
    door: Arc<Door>,
    /// One region at a time; a second caller waits.
    entrance: Mutex<()>,
}

/// The threads of a [`Team`] could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {n_threads} threads: {cause}")]
pub struct TeamError {
    /// The threads that were asked for.
    pub n_threads: usize,
    cause: Box<dyn std::error::Error + Send + Sync>,
}

impl Team {
    /// A team of `n_threads` (at least one), the caller's thread included.
    ///
    /// # Errors
    /// When the system refuses to start the threads.
    pub fn new(n_threads: usize) -> Result<Team, TeamError> {
        let n_threads = n_threads.max(1);
        let door = Arc::new(Door::new());
        let threads = (n_threads > 1).then(|| Threads::start(n_threads - 1, &door)).transpose();
        let threads = threads.map_err(|cause| TeamError { n_threads, cause })?;
        Ok(Team { threads, n_threads, door, entrance: Mutex::new(()) })
    }

    /// The number of threads, the caller's included.
    pub fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// Runs `f` as the leader of a region: every [`Team::run`] inside it has the whole team at hand. A second thread that calls this waits
    /// until the first region ends; inside another region or a task, `f` is simply called (see [nesting](Team#nesting)).
    ///
    /// # Panics
    /// If `f` or a task does. The team stays usable.
    pub fn together<R>(&self, f: impl FnOnce() -> R) -> R {
        if self.threads.is_none() || !matches!(place::get(), Place::Outside) {
            return f();
        }
        let _alone = lock(&self.entrance);
        let _region = Region::enter(&self.door);
        f()
    }

    /// Calls `f(task, worker)` once for each `task < n_tasks`, with `worker < n_threads`, and returns when all are done. Inside
    /// [`Team::together`] the team shares the tasks, in rising order; anywhere else they run on the calling thread.
    ///
    /// Within one region a worker number belongs to one thread, so it can choose a buffer.
    ///
    /// # Panics
    /// With the first panic of a task, once no thread runs a task any more; tasks that had not begun are dropped.
    pub fn run(&self, n_tasks: usize, f: impl Fn(usize, usize) + Sync) {
        let door = (&raw const *self.door).addr();
        let worker = match place::get() {
            // SAFETY: this thread leads the team (the entrance is locked by the region it is in), and is not inside a task.
            Place::Leads(of) if of == door && n_tasks > 1 => match unsafe { self.door.step(n_tasks, &f) } {
                Ok(()) => return,
                Err(panic) => resume_unwind(panic),
            },
            Place::Task { of, worker } if of == door => worker,
            _ => 0,
        };
        (0..n_tasks).for_each(|task| f(task, worker));
    }

    /// Calls `f(i, chunk)` for the `i`-th `chunk_len` elements of `data` (the last chunk may be shorter), as tasks of [`Team::run`].
    ///
    /// # Panics
    /// If `f` does, and if `chunk_len` is 0.
    pub fn for_each_chunk<T: Send>(
        &self,
        data: &mut [T],
        chunk_len: usize,
        f: impl Fn(usize, &mut [T]) + Sync,
    ) {
        assert_ne!(chunk_len, 0, "chunks of nothing");
        let (len, base) = (data.len(), Base(data.as_mut_ptr()));
        self.run(len.div_ceil(chunk_len), |i, _| {
            let first = i * chunk_len;
            let n = chunk_len.min(len - first);
            // SAFETY: `run` calls with each `i` once, so the chunks are disjoint parts of `data`, which stays borrowed until `run` returns.
            f(i, unsafe { std::slice::from_raw_parts_mut(base.at(first), n) });
        });
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.door.dismiss();
        if let Some(threads) = &mut self.threads {
            threads.stop();
        }
    }
}

/// The region that this thread leads; left when dropped, by unwinding too.
struct Region<'a>(&'a Door);

impl<'a> Region<'a> {
    fn enter(door: &'a Door) -> Region<'a> {
        door.begin_region();
        place::replace(Place::Leads((&raw const *door).addr()));
        Region(door)
    }
}

impl Drop for Region<'_> {
    fn drop(&mut self) {
        place::replace(Place::Outside);
        self.0.end_region();
    }
}

/// Where a slice begins that tasks take disjoint parts of.
struct Base<T>(*mut T);

impl<T> Base<T> {
    fn at(&self, i: usize) -> *mut T {
        self.0.wrapping_add(i)
    }
}

// SAFETY: each task dereferences its own part only, and `T: Send` lets another thread have it.
unsafe impl<T: Send> Sync for Base<T> {}
