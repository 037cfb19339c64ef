//! Min-p.

use super::candidates::Candidates;
use super::link::Link;
use super::rng::Rng;

/// Keeps the tokens that are at least `p` times as likely as the most likely one (arXiv:2407.01082); in logits,
/// those with `l ≥ max + ln p`.
pub(super) struct MinP {
    pub p: f32,
    /// Keep at least this many.
    pub min_keep: usize,
}

impl Link for MinP {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        let Some(best) = candidates.best() else { return };
        // p above 1 would rule out the best one as well.
        let bar = (best.logit + libm::logf(self.p)).min(best.logit);
        let n = candidates.as_slice().iter().filter(|c| c.logit >= bar).count();
        if n < self.min_keep {
            candidates.keep_best(self.min_keep);
        } else {
            candidates.retain(|c| c.logit >= bar);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::{ids, of_probs};
    use super::*;

    #[test]
    fn keeps_what_is_likely_enough() {
        for (p, min_keep, want) in [
            (0.24, 0, vec![0, 1, 2, 3]),
            (0.26, 0, vec![1, 2, 3]),
            (0.74, 0, vec![2, 3]),
            (0.76, 0, vec![3]),
            (2.0, 0, vec![3]),
            (0.76, 3, vec![1, 2, 3]),
        ] {
            let mut c = of_probs(&[0.1, 0.2, 0.3, 0.4]);
            MinP { p, min_keep }.apply(&mut c, &mut Rng::new(0));
            assert_eq!(ids(&c), want, "p = {p}");
        }
    }
}
