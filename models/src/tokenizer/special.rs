//! Finding control and added tokens in text.

use super::lexicon::Lexicon;
use std::ops::Range;

/// Longer tokens are not looked for. Real ones have fewer than 50 bytes; the bound keeps the search linear for any file.
pub(super) const MAX_BYTES: usize = 512;

/// "None" among indices into [`SpecialTokens::sorted`].
const NONE: u32 = u32::MAX;

/// A set of strings to find in text: the leftmost match wins, and of those the longest.
///
/// It is a sorted list rather than an automaton, which takes tens of bytes for every byte of a (hostile) vocabulary.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    /// The ids of the tokens, in the order of their texts.
    sorted: Vec<u32>,
    /// For each of them, the index in `sorted` of its longest proper prefix.
    prefixes: Vec<u32>,
    /// Where in `sorted` the texts with each first byte begin; the last entry is the length.
    by_first: Box<[u32; 257]>,
}

impl SpecialTokens {
    /// A set of tokens, whose texts are those in `texts`. Of equal texts, the first in `ids` counts.
    ///
    /// Leaves out empty texts, those above [`MAX_BYTES`], and those that are not UTF-8: text is UTF-8, so they could
    /// only match a part of a character.
    pub fn new(ids: impl Iterator<Item = u32>, texts: &Lexicon) -> Self {
        let text = |id: &u32| texts.string(*id);
        let can_be_found =
            |text: &[u8]| (1..=MAX_BYTES).contains(&text.len()) && std::str::from_utf8(text).is_ok();
        let mut sorted: Vec<u32> = ids.filter(|id| can_be_found(text(id))).collect();
        sorted.sort_by(|a, b| text(a).cmp(text(b)));
        sorted.dedup_by(|a, b| text(a) == text(b));
        sorted.shrink_to_fit();

        // Prefixes of a text sort before it, so the candidates form a stack.
        let mut prefixes = Vec::with_capacity(sorted.len());
        let mut open: Vec<u32> = Vec::new();
        for (place, id) in (0u32..).zip(&sorted) {
            while open.pop_if(|top| !text(id).starts_with(text(&sorted[*top as usize]))).is_some() {}
            prefixes.push(open.last().copied().unwrap_or(NONE));
            open.push(place);
        }
        let first = |id: &u32| usize::from(text(id)[0]);
        let by_first =
            Box::new(std::array::from_fn(|byte| sorted.partition_point(|id| first(id) < byte) as u32));
        Self { sorted, prefixes, by_first }
    }

    /// Heap memory in bytes.
    pub fn heap_bytes(&self) -> usize {
        size_of::<u32>() * (self.sorted.capacity() + self.prefixes.capacity() + self.by_first.len())
    }

    /// The token with this text.
    pub fn id(&self, text: &[u8], texts: &Lexicon) -> Option<u32> {
        self.sorted.binary_search_by(|&id| texts.string(id).cmp(text)).ok().map(|place| self.sorted[place])
    }

    /// The first match at or after `start` that `allowed` accepts: its range in `text` and its id.
    pub fn find(
        &self,
        text: &str,
        start: usize,
        texts: &Lexicon,
        allowed: impl Fn(u32, &Range<usize>) -> bool,
    ) -> Option<(Range<usize>, u32)> {
        (start..text.len()).find_map(|at| {
            self.at(&text.as_bytes()[at..], texts)
                .map(|(len, id)| (at..at + len, id))
                .find(|(range, id)| allowed(*id, range))
        })
    }

