//! A team of threads that stays together for a whole forward pass.
//!
//! Waking a pool costs microseconds, a layer has a dozen parallel steps and a small model's token lasts about a millisecond. So one
//! region ([`Team::together`]) is entered for a pass: its leader, the thread that enters, runs the pass as ordinary sequential code, the
//! others wait for the next step in a short spin that turns to yielding. Between passes they linger for a moment, as the next token is
//! soon to come. Each step's tasks are handed out one by one, and a thread that the system has not let run is not waited for, so that a
//! busy neighbour on one core does not stall the rest.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Checks of the flag before a waiting thread begins to yield its core: some tens of microseconds.
const SPINS: u32 = 4_000;

/// How long threads wait for another region before they sleep: longer than it takes to choose and print a token.
const LINGER: Duration = Duration::from_millis(1);

/// The parts of [`Shared::door`].
const NUMBER_SHIFT: u32 = 32;
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;

/// The threads of one engine: that of the caller, and a pool of the others where there are any.
pub struct Team {
    pool: Option<rayon::ThreadPool>,
    n_threads: usize,
    shared: Arc<Shared>,
    /// One region at a time; a second caller waits.
    entrance: Mutex<()>,
}

/// A step: a function of the task's and the worker's number, its lifetime hidden until [`Team::run`] returns.
#[derive(Clone, Copy)]
struct Step {
    f: *const (dyn Fn(usize, usize) + Sync),
    n_tasks: usize,
}

struct Shared {
    /// The door of the current step: its number in the high half, [`OPEN`], and how many followers are inside. A follower that the
    /// system has not let run in time finds it shut and waits for the next; nobody waits for it.
    door: AtomicU64,
    step: Cell<Option<Step>>,
    next_task: AtomicUsize,
    /// Whether no region is open.
    closed: AtomicBool,
    /// Whether the team is no more.
    gone: AtomicBool,
    /// The pool's threads, to wake them.
    followers: Mutex<Vec<Thread>>,
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
}

// SAFETY: `step` is written by the leader alone, while the door is shut with nobody inside, and read by followers that are inside: each
// entered by an exchange that acquired the leader's opening, and leaves by a release that the leader acquires before it writes again.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `step` is used inside a region only, while what it points to is alive.
unsafe impl Send for Shared {}

thread_local! {
    /// Whether this thread leads a region of the team at this address.
    static LEADS: Cell<*const Team> = const { Cell::new(std::ptr::null()) };
}

impl Team {
    /// A team of `n_threads` (at least one) threads of its own.
    ///
    /// # Errors
    /// Where the threads cannot be started.
    pub fn new(n_threads: usize) -> Result<Team, rayon::ThreadPoolBuildError> {
        let n_threads = n_threads.max(1);
        let pool = if n_threads == 1 {
            None
        } else {
            let names = |i| format!("bise-{}", i + 1);
            Some(rayon::ThreadPoolBuilder::new().num_threads(n_threads - 1).thread_name(names).build()?)
        };
        let shared = Shared {
            door: AtomicU64::new(0),
            step: Cell::new(None),
            next_task: AtomicUsize::new(0),
            closed: AtomicBool::new(true),
            gone: AtomicBool::new(false),
            followers: Mutex::new(Vec::new()),
            panic: Mutex::new(None),
        };
        let shared = Arc::new(shared);
        if let Some(pool) = &pool {
            let shared = Arc::clone(&shared);
            pool.spawn_broadcast(move |worker| shared.follow(worker.index() + 1));
        }
        Ok(Team { pool, n_threads, shared, entrance: Mutex::new(()) })
    }

    /// Threads.
    pub fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// Runs `f` as the leader of a region: every [`Team::run`] inside it has the whole team at hand.
    ///
    /// # Panics
    /// With `f`'s panic, or that of a task.
    pub fn together<R>(&self, f: impl FnOnce() -> R) -> R {
        if self.pool.is_none() || std::ptr::eq(LEADS.get(), self) {
            return f();
        }
        let _alone = self.entrance.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.closed.store(false, Release);
        self.shared.wake();
        let outer = LEADS.replace(self);
        let result = catch_unwind(AssertUnwindSafe(f));
        LEADS.set(outer);
        self.shared.closed.store(true, Release);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Calls `f(task, worker)` once for each `task < n_tasks`, `worker < n_threads`, and returns when all are done. Inside
    /// [`Team::together`] the team shares the tasks, taking them in rising order; outside, they run in place.
    ///
    /// # Panics
    /// With the panic of a task.
    pub fn run(&self, n_tasks: usize, f: impl Fn(usize, usize) + Sync) {
        if n_tasks <= 1 || !std::ptr::eq(LEADS.get(), self) {
            for task in 0..n_tasks {
                f(task, 0);
            }
            return;
        }
        let f: &(dyn Fn(usize, usize) + Sync) = &f;
        // SAFETY: only the lifetime changes; `step` is used inside the door alone, and this function returns when nobody is left there.
        let f: *const (dyn Fn(usize, usize) + Sync) = unsafe { std::mem::transmute(f) };
        let door = &self.shared.door;
        let number = (door.load(Relaxed) >> NUMBER_SHIFT).wrapping_add(1);
        self.shared.step.set(Some(Step { f, n_tasks }));
        self.shared.next_task.store(0, Relaxed);
        door.store(number << NUMBER_SHIFT | OPEN, Release);
        self.shared.work(0);
        door.fetch_and(!OPEN, Relaxed);
        let mut spins = 0;
        while door.load(Acquire) & INSIDE != 0 {
            wait(&mut spins);
        }
        // Not in the condition below: the lock would be held while unwinding.
        let panic = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.gone.store(true, Release);
        self.shared.wake();
    }
}

impl Shared {
    /// Wakes those who sleep; for others it is cheap.
    fn wake(&self) {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Thread::unpark);
    }

