//! Teams: every task runs once whatever is nested in what, panics come out, and nothing waits for itself. A hang fails these tests by the
//! limit of the whole run.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::sync::{Barrier, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use bise_kernels::{Poll, Team};

/// Miri interprets every instruction.
const REPEAT: usize = if cfg!(miri) { 2 } else { 100 };

fn counters(n: usize) -> Vec<AtomicUsize> {
    (0..n).map(|_| AtomicUsize::new(0)).collect()
}

#[track_caller]
fn assert_each(counters: &[AtomicUsize], expected: usize) {
    let found: Vec<_> = counters.iter().map(|n| n.load(Relaxed)).collect();
    assert!(found.iter().all(|n| *n == expected), "{expected} calls of each task, found {found:?}");
}

/// Stays in a task until `n` threads are in one: whoever may come does.
fn meet(barrier: &Barrier) {
    barrier.wait();
}

#[test]
fn every_task_runs_once() {
    for n_threads in [1, 2, 3, 7] {
        let team = Team::new(n_threads).unwrap();
        team.together(|| {
            for n_tasks in [0, 1, 2, 5, 64] {
                let hits = counters(n_tasks);
                team.run(n_tasks, |task, worker| {
                    assert!(worker < n_threads);
                    hits[task].fetch_add(1, Relaxed);
                });
                assert_each(&hits, 1);
            }
        });
    }
}

#[test]
fn the_whole_team_takes_part() {
    let team = Team::new(3).unwrap();
    let (barrier, threads) = (Barrier::new(3), Mutex::new(HashSet::new()));
    team.together(|| {
        team.run(3, |_, worker| {
            barrier.wait();
            threads.lock().unwrap().insert((worker, std::thread::current().id()));
        });
    });
    let threads = threads.into_inner().unwrap();
    assert_eq!(threads.iter().map(|(worker, _)| *worker).collect::<HashSet<_>>(), HashSet::from([0, 1, 2]));
    assert!(threads.contains(&(0, std::thread::current().id())), "the leader is worker 0");
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

/// The outer step is still open while the inner one runs, on the leader and on followers alike.
#[test]
fn a_run_inside_a_task_stays_on_its_thread() {
    let team = Team::new(3).unwrap();
    for _ in 0..REPEAT {
        let (outer, inner) = (counters(12), counters(12 * 5));
        let barrier = Barrier::new(3);
        team.together(|| {
            team.run(12, |task, worker| {
                outer[task].fetch_add(1, Relaxed);
                if task < 3 {
                    meet(&barrier); // each thread has one of the first three
                }
                let here = std::thread::current().id();
                team.run(5, |nested, nested_worker| {
                    assert_eq!((std::thread::current().id(), nested_worker), (here, worker));
                    inner[task * 5 + nested].fetch_add(1, Relaxed);
                });
            });
        });
        assert_each(&outer, 1);
        assert_each(&inner, 1);
    }
}

#[test]
fn chunks_are_handed_out_once_when_a_task_has_chunks_of_its_own() {
    let team = Team::new(3).unwrap();
    for _ in 0..REPEAT {
        let mut rows = vec![0u32; 8 * 100];
        team.together(|| {
            team.for_each_chunk(&mut rows, 100, |_, row| {
                team.for_each_chunk(row, 7, |_, chunk| chunk.iter_mut().for_each(|x| *x += 1));
            });
        });
        assert!(rows.iter().all(|x| *x == 1));
    }
}

#[test]
fn a_region_inside_a_task_stays_on_its_thread() {
    let team = Team::new(3).unwrap();
    let (hits, barrier) = (counters(3 * 4), Barrier::new(3));
    team.together(|| {
        team.run(3, |task, _| {
            meet(&barrier);
            team.together(|| team.run(4, |nested, _| _ = hits[task * 4 + nested].fetch_add(1, Relaxed)));
        });
    });
    assert_each(&hits, 1);
}

#[test]
fn teams_inside_the_tasks_of_another_stay_on_its_threads() {
    let (a, b) = (Team::new(3).unwrap(), Team::new(2).unwrap());
    let (hits, barrier) = (counters(2 * 4 * 2), Barrier::new(2));
    b.together(|| {
        b.run(2, |task, _| {
            meet(&barrier);
            let here = std::thread::current().id();
            a.together(|| {
                a.run(4, |i, _| {
                    assert_eq!(std::thread::current().id(), here);
                    // Back to the team whose step is open.
                    b.together(|| b.run(2, |j, _| _ = hits[(task * 4 + i) * 2 + j].fetch_add(1, Relaxed)));
                });
            });
        });
    });
    assert_each(&hits, 1);
    // Neither team has lost anyone.
    for (team, n) in [(&a, 3), (&b, 2)] {
        let barrier = Barrier::new(n);
        team.together(|| team.run(n, |_, _| meet(&barrier)));
    }
}

#[test]
fn a_region_inside_a_region_is_the_same_one() {
    let team = Team::new(3).unwrap();
    let barrier = Barrier::new(3);
    team.together(|| team.together(|| team.run(3, |_, _| meet(&barrier))));
}

/// Were the inner teams entered, two threads would wait for each other; and the third region would wait for its own thread.
#[test]
fn regions_of_two_teams_inside_each_other_do_not_wait() {
    let (a, b) = (Team::new(2).unwrap(), Team::new(2).unwrap());
    let total = AtomicUsize::new(0);
    let add = |team: &Team| team.run(4, |_, _| _ = total.fetch_add(1, Relaxed));
    let nest = |outer: &Team, inner: &Team| {
        for _ in 0..REPEAT {
            outer.together(|| {
                add(inner);
                inner.together(|| {
                    add(inner);
                    outer.together(|| add(outer));
                });
                add(outer);
            });
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| nest(&a, &b));
        scope.spawn(|| nest(&b, &a));
    });
    assert_eq!(total.into_inner(), 2 * REPEAT * 4 * 4);
}

