//! How well a text was foretold: perplexity, as llama.cpp computes it.

/// `ln softmax(logits)[token]`, summed in f64.
fn log_probability(logits: &[f32], token: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
    f64::from(logits[token as usize] - max) - sum.ln()
}

/// Negative log-likelihoods and their squares, summed.
#[derive(Default)]
pub struct Score {
    sum: f64,
    squares: f64,
    n: usize,
}

impl Score {
    /// Adds that of `token` after `logits`.
    pub fn add_logits(&mut self, logits: &[f32], token: u32) {
        self.add(log_probability(logits, token));
    }

    /// Adds a log-probability.
    pub fn add(&mut self, log_probability: f64) {
        self.sum -= log_probability;
        self.squares += log_probability * log_probability;
        self.n += 1;
    }

    /// Their mean.
    pub fn mean(&self) -> f64 {
        self.sum / self.n as f64
    }

    /// Their mean and its standard error.
    pub fn mean_and_error(&self) -> (f64, f64) {
        let mean = self.mean();
        // Rounding can leave less than nothing of a variance that is nothing.
        let variance = (self.squares / self.n as f64 - mean * mean).max(0.0);
        (mean, (variance / self.n.saturating_sub(1).max(1) as f64).sqrt())
    }

    /// Perplexity and its standard error, by llama-perplexity's formula: the error of the mean times the perplexity.
    pub fn estimate(&self) -> (f64, f64) {
        let (mean, error) = self.mean_and_error();
        (mean.exp(), error * mean.exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_are_those_of_a_softmax() {
        let logits = [1.0, 2.0, 0.5, 1000.0 - 1000.0];
        let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        assert!((log_probability(&logits, 1) - (2.0 - sum.ln())).abs() < 1e-12);
        assert_eq!(log_probability(&[1e30, 0.0], 0), 0.0);
    }

    #[test]
    fn the_estimate_is_that_of_llama_perplexity() {
        let mut score = Score::default();
        [-1.0, -2.0, -4.0].into_iter().for_each(|p| score.add(p));
        let (mean, variance) = (7.0_f64 / 3.0, 21.0 / 3.0 - (7.0_f64 / 3.0).powi(2));
        let (ppl, error) = score.estimate();
        assert!((ppl - mean.exp()).abs() < 1e-9);
        assert!((error - (variance / 2.0).sqrt() * mean.exp()).abs() < 1e-9);
    }
}
