//! Which bytes of a file are here.

/// Disjoint ranges in order, each a first byte and the one after the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Ranges as a file lists them; `None` if they are out of order, overlap or end behind `size`.
    pub fn from_list(list: Vec<(u64, u64)>, size: u64) -> Option<Self> {
        let ordered = list.windows(2).all(|pair| pair[0].1 < pair[1].0);
        let valid = list.iter().all(|&(start, end)| start < end && end <= size);
        (ordered && valid).then_some(Self(list))
    }

    /// In order.
    pub fn list(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// Adds a range.
    pub fn insert(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let first = self.0.partition_point(|range| range.1 < start);
        let after = self.0.partition_point(|range| range.0 <= end);
        let (mut start, mut end) = (start, end);
        if let (Some(a), Some(b)) = (self.0.get(first), after.checked_sub(1).and_then(|i| self.0.get(i)))
            && first < after
        {
            (start, end) = (start.min(a.0), end.max(b.1));
        }
        self.0.splice(first..after, [(start, end)]);
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    /// What is missing of `size` bytes, in pieces of at most `piece` bytes.
    pub fn missing(&self, size: u64, piece: u64) -> Vec<(u64, u64)> {
        let mut missing = Vec::new();
        let mut at = 0;
        for &(start, end) in self.0.iter().chain(&[(size, size)]) {
            while at < start {
                let next = start.min(at.saturating_add(piece));
                missing.push((at, next));
                at = next;
            }
            at = at.max(end);
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_together() {
        let mut ranges = Ranges::default();
        for (start, end, want) in [
            (10, 20, vec![(10, 20)]),
            (30, 40, vec![(10, 20), (30, 40)]),
            (5, 5, vec![(10, 20), (30, 40)]),
            (0, 1, vec![(0, 1), (10, 20), (30, 40)]),
            (20, 25, vec![(0, 1), (10, 25), (30, 40)]),
            (12, 14, vec![(0, 1), (10, 25), (30, 40)]),
            (24, 31, vec![(0, 1), (10, 40)]),
            (1, 50, vec![(0, 50)]),
        ] {
            ranges.insert(start, end);
            assert_eq!(ranges.list(), want, "{start}..{end}");
            assert_eq!(Ranges::from_list(want, 50), Some(ranges.clone()));
        }
        assert_eq!(ranges.bytes(), 50);
    }

    #[test]
    fn what_is_missing_comes_in_pieces() {
        let ranges = Ranges(vec![(3, 5), (9, 10)]);
        assert_eq!(ranges.missing(12, 3), [(0, 3), (5, 8), (8, 9), (10, 12)]);
        assert_eq!(Ranges(vec![(0, 12)]).missing(12, 3), []);
        assert_eq!(Ranges::default().missing(0, 3), []);
    }

    #[test]
    fn a_list_that_makes_no_sense_is_none() {
        for list in [vec![(2, 1)], vec![(1, 1)], vec![(0, 11)], vec![(4, 6), (1, 2)], vec![(0, 5), (4, 6)]] {
            assert_eq!(Ranges::from_list(list.clone(), 10), None, "{list:?}");
        }
    }
}
