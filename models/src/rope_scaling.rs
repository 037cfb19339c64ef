//! Rotary frequencies: plain, linear, YaRN, and Llama 3's table of factors.

use libm::{ceil, floor, log, pow};

/// How positions are fitted to the context the model was first trained with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Every frequency is divided by `factor`.
    Linear {
        /// Context over original context.
        factor: f32,
    },
    /// YaRN (Peng et al., 2023, <https://arxiv.org/abs/2309.00071>): low frequencies are divided, high ones kept.
    Yarn {
        /// Context over original context.
        factor: f32,
        /// Context the model was first trained with.
        original_ctx: usize,
        /// A frequency that makes more rotations than this over the original context is kept.
        beta_fast: f32,
        /// A frequency that makes fewer rotations than this is divided.
        beta_slow: f32,
        /// `mscale_all_dim` of DeepSeek's variant; 0 for the paper's.
        log_multiplier: f32,
    },
}

/// The rotary embedding of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// How many dimensions of a head rotate, an even number. The rest are left as they are.
    pub n_dims: usize,
    /// The base of the frequencies, 10000 in the paper.
    pub base: f32,
    /// How frequencies are scaled.
    pub scaling: RopeScaling,
    /// A factor on cosines and sines, beside YaRN's own.
    pub attn_factor: f32,
}

impl RopeConfig {
    /// One frequency for each pair of dimensions, `[n_dims / 2]`, in radians per position, divided by `factors` if given
    /// (`rope_freqs.weight`, of the same length). Rounded to f32 where `transformers` rounds.
    pub fn inv_freqs(&self, factors: Option<&[f32]>) -> Vec<f32> {
        let n_pairs = self.n_dims / 2;
        let mut freqs: Vec<f32> = (0..n_pairs)
            .map(|i| {
                let exponent = (2 * i) as f32 / self.n_dims as f32;
                let wavelength = pow(self.base as f64, exponent as f64) as f32;
                match self.scaling {
                    RopeScaling::None => 1.0 / wavelength,
                    RopeScaling::Linear { factor } => 1.0 / wavelength / factor,
                    RopeScaling::Yarn { factor, .. } => {
                        let keep = 1.0 - self.yarn_ramp(i);
                        (1.0 / (factor * wavelength)) * (1.0 - keep) + (1.0 / wavelength) * keep
                    }
                }
            })
            .collect();
        if let Some(factors) = factors {
            freqs.iter_mut().zip(factors).for_each(|(freq, factor)| *freq /= factor);
        }
        freqs
    }

    /// The factor on cosines and sines.
    pub fn mscale(&self) -> f32 {
        let mscale =
            |factor: f32, m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * log(factor as f64) + 1.0 };
        let yarn = match self.scaling {
            RopeScaling::Yarn { factor, log_multiplier, .. } if log_multiplier != 0.0 => {
                mscale(factor, 1.0) / mscale(factor, log_multiplier as f64)
            }
            RopeScaling::Yarn { factor, .. } => mscale(factor, 1.0),
            _ => 1.0,
        };
        yarn as f32 * self.attn_factor
    }

    /// 0 for pairs that turn often enough to be kept, 1 for those that are divided, a line between.
    fn yarn_ramp(&self, pair: usize) -> f32 {
        let RopeScaling::Yarn { original_ctx, beta_fast, beta_slow, .. } = self.scaling else { return 0.0 };
        let (dims, base) = (self.n_dims as f64, self.base as f64);
        let pair_that_turns = |rotations: f32| {
            dims * log(original_ctx as f64 / (rotations as f64 * 2.0 * std::f64::consts::PI))
                / (2.0 * log(base))
        };
        let low = floor(pair_that_turns(beta_fast)).max(0.0);
        let high = ceil(pair_that_turns(beta_slow)).min(dims - 1.0);
        let span = if high == low { 0.001 } else { high - low };
        ((pair as f64 - low) / span).clamp(0.0, 1.0) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: RopeConfig =
        RopeConfig { n_dims: 128, base: 10_000.0, scaling: RopeScaling::None, attn_factor: 1.0 };

    #[test]
    fn plain_frequencies_fall_from_one_to_nearly_the_inverse_base() {
        let freqs = PLAIN.inv_freqs(None);
        assert_eq!((freqs.len(), freqs[0]), (64, 1.0));
        assert!((freqs[63] - 1.1548e-4).abs() < 1e-8);
        assert_eq!(PLAIN.mscale(), 1.0);
    }

    #[test]
    fn linear_divides_all_and_factors_divide_each() {
        let linear = RopeConfig { scaling: RopeScaling::Linear { factor: 4.0 }, ..PLAIN };
        let plain = PLAIN.inv_freqs(None);
        assert!(linear.inv_freqs(None).iter().zip(&plain).all(|(l, p)| *l == p / 4.0));
        let factors: Vec<f32> = (0..64).map(|i| 1.0 + i as f32).collect();
        let divided = PLAIN.inv_freqs(Some(&factors));
        assert!(divided.iter().zip(&plain).zip(&factors).all(|((d, p), f)| *d == p / f));
    }

    /// Values of transformers' `_compute_yarn_parameters` for Ministral 3 (base 1e6, factor 16, 16384, 128 dimensions).
    #[test]
    fn yarn_keeps_fast_pairs_and_divides_slow_ones() {
        let scaling = RopeScaling::Yarn {
            factor: 16.0,
            original_ctx: 16384,
            beta_fast: 32.0,
            beta_slow: 1.0,
            log_multiplier: 1.0,
        };
        let yarn = RopeConfig { base: 1e6, scaling, ..PLAIN };
        let plain = RopeConfig { base: 1e6, ..PLAIN }.inv_freqs(None);
        let freqs = yarn.inv_freqs(None);
        assert_eq!(freqs[..20], plain[..20]);
        assert!(freqs[40..].iter().zip(&plain[40..]).all(|(y, p)| (y / p - 1.0 / 16.0).abs() < 1e-6));
        assert_eq!(yarn.mscale(), 1.0);
        let paper = RopeScaling::Yarn {
            factor: 16.0,
            original_ctx: 16384,
            beta_fast: 32.0,
            beta_slow: 1.0,
            log_multiplier: 0.0,
        };
        let mscale = RopeConfig { scaling: paper, ..PLAIN }.mscale();
        assert!((mscale - 1.277_258_9).abs() < 1e-6);
    }
}
