//! Teams and their process: processor time, forks, stops.
#![cfg(all(target_os = "linux", not(miri)))]

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use bise_kernels::{Poll, Team};

/// The processor time of this process.
fn cpu_time() -> Duration {
    // SAFETY: integers, for which all zeros is a value.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `time` may be written.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// In a process of its own, as others' tests take time too.
#[test]
fn threads_that_sleep_at_once_take_no_time() {
    if is_emulated() {
        return;
    }
    let spent = in_a_child(|| {
        let team = Team::start(3, Poll::SLEEP, |_| {}).unwrap();
        let before = cpu_time();
        team.together(|| {
            for _ in 0..10 {
                team.run(3, |task, _| {
                    // Two wait for the third.
                    if task == 0 {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                });
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        (cpu_time() - before).as_millis() as i32
    });
    assert!(spent < 100, "{spent} of 400 ms on the processor");
}

/// What `f` returns (0 to 99) in a forked process, which has this thread alone. Fails if that takes ten seconds.
fn in_a_child(f: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child takes no lock that another thread may hold; `malloc` stays usable in it, which the C library sees to.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        let code = catch_unwind(AssertUnwindSafe(f)).map_or(100, |code| code.clamp(0, 99));
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    for _ in 0..1000 {
        // SAFETY: `status` may be written.
        match unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } {
            0 => std::thread::sleep(Duration::from_millis(10)),
            n => {
                assert!(n == child && libc::WIFEXITED(status), "{n}: status {status}");
                return libc::WEXITSTATUS(status);
            }
        }
    }
    // SAFETY: a child of this process.
    unsafe { libc::kill(child, libc::SIGKILL) };
    panic!("the child hangs");
}

/// Whether qemu runs this: in its user mode a forked child of several threads cannot start others.
fn is_emulated() -> bool {
    let emulated = std::env::var_os("BISE_EMULATED").is_some();
    if emulated {
        println!("left out under emulation: threads in a forked process");
    }
    emulated
}

fn whole_team_takes_part(team: &Team) -> bool {
    let (barrier, threads) = (Barrier::new(team.n_threads()), Mutex::new(HashSet::new()));
    team.together(|| {
        team.run(team.n_threads(), |_, _| {
            barrier.wait();
            threads.lock().unwrap().insert(std::thread::current().id());
        });
    });
    threads.into_inner().unwrap().len() == team.n_threads()
}

#[test]
fn a_forked_process_has_a_team_of_its_own() {
    if is_emulated() {
        return;
    }
    let begun = std::sync::Arc::new(AtomicUsize::new(0));
    let team = {
        let begun = std::sync::Arc::clone(&begun);
        Team::start(3, Poll::default(), move |worker| _ = begun.fetch_add(worker, Relaxed)).unwrap()
    };
    let whole = || i32::from(whole_team_takes_part(&team));
    assert_eq!(whole(), 1);
    assert_eq!(begun.load(Relaxed), 1 + 2);
    assert_eq!(in_a_child(|| whole() + whole() + (begun.load(Relaxed) as i32)), 2 + 2 * (1 + 2));
    assert_eq!(in_a_child(|| in_a_child(whole)), 1, "a child's child");
    // In the middle of another thread's region, which in the child never ends.
    let (barrier, over) = (Barrier::new(4), Barrier::new(4));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            team.together(|| {
                team.run(3, |_, _| {
                    barrier.wait();
                    over.wait();
                })
            })
        });
        barrier.wait();
        let child = in_a_child(whole);
        over.wait();
        assert_eq!(child, 1);
    });
    // By the leader itself, which goes on.
    let child = team.together(|| {
        in_a_child(|| {
            let total = AtomicUsize::new(0);
            team.run(4, |task, _| _ = total.fetch_add(task, Relaxed));
            total.into_inner() as i32
        })
    });
    assert_eq!(child, 6);
    // Teams are dropped in children, too.
    let mut other = Some(Team::new(3).unwrap());
    assert_eq!(in_a_child(|| i32::from(other.take().is_some())), 1);
    assert_eq!(whole(), 1);
}

/// Stopped and continued in the middle of steps.
#[test]
fn a_stopped_process_goes_on_where_it_was() {
    if is_emulated() {
        return;
    }
    for level in [0, 50] {
        // SAFETY: as in `in_a_child`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let team = Team::start(3, Poll::new(level), |_| {}).unwrap();
            let end = std::time::Instant::now() + Duration::from_millis(300);
            let mut right = true;
            while std::time::Instant::now() < end {
                let hits: Vec<_> = (0..30).map(|_| AtomicUsize::new(0)).collect();
                team.together(|| {
                    for _ in 0..10 {
                        team.run(30, |task, _| _ = hits[task].fetch_add(1, Relaxed));
                    }
                });
                right &= hits.iter().all(|n| n.load(Relaxed) == 10);
            }
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(if right { 7 } else { 8 }) };
        }
        let (mut status, mut n_stops) = (0, 0);
        // SAFETY: `status` may be written, and `child` is a child of this process until it was waited for.
        while unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == 0 {
            for signal in [libc::SIGSTOP, libc::SIGCONT] {
                // SAFETY: as above.
                unsafe { libc::kill(child, signal) };
                std::thread::sleep(Duration::from_millis(3));
            }
            n_stops += 1;
            assert!(n_stops < 3000, "the child hangs");
        }
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "status {status}");
        assert!(n_stops > 5);
    }
}
