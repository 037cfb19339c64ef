//! Top-k.

use super::candidates::Candidates;
use super::link::Link;
use super::rng::Rng;

/// Keeps the k most likely tokens (Fan et al., arXiv:1805.04833); k is at least 1.
pub(super) struct TopK(pub usize);

impl Link for TopK {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        candidates.keep_best(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::{ids, of_probs};
    use super::*;

    #[test]
    fn keeps_the_k_most_likely() {
        for (k, want) in [(1, vec![3]), (3, vec![1, 2, 3]), (9, vec![0, 1, 2, 3])] {
            let mut c = of_probs(&[0.1, 0.2, 0.3, 0.4]);
            TopK(k).apply(&mut c, &mut Rng::new(0));
            assert_eq!(ids(&c), want);
        }
    }
}
