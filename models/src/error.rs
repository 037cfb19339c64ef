use crate::budget::OverCeiling;
use crate::kv::PoolError;

/// The part of a layer in which something went wrong.
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
    /// One of the batch's spans cannot be read.
    #[error("{error}")]
    Span {
        /// Its index in the batch.
        span: usize,
        /// What is wrong with it.
        error: SpanError,
    },
    /// It was asked to stop.
    #[error("the forward pass was cancelled")]
    Cancelled,
    /// No memory for the buffers of the pass; nothing was read.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The ceiling on memory leaves no room for the buffers of the pass; nothing was read.
    #[error("no room for {what}: {error}")]
    OverCeiling {
        /// What they are for.
        what: &'static str,
        /// What was asked for, and what is left.
        error: OverCeiling,
    },
}

/// Why a span of a batch cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpanError {
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
    /// There is no memory for its keys and values.
    #[error(transparent)]
    NoPages(#[from] PoolError),
    /// One of its adapters has other shapes than the model.
    #[error("the adapter {name} is for another model")]
    AdapterMisfit {
        /// The adapter's name.
        name: String,
    },
    /// The factor on the scale of one of its adapters is infinite or undefined.
    #[error("the scale of the adapter {name} is {scale}, which is no finite number")]
    AdapterScale {
        /// The adapter's name.
        name: String,
        /// The factor, as text.
        scale: String,
    },
    /// Infinite or undefined activations: the weights are damaged, or an adapter or its scale is too large for the arithmetic.
    #[error("the activations of layer {layer} are not finite in its {stage}{}", cause(adapters))]
    NotFinite {
        /// The layer, from 0.
        layer: usize,
        /// Where in the layer.
        stage: Stage,
        /// The adapters that act on the span, with the factors on their scales; empty for none.
        adapters: String,
    },
    /// Infinite or undefined logits, for the same reasons.
    #[error("the logits are not finite{}", cause(adapters))]
    LogitsNotFinite {
        /// The adapters that act on the span, with the factors on their scales; empty for none.
        adapters: String,
    },
}

impl SpanError {
    /// Infinite or undefined logits of a span without adapters.
    pub(crate) const LOGITS: SpanError = SpanError::LogitsNotFinite { adapters: String::new() };

    /// Names the adapters that numbers which are not finite may come from.
    pub(crate) fn beside(mut self, names: impl FnOnce() -> String) -> SpanError {
        if let SpanError::NotFinite { adapters, .. } | SpanError::LogitsNotFinite { adapters } = &mut self {
            *adapters = names();
        }
        self
    }
}

/// What numbers that are not finite may come from.
fn cause(adapters: &str) -> String {
    const WEIGHTS: &str = "the weights may be damaged (see `bise inspect --check-tensors`)";
    match adapters {
        "" => format!(": {WEIGHTS}"),
        adapters => format!(
            " with adapters beside the weights ({adapters}): an adapter or its scale may be too large, or {WEIGHTS}"
        ),
    }
}

/// The system has no more memory for this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of memory: {bytes} bytes for {what}")]
pub struct OutOfMemory {
    /// What was asked for.
    pub bytes: usize,
    /// What it was for.
    pub what: &'static str,
}