    /// Takes part in regions as long as the team lives.
    fn follow(&self, worker: usize) {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).push(std::thread::current());
        let (mut spins, mut seen) = (0, 0);
        let mut idle_since = None;
        while !self.gone.load(Acquire) {
            let state = self.door.load(Relaxed);
            let is_new = state & OPEN != 0 && state >> NUMBER_SHIFT != seen;
            if is_new && self.door.compare_exchange(state, state + 1, Acquire, Relaxed).is_ok() {
                self.work(worker);
                self.door.fetch_sub(1, Release);
                (spins, seen, idle_since) = (0, state >> NUMBER_SHIFT, None);
                continue;
            }
            if !self.closed.load(Acquire) {
                idle_since = None;
            } else if idle_since.get_or_insert_with(Instant::now).elapsed() > LINGER {
                std::thread::park();
                idle_since = None;
            }
            wait(&mut spins);
        }
    }

    /// Takes tasks of the current step until none is left; a panic is kept for the leader.
    fn work(&self, worker: usize) {
        let step = self.step.get().expect("a step is set before its door opens");
        // SAFETY: `run` keeps the function alive until every worker has left the step.
        let f = unsafe { &*step.f };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let task = self.next_task.fetch_add(1, Relaxed);
                if task >= step.n_tasks {
                    break;
                }
                f(task, worker);
            }
        }));
        if let Err(panic) = outcome {
            self.next_task.store(step.n_tasks, Relaxed);
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }
}

impl Team {
    /// Calls `f(i, chunk)` for the `i`-th `chunk_len` elements of `data` (the last chunk may be shorter), sharing chunks as
    /// [`Team::run`] shares tasks.
    ///
    /// # Panics
    /// With the panic of `f`, and where `chunk_len` is 0.
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
            // SAFETY: `run` calls with each `i` once, so the chunks are disjoint parts of `data`, which is ours until `run` returns.
            f(i, unsafe { std::slice::from_raw_parts_mut(base.at(first), n) });
        });
    }
}

/// The start of a slice that tasks take disjoint parts of.
struct Base<T>(*mut T);

impl<T> Base<T> {
    fn at(&self, i: usize) -> *mut T {
        self.0.wrapping_add(i)
    }
}

// SAFETY: each task dereferences its own part only, and `T: Send` lets another thread have it.
unsafe impl<T: Send> Sync for Base<T> {}

fn wait(spins: &mut u32) {
    *spins += 1;
    if *spins < SPINS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for n_threads in [1, 2, 3, 7] {
            let team = Team::new(n_threads).unwrap();
            team.together(|| {
                for n_tasks in [0, 1, 2, 5, 64] {
                    let hits: Vec<_> = (0..n_tasks).map(|_| AtomicUsize::new(0)).collect();
                    team.run(n_tasks, |task, worker| {
                        assert!(worker < n_threads);
                        hits[task].fetch_add(1, Relaxed);
                    });
                    assert!(
                        hits.iter().all(|h| h.load(Relaxed) == 1),
                        "{n_threads} threads, {n_tasks} tasks"
                    );
                }
            });
        }
    }

    #[test]
    fn chunks_cover_the_slice_once() {
        let team = Team::new(3).unwrap();
        let mut data = vec![0usize; 1000];
        team.together(|| {
            team.for_each_chunk(&mut data, 64, |i, chunk| chunk.iter_mut().for_each(|x| *x += i + 1));
        });
        assert!(data.iter().enumerate().all(|(i, x)| *x == i / 64 + 1));
    }

    #[test]
    fn a_region_inside_a_region_is_the_same_one() {
        let team = Team::new(3).unwrap();
        let sum = AtomicUsize::new(0);
        team.together(|| team.together(|| team.run(10, |task, _| _ = sum.fetch_add(task, Relaxed))));
        assert_eq!(sum.into_inner(), 45);
    }

    #[test]
    fn panics_of_leader_and_tasks_come_out_and_leave_the_team_usable() {
        let team = Team::new(3).unwrap();
        for _ in 0..100 {
            let task = catch_unwind(AssertUnwindSafe(|| {
                team.together(|| team.run(8, |task, _| assert_ne!(task, 5)));
            }));
            assert!(task.is_err());
            let leader = catch_unwind(AssertUnwindSafe(|| team.together(|| panic!("leader"))));
            assert!(leader.is_err());
            assert_eq!(team.together(|| 7), 7);
        }
    }

    #[test]
    fn many_regions_from_many_threads_take_turns() {
        let team = Team::new(2).unwrap();
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        team.together(|| team.run(4, |_, _| _ = sum.fetch_add(1, Relaxed)));
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 800);
    }
}
