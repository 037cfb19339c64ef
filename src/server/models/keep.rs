//! How long a model that nobody uses stays in memory.

use std::time::{Duration, Instant};

/// How long, as the server was started, and as the last request had it.
#[derive(Debug)]
pub struct Keep {
    /// As the server was started; `None` is for ever.
    pub default: Option<Duration>,
    /// As the last request had it, if it said something.
    asked: Option<Option<Duration>>,
    /// When the model was last seen in use.
    used: Instant,
    /// Whether somebody looks for its being idle.
    pub is_watched: bool,
}

impl Keep {
    /// For ever, unless a request says otherwise.
    pub fn new() -> Keep {
        Keep { default: None, asked: None, used: Instant::now(), is_watched: false }
    }

    /// A request wants the model.
    pub fn wanted(&mut self) {
        self.asked = None;
        self.used = Instant::now();
    }

    /// A request is being answered.
    pub fn in_use(&mut self) {
        self.used = Instant::now();
    }

    /// What the last request said.
    pub fn ask(&mut self, asked: Option<Option<Duration>>) {
        self.asked = asked;
    }

    /// The time that is left; `None` is for ever.
    pub fn left(&self) -> Option<Duration> {
        Some(self.asked.unwrap_or(self.default)?.saturating_sub(self.used.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_request_decides() {
        let hour = Duration::from_secs(3600);
        let mut keep = Keep::new();
        assert_eq!(keep.left(), None);
        keep.ask(Some(Some(Duration::ZERO)));
        assert_eq!(keep.left(), Some(Duration::ZERO));
        keep.wanted();
        assert_eq!(keep.left(), None);
        keep.default = Some(hour);
        assert!(keep.left().is_some_and(|left| left <= hour && left > hour / 2));
        keep.ask(Some(None));
        assert_eq!(keep.left(), None);
        keep.ask(None);
        assert!(keep.left().is_some());
    }
}
