//! Locally typical sampling.

use super::candidates::Candidates;
use super::link::Link;
use super::rng::Rng;

/// Keeps the tokens whose surprise, −ln p, is nearest to the expected one (the entropy), until their probabilities
/// add up to more than `p` (Meister et al., arXiv:2202.00666).
pub(super) struct Typical {
    p: f32,
    min_keep: usize,
    /// (distance from the entropy, position among the candidates); reused from token to token.
    distances: Vec<(f32, usize)>,
}

impl Typical {
    pub fn new(p: f32, min_keep: usize) -> Self {
        Self { p, min_keep, distances: Vec::new() }
    }
}

impl Link for Typical {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        candidates.softmax();
        let row = candidates.as_slice();
        // A token of probability zero adds nothing: p·ln p → 0.
        let possible = row.iter().filter(|c| c.p > 0.0);
        let entropy = -possible.map(|c| f64::from(c.p * libm::logf(c.p))).sum::<f64>() as f32;

        self.distances.clear();
        self.distances.extend(row.iter().enumerate().map(|(i, c)| ((-libm::logf(c.p) - entropy).abs(), i)));
        // Among equals the more likely first, then the lower id.
        self.distances.sort_unstable_by(|a, b| {
            let (x, y) = (&row[a.1], &row[b.1]);
            a.0.total_cmp(&b.0).then(y.p.total_cmp(&x.p)).then(x.id.cmp(&y.id))
        });
        let mut sum = 0.0f64;
        let enough = self.distances.iter().zip(1..).find(|((_, i), kept)| {
            sum += f64::from(row[*i].p);
            sum > f64::from(self.p) && *kept >= self.min_keep
        });
        let kept = enough.map_or(row.len(), |(_, kept)| kept);

        let kept = &mut self.distances[..kept];
        kept.sort_unstable_by_key(|&(_, i)| i);
        candidates.keep_positions(kept.iter().map(|&(_, i)| i));
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::{ids, of_probs};
    use super::*;

    /// By hand for p = (0.05, 0.15, 0.35, 0.45): entropy 1.16105; −ln p = 2.9957, 1.8971, 1.0498, 0.7985;
    /// distances 1.8347, 0.7361, 0.1112, 0.3626; so the order is 2 (0.35), 3 (0.80), 1 (0.95), 0 (1.00).
    #[test]
    fn keeps_the_typical_not_the_likeliest() {
        for (p, min_keep, want) in [
            (0.34, 0, vec![2]),
            (0.36, 0, vec![2, 3]),
            (0.81, 0, vec![1, 2, 3]),
            (0.96, 0, vec![0, 1, 2, 3]),
            (0.34, 2, vec![2, 3]),
        ] {
            let mut c = of_probs(&[0.05, 0.15, 0.35, 0.45]);
            Typical::new(p, min_keep).apply(&mut c, &mut Rng::new(0));
            assert_eq!(ids(&c), want, "p = {p}");
        }
    }

    #[test]
    fn impossible_tokens_come_last() {
        let mut c = of_probs(&[0.0, 0.6, 0.4]);
        Typical::new(0.99, 0).apply(&mut c, &mut Rng::new(0));
        assert_eq!(ids(&c), [1, 2]);
    }
}
