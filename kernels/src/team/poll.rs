//! How a thread waits for the others.

use std::time::Duration;

use super::sync::{spin_loop, yield_now};

/// How eagerly the threads of a team wait for each other, from 0 to 100.
///
/// A thread that waits looks again and again for a while, the longer the higher the number, and then sleeps. Looking answers within a
/// microsecond, and takes power; waking a thread takes the system some tens of microseconds. With 0 threads sleep at once, within a pass
/// (several times in a layer) and between passes. By default they look out for longer than most waits take, but not for a thread that
/// another program keeps from its core: whoever sleeps then leaves it to both.
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

    /// Looks before a thread sleeps: at the default, some hundred microseconds. (Under a model checker, which has no time: none, or no end.)
    fn looks(self) -> u32 {
        match self {
            Poll::SLEEP => 0,
            _ if CHECKED => u32::MAX,
            Poll(level) => 80 * u32::from(level),
        }
    }

    /// How long followers look out for another region before they sleep: at the default, longer than it takes to sample and print a token.
    pub(super) fn linger(self) -> Duration {
        if cfg!(loom) { Duration::ZERO } else { Duration::from_micros(20 * u64::from(self.0)) }
    }
}

/// The model checker wants a thread that waits to yield.
const CHECKED: bool = cfg!(any(loom, miri));

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
        self.looks >= self.poll.looks()
    }

    /// A moment of it.
    pub fn once(&mut self) {
        // Between passes a thread may look on for a while, but not at the expense of other programs.
        if CHECKED || self.is_over() {
            yield_now();
        } else {
            spin_loop();
        }
        self.looks = self.looks.saturating_add(1);
    }
}
