//! Mirostat 1.

use super::candidates::{Candidate, Candidates};
use super::link::Link;
use super::mirostat_v2::Feedback;
use super::rng::Rng;

/// The number of most likely tokens used to estimate the Zipf exponent.
const M: usize = 100;

/// Keeps as many tokens as hold the surprise near the target τ, on the assumption that probabilities follow Zipf's
/// law, whose exponent is estimated from the likeliest 100 (Basu et al., arXiv:2007.14966, algorithm 1).
pub(super) struct Mirostat {
    feedback: Feedback,
    n_vocab: usize,
}

impl Mirostat {
    pub fn new(tau: f32, eta: f32, n_vocab: usize) -> Self {
        Self { feedback: Feedback::new(tau, eta), n_vocab }
    }

    /// The number of tokens to keep, for candidates sorted from the most likely.
    fn k(&self, best: &[Candidate]) -> usize {
        // Least squares through the origin: ln(p_i / p_{i+1}) = s · ln((i + 2) / (i + 1)). The left side is a
        // difference of logits.
        let (mut tb, mut tt) = (0.0f64, 0.0f64);
        for (i, pair) in best.windows(2).enumerate() {
            if pair[1].logit == f32::NEG_INFINITY {
                break;
            }
            let t = libm::log((i + 2) as f64 / (i + 1) as f64);
            tb += t * f64::from(pair[0].logit - pair[1].logit);
            tt += t * t;
        }
        let s = tb / tt;
        let epsilon = s - 1.0;
        let sum = (1.0 - libm::pow(self.n_vocab as f64, -epsilon)) / epsilon;
        let k = libm::pow(libm::exp2(f64::from(self.feedback.mu)) / sum, 1.0 / s);
        // `as` saturates, and takes NaN (an exponent of exactly 0 or 1, a lone candidate) to 0.
        (k as usize).max(1)
    }
}

impl Link for Mirostat {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        candidates.sort();
        let m = candidates.len().min(M);
        let k = self.k(&candidates.as_slice()[..m]);
        candidates.keep_best(k);
    }

    fn drawn(&mut self, chosen: &Candidate) {
        self.feedback.drawn(chosen);
    }

    fn accept(&mut self, token: u32) {
        self.feedback.accept(token);
    }

    fn reset(&mut self) {
        self.feedback.reset();
    }

    fn mirostat_mu(&self) -> Option<f32> {
        Some(self.feedback.mu)
    }

    fn set_mirostat_mu(&mut self, mu: f32) {
        self.feedback.mu = mu;
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::of;
    use super::*;

    /// Logits that follow Zipf's law exactly: l_i = −s·ln(i + 1), so that the estimate is s itself.
    fn zipf(s: f64, n: usize) -> Candidates {
        of(&(0..n).map(|i| (-s * libm::log((i + 1) as f64)) as f32).collect::<Vec<_>>())
    }

    /// numpy, s = 1.5, n = 1000, mu = 10: eps = .5; k = (eps * 2**10 / (1 - 1000**-eps)) ** (1 / s) = 65.388
    #[test]
    fn k_by_formula() {
        let mut c = zipf(1.5, 1000);
        Mirostat::new(5.0, 0.1, 1000).apply(&mut c, &mut Rng::new(0));
        assert_eq!(c.len(), 65);
        // mu = 6: (0.5 * 64 / 0.968377) ** (2/3) = 10.297
        let mut c = zipf(1.5, 1000);
        Mirostat::new(3.0, 0.1, 1000).apply(&mut c, &mut Rng::new(0));
        assert_eq!(c.len(), 10);
    }

    #[test]
    fn degenerate_rows_keep_the_best() {
        let mut lone = of(&[1.0]);
        Mirostat::new(5.0, 0.1, 1).apply(&mut lone, &mut Rng::new(0));
        assert_eq!(lone.len(), 1);
        let mut ruled_out = of(&[f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY]);
        Mirostat::new(5.0, 0.1, 3).apply(&mut ruled_out, &mut Rng::new(0));
        assert_eq!(ruled_out.as_slice()[0].id, 1);
    }
}
