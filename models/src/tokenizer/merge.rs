//! The loop at the heart of BPE: merge the best adjacent pair, leftmost among equals, until none can merge.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A stretch of the text that is, so far, one symbol.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol {
    /// Where it starts in the text, in bytes.
    pub start: usize,
    /// Its length in bytes; 0 once it has been merged into its left neighbour.
    pub len: usize,
    /// Its token, if it is one.
    pub id: Option<u32>,
    /// It may not merge with anything.
    pub frozen: bool,
}

/// What two neighbours become.
#[derive(Debug, Clone, Copy)]
pub(super) struct Merge {
    /// Lower merges first.
    pub priority: u32,
    /// The token they become.
    pub id: u32,
}

/// A pair that could merge, at the time it was found.
#[derive(PartialEq, Eq)]
struct Candidate {
    priority: u32,
    left: usize,
    /// Length of both together: the pair is still there if both neighbours still add up to it.
    len: usize,
    id: u32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        // BinaryHeap gives the greatest first.
        (other.priority, other.left).cmp(&(self.priority, self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Merges neighbours in place, as long as `merge` gives a token for a pair; what remains is the tokenization.
///
/// `O(n log n)` calls for n symbols. `merge` must depend on nothing but the two symbols' text and tokens.
pub(super) fn merge_all(symbols: &mut Vec<Symbol>, merge: impl Fn(&Symbol, &Symbol) -> Option<Merge>) {
    let n = symbols.len();
    // Position of the live neighbours; n is "none".
    let mut next: Vec<usize> = (1..=n).collect();
    let mut previous: Vec<usize> = std::iter::once(n).chain(0..n.saturating_sub(1)).collect();
    let candidate = |symbols: &[Symbol], left: usize, right: usize| {
        let (a, b) = (&symbols[left], &symbols[right]);
        let Merge { priority, id } = merge(a, b).filter(|_| !a.frozen && !b.frozen)?;
        Some(Candidate { priority, left, len: a.len + b.len, id })
    };
    let mut queue: BinaryHeap<Candidate> =
        (1..n).filter_map(|right| candidate(symbols, right - 1, right)).collect();

    while let Some(Candidate { left, len, id, .. }) = queue.pop() {
        let right = next[left];
        if symbols[left].len == 0 || right == n || symbols[left].len + symbols[right].len != len {
            continue; // one of the two has merged with another since
        }
        symbols[left].len = len;
        symbols[left].id = Some(id);
        symbols[right].len = 0;
        next[left] = next[right];
        if next[left] < n {
            previous[next[left]] = left;
            queue.extend(candidate(symbols, left, next[left]));
        }
        if previous[left] < n {
            queue.extend(candidate(symbols, previous[left], left));
        }
    }
    symbols.retain(|symbol| symbol.len > 0);
}
