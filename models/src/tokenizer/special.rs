//! Finding special tokens in text, and keeping them out of text that must stay text.

use super::error::{TokenizerError, keys};
use aho_corasick::{AhoCorasick, MatchKind};
use std::ops::Range;

/// Finds a fixed set of strings.
#[derive(Debug, Clone)]
pub(super) struct Matcher {
    /// Reports every occurrence.
    all: AhoCorasick,
    /// Reports the leftmost, and of those the longest.
    leftmost: AhoCorasick,
    ids: Vec<u32>,
}

impl Matcher {
    /// A matcher for these tokens; `None` if there is nothing to find. Empty texts are never found.
    ///
    /// # Errors
    ///
    /// If the texts are more than an automaton with 32-bit states can hold.
    pub(super) fn new(mut tokens: Vec<(u32, Vec<u8>)>) -> Result<Option<Self>, TokenizerError> {
        tokens.retain(|(_, text)| !text.is_empty());
        if tokens.is_empty() {
            return Ok(None);
        }
        let build = |kind| {
            let texts = tokens.iter().map(|(_, text)| text);
            AhoCorasick::builder().match_kind(kind).build(texts).map_err(|_| {
                let found = format!("{} special tokens", tokens.len());
                TokenizerError::key(keys::TYPES, found, "fewer")
            })
        };
        let (all, leftmost) = (build(MatchKind::Standard)?, build(MatchKind::LeftmostLongest)?);
        Ok(Some(Self { all, leftmost, ids: tokens.into_iter().map(|(id, _)| id).collect() }))
    }

    /// Occurrences from left to right, the longest at each place, none overlapping.
    pub(super) fn leftmost_longest<'a>(
        &'a self,
        text: &'a str,
    ) -> impl Iterator<Item = (Range<usize>, u32)> + 'a {
        self.leftmost.find_iter(text).map(|found| (found.range(), self.ids[found.pattern().as_usize()]))
    }

    /// Occurrences that `allowed` lets through, none overlapping, in order: longer tokens take their places first, and
    /// among equal lengths the leftmost. (The order in which llama.cpp looks for them.)
    pub(super) fn longest_first(
        &self,
        text: &str,
        allowed: impl Fn(u32, &Range<usize>) -> bool,
    ) -> Vec<(Range<usize>, u32)> {
        let mut found: Vec<(Range<usize>, u32)> = self
            .all
            .find_overlapping_iter(text)
            .map(|found| (found.range(), self.ids[found.pattern().as_usize()]))
            .filter(|(range, id)| allowed(*id, range))
            .collect();
        found.sort_by_key(|(range, id)| (std::cmp::Reverse(range.len()), *id, range.start));
        let mut taken = std::collections::BTreeMap::<usize, (Range<usize>, u32)>::new();
        for (range, id) in found {
            // Taken places do not overlap, so only the last one that starts before our end can be in the way.
            let before = taken.range(..range.end).next_back();
            if before.is_none_or(|(_, (other, _))| other.end <= range.start) {
                taken.insert(range.start, (range, id));
            }
        }
        taken.into_values().collect()
    }
}

/// Whether `range` touches one of `ranges`, which are in order and do not overlap.
pub(super) fn overlaps(ranges: &[Range<usize>], range: &Range<usize>) -> bool {
    let first = ranges.partition_point(|other| other.end <= range.start);
    ranges.get(first).is_some_and(|other| other.start < range.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_tokens_take_their_place_first() {
        let tokens = [(1, "<s>"), (2, "ab<s"), (3, "b")].map(|(id, text)| (id, text.as_bytes().to_vec()));
        let matcher = Matcher::new(tokens.to_vec()).unwrap().unwrap();
        assert_eq!(matcher.longest_first("ab<s>b", |_, _| true), [(0..4, 2), (5..6, 3)]);
        assert_eq!(matcher.longest_first("ab<s>b", |id, _| id != 2), [(1..2, 3), (2..5, 1), (5..6, 3)]);
        assert_eq!(matcher.leftmost_longest("ab<s>b").collect::<Vec<_>>(), [(0..4, 2), (5..6, 3)]);
    }

    #[test]
    fn overlap_is_at_least_one_common_byte() {
        let ranges = [2..4, 8..9];
        for (range, expected) in
            [(0..2, false), (1..3, true), (4..8, false), (8..9, true), (9..12, false), (0..12, true)]
        {
            assert_eq!(overlaps(&ranges, &range), expected, "{range:?}");
        }
    }
}
