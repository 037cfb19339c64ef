//! Engines and their threads: how many, where they run, and sharing them.

#![cfg(feature = "builtin-model")]

use std::sync::{Arc, Barrier};

use bise::threads::{CpuSet, Priority, allowed_cpus, available_threads};
use bise::{Engine, EngineOptions, Session, SessionOptions, Threads, ThreadsError};

fn engine(threads: &Threads) -> Engine {
    Engine::builder().shared_threads(threads).builtin().unwrap()
}

/// Logits after a text, the same for every engine of the built-in model.
fn logits(engine: &Engine) -> Vec<u32> {
    let mut session = engine.session(&SessionOptions::default()).unwrap();
    read(&mut session, 40)
}

fn read(session: &mut Session, n: u32) -> Vec<u32> {
    let tokens: Vec<u32> = (0..n).map(|i| 3 + 37 * i % 500).collect();
    session.prefill(&tokens).unwrap().iter().map(|x| x.to_bits()).collect()
}

fn alone() -> Vec<u32> {
    logits(&engine(&Threads::new(1).unwrap()))
}

#[test]
fn two_models_on_one_team_alternate_from_two_threads() {
    let alone = alone();
    for poll in [0, 50] {
        let threads = Threads::builder().n(2).poll(poll).build().unwrap();
        let (first, second) = (engine(&threads), engine(&threads));
        std::thread::scope(|scope| {
            for (mine, other) in [(&first, &second), (&second, &first)] {
                let alone = &alone;
                scope.spawn(move || {
                    for _ in 0..10 {
                        assert!(logits(mine) == *alone && logits(other) == *alone);
                    }
                });
            }
        });
    }
}

#[test]
fn an_engine_may_be_dropped_while_another_thread_is_in_a_pass() {
    let alone = alone();
    let threads = Threads::new(2).unwrap();
    for _ in 0..5 {
        let engine = engine(&threads);
        let (mut session, barrier) =
            (engine.session(&SessionOptions::default()).unwrap(), Arc::new(Barrier::new(2)));
        let reader = {
            let barrier = Arc::clone(&barrier);
            std::thread::spawn(move || {
                barrier.wait();
                read(&mut session, 40)
            })
        };
        barrier.wait();
        drop(engine);
        assert!(reader.join().unwrap() == alone);
    }
    // And threads before the engine that uses them.
    let engine = engine(&threads);
    drop(threads);
    assert!(logits(&engine) == alone);
}

#[test]
fn threads_are_as_they_were_asked_for() {
    let threads = Threads::builder().n(3).poll(7).build().unwrap();
    assert_eq!((threads.n(), threads.poll(), threads.cpus()), (3, 7, None));
    assert_eq!(Threads::builder().n(0).build().unwrap().n(), 1);
    let default = Threads::builder().build().unwrap();
    assert!((1..=available_threads()).contains(&default.n()));
    let engine = Engine::builtin_with(&EngineOptions::default()).unwrap();
    assert_eq!(engine.n_threads(), default.n());
}

/// Everything the system says about one thread of this process.
#[cfg(target_os = "linux")]
fn cpus_of_threads(name: &str) -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let status = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
    let field = |status: &str, key: &str| {
        status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned()
    };
    status.filter(|s| field(s, "Name:") == name).map(|s| field(&s, "Cpus_allowed_list:")).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn threads_stay_on_their_cpus() {
    let allowed = allowed_cpus().unwrap();
    let (first, last) = (allowed.iter().next().unwrap(), allowed.iter().last().unwrap());
    let one: CpuSet = [last].into_iter().collect();
    // In a thread of its own: this one leads.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let threads = Threads::builder().n(2).cpus(one.clone()).build().unwrap();
            assert_eq!(threads.cpus(), Some(&one));
            assert!(cpus_of_threads("bise-1").contains(&last.to_string()));
            assert_eq!(allowed_cpus().unwrap(), allowed, "the caller stays where it is");
            let bound = threads.bind_current_thread().unwrap();
            assert_eq!(allowed_cpus().unwrap(), one);
            assert!(logits(&engine(&threads)) == alone());
            drop(bound);
            assert_eq!(allowed_cpus().unwrap(), allowed);
            assert_eq!(Threads::builder().cpus(one.clone()).build().unwrap().n(), 1);
            // Each on its own, and the third where the first is, if there are two.
            let strict = Threads::builder().n(allowed.len() + 1).strict(true).build().unwrap();
            assert_eq!(strict.cpus(), Some(&allowed));
            let _bound = strict.bind_current_thread().unwrap();
            assert_eq!(allowed_cpus().unwrap().to_string(), first.to_string());
            assert!(cpus_of_threads(&format!("bise-{}", allowed.len())).contains(&first.to_string()));
        });
    });
    let nowhere = Threads::builder().cpus([1000].into_iter().collect()).build();
    assert!(matches!(nowhere, Err(ThreadsError::NoSuchCpu { .. })), "{nowhere:?}");
    let partly = Threads::builder().n(2).cpus([first, 1000].into_iter().collect()).build().unwrap();
    assert_eq!(partly.cpus().unwrap().to_string(), first.to_string());
}

/// Everybody may be less urgent.
#[cfg(target_os = "linux")]
#[test]
fn threads_have_their_priority() {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: no memory is passed.
            let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
            let before = nice();
            let threads = Threads::builder().n(2).priority(Priority::Low).build().unwrap();
            assert_eq!(nice(), before);
            let bound = threads.bind_current_thread().unwrap();
            assert_eq!(nice(), 5);
            assert!(logits(&engine(&threads)) == alone());
            drop(bound);
        });
    });
}
