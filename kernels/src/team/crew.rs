//! The threads of a team and what they share, in one process.

use super::door::{Door, MAX_FOLLOWERS};
use super::poll::Poll;
use super::sync::{Arc, Mutex};
use super::threads::Threads;
use super::{Begin, TeamError};

pub struct Crew {
    pub door: Arc<Door>,
    /// One region at a time; a second caller waits.
    pub entrance: Mutex<()>,
    threads: Threads,
    process: u32,
}

impl Crew {
    /// Starts the threads of a team but for the caller's.
    pub fn start(n_threads: usize, poll: Poll, begin: &Begin) -> Result<Crew, TeamError> {
        let error = |cause| TeamError { n_threads, cause };
        let n_followers = n_threads - 1;
        if n_followers > MAX_FOLLOWERS {
            return Err(error(format!("a team has {} at most", MAX_FOLLOWERS + 1).into()));
        }
        let door = Arc::new(Door::new(poll));
        let threads = Threads::start(n_followers, &door, begin).map_err(|refused| error(refused.into()))?;
        Ok(Crew { door, entrance: Mutex::new(()), threads, process: this_process() })
    }

    /// That of its door, by which threads know whose region or task they are in.
    pub fn address(&self) -> usize {
        (&raw const *self.door).addr()
    }

    /// Whether its threads are here, and not in the process that this one was forked from.
    pub fn is_of_this_process(&self) -> bool {
        self.process == this_process()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.threads.stop(&self.door);
    }
}

fn this_process() -> u32 {
    // Elsewhere there is no fork, and not always a number.
    if cfg!(unix) { std::process::id() } else { 0 }
}
