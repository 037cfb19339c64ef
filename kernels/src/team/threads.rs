//! The threads behind a team.

use super::Begin;
use super::door::Door;
use super::sync::{Arc, JoinHandle, spawn};

/// Threads that follow a door.
pub struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Starts workers `1..=n`. Where the system refuses one, those before it are dismissed and joined.
    pub fn start(n: usize, door: &Arc<Door>, begin: &Begin) -> std::io::Result<Threads> {
        let mut threads = Threads(Vec::with_capacity(n));
        for worker in 1..=n {
            let (follow, begin) = (Arc::clone(door), begin.clone());
            let life = move || {
                begin(worker);
                follow.follow(worker);
            };
            match spawn(format!("bise-{worker}"), life) {
                Ok(thread) => threads.0.push(thread),
                Err(refused) => {
                    threads.stop(door);
                    return Err(refused);
                }
            }
        }
        Ok(threads)
    }

    /// Returns when they have ended: memory and thread-local values of theirs are given back by then.
    pub fn stop(&mut self, door: &Door) {
        door.dismiss();
        // One that panicked has said so.
        self.0.drain(..).for_each(|thread| _ = thread.join());
    }
}
