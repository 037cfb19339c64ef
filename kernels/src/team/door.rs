//! How the threads of a team meet: a door that the leader opens for each parallel step.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::handover::{Member, leave_core};
use super::place::{self, Place};
use super::poll::{Poll, Wait};
use super::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use super::sync::{Arc, Cell, Mutex, Thread, current, lock, park};

/// The parts of [`Door::state`].
const NUMBER_SHIFT: u32 = 32;
const OPEN: u64 = 1 << 31;
const LEADER_SLEEPS: u64 = 1 << 30;
const ONE_ASLEEP: u64 = 1 << 15;
const ASLEEP: u64 = LEADER_SLEEPS - ONE_ASLEEP;
const INSIDE: u64 = ONE_ASLEEP - 1;

/// Threads that a door has room for.
pub const MAX_FOLLOWERS: usize = INSIDE as usize;

/// A parallel step: a function of a task and a worker, its lifetime hidden until [`Door::step`] returns.
#[derive(Clone, Copy)]
struct Step {
    f: *const (dyn Fn(usize, usize) + Sync),
    n_tasks: usize,
}

/// What leader and followers share.
pub struct Door {
    /// The number of the current step in the high half, [`OPEN`], how many followers are inside, and who sleeps: [`LEADER_SLEEPS`] until
    /// nobody is inside, [`ASLEEP`] followers until the next step. A follower that the system has not scheduled in time finds the door
    /// shut and waits for the next step; nobody waits for it.
    ///
    /// As all of this is one word, a thread that goes to sleep and one that changes what it sleeps for cannot miss each other.
    state: AtomicU64,
    poll: Poll,
    step: Cell<Option<Step>>,
    next_task: AtomicUsize,
    /// No region is open: followers may sleep.
    idle: AtomicBool,
    /// The team was dropped: followers return.
    dismissed: AtomicBool,
    followers: Mutex<Vec<Arc<Follower>>>,
    /// That of the region that is open. A thread stays a leader while this is locked.
    leader: Mutex<Option<Leader>>,
    /// The first panic of the current step.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

struct Leader {
    thread: Thread,
    member: Option<Member>,
}

struct Follower {
    thread: Thread,
    member: Option<Member>,
    /// It is in a step, or about to leave it.
    is_inside: AtomicBool,
    /// It was moved to the leader's core, to finish what the leader waits for.
    was_moved: AtomicBool,
}

// Only `step` is not `Sync` by itself. The leader (one at a time: `Team::together` holds a lock while it leads) writes it while the door is
// shut and nobody is inside. Followers read it inside only: each entered by an exchange that acquired the store that opened the door, and
// leaves by a release that the leader acquires before it writes again.
// SAFETY: so a write of `step` and a read of it are never at the same time, and each read sees the last write.
unsafe impl Sync for Door {}
// SAFETY: the pointer in `step` is `None` unless a step is running, and `Door::step` does not return before that step has ended.
unsafe impl Send for Door {}

impl Door {
    pub fn new(poll: Poll) -> Door {
        Door {
            state: AtomicU64::new(0),
            poll,
            step: Cell::new(None),
            next_task: AtomicUsize::new(0),
            idle: AtomicBool::new(true),
            dismissed: AtomicBool::new(false),
            followers: Mutex::new(Vec::new()),
            leader: Mutex::new(None),
            panic: Mutex::new(None),
        }
    }

    /// Followers look out for steps until [`Door::end_region`].
    pub fn begin_region(&self) {
        *lock(&self.leader) = Some(Leader { thread: current(), member: Member::current() });
        self.idle.store(false, Release);
        self.wake();
    }

    pub fn end_region(&self) {
        self.idle.store(true, Release);
        *lock(&self.leader) = None;
    }

    /// Followers return.
    pub fn dismiss(&self) {
        self.dismissed.store(true, Release);
        self.wake();
    }

    /// Wakes the followers that sleep.
    fn wake(&self) {
        lock(&self.followers).iter().for_each(|follower| follower.thread.unpark());
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
        // SAFETY: only the lifetime changes; `Opened` does not let this function be left, by unwinding either, while a thread uses it.
        let f: *const (dyn Fn(usize, usize) + Sync) = unsafe { std::mem::transmute(f) };
        let number = (self.state.load(Relaxed) >> NUMBER_SHIFT).wrapping_add(1);
        self.step.set(Some(Step { f, n_tasks }));
        self.next_task.store(0, Relaxed);
        let opened = Opened(self);
        let open = |state| Some(number << NUMBER_SHIFT | OPEN | state & ASLEEP);
        let before = self.state.fetch_update(Release, Relaxed, open).unwrap_or_default();
        if before & ASLEEP != 0 {
            self.wake();
        }
        self.work(0);
        drop(opened);
        match lock(&self.panic).take() {
            None => Ok(()),
            Some(panic) => Err(panic),
        }
    }

