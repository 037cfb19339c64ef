//! Top-p, or nucleus sampling.

use super::candidates::Candidates;
use super::link::Link;
use super::rng::Rng;

/// Keeps the fewest tokens whose probabilities add up to at least `p` (Holtzman et al., arXiv:1904.09751).
pub(super) struct TopP {
    pub p: f32,
    /// Keep at least this many.
    pub min_keep: usize,
}

impl Link for TopP {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        candidates.softmax();
        candidates.keep_mass(self.p, self.min_keep);
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::{bumpy, ids, of, of_probs};
    use super::*;

    #[test]
    fn keeps_the_nucleus() {
        for (p, min_keep, want) in [
            (0.0, 0, vec![3]),
            (0.69, 0, vec![2, 3]),
            (0.71, 0, vec![1, 2, 3]),
            (0.95, 0, vec![0, 1, 2, 3]),
            (0.0, 3, vec![1, 2, 3]),
            (0.0, 9, vec![0, 1, 2, 3]),
        ] {
            let mut c = of_probs(&[0.1, 0.2, 0.3, 0.4]);
            TopP { p, min_keep }.apply(&mut c, &mut Rng::new(0));
            assert_eq!(ids(&c), want, "p = {p}");
        }
    }

    /// The prefixes that are sorted step by step give what a whole sort gives.
    #[test]
    fn equals_sorting_everything() {
        let logits: Vec<f32> = bumpy(20_000).iter().map(|l| l * 0.02).collect();
        for p in [0.01, 0.1, 0.5, 0.9, 0.999] {
            let mut c = of(&logits);
            TopP { p, min_keep: 0 }.apply(&mut c, &mut Rng::new(0));
            let mut whole = of(&logits);
            whole.softmax();
            whole.sort();
            let mut sum = 0.0;
            let n = whole.as_slice().iter().position(|c| {
                sum += f64::from(c.p);
                sum >= f64::from(p)
            });
            whole.truncate(n.unwrap() + 1);
            assert_eq!(c.as_slice(), whole.as_slice(), "p = {p}");
        }
    }
}