#[test]
fn many_regions_from_many_threads_take_turns() {
    let team = Team::new(2).unwrap();
    let (inside, total) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..REPEAT {
                    team.together(|| {
                        assert_eq!(inside.fetch_add(1, SeqCst), 0, "one region at a time");
                        team.run(4, |_, _| _ = total.fetch_add(1, Relaxed));
                        inside.fetch_sub(1, SeqCst);
                    });
                }
            });
        }
    });
    assert_eq!(total.into_inner(), 4 * REPEAT * 4);
}

fn panic_of(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("a panic");
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => {
            panic.downcast::<&str>().map_or_else(|_| "?".to_owned(), |message| (*message).to_owned())
        }
    }
}

#[test]
fn panics_come_out_and_leave_the_team_usable() {
    let team = Team::new(3).unwrap();
    let quiet = |message: String| resume_unwind(Box::new(message)); // without a line on stderr
    for i in 0..REPEAT {
        let leader = std::thread::current().id();
        let barrier = Barrier::new(3);
        let on = |who: fn(ThreadId, ThreadId) -> bool| {
            panic_of(|| {
                team.together(|| {
                    team.run(30, |task, _| {
                        if task < 3 {
                            meet(&barrier);
                            if who(std::thread::current().id(), leader) {
                                quiet(format!("task {i}"));
                            }
                        }
                    })
                })
            })
        };
        assert_eq!(on(|here, leader| here == leader), format!("task {i}"));
        assert_eq!(on(|here, leader| here != leader), format!("task {i}"));
        assert_eq!(on(|_, _| true), format!("task {i}"));
        assert_eq!(panic_of(|| team.together(|| quiet(format!("leader {i}")))), format!("leader {i}"));
        let nested =
            panic_of(|| team.together(|| team.run(3, |_, _| team.run(2, |_, _| quiet("nested".into())))));
        assert_eq!(nested, "nested");
        let hits = counters(9);
        let barrier = Barrier::new(3);
        team.together(|| {
            team.run(9, |task, _| {
                if task < 3 {
                    meet(&barrier);
                }
                hits[task].fetch_add(1, Relaxed);
            })
        });
        assert_each(&hits, 1);
    }
}

/// A panic in the middle of a region that catches it: the next step of the same region has the whole team.
#[test]
fn a_region_goes_on_after_a_panic_that_it_catches() {
    let team = Team::new(3).unwrap();
    team.together(|| {
        assert_eq!(panic_of(|| team.run(8, |_, _| resume_unwind(Box::new("caught")))), "caught");
        let barrier = Barrier::new(3);
        team.run(3, |_, _| meet(&barrier));
    });
}

/// Dropping what a panic carries may panic too: all but the first are kept from doing so inside the step.
#[test]
fn panics_that_panic_when_dropped_do_not_unwind_out_of_a_step() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                resume_unwind(Box::new("bomb"));
            }
        }
    }
    let team = Team::new(3).unwrap();
    let barrier = Barrier::new(3);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        team.together(|| {
            team.run(3, |_, _| {
                meet(&barrier);
                resume_unwind(Box::new(Bomb));
            })
        })
    }));
    std::mem::forget(panic.expect_err("the first of three"));
    team.together(|| team.run(3, |_, _| meet(&barrier)));
}

