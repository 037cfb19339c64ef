//! What of a model a part of an adapter is beside.

use std::fmt;

#[cfg(feature = "convert")]
use bise_models::Projection;
use bise_models::{MistralConfig, Site};

/// A matrix of a model, as adapters see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// The token embedding, as a product with a row that is 1 at the token and 0 elsewhere: `[n_embd, n_vocab]`.
    Embedding,
    /// A matrix that the model multiplies by.
    Matrix(Site),
}

impl fmt::Display for Target {
    /// The name in a GGUF file, without `.weight`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Embedding => f.write_str("token_embd"),
            Target::Matrix(site) => site.fmt(f),
        }
    }
}

impl Target {
    /// Rows of B and columns of A for a model of this configuration; `None` where it has no such matrix.
    pub fn shape(self, config: &MistralConfig) -> Option<[usize; 2]> {
        match self {
            Target::Embedding => Some([config.n_embd, config.n_vocab]),
            Target::Matrix(site) => site.shape(config),
        }
    }

    /// Rows of a head, where transformers rotates halves of it and GGUF files have rows that rotate together side by side.
    #[cfg(feature = "convert")]
    pub(super) fn rotated_head(self, config: &MistralConfig) -> Option<usize> {
        let is_rotated =
            matches!(self, Target::Matrix(Site { projection: Projection::AttnQ | Projection::AttnK, .. }));
        is_rotated.then_some(config.head_dim)
    }
}
