//! How a thread waits for the others.

use std::time::Duration;

use super::sync::{spin_loop, yield_now};

/// How eagerly the threads of a team wait for each other, from 0 to 100.
///
/// A thread that waits looks again and again for a while, the longer the higher the number, and then offers its core to other programs
/// between two looks. That answers within a microsecond, and takes power. With 0 it sleeps at once, within a pass and between passes, and
/// is woken by the system, which takes some tens of microseconds, several times in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Poll(u8);

impl Poll {
    /// Threads sleep whenever they wait.
    pub const SLEEP: Poll = Poll(0);

    /// The level `n`, or 100 if it is higher.
    pub const fn new(n: u8) -> Poll {
        Poll(if n < 100 { n } else { 100 })
    }

    /// From 0 to 100.
    pub fn level(self) -> u8 {
        self.0
    }

    /// Looks before a thread begins to yield its core: at the default, some tens of microseconds. The model checker wants each to yield.
    fn spins(self) -> u32 {
        if cfg!(any(loom, miri)) { 0 } else { 80 * u32::from(self.0) }
    }

    /// How long followers look out for another region before they sleep: at the default, longer than it takes to sample and print a token.
    pub(super) fn linger(self) -> Duration {
        if cfg!(loom) { Duration::ZERO } else { Duration::from_micros(20 * u64::from(self.0)) }
    }
}

/// Half-way, as in llama.cpp.
impl Default for Poll {
    fn default() -> Poll {
        Poll(50)
    }
}

/// One wait.
pub(super) struct Wait {
    poll: Poll,
    looks: u32,
    was_long: bool,
}

/// Looks, some ten microseconds, after which the one who is waited for may be held up.
const LONG: u32 = 1_000;

impl Wait {
    pub fn new(poll: Poll) -> Wait {
        Wait { poll, looks: 0, was_long: false }
    }

    /// True once: when a step of usual length is over, and so is the time in which a task ends that was begun before the last.
    pub fn has_taken_long(&mut self) -> bool {
        let now = !self.was_long && self.looks >= LONG;
        self.was_long |= now;
        now
    }

    /// Whether it is time to sleep.
    pub fn is_over(&self) -> bool {
        self.poll == Poll::SLEEP
    }

    /// A moment of it.
    pub fn once(&mut self) {
        if self.looks < self.poll.spins() {
            spin_loop();
        } else {
            yield_now();
        }
        self.looks = self.looks.saturating_add(1);
    }
}
