//! Finds where the last tokens of a text occurred before, and what followed them.

use std::collections::HashMap;

/// Shortest match, in tokens.
pub const MIN_MATCH: usize = 2;
/// Longer matches count as matches of this length.
pub const MAX_MATCH: usize = 32;
/// Earlier occurrences to look at, most recent first.
const MAX_PLACES: usize = 64;
/// No earlier occurrence.
const NONE: u32 = u32::MAX;

/// An index over the pairs of tokens in a text that grows and shrinks at its end.
#[derive(Debug, Default)]
pub struct Ngrams {
    tokens: Vec<u32>,
    /// The last occurrence of each pair: the position of its second token.
    latest: HashMap<(u32, u32), u32>,
    /// By position: the previous occurrence of the pair that ends there.
    previous: Vec<u32>,
}

impl Ngrams {
    /// The text.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Reserves room for `n_tokens` more.
    pub fn reserve(&mut self, n_tokens: usize) {
        self.tokens.reserve(n_tokens);
        self.previous.reserve(n_tokens);
        self.latest.reserve(n_tokens);
    }

    /// Appends a token.
    pub fn push(&mut self, token: u32) {
        let place = self.tokens.len() as u32;
        let before = match self.tokens.last() {
            Some(&last) => self.latest.insert((last, token), place).unwrap_or(NONE),
            None => NONE,
        };
        self.tokens.push(token);
        self.previous.push(before);
    }

    /// Removes tokens from the end until `len` remain.
    pub fn truncate(&mut self, len: usize) {
        while self.tokens.len() > len {
            let (token, before) = (self.tokens.pop(), self.previous.pop());
            let (Some(token), Some(before), Some(&last)) = (token, before, self.tokens.last()) else { break };
            if before == NONE {
                self.latest.remove(&(last, token));
            } else {
                self.latest.insert((last, token), before);
            }
        }
    }

    /// Fills `drafts` with `n` tokens that followed the longest earlier match of the text's end (the most recent one among equals), and
    /// returns the length of that match: 0, with no drafts, if there is none.
    ///
    /// Where the match runs into the end of the text, the drafts continue as if the text repeated itself.
    pub fn propose(&self, n: usize, drafts: &mut Vec<u32>) -> usize {
        drafts.clear();
        let mut longest = 0;
        let mut next = 0;
        let mut place = self.previous.last().copied().unwrap_or(NONE);
        for _ in 0..MAX_PLACES {
            if place == NONE {
                break;
            }
            let end = place as usize + 1;
            let pairs = self.tokens[..end].iter().rev().zip(self.tokens.iter().rev());
            let length = pairs.take(MAX_MATCH).take_while(|(a, b)| a == b).count();
            if length > longest {
                (longest, next) = (length, end);
            }
            if longest == MAX_MATCH {
                break;
            }
            place = self.previous[place as usize];
        }
        if longest > 0 {
            let known = self.tokens.len();
            for i in next..next + n {
                let token = if i < known { self.tokens[i] } else { drafts[i - known] };
                drafts.push(token);
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Ngrams {
        let mut ngrams = Ngrams::default();
        text.bytes().for_each(|byte| ngrams.push(byte.into()));
        ngrams
    }

    fn proposed(ngrams: &Ngrams, n: usize) -> (usize, String) {
        let mut drafts = vec![7];
        let length = ngrams.propose(n, &mut drafts);
        (length, drafts.iter().map(|&token| token as u8 as char).collect())
    }

    #[test]
    fn the_longest_match_is_gone_on_from() {
        assert_eq!(proposed(&of("xabc1 abc2 bc3 xabc"), 2), (4, "1 ".to_owned()));
    }

    #[test]
    fn the_latest_of_the_longest_is_gone_on_from() {
        assert_eq!(proposed(&of("abc1 abc2 bc3 -abc"), 3), (3, "2 b".to_owned()));
    }

    #[test]
    fn one_token_is_no_match() {
        for text in ["", "a", "ab", "abcdefa"] {
            assert_eq!(proposed(&of(text), 4), (0, String::new()), "{text}");
        }
    }

    #[test]
    fn a_loop_goes_on() {
        assert_eq!(proposed(&of("-abcabc"), 7), (3, "abcabca".to_owned()));
        assert_eq!(proposed(&of("aaaa"), 3), (3, "aaa".to_owned()));
    }

    #[test]
    fn a_text_cut_back_is_as_if_it_had_never_been_longer() {
        let mut state = 1u32;
        let mut random = |n: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % n
        };
        let mut ngrams = Ngrams::default();
        for _ in 0..300 {
            for _ in 0..random(20) {
                ngrams.push(random(3));
            }
            ngrams.truncate(ngrams.tokens().len().saturating_sub(random(18) as usize));
            let mut fresh = Ngrams::default();
            ngrams.tokens().iter().for_each(|&token| fresh.push(token));
            assert_eq!(ngrams.previous, fresh.previous);
            assert_eq!(ngrams.latest, fresh.latest);
            let (mut drafts, mut fresh_drafts) = (Vec::new(), Vec::new());
            assert_eq!(ngrams.propose(9, &mut drafts), fresh.propose(9, &mut fresh_drafts));
            assert_eq!(drafts, fresh_drafts);
        }
        ngrams.truncate(0);
        assert!(ngrams.latest.is_empty() && ngrams.tokens().is_empty());
    }
}
