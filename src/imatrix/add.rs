//! Adding up importance matrices of several texts, or of parts of one.

use super::{Entry, Imatrix, ImatrixError};

impl Imatrix {
    /// Adds what `other` has summed. Sums of the older format are means of calls: each call counts as a chunk of `chunk_len` tokens.
    ///
    /// # Errors
    /// Where a matrix has another number of columns or experts; nothing is added then.
    pub fn add(&mut self, other: &Imatrix, chunk_len: u32) -> Result<(), ImatrixError> {
        for (name, theirs) in &other.entries {
            let Some(ours) = self.entries.get(name) else { continue };
            let (n, m) = (ours.sum_squares.len(), theirs.sum_squares.len());
            let counts = [ours.counts.len(), theirs.counts.len()];
            if n != m || counts[0] != counts[1] && !counts.contains(&1) {
                return Err(ImatrixError::Mismatch {
                    tensor: name.clone(),
                    found: format!("{m} sums for {} matrices", counts[1]),
                    expected: format!("{n} for {}, as in the others", counts[0]),
                });
            }
        }
        let len = u64::from(chunk_len.max(1));
        if std::mem::take(&mut self.counts_chunks) {
            self.entries.values_mut().for_each(|entry| entry.scale(len));
        }
        let scale = if other.counts_chunks { len } else { 1 };
        for (name, theirs) in &other.entries {
            match self.entries.get_mut(name) {
                Some(ours) => ours.add(theirs, scale),
                None => {
                    let mut entry =
                        Entry { sum_squares: vec![0.0; theirs.sum_squares.len()], ..Entry::default() };
                    entry.counts = vec![0; theirs.counts.len()];
                    entry.sums = vec![0.0; theirs.sums.len()];
                    entry.add(theirs, scale);
                    self.entries.insert(name.clone(), entry);
                }
            }
        }
        if self.chunk_len == 0 {
            self.chunk_len = if other.chunk_len > 0 { other.chunk_len } else { chunk_len };
        }
        self.datasets.extend_from_slice(&other.datasets);
        let most = self.entries.values().flat_map(|entry| &entry.counts).max().copied().unwrap_or(0);
        let len = u64::from(self.chunk_len.max(1));
        self.n_chunks = u32::try_from(most.saturating_add(len / 2) / len).unwrap_or(u32::MAX);
        Ok(())
    }
}

impl Entry {
    fn scale(&mut self, scale: u64) {
        self.counts.iter_mut().for_each(|count| *count = count.saturating_mul(scale));
        self.sum_squares.iter_mut().chain(&mut self.sums).for_each(|sum| *sum *= scale as f64);
    }

    fn add(&mut self, other: &Entry, scale: u64) {
        // A count for all experts, as in older files, is that of each.
        let n = self.counts.len().max(other.counts.len());
        if self.counts.len() < n {
            self.counts = vec![self.counts[0]; n];
        }
        for (i, count) in self.counts.iter_mut().enumerate() {
            *count = count.saturating_add(other.counts[i % other.counts.len()].saturating_mul(scale));
        }
        for (ours, theirs) in self.sum_squares.iter_mut().zip(&other.sum_squares) {
            *ours += theirs * scale as f64;
        }
        if self.sums.len() == other.sums.len() {
            for (ours, theirs) in self.sums.iter_mut().zip(&other.sums) {
                *ours += theirs * scale as f64;
            }
        } else {
            // Sums of a part say nothing.
            self.sums.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, entry: Entry, chunk_len: u32) -> Imatrix {
        Imatrix { entries: [(name.to_owned(), entry)].into(), chunk_len, ..Imatrix::default() }
    }

    #[test]
    fn sums_and_counts_add_up() {
        let entry = Entry { sum_squares: vec![2.0, 4.0], sums: vec![1.0, -1.0], counts: vec![8] };
        let mut sum = Imatrix::default();
        sum.add(&one("a", entry.clone(), 4), 4).unwrap();
        sum.add(&one("a", entry.clone(), 4), 4).unwrap();
        sum.add(&one("b", entry, 4), 4).unwrap();
        assert_eq!((sum.n_chunks, sum.chunk_len), (4, 4));
        assert_eq!(
            sum.entries["a"],
            Entry { sum_squares: vec![4.0, 8.0], sums: vec![2.0, -2.0], counts: vec![16] }
        );
        assert_eq!(sum.entries["a"].mean_squares(), [0.25, 0.5]);
        let other = Entry { sum_squares: vec![1.0; 3], sums: vec![], counts: vec![1] };
        let before = sum.clone();
        assert!(sum.add(&one("a", other, 4), 4).is_err());
        assert_eq!(sum, before);
    }

    #[test]
    fn calls_of_the_older_format_are_chunks() {
        let old = Entry { sum_squares: vec![6.0, 3.0], sums: vec![], counts: vec![3] };
        let new = Entry { sum_squares: vec![10.0, 30.0], sums: vec![1.0, 1.0], counts: vec![5] };
        let old = Imatrix { counts_chunks: true, ..one("a", old, 0) };
        let both = Entry { sum_squares: vec![70.0, 60.0], sums: vec![], counts: vec![35] };
        let mut sum = Imatrix::default();
        sum.add(&old, 10).unwrap();
        assert_eq!((sum.n_chunks, sum.chunk_len), (3, 10));
        sum.add(&one("a", new.clone(), 10), 10).unwrap();
        assert_eq!(sum.entries["a"], both);
        // In any order, and where GGUF does not say how long its chunks were.
        let mut sum = old;
        sum.add(&one("a", new, 0), 10).unwrap();
        assert_eq!((&sum.entries["a"], sum.counts_chunks), (&both, false));
    }

    #[test]
    fn counts_of_absurd_files_do_not_overflow() {
        let entry = Entry { sum_squares: vec![1.0], sums: vec![], counts: vec![u64::MAX] };
        let mut sum = Imatrix { counts_chunks: true, ..one("a", entry.clone(), 0) };
        sum.add(&Imatrix { counts_chunks: true, ..one("a", entry, 0) }, u32::MAX).unwrap();
        assert_eq!((sum.entries["a"].counts[0], sum.n_chunks), (u64::MAX, u32::MAX));
    }

    #[test]
    fn experts_that_no_token_visited_weigh_each_column_alike() {
        let entry = Entry { sum_squares: vec![2.0, 4.0, 0.0, 0.0], sums: vec![], counts: vec![2, 0] };
        assert_eq!(entry.mean_squares(), [1.0, 2.0, 1.0, 1.0]);
    }
}