/// `run` waits for whoever is still in a task, even if another task has panicked: what tasks borrow would be gone.
#[test]
fn a_panic_waits_for_the_tasks_that_run() {
    let team = Team::new(2).unwrap();
    for _ in 0..REPEAT.min(10) {
        let (barrier, done) = (Barrier::new(2), AtomicUsize::new(0));
        let panic = panic_of(|| {
            team.together(|| {
                team.run(2, |task, _| {
                    meet(&barrier);
                    if task == 0 {
                        resume_unwind(Box::new("early"));
                    }
                    std::thread::sleep(Duration::from_millis(5));
                    done.fetch_add(1, Relaxed);
                })
            })
        });
        assert_eq!((panic.as_str(), done.into_inner()), ("early", 1));
    }
}

#[test]
fn a_team_sleeps_between_regions_and_wakes() {
    let team = Team::new(3).unwrap();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(5));
        let barrier = Barrier::new(3);
        team.together(|| team.run(3, |_, _| meet(&barrier)));
    }
}

#[test]
fn teams_come_and_go() {
    for n_threads in [1, 2, 5] {
        drop(Team::new(n_threads).unwrap());
        let team = Team::new(n_threads).unwrap();
        assert_eq!((team.n_threads(), team.together(|| 7)), (n_threads, 7));
    }
    assert_eq!(Team::new(0).unwrap().n_threads(), 1);
}

/// Tells when a thread of a team has given its thread-local values back.
struct Ended(std::sync::Arc<AtomicUsize>);

impl Drop for Ended {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(if cfg!(miri) { 0 } else { 5 }));
        self.0.fetch_add(1, SeqCst);
    }
}

thread_local! {
    static ENDED: std::cell::RefCell<Option<Ended>> = const { std::cell::RefCell::new(None) };
}

/// Whoever unloads the library after that, or ends the process, finds none of its code running.
#[test]
fn threads_have_ended_when_their_team_is_dropped() {
    for (level, enter) in [(0, false), (0, true), (50, false), (50, true)] {
        let ended = std::sync::Arc::new(AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&ended);
        let begin = move |_| ENDED.with(|value| *value.borrow_mut() = Some(Ended(count.clone())));
        let team = Team::start(3, Poll::new(level), begin).unwrap();
        if enter {
            team.together(|| team.run(3, |_, _| {}));
        }
        drop(team);
        assert_eq!(ended.load(SeqCst), 2, "level {level}, entered: {enter}");
    }
}

/// Were a thread not woken to a step, a region or the end, this would hang.
#[test]
fn nobody_oversleeps_however_short_steps_and_teams_are() {
    for round in 0..REPEAT {
        let (team, total) = (Team::start(2 + round % 3, Poll::SLEEP, |_| {}).unwrap(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for n_steps in 0..10 {
                        team.together(|| {
                            (0..n_steps).for_each(|_| team.run(2, |_, _| _ = total.fetch_add(1, Relaxed)));
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 2 * 45 * 2);
    }
}

/// However patient its threads are, every step is done by whoever comes, and whoever sleeps is woken.
#[test]
fn threads_that_sleep_at_once_take_part() {
    for level in [0, 1, 50, 100] {
        let team = Team::start(3, Poll::new(level), |_| {}).unwrap();
        for region in 0..3 {
            let total = AtomicUsize::new(0);
            team.together(|| {
                let barrier = Barrier::new(3);
                team.run(3, |_, _| meet(&barrier));
                for step in 0..REPEAT {
                    if step == 1 {
                        std::thread::sleep(Duration::from_millis(5)); // a long sequential part
                        team.run(3, |_, _| meet(&barrier));
                    }
                    team.run(5, |task, _| _ = total.fetch_add(task, Relaxed));
                }
            });
            assert_eq!(total.into_inner(), REPEAT * 10, "level {level}, region {region}");
        }
    }
    assert_eq!((Poll::new(101), Poll::default()), (Poll::new(100), Poll::new(50)));
}

/// The last owner of a team may be one of its own tasks.
#[test]
fn a_team_may_be_dropped_by_its_own_thread() {
    for _ in 0..REPEAT.min(10) {
        let team = Team::new(3).unwrap();
        let other = Mutex::new(Some(Team::new(2).unwrap()));
        let barrier = Barrier::new(3);
        team.together(|| {
            team.run(3, |_, worker| {
                meet(&barrier);
                if worker == 2 {
                    drop(other.lock().unwrap().take());
                }
            });
        });
        assert!(other.into_inner().unwrap().is_none());
    }
}

#[test]
#[should_panic(expected = "chunks of nothing")]
fn chunks_of_nothing_are_refused() {
    Team::new(1).unwrap().for_each_chunk(&mut [0], 0, |_, _| panic_any(()));
}
