//! Temperature, fixed or following the entropy.

use super::SamplingParams;
use super::candidates::Candidates;
use super::link::Link;
use super::rng::Rng;

/// Divides the logits by a temperature; zero or less keeps the best candidate alone.
///
/// With `dynatemp_range` r > 0 the temperature is `low + (high − low) · (H / H_max)^exponent` between
/// `low = max(0, temp − r)` and `high = temp + r`, where H is the entropy of the candidates and `H_max` the logarithm
/// of their number (<https://arxiv.org/abs/2309.02772>; the mapping is llama.cpp's).
pub(super) struct Temperature {
    temp: f32,
    range: f32,
    exponent: f32,
}

impl Temperature {
    pub fn new(params: &SamplingParams) -> Self {
        Self { temp: params.temp, range: params.dynatemp_range, exponent: params.dynatemp_exponent }
    }

    /// Without dynamic range.
    pub fn fixed(temp: f32) -> Self {
        Self { temp, range: 0.0, exponent: 1.0 }
    }

    /// The temperature for these candidates, at least two.
    fn dynamic(&self, candidates: &mut Candidates) -> f32 {
        candidates.softmax();
        let row = candidates.as_slice();
        let possible = row.iter().filter(|c| c.p > 0.0);
        let entropy = -possible.map(|c| f64::from(c.p * libm::logf(c.p))).sum::<f64>() as f32;
        // Rounding may leave a flat distribution just above its maximum.
        let share = (entropy / libm::logf(row.len() as f32)).clamp(0.0, 1.0);
        let (low, high) = ((self.temp - self.range).max(0.0), self.temp + self.range);
        low + (high - low) * libm::powf(share, self.exponent)
    }
}

impl Link for Temperature {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        if candidates.len() < 2 {
            return;
        }
        let temp = if self.range > 0.0 { self.dynamic(candidates) } else { self.temp };
        let Some(best) = candidates.best() else { return };
        // A temperature so small that the best logit overflows is as good as zero.
        if temp <= 0.0 || !(best.logit / temp).is_finite() {
            candidates.keep_best(1);
        } else if temp != 1.0 {
            candidates.map_monotone(|logit| logit / temp);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::{ids, of, of_probs};
    use super::*;

    fn logits(mut link: Temperature, logits: &[f32]) -> Vec<f32> {
        let mut c = of(logits);
        link.apply(&mut c, &mut Rng::new(0));
        c.as_slice().iter().map(|c| c.logit).collect()
    }

    #[test]
    fn divides() {
        assert_eq!(logits(Temperature::fixed(0.5), &[1.0, -2.0]), [2.0, -4.0]);
        assert_eq!(logits(Temperature::fixed(4.0), &[1.0, -2.0]), [0.25, -0.5]);
    }

    #[test]
    fn zero_and_almost_zero_keep_the_best() {
        for temp in [0.0, -1.0, 1e-45] {
            let mut c = of(&[-1.0, 7.0, 7.0]);
            Temperature::fixed(temp).apply(&mut c, &mut Rng::new(0));
            assert_eq!(ids(&c), [1], "temp = {temp}");
        }
    }

    fn dynamic(temp: f32, range: f32, exponent: f32, probs: &[f32]) -> f32 {
        let mut c = of_probs(probs);
        Temperature { temp, range, exponent }.dynamic(&mut c)
    }

    /// By hand: p = (0.9, 0.1) has entropy 0.325083 of at most ln 2 = 0.693147, a share of 0.468996.
    #[test]
    fn follows_the_entropy() {
        assert!((dynamic(1.0, 0.5, 1.0, &[0.5, 0.5]) - 1.5).abs() < 1e-6);
        assert!((dynamic(1.0, 0.5, 1.0, &[0.9, 0.1]) - (0.5 + 0.468_996)).abs() < 1e-5);
        assert!((dynamic(1.0, 0.5, 2.0, &[0.9, 0.1]) - (0.5 + 0.219_957)).abs() < 1e-5);
        // low is not below zero: 0 + 1.5·0.468996
        assert!((dynamic(0.5, 1.0, 1.0, &[0.9, 0.1]) - 0.703_494).abs() < 1e-5);
    }

    #[test]
    fn dynamic_range_is_applied() {
        let link = Temperature { temp: 1.0, range: 0.5, exponent: 1.0 };
        let got = logits(link, &[3.0, 3.0]);
        assert!(got.iter().all(|l| (l - 2.0).abs() < 1e-5), "{got:?}");
    }
}
