//! A team of threads that stays together for a whole forward pass.
//!
//! Waking a pool costs microseconds, a layer has a dozen parallel steps, and a token of a small model takes about a millisecond. So a
//! region ([`Team::together`]) is entered once a pass: its leader, the thread that entered, runs the pass as ordinary sequential code, and
//! the others wait for the next step, as patiently as [`Poll`] says. Between passes they linger for a moment, as the next token is
//! soon to come. The tasks of a step are handed out one by one, and a thread that the system has put aside before a step is not waited for.
//! One that is put aside in the middle of a task, for a busy neighbour on its core, gets the core of the thread that waits for it (on Linux).

mod crew;
mod door;
mod handover;
mod place;
mod poll;
mod sync;
mod threads;

use std::panic::resume_unwind;
use std::ptr::null_mut;

use crew::Crew;
use place::Place;
use sync::atomic::{AtomicPtr, Ordering::*};
use sync::lock;

pub use poll::Poll;

/// The threads of an engine: the caller's, and others of its own where it has more than one. Dropped, it waits until these have ended.
///
/// # Nesting
/// A thread takes part in one region at a time. Inside a task, or inside another team's region, [`Team::together`] and [`Team::run`] do all
/// of their work on the calling thread: correct, only not parallel. Nothing waits for a thread that waits for it.
///
/// # Fork
/// A forked process has the thread that forked and no other. The first region there starts threads anew (where the system refuses, all work
/// is done on the calling thread), whatever the parent's threads were doing. A fork inside a task is the exception: the child must not
/// return to that task's step, which would wait for threads that are not there.
pub struct Team {
    /// Null where the team is the caller's thread alone.
    crew: AtomicPtr<Crew>,
    n_threads: usize,
    poll: Poll,
    begin: Begin,
}

/// What each of a team's own threads does first; it is told which worker it is.
type Begin = std::sync::Arc<dyn Fn(usize) + Send + Sync>;

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
        Team::start(n_threads, Poll::default(), |_| {})
    }

    /// A team whose threads wait for each other as `poll` says. Each of the team's own threads (all but the caller's, which is worker 0)
    /// calls `begin` with its worker number before it does anything else, to set what the system keeps of a thread.
    ///
    /// # Errors
    /// As [`Team::new`].
    pub fn start(
        n_threads: usize,
        poll: Poll,
        begin: impl Fn(usize) + Send + Sync + 'static,
    ) -> Result<Team, TeamError> {
        let begin: Begin = std::sync::Arc::new(begin);
        let n_threads = n_threads.max(1);
        let crew = match n_threads {
            1 => null_mut(),
            _ => Box::into_raw(Box::new(Crew::start(n_threads, poll, &begin)?)),
        };
        Ok(Team { crew: AtomicPtr::new(crew), n_threads, poll, begin })
    }

    /// The crew of this process; `None` where there is only the calling thread.
    fn crew(&self) -> Option<&Crew> {
        let current = self.crew.load(Acquire);
        // SAFETY: null or from `Box::into_raw`, and freed by `drop` alone, which has `self` for itself.
        let crew = unsafe { current.as_ref() }?;
        if crew.is_of_this_process() {
            return Some(crew);
        }
        // What belongs to the parent's threads is never touched again, and so never freed.
        let fresh = Box::into_raw(Box::new(Crew::start(self.n_threads, self.poll, &self.begin).ok()?));
        let crew = match self.crew.compare_exchange(current, fresh, AcqRel, Acquire) {
            Ok(_) => fresh,
            Err(faster) => {
                // SAFETY: from `Box::into_raw` above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(fresh) });
                faster
            }
        };
        // SAFETY: as above; a crew is replaced by one of this process once.
        Some(unsafe { &*crew })
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
        if !matches!(place::get(), Place::Outside) {
            return f();
        }
        let Some(crew) = self.crew() else { return f() };
        let _alone = lock(&crew.entrance);
        let _region = Region::enter(crew);
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
        // SAFETY: null or from `Box::into_raw`, and freed by `drop` alone, which has `self` for itself.
        let crew = unsafe { self.crew.load(Acquire).as_ref() };
        let worker = match (place::get(), crew) {
            (Place::Leads(of), Some(crew)) if of == crew.address() && n_tasks > 1 => {
                // SAFETY: this thread leads the crew (the entrance is locked by the region it is in), and is not inside a task.
                match unsafe { crew.door.step(n_tasks, &f) } {
                    Ok(()) => return,
                    Err(panic) => resume_unwind(panic),
                }
            }
            (Place::Task { of, worker }, Some(crew)) if of == crew.address() => worker,
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
        let crew = self.crew.load(Acquire);
        if crew.is_null() {
            return;
        }
        // SAFETY: from `Box::into_raw`, and nobody else has the team any more.
        let crew = unsafe { Box::from_raw(crew) };
        if !crew.is_of_this_process() {
            std::mem::forget(crew);
        }
    }
}

/// The region that this thread leads; left when dropped, by unwinding too.
struct Region<'a>(&'a Crew);

impl<'a> Region<'a> {
    fn enter(crew: &'a Crew) -> Region<'a> {
        crew.door.begin_region();
        place::replace(Place::Leads(crew.address()));
        Region(crew)
    }
}

impl Drop for Region<'_> {
    fn drop(&mut self) {
        place::replace(Place::Outside);
        self.0.door.end_region();
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
