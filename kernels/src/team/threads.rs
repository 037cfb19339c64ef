//! The threads behind a team.

use super::Begin;
use super::door::Door;
use super::sync::Arc;

type StartError = Box<dyn std::error::Error + Send + Sync>;

#[cfg(not(any(loom, miri)))]
mod pool {
    use super::*;

    /// A rayon pool whose every thread is a follower until the team is dropped. Nothing else can be sent to it.
    pub struct Threads(#[expect(dead_code, reason = "the threads end when it is dropped")] rayon::ThreadPool);

    impl Threads {
        /// Starts workers `1..=n`.
        pub fn start(n: usize, door: &Arc<Door>, begin: &Begin) -> Result<Threads, StartError> {
            let names = |i| format!("bise-{}", i + 1);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).thread_name(names).build()?;
            let (door, begin) = (Arc::clone(door), begin.clone());
            pool.spawn_broadcast(move |worker| {
                begin(worker.index() + 1);
                door.follow(worker.index() + 1);
            });
            Ok(Threads(pool))
        }

        pub fn stop(&mut self) {}
    }
}

/// Threads that are joined: Miri and loom want every thread to have ended, and neither can run what rayon is made of.
#[cfg(any(loom, miri))]
mod pool {
    use super::*;
    #[cfg(loom)]
    use loom::thread;
    #[cfg(not(loom))]
    use std::thread;

    pub struct Threads(Vec<thread::JoinHandle<()>>);

    impl Threads {
        /// Starts workers `1..=n`.
        pub fn start(n: usize, door: &Arc<Door>, begin: &Begin) -> Result<Threads, StartError> {
            let start = |worker| {
                let (door, begin) = (Arc::clone(door), begin.clone());
                thread::spawn(move || {
                    begin(worker);
                    door.follow(worker);
                })
            };
            Ok(Threads((1..=n).map(start).collect()))
        }

        pub fn stop(&mut self) {
            self.0.drain(..).for_each(|thread| _ = thread.join());
        }
    }
}

pub use pool::Threads;
