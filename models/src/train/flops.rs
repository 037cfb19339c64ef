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
        // q·k and p·v forward; backward the scores again, and then dv, d(p), dk and dq.
        let pairs = pairs(n_rows, config.sliding_window) * 2.0 * config.q_dim() as f64;
        for layer in 0..config.n_layers {
            flops.forward += all + 2.0 * pairs;
            if layer >= lowest {
                if options.checkpointing {
                    let down = if config.experts.is_some() { 0.0 } else { of(Projection::FfnDown) };
                    flops.recomputed += all - down + 2.0 * pairs;
                }
                flops.backward += all - if layer == lowest { q_k_v } else { 0.0 } + 5.0 * pairs;
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
    use crate::rope_scaling::{RopeConfig, RopeScaling};

    #[test]
    fn pairs_are_those_inside_the_window() {
        let counted = |n: usize, window: usize| -> usize { (0..n).map(|i| (i + 1).min(window)).sum() };
        for (n, window) in [(1, 1), (7, 3), (7, 7), (5, 9), (100, 1)] {
            assert_eq!(pairs(n, Some(window)), counted(n, window) as f64, "{n}, {window}");
        }
        assert_eq!(pairs(6, None), 21.0);
        assert_eq!(pairs(0, None), 0.0);
    }

    /// Mistral 7B, `n_layers` of its 32.
    fn mistral(n_layers: usize) -> MistralConfig {
        let rope = RopeConfig { n_dims: 128, base: 1e6, scaling: RopeScaling::None, attn_factor: 1.0 };
        MistralConfig {
            arch: "llama".into(),
            n_layers,
            n_predict_layers: 0,
            n_ctx_train: 32768,
            n_embd: 4096,
            n_ff: 14336,
            n_heads: 32,
            n_kv_heads: 8,
            head_dim: 128,
            n_vocab: 32000,
            rms_eps: 1e-5,
            rope,
            sliding_window: None,
            window_assumed: false,
            temperature: None,
            experts: None,
        }
    }

    fn flops(n_layers: usize, first: usize, checkpointing: bool, n_labels: usize) -> Flops {
        let config = mistral(n_layers);
        let sites = (first..n_layers)
            .map(|layer| (Site { layer, projection: Projection::AttnQ, expert: None }, 16))
            .collect::<Vec<_>>();
        let options = TrainOptions { checkpointing, ..TrainOptions::default() };
        Flops::of(&config, &sites, &options, 512, n_labels).unwrap()
    }

    #[test]
    fn two_for_each_weight_and_token_and_what_attention_takes() {
        // 218,103,808 weights in the matrices of a layer; attention of 512 tokens takes a hundredth as much, and its
        // gradient two and a half.
        let layer = 2.0 * 512.0 * 218_103_808.0;
        let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 0.04;
        let all = flops(32, 0, true, 0);
        assert!(near(all.forward, 32.0 * layer), "{all:?}");
        assert!(near(all.backward, 32.0 * layer), "{all:?}");
        // The product of a feed-forward's third matrix is not computed again.
        assert!(near(all.recomputed, 32.0 * (layer - 2.0 * 512.0 * 4096.0 * 14336.0)), "{all:?}");
        // The gradient ends with the lowest adapted layer.
        let some = flops(32, 24, true, 0);
        assert!(near(some.forward, 32.0 * layer) && near(some.backward, 7.9 * layer), "{some:?}");
        assert!(flops(32, 0, false, 0).recomputed < 0.01 * all.recomputed);
        // Logits, and their gradient.
        let head = flops(1, 0, true, 100).total() - flops(1, 0, true, 0).total();
        assert_eq!(head, 2.0 * 2.0 * 100.0 * 32000.0 * 4096.0);
    }
}
