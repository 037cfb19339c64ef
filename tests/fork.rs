//! An engine in a forked process. One test, so that no other thread of this program is inside the library when it forks.

#![cfg(all(target_os = "linux", feature = "builtin-model"))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bise::{Engine, SessionOptions, Threads};

fn logits(engine: &Engine) -> Vec<u32> {
    let mut session = engine.session(&SessionOptions::default()).unwrap();
    session.prefill(&[1, 40, 41, 42, 43, 44, 45]).unwrap().iter().map(|x| x.to_bits()).collect()
}

fn n_threads_of_process() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Runs `f` in a forked process: whether it returned `true`, and within a minute.
fn in_a_child(f: impl FnOnce() -> bool) -> bool {
    // SAFETY: no other thread is inside the library, and the C library keeps its allocator usable in the child.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        let right = catch_unwind(AssertUnwindSafe(f)).unwrap_or(false);
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(i32::from(!right)) };
    }
    let (start, mut status) = (Instant::now(), 0);
    // SAFETY: `status` may be written.
    while unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == 0 {
        std::thread::sleep(Duration::from_millis(5));
        if start.elapsed() > Duration::from_secs(60) {
            // SAFETY: a child of this process that was not waited for.
            unsafe { libc::kill(child, libc::SIGKILL) };
            panic!("the child hangs");
        }
    }
    assert!(libc::WIFEXITED(status), "status {status}");
    libc::WEXITSTATUS(status) == 0
}

#[test]
fn an_engine_made_before_a_fork_works_in_both_processes() {
    for poll in [0, 50] {
        let threads = Threads::builder().n(3).poll(poll).build().unwrap();
        let engine = Engine::builder().shared_threads(&threads).builtin().unwrap();
        let other = Engine::builder().shared_threads(&threads).builtin().unwrap();
        let mut session = engine.session(&SessionOptions::default()).unwrap();
        session.prefill(&[1, 40, 41]).unwrap();
        let want = logits(&engine);
        let child = in_a_child(|| {
            let before = n_threads_of_process();
            // The session goes on where the parent's was, and the engines share a fresh team.
            let next: Vec<u32> =
                session.prefill(&[42, 43, 44, 45]).unwrap().iter().map(|x| x.to_bits()).collect();
            let right = logits(&engine) == want && logits(&other) == want && next == want;
            right && before == 1 && n_threads_of_process() == 3
        });
        assert!(child, "poll {poll}");
        assert!(logits(&engine) == want && in_a_child(|| in_a_child(|| logits(&engine) == want)));
        // Dropped in the child, where its threads never were.
        let mut engine = Some(engine);
        assert!(in_a_child(|| engine.take().is_some()));
        assert!(engine.is_some_and(|engine| logits(&engine) == want));
    }
}
