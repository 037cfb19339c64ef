//! How the threads of a team meet: a door that the leader opens for each parallel step.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::place::{self, Place};
use super::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use super::sync::{Cell, Mutex, Thread, current, lock, park, spin_loop, yield_now};

/// How often a waiting thread checks before it begins to yield its core: some tens of microseconds. The model checker wants each to yield.
const SPINS: u32 = if cfg!(any(loom, miri)) { 0 } else { 4_000 };

/// How long followers look out for another region before they sleep: longer than it takes to sample and print a token.
const LINGER: Duration = Duration::from_millis(if cfg!(loom) { 0 } else { 1 });

/// The parts of [`Door::state`].
const NUMBER_SHIFT: u32 = 32;
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;

/// A parallel step: a function of a task and a worker, its lifetime hidden until [`Door::step`] returns.
#[derive(Clone, Copy)]
struct Step {
    f: *const (dyn Fn(usize, usize) + Sync),
    n_tasks: usize,
}

/// What leader and followers share.
pub struct Door {
    /// The number of the current step in the high half, [`OPEN`], and how many followers are inside. A follower that the system has not
    /// scheduled in time finds the door shut and waits for the next step; nobody waits for it.
    state: AtomicU64,
    step: Cell<Option<Step>>,
    next_task: AtomicUsize,
    /// No region is open: followers may sleep.
    idle: AtomicBool,
    /// The team was dropped: followers return.
    dismissed: AtomicBool,
    followers: Mutex<Vec<Thread>>,
    /// The first panic of the current step.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: only `step` is not `Sync` by itself. The leader (one at a time: `Team::together` holds a lock while it leads) writes it while the
// door is shut and nobody is inside. Followers read it inside only: each entered by an exchange that acquired the store that opened the
// door, and leaves by a release that the leader acquires before it writes again.
unsafe impl Sync for Door {}
// SAFETY: the pointer in `step` is `None` unless a step is running, and `Door::step` does not return before that step has ended.
unsafe impl Send for Door {}

impl Door {
    pub fn new() -> Door {
        Door {
            state: AtomicU64::new(0),
            step: Cell::new(None),
            next_task: AtomicUsize::new(0),
            idle: AtomicBool::new(true),
            dismissed: AtomicBool::new(false),
            followers: Mutex::new(Vec::new()),
            panic: Mutex::new(None),
        }
    }

    /// Followers look out for steps until [`Door::end_region`].
    pub fn begin_region(&self) {
        self.idle.store(false, Release);
        self.wake();
    }

    pub fn end_region(&self) {
        self.idle.store(true, Release);
    }

    /// Followers return.
    pub fn dismiss(&self) {
        self.dismissed.store(true, Release);
        self.wake();
    }

    /// Wakes the followers that sleep.
    fn wake(&self) {
        lock(&self.followers).iter().for_each(Thread::unpark);
    }

    /// Runs a step with whichever followers come, and returns when all of its tasks are done, or the first panic of one.
    ///
    /// # Safety
    /// The calling thread leads the team (nobody else is in this function), and is not itself inside a step of it.
    pub unsafe fn step(
        &self,
        n_tasks: usize,
        f: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<(), Box<dyn Any + Send>> {
        // SAFETY: only the lifetime changes. Threads use the pointer while they are inside, and `Opened` keeps this function from being
        // left, by unwinding too, while one is.
        let f: *const (dyn Fn(usize, usize) + Sync) = unsafe { std::mem::transmute(f) };
        let number = (self.state.load(Relaxed) >> NUMBER_SHIFT).wrapping_add(1);
        self.step.set(Some(Step { f, n_tasks }));
        self.next_task.store(0, Relaxed);
        let opened = Opened(self);
        self.state.store(number << NUMBER_SHIFT | OPEN, Release);
        self.work(0);
        drop(opened);
        match lock(&self.panic).take() {
            None => Ok(()),
            Some(panic) => Err(panic),
        }
    }

    /// The life of a follower: takes part in steps until it is dismissed.
    pub fn follow(&self, worker: usize) {
        lock(&self.followers).push(current());
        let (mut spins, mut seen) = (0, 0);
        let mut idle_since = None;
        while !self.dismissed.load(Acquire) {
            let state = self.state.load(Relaxed);
            let is_new = state & OPEN != 0 && state >> NUMBER_SHIFT != seen;
            if is_new && self.state.compare_exchange(state, state + 1, Acquire, Relaxed).is_ok() {
                self.work(worker);
                self.state.fetch_sub(1, Release);
                (spins, seen, idle_since) = (0, state >> NUMBER_SHIFT, None);
                continue;
            }
            if !self.idle.load(Acquire) {
                idle_since = None;
            } else if cfg!(loom) || idle_since.get_or_insert_with(Instant::now).elapsed() > LINGER {
                // Whoever changes what this loop waits for wakes afterwards, so a change between the checks above and here is not missed.
                park();
                idle_since = None;
                continue;
            }
            wait(&mut spins);
        }
    }

    /// Takes tasks of the current step until none is left. Does not unwind: a panic is kept for the leader, and ends the step.
    fn work(&self, worker: usize) {
        let Some(step) = self.step.get() else { return };
        let outer = place::replace(Place::Task { of: (&raw const *self).addr(), worker });
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the leader is in `Door::step`, which keeps `f` borrowed until every follower inside has left.
            let f = unsafe { &*step.f };
            loop {
                let task = self.next_task.fetch_add(1, Relaxed);
                if task >= step.n_tasks {
                    break;
                }
                f(task, worker);
            }
        }));
        place::replace(outer);
        if let Err(panic) = outcome {
            self.next_task.store(step.n_tasks, Relaxed);
            let mut first = lock(&self.panic);
            if first.is_none() {
                *first = Some(panic);
            } else {
                // Whatever a panic carries may panic when it is dropped, and nothing may unwind from here.
                std::mem::forget(panic);
            }
        }
    }
}

/// A door that is open; dropped, it is shut and nobody is inside.
struct Opened<'a>(&'a Door);

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!OPEN, Relaxed);
        let mut spins = 0;
        while self.0.state.load(Acquire) & INSIDE != 0 {
            wait(&mut spins);
        }
        self.0.step.set(None);
    }
}

fn wait(spins: &mut u32) {
    *spins += 1;
    if *spins < SPINS {
        spin_loop();
    } else {
        yield_now();
    }
}
