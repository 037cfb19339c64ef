//! How long a model that nobody uses stays in memory.

use std::time::{Duration, Instant};

/// How long, as the server was started, and as the last request had it.
#[derive(Debug)]
pub struct Keep {
    /// As the server was started; `None` is for ever.
    default: Option<Duration>,
    /// As the last request had it, if it said something.
    asked: Option<Option<Duration>>,
    /// When the model was last seen in use.
    used: Instant,
}

impl Keep {
    /// So long, unless a request says otherwise; `None` is for ever.
    pub fn new(default: Option<Duration>) -> Keep {
        Keep { default, asked: None, used: Instant::now() }
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

    /// When the model was last seen in use.
    pub fn used(&self) -> Instant {
        self.used
    }

    /// Whether a request asked for the model to stay for ever.
    pub fn is_pinned(&self) -> bool {
        self.asked == Some(None)
    }

    /// Whether the time is that of the server rather than of a request.
    pub fn is_default(&self) -> bool {
        self.asked.is_none()
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
        let mut keep = Keep::new(None);
        assert_eq!(keep.left(), None);
        keep.ask(Some(Some(Duration::ZERO)));
        assert_eq!(keep.left(), Some(Duration::ZERO));
        keep.wanted();
        assert_eq!(keep.left(), None);
        let mut keep = Keep::new(Some(hour));
        assert!(keep.left().is_some_and(|left| left <= hour && left > hour / 2));
        keep.ask(Some(None));
        assert_eq!(keep.left(), None);
        assert!(keep.is_pinned() && !keep.is_default());
        keep.ask(None);
        assert!(keep.left().is_some());
    }
}
