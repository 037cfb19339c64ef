//! The last tokens of the text.

use std::collections::VecDeque;

/// The initial capacity in tokens. A longer history is rare, and works as well.
const MOST_RESERVED: usize = 8192;

/// The last `limit` tokens accepted, or all of them without a limit.
#[derive(Debug, Clone)]
pub(super) struct History {
    tokens: VecDeque<u32>,
    limit: Option<usize>,
}

impl History {
    /// `last_n` as in [`super::SamplingParams`]: −1 remembers everything.
    pub fn new(last_n: i32) -> Self {
        let limit = usize::try_from(last_n).ok();
        // Room from the start, so that remembering a token allocates nothing; one more than the limit for a moment.
        Self { tokens: VecDeque::with_capacity(limit.map_or(0, |n| n.min(MOST_RESERVED) + 1)), limit }
    }

    /// Tokens that it has room for.
    pub fn capacity(&self) -> usize {
        self.tokens.capacity()
    }

    /// Adds a token; gives back the one that fell out of the window.
    pub fn push(&mut self, token: u32) -> Option<u32> {
        self.tokens.push_back(token);
        if self.limit.is_some_and(|limit| self.tokens.len() > limit) { self.tokens.pop_front() } else { None }
    }

    /// The tokens, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = u32> {
        self.tokens.iter().rev().copied()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.tokens.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_forgets_the_oldest() {
        let mut h = History::new(2);
        assert_eq!([h.push(1), h.push(2), h.push(3)], [None, None, Some(1)]);
        assert_eq!(h.newest_first().collect::<Vec<_>>(), [3, 2]);
        h.clear();
        assert_eq!(h.newest_first().count(), 0);
    }

    #[test]
    fn no_limit_remembers_everything() {
        let mut h = History::new(-1);
        assert!((0..1000).all(|t| h.push(t).is_none()));
        assert_eq!(h.newest_first().count(), 1000);
    }
}