    /// The tokens that `rest` starts with, the longest first: their lengths and ids.
    fn at<'a>(&'a self, rest: &'a [u8], texts: &'a Lexicon) -> impl Iterator<Item = (usize, u32)> + 'a {
        let rest = &rest[..rest.len().min(MAX_BYTES)];
        let text = |place: u32| texts.string(self.sorted[place as usize]);
        let range = rest.first().map_or(0..0, |&first| {
            let first = usize::from(first);
            self.by_first[first] as usize..self.by_first[first + 1] as usize
        });
        // Every token that `rest` starts with is either the last one that sorts before `rest`, or a prefix of that.
        let before = self.sorted[range.clone()].partition_point(|&id| texts.string(id) <= rest);
        let last = before.checked_sub(1).map(|before| (range.start + before) as u32);
        let n_common = last.map_or(0, |last| text(last).iter().zip(rest).take_while(|(a, b)| a == b).count());
        std::iter::successors(last, |&place| {
            Some(self.prefixes[place as usize]).filter(|&place| place != NONE)
        })
        .map(move |place| (text(place).len(), self.sorted[place as usize]))
        .filter(move |&(len, _)| len <= n_common)
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
    use proptest::prelude::*;

    fn set(tokens: &[impl AsRef<[u8]>]) -> (SpecialTokens, Lexicon) {
        let mut texts = Lexicon::with_capacity(tokens.len()).unwrap();
        tokens.iter().for_each(|token| texts.push(token.as_ref()).unwrap());
        (SpecialTokens::new(0..tokens.len() as u32, &texts), texts)
    }

    fn all(
        (special, texts): &(SpecialTokens, Lexicon),
        text: &str,
        allowed: impl Fn(u32, &Range<usize>) -> bool,
    ) -> Vec<(Range<usize>, u32)> {
        let mut at = 0;
        std::iter::from_fn(|| {
            let found = special.find(text, at, texts, &allowed)?;
            at = found.0.end;
            Some(found)
        })
        .collect()
    }

    #[test]
    fn the_leftmost_is_found_and_the_longest_there() {
        let set = set(&["<s>", "ab<s", "b", "ab", "<s>>"]);
        assert_eq!(all(&set, "ab<s>b", |_, _| true), [(0..4, 1), (5..6, 2)]);
        assert_eq!(all(&set, "ab<s>b", |id, _| id != 1), [(0..2, 3), (2..5, 0), (5..6, 2)]);
        assert_eq!(all(&set, "a<s>>b", |_, range| range.start > 1), [(5..6, 2)]);
        assert_eq!(all(&set, "a<s>>b", |_, range| range.end < 5), [(1..4, 0)]);
    }

    #[test]
    fn what_cannot_be_found_is_left_out() {
        let long = [b'a'; MAX_BYTES + 1];
        let set = set(&[&b""[..], b"\xc3", b"\xa9", &long, b"<s>", b"<s>", &long[1..]]);
        assert_eq!(set.0.sorted, [4, 6]);
        assert_eq!(all(&set, "é<s>", |_, _| true), [(2..5, 4)]);
        assert_eq!(all(&set, str::from_utf8(&long).unwrap(), |_, _| true), [(0..MAX_BYTES, 6)]);
        assert_eq!((set.0.id(b"<s>", &set.1), set.0.id(b"", &set.1)), (Some(4), None));
    }

    proptest! {
        #[test]
        fn the_search_equals_trying_every_token_everywhere(
            tokens in prop::collection::vec("[ab<é]{1,5}", 0..12),
            text in "[ab<é]{0,30}",
        ) {
            let set = set(&tokens);
            let mut expected = Vec::new();
            let mut at = 0;
            while at < text.len() {
                let rest = &text.as_bytes()[at..];
                let here = tokens.iter().zip(0u32..).filter(|(token, _)| rest.starts_with(token.as_bytes()));
                // `max_by_key` prefers the last of equals; equal tokens count once, as the first.
                match here.max_by_key(|(token, id)| (token.len(), std::cmp::Reverse(*id))) {
                    Some((token, id)) => {
                        expected.push((at..at + token.len(), id));
                        at += token.len();
                    }
                    None => at += 1,
                }
            }
            prop_assert_eq!(all(&set, &text, |_, _| true), expected);
        }
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
