/// Where in a layer something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its attention.
    Attention,
    /// Its feed-forward.
    FeedForward,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stage::Attention => "attention",
            Stage::FeedForward => "feed-forward",
        })
    }
}

/// Why a forward pass ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// A token that the vocabulary does not have.
    #[error("token {token} is not in the vocabulary, which has {n_vocab}")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Tokens of the vocabulary.
        n_vocab: usize,
    },
    /// More tokens than the context has room for.
    #[error("{n_tokens} tokens at position {position} do not fit the context: it has room for {room} more")]
    ContextFull {
        /// Tokens to be read.
        n_tokens: usize,
        /// Tokens already read.
        position: usize,
        /// Room left.
        room: usize,
    },
    /// Infinite or undefined activations: the weights are damaged, or too large for the arithmetic.
    #[error(
        "the activations of layer {layer} are not finite in its {stage}: the weights may be damaged (see --check-tensors)"
    )]
    NotFinite {
        /// The layer, from 0.
        layer: usize,
        /// Where in the layer.
        stage: Stage,
    },
    /// The same, after the last layer.
    #[error("the logits are not finite: the weights may be damaged (see --check-tensors)")]
    LogitsNotFinite,
}