    /// The life of a follower: takes part in steps until it is dismissed.
    pub fn follow(&self, worker: usize) {
        let me = Arc::new(Follower {
            thread: current(),
            member: Member::current(),
            is_inside: AtomicBool::new(false),
            was_moved: AtomicBool::new(false),
        });
        lock(&self.followers).push(Arc::clone(&me));
        let (mut wait, mut seen) = (Wait::new(self.poll), 0);
        let mut idle_since = None;
        while !self.dismissed.load(Acquire) {
            let state = self.state.load(Relaxed);
            if is_new(state, seen) {
                if self.state.compare_exchange(state, state + 1, Acquire, Relaxed).is_ok() {
                    me.is_inside.store(true, Relaxed);
                    self.work(worker);
                    me.is_inside.store(false, Relaxed);
                    self.leave(&me);
                    (wait, seen, idle_since) = (Wait::new(self.poll), state >> NUMBER_SHIFT, None);
                }
                continue;
            }
            if wait.has_taken_long() && self.give_core_to_leader(state) {
                continue;
            }
            let looks_on = if self.idle.load(Acquire) {
                !cfg!(loom) && idle_since.get_or_insert_with(Instant::now).elapsed() <= self.poll.linger()
            } else {
                idle_since = None;
                !wait.is_over()
            };
            if !looks_on {
                self.sleep(seen);
                (wait, idle_since) = (Wait::new(self.poll), None);
            } else {
                wait.once();
            }
        }
    }

    /// Sleeps until a step that is not number `seen`, a region, or the end. (It may return earlier.)
    fn sleep(&self, seen: u64) {
        let before = self.state.fetch_add(ONE_ASLEEP, Relaxed);
        // Whoever begins a region or dismisses wakes afterwards, and a thread that is woken before it sleeps does not sleep.
        if !is_new(before, seen) && !self.dismissed.load(Acquire) {
            park();
        }
        self.state.fetch_sub(ONE_ASLEEP, Relaxed);
    }

    fn leave(&self, me: &Follower) {
        let was_moved = me.was_moved.swap(false, Relaxed);
        let before = self.state.fetch_sub(1, Release);
        if before & LEADER_SLEEPS != 0 && (before & INSIDE == 1 || was_moved) {
            // By now another thread may lead, which is then woken for nothing.
            lock(&self.leader).iter().for_each(|leader| leader.thread.unpark());
        }
        if was_moved {
            leave_core();
        }
    }

    /// Waits until no follower is inside.
    fn wait_for_followers(&self) {
        let mut wait = Wait::new(self.poll);
        while self.state.load(Acquire) & INSIDE != 0 {
            if wait.has_taken_long() && self.give_core_to_a_follower() {
                self.sleep_while_followers_are_inside();
                wait = Wait::new(self.poll);
            } else if wait.is_over() {
                self.sleep_while_followers_are_inside();
            } else {
                wait.once();
            }
        }
    }

    /// Sleeps until none is, or one that was moved here has left. (It may return earlier.)
    fn sleep_while_followers_are_inside(&self) {
        if self.state.fetch_or(LEADER_SLEEPS, Acquire) & INSIDE != 0 {
            park();
        }
        self.state.fetch_and(!LEADER_SLEEPS, Relaxed);
    }

    /// Moves a follower that is inside, but on no core, to the leader's. Whether there is one.
    fn give_core_to_a_follower(&self) -> bool {
        let followers = lock(&self.followers);
        let mut held_up = followers.iter().filter_map(|follower| {
            let member = follower.member.filter(|member| follower.is_inside.load(Relaxed) && member.is_off());
            Some((follower, member?))
        });
        held_up.any(|(follower, member)| {
            // Before it is moved, as it looks when it leaves. (Should it leave at this very moment, it changes its core for nothing.)
            follower.was_moved.store(true, Relaxed);
            let moved = member.move_here();
            if !moved {
                follower.was_moved.store(false, Relaxed);
            }
            moved
        })
    }

    /// Gives the leader of the open region the calling follower's core, if it has none and nothing has changed since `state`.
    fn give_core_to_leader(&self, state: u64) -> bool {
        let leader = lock(&self.leader);
        let Some(member) = leader.as_ref().and_then(|leader| leader.member) else { return false };
        let moved = member.is_off() && self.state.load(Relaxed) == state && member.move_here();
        drop(leader);
        if moved {
            leave_core();
        }
        moved
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
                return;
            }
            drop(first);
            discard(panic);
        }
    }
}

/// Drops what a panic carries, which may panic in turn: nothing unwinds from here. What does not stop panicking is leaked.
fn discard(mut panic: Box<dyn Any + Send>) {
    for _ in 0..3 {
        match catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            Ok(()) => return,
            Err(another) => panic = another,
        }
    }
    std::mem::forget(panic);
}

/// A door that is open; dropped, it is shut and nobody is inside.
struct Opened<'a>(&'a Door);

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!OPEN, Relaxed);
        self.0.wait_for_followers();
        self.0.step.set(None);
    }
}

/// Whether the door is open to a step that is not number `seen`.
fn is_new(state: u64, seen: u64) -> bool {
    state & OPEN != 0 && state >> NUMBER_SHIFT != seen
}
