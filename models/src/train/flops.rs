//! How much work a pass is.

use crate::config::MistralConfig;
use crate::site::{Projection, Site};
use crate::train::error::TrainError;
use crate::train::options::{self, PROJECTIONS, TrainOptions};

/// Multiplications and additions of products and attention: two for each term of a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flops {
    /// From tokens to the loss and the gradient of the logits.
    pub forward: f64,
    /// Activations that the backward pass computes again.
    pub recomputed: f64,
    /// From there to the gradients, without these.
    pub backward: f64,
}

impl Flops {
    /// Those of an example of `n_rows` tokens of which `n_labels` are predicted; `sites` are the matrices with LoRA, with their ranks.
    ///
    /// # Errors
    /// For matrices that are not trained.
    pub fn of(
        config: &MistralConfig,
        sites: &[(Site, usize)],
        options: &TrainOptions,
        n_rows: usize,
        n_labels: usize,
    ) -> Result<Flops, TrainError> {
        let mut flops = Flops::default();
        let mut lowest = config.n_layers;
        for (site, _) in sites {
            options::check(config, *site)?;
            lowest = lowest.min(site.layer);
        }
        let rows = n_rows as f64;
        let of = |projection| {
            let [n, k] = options::shape(config, projection);
            let experts = config.experts.map_or(1, |e| e.n_used);
            let times = if PROJECTIONS[4..].contains(&projection) { experts } else { 1 };
            2.0 * rows * n as f64 * k as f64 * times as f64
        };
        let all: f64 = PROJECTIONS.into_iter().map(of).sum();
        let q_k_v = of(Projection::AttnQ) + of(Projection::AttnK) + of(Projection::AttnV);
        // q·k and p·v forward; backward the scores again (for keys and for queries), and dv, dk, dq, d(p) twice.
        let pairs = pairs(n_rows, config.sliding_window) * 2.0 * config.q_dim() as f64;
        for layer in 0..config.n_layers {
            flops.forward += all + 2.0 * pairs;
            if layer >= lowest {
                if options.checkpointing {
                    let down = if config.experts.is_some() { 0.0 } else { of(Projection::FfnDown) };
                    flops.recomputed += all - down + 2.0 * pairs;
                }
                flops.backward += all - if layer == lowest { q_k_v } else { 0.0 } + 7.0 * pairs;
            }
        }
        for (site, rank) in sites {
            let [n, k] = options::shape(config, site.projection);
            let one = 2.0 * rows * (n + k) as f64 * *rank as f64;
            flops.forward += one;
            flops.recomputed += one;
            flops.backward += 2.0 * one;
        }
        let head = 2.0 * n_labels as f64 * config.n_vocab as f64 * config.n_embd as f64;
        flops.forward += 2.0 * head;
        Ok(flops)
    }

    /// All of them.
    pub fn total(&self) -> f64 {
        self.forward + self.recomputed + self.backward
    }
}

/// Queries and keys that see each other.
fn pairs(n: usize, window: Option<usize>) -> f64 {
    let window = window.unwrap_or(n).min(n);
    let (n, window) = (n as f64, window as f64);
    n * window - window * (window - 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_those_inside_the_window() {
        let counted = |n: usize, window: usize| -> usize { (0..n).map(|i| (i + 1).min(window)).sum() };
        for (n, window) in [(1, 1), (7, 3), (7, 7), (5, 9), (100, 1)] {
            assert_eq!(pairs(n, Some(window)), counted(n, window) as f64, "{n}, {window}");
        }
        assert_eq!(pairs(6, None), 21.0);
        assert_eq!(pairs(0, None), 0.0);
    }
}
