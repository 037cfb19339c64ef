//! What [`Divergence`] comes to, by llama-perplexity's formulas.

use super::divergence::{Divergence, Sums};

/// A mean or what is computed from means, with its standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Its standard error; 0 for ten positions or fewer.
    pub error: f64,
}

impl Estimate {
    fn mean(sums: Sums, n: usize) -> Estimate {
        if n == 0 {
            return Estimate::default();
        }
        let value = sums.sum / n as f64;
        let variance = sums.squares / n as f64 - value * value;
        let error = if variance > 0.0 && n > 10 { (variance / (n - 1) as f64).sqrt() } else { 0.0 };
        Estimate { value, error }
    }

    fn exp(self) -> Estimate {
        let value = libm::exp(self.value);
        Estimate { value, error: value * self.error }
    }

    /// `self − other`, where `covariance` is that of the two.
    fn minus(self, other: Estimate, covariance: f64) -> Estimate {
        let variance = self.error * self.error + other.error * other.error - 2.0 * covariance;
        // Rounding can leave less than nothing.
        Estimate { value: self.value - other.value, error: variance.max(0.0).sqrt() }
    }
}

/// Percentiles.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    sorted: Vec<f32>,
}

impl Distribution {
    fn of(values: &[f32]) -> Distribution {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f32::total_cmp);
        Distribution { sorted }
    }

    /// The value below which a fraction of the others is, between two of them linearly; 0 where there are none.
    pub fn at(&self, fraction: f32) -> f32 {
        let Some(last) = self.sorted.len().checked_sub(1) else { return 0.0 };
        let place = fraction.clamp(0.0, 1.0) * last as f32;
        let (below, part) = (place as usize, place.fract());
        let below = below.min(last);
        (1.0 - part) * self.sorted[below] + part * self.sorted[(below + 1).min(last)]
    }

    /// The value in the middle.
    pub fn median(&self) -> f32 {
        let (sorted, n) = (&self.sorted, self.sorted.len());
        match n {
            0 => 0.0,
            n if n.is_multiple_of(2) => 0.5 * (sorted[n / 2] + sorted[n / 2 - 1]),
            n => sorted[n / 2],
        }
    }

    /// The least.
    pub fn min(&self) -> f32 {
        self.at(0.0)
    }

    /// The greatest.
    pub fn max(&self) -> f32 {
        self.at(1.0)
    }
}

/// What can be said at any time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Running {
    /// Perplexity of the model.
    pub ppl: Estimate,
    /// Perplexity of the base.
    pub ppl_base: Estimate,
    /// `ln(ppl / ppl_base)`
    pub ln_ratio: Estimate,
    /// Mean Kullback-Leibler divergence, in nats.
    pub kld: Estimate,
    /// Root of the mean square of the difference in the probability of the next token.
    pub rms_p_diff: Estimate,
    /// How often the likeliest token is the same: from 0 to 1.
    pub same_top: Estimate,
}

/// All of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Positions.
    pub n: usize,
    /// Means that need no sorting.
    pub running: Running,
    /// Correlation of the negative log-likelihoods, from −1 to 1; NaN where one of the two does not vary.
    pub correlation: f64,
    /// `ppl / ppl_base`
    pub ratio: Estimate,
    /// `ppl − ppl_base`
    pub difference: Estimate,
    /// Divergences.
    pub kld: Distribution,
    /// Mean difference in the probability of the next token.
    pub mean_p_diff: Estimate,
    /// Those differences.
    pub p_diff: Distribution,
}

impl Divergence {
    fn covariance(&self) -> f64 {
        let n = self.n() as f64;
        if self.n() < 10 {
            return 0.0;
        }
        (self.nll_product / n - (self.nll.sum / n) * (self.nll_base.sum / n)) / (n - 1.0)
    }

    /// What can be said so far.
    pub fn running(&self) -> Running {
        let n = self.n();
        let (nll, base) = (Estimate::mean(self.nll, n), Estimate::mean(self.nll_base, n));
        let squares = Estimate::mean(self.p_diff_squared, n);
        let rms = squares.value.sqrt();
        let rms_error = if rms > 0.0 { 0.5 / rms * squares.error } else { 0.0 };
        let same = self.n_same_top as f64 / n.max(1) as f64;
        Running {
            ppl: nll.exp(),
            ppl_base: base.exp(),
            ln_ratio: nll.minus(base, self.covariance()),
            kld: Estimate::mean(self.kld, n),
            rms_p_diff: Estimate { value: rms, error: rms_error },
            same_top: Estimate {
                value: same,
                error: (same * (1.0 - same) / n.saturating_sub(1).max(1) as f64).sqrt(),
            },
        }
    }

    /// Everything, which takes a sort.
    pub fn statistics(&self) -> Statistics {
        let n = self.n();
        let running = self.running();
        let (nll, base) = (Estimate::mean(self.nll, n), Estimate::mean(self.nll_base, n));
        let (ppl, ppl_base, covariance) = (running.ppl, running.ppl_base, self.covariance());
        Statistics {
            n,
            running,
            correlation: covariance / (nll.error * base.error),
            ratio: running.ln_ratio.exp(),
            difference: ppl.minus(ppl_base, ppl.value * ppl_base.value * covariance),
            kld: Distribution::of(&self.klds),
            mean_p_diff: Estimate::mean(self.p_diff, n),
            p_diff: Distribution::of(&self.p_diffs),
        }
    }
}
