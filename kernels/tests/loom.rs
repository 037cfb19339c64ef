//! The team under a model checker, which tries every order of its threads' steps up to so many preemptions:
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test -p bise-kernels --test loom`
#![cfg(loom)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use bise_kernels::{Poll, Team};
use loom::cell::UnsafeCell;
use loom::sync::Arc;

/// Memory that the model checker watches: a write that another access does not happen before or after is reported.
struct Slots(Vec<UnsafeCell<usize>>);

// SAFETY: not even needed to be true: loom's cells report what would be a race.
unsafe impl Sync for Slots {}
// SAFETY: as above.
unsafe impl Send for Slots {}

impl Slots {
    fn new(n: usize) -> Slots {
        Slots((0..n).map(|_| UnsafeCell::new(0)).collect())
    }

    fn add(&self, i: usize, n: usize) {
        // SAFETY: loom runs one thread at a time.
        self.0[i].with_mut(|slot| unsafe { *slot += n });
    }

    fn get(&self, i: usize) -> usize {
        // SAFETY: as in `add`.
        self.0[i].with(|slot| unsafe { *slot })
    }
}

/// Checks with threads that sleep whenever they wait, and with those that never do.
fn check(test: fn(Team)) {
    for poll in [Poll::SLEEP, Poll::default()] {
        loom::model(move || test(Team::start(2, poll, |_| {}).unwrap()));
    }
}

/// Two steps, one after the other, the second on what the first has written; then the team is dropped and its thread joined.
#[test]
fn steps_see_what_the_steps_before_them_wrote() {
    check(|team| {
        let slots = Slots::new(2);
        team.together(|| {
            team.run(2, |task, _| slots.add(task, 1));
            team.run(2, |task, _| slots.add(1 - task, 10));
        });
        assert_eq!([slots.get(0), slots.get(1)], [11, 11]);
    });
}

/// A follower that has gone to sleep in between is woken, or not waited for.
#[test]
fn regions_come_one_after_the_other() {
    check(|team| {
        let slots = Slots::new(2);
        for _ in 0..2 {
            team.together(|| team.run(2, |task, _| slots.add(task, 1)));
        }
        assert_eq!([slots.get(0), slots.get(1)], [2, 2]);
    });
}

#[test]
fn two_leaders_take_turns() {
    check(|team| {
        let shared = Arc::new((team, Slots::new(2)));
        let lead = |shared: &(Team, Slots)| {
            let (team, slots) = shared;
            team.together(|| team.run(2, |task, _| slots.add(task, 1)));
        };
        let other = Arc::clone(&shared);
        let thread = loom::thread::spawn(move || lead(&other));
        lead(&shared);
        thread.join().unwrap();
        assert_eq!([shared.1.get(0), shared.1.get(1)], [2, 2]);
    });
}

#[test]
fn a_task_that_runs_tasks_keeps_them() {
    check(|team| {
        let slots = Slots::new(4);
        team.together(|| {
            team.run(2, |task, _| {
                team.together(|| team.run(2, |nested, _| slots.add(2 * task + nested, 1)));
            });
        });
        assert!((0..4).all(|i| slots.get(i) == 1));
    });
}

#[test]
fn a_panic_leaves_nobody_inside() {
    check(|team| {
        let slots = Slots::new(2);
        team.together(|| {
            let step = || {
                team.run(2, |task, _| {
                    slots.add(task, 1);
                    if task == 1 {
                        resume_unwind(Box::new(()));
                    }
                });
            };
            // Caught inside the region, whose lock loom cannot have poisoned.
            assert!(catch_unwind(AssertUnwindSafe(step)).is_err());
            // Were a follower still in a task, this would be a race.
            slots.add(0, 1);
            slots.add(1, 1);
            team.run(2, |task, _| slots.add(task, 1));
        });
        assert!([2, 3].contains(&slots.get(0)), "a task that had not begun is dropped");
        assert_eq!(slots.get(1), 3);
    });
}
