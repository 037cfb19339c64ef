//! Top-nσ.

use super::candidates::Candidates;
use super::link::Link;
use super::rng::Rng;

/// Keeps the tokens whose logit lies within n standard deviations of the highest (arXiv:2411.07641). Tokens already
/// ruled out count neither for the mean nor for the deviation.
pub(super) struct TopNSigma(pub f32);

impl Link for TopNSigma {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        let Some(best) = candidates.best().filter(|c| c.logit.is_finite()) else { return };
        let finite = || candidates.as_slice().iter().map(|c| f64::from(c.logit)).filter(|l| l.is_finite());
        let n = finite().count() as f64;
        let mean = finite().sum::<f64>() / n;
        let variance = finite().map(|l| (l - mean) * (l - mean)).sum::<f64>() / n;
        let bar = f64::from(best.logit) - f64::from(self.0) * variance.sqrt();
        candidates.retain(|c| f64::from(c.logit) >= bar);
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::{ids, of};
    use super::*;

    /// numpy: l = [1, 2, 3, 6]; l.std() = 1.870829; 6 − 1.870829 = 4.129, 6 − 1.7·σ = 2.82, 6 − 3·σ = 0.39
    #[test]
    fn keeps_the_logits_near_the_highest() {
        for (n, want) in [(1.0, vec![3]), (1.7, vec![2, 3]), (3.0, vec![0, 1, 2, 3])] {
            let mut c = of(&[1.0, 2.0, 3.0, 6.0]);
            TopNSigma(n).apply(&mut c, &mut Rng::new(0));
            assert_eq!(ids(&c), want, "n = {n}");
        }
    }

    #[test]
    fn ruled_out_tokens_do_not_count() {
        let mut c = of(&[1.0, f32::NEG_INFINITY, 2.0, 3.0, 6.0, f32::NEG_INFINITY]);
        TopNSigma(1.7).apply(&mut c, &mut Rng::new(0));
        assert_eq!(ids(&c), [3, 4]);
    }
}
