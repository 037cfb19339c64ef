//! What an adapter's shapes depend on.

use crate::config::MistralConfig;

/// The sizes of a model's matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shapes {
    n_layers: usize,
    n_embd: usize,
    q_dim: usize,
    kv_dim: usize,
    n_ff: usize,
    n_vocab: usize,
    n_experts: Option<usize>,
}

impl Shapes {
    pub fn of(config: &MistralConfig) -> Shapes {
        Shapes {
            n_layers: config.n_layers,
            n_embd: config.n_embd,
            q_dim: config.q_dim(),
            kv_dim: config.kv_dim(),
            n_ff: config.n_ff,
            n_vocab: config.n_vocab,
            n_experts: config.experts.map(|experts| experts.n_experts),
        }
    }
}
