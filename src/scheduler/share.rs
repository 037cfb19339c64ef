//! How the tokens of a pass are shared out among prompts.

use super::JobId;

/// A prompt that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    pub id: JobId,
    /// Tokens to read.
    pub n_unread: usize,
    /// Tokens it has in the pass.
    pub share: usize,
}

/// Shares `n` tokens out: three quarters to the shortest prompt and the others to the oldest, and what they leave in the order they came. So
/// a short one is soon done, and the oldest is read at a quarter of the speed at least, however many come after it.
pub(super) fn share_out(readers: &mut [Reader], mut n: usize) {
    readers.sort_unstable_by_key(|reader| reader.id);
    let shortest = (1..readers.len())
        .fold(0, |best, i| if readers[i].n_unread < readers[best].n_unread { i } else { best });
    let most = n - n.div_ceil(4);
    let mut give = |reader: &mut Reader, most: usize| {
        let share = (reader.n_unread - reader.share).min(most).min(n);
        reader.share += share;
        n -= share;
    };
    if shortest > 0 {
        give(&mut readers[shortest], most);
    }
    readers.iter_mut().for_each(|reader| give(reader, usize::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(unread: &[usize], n: usize) -> Vec<usize> {
        let reader =
            |(id, n_unread): (usize, &usize)| Reader { id: JobId(id as u64), n_unread: *n_unread, share: 0 };
        let mut readers: Vec<Reader> = unread.iter().enumerate().map(reader).collect();
        // In any order.
        readers.reverse();
        share_out(&mut readers, n);
        readers.iter().map(|reader| reader.share).collect()
    }

    #[test]
    fn the_oldest_and_the_shortest_share_a_pass() {
        assert_eq!(shares(&[], 10), [0; 0]);
        assert_eq!(shares(&[100], 10), [10]);
        assert_eq!(shares(&[100], 1000), [100]);
        assert_eq!(shares(&[2000, 300, 40], 10), [3, 0, 7]);
        assert_eq!(shares(&[2000, 300, 3], 10), [7, 0, 3]);
        // Among equals, the one that came first.
        assert_eq!(shares(&[50, 50, 50], 60), [50, 10, 0]);
        assert_eq!(shares(&[5, 300, 40], 60), [5, 55, 0]);
        assert_eq!(shares(&[30, 20, 10], 1000), [30, 20, 10]);
        assert_eq!(shares(&[30, 20], 1), [1, 0]);
        assert_eq!(shares(&[30, 20], 0), [0, 0]);
    }
}
