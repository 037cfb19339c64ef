//! The loop at the heart of BPE: merge the best adjacent pair, leftmost among equals, until none can merge.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// In place of a token or a position: there is none.
pub(super) const NONE: u32 = u32::MAX;

/// A stretch of a word that is, so far, one symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Symbol {
    /// Where it starts in the word, in bytes.
    pub start: u32,
    /// Its length in bytes; 0 once it has been merged into its left neighbour.
    pub len: u32,
    /// Its token, or [`NONE`].
    pub id: u32,
}

impl Symbol {
    /// The bytes of `word` that it covers.
    pub fn of<'a>(&self, word: &'a [u8]) -> &'a [u8] {
        &word[self.start as usize..(self.start + self.len) as usize]
    }
}

/// What two neighbours become.
#[derive(Debug, Clone, Copy)]
pub(super) struct Merge {
    /// Lower merges first.
    pub priority: u32,
    /// The token they become.
    pub id: u32,
}

/// A pair that could merge, at the time it was found. Ordered by priority, then from left to right.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    priority: u32,
    left: u32,
    /// Length of both together: the pair is still there if both neighbours still add up to it.
    len: u32,
    id: u32,
}

/// The symbols of one word, and the buffers that merging them takes: kept from word to word, since most are short.
#[derive(Debug, Default)]
pub(super) struct Merger {
    /// Filled before [`merge`](Self::merge) with the smallest symbols, in order; after it, the tokenization.
    pub symbols: Vec<Symbol>,
    /// The neighbours of each symbol that are still there; [`NONE`] at the ends.
    next: Vec<u32>,
    previous: Vec<u32>,
    queue: BinaryHeap<Reverse<Candidate>>,
}

impl Merger {
    /// Merges neighbours for as long as `merge` gives a token for a pair.
    ///
    /// Takes `O(n log n)` calls for n symbols. `merge` must depend on nothing but the text of the two symbols, and the
    /// word must be shorter than 4 GiB.
    pub fn merge(&mut self, merge: impl Fn(&Symbol, &Symbol) -> Option<Merge>) {
        let Self { symbols, next, previous, queue } = self;
        let n = symbols.len() as u32;
        if n < 2 {
            return;
        }
        next.clear();
        next.extend((1..n).chain([NONE]));
        previous.clear();
        previous.extend([NONE].into_iter().chain(0..n - 1));
        queue.clear();
        let candidate = |symbols: &[Symbol], left: u32, right: u32| {
            let (a, b) = (&symbols[left as usize], &symbols[right as usize]);
            let Merge { priority, id } = merge(a, b)?;
            Some(Reverse(Candidate { priority, left, len: a.len + b.len, id }))
        };
        queue.extend((1..n).filter_map(|right| candidate(symbols, right - 1, right)));

        while let Some(Reverse(Candidate { left, len, id, .. })) = queue.pop() {
            let l = left as usize;
            let right = next[l];
            if symbols[l].len == 0 || right == NONE || symbols[l].len + symbols[right as usize].len != len {
                continue; // one of the two has merged with another since
            }
            symbols[l] = Symbol { len, id, ..symbols[l] };
            symbols[right as usize].len = 0;
            next[l] = next[right as usize];
            if next[l] != NONE {
                previous[next[l] as usize] = left;
                queue.extend(candidate(symbols, left, next[l]));
            }
            if previous[l] != NONE {
                queue.extend(candidate(symbols, previous[l], left));
            }
        }
        symbols.retain(|symbol| symbol.len > 0);
    }
}
