use bise_kernels::{Isa, TeamError};
use bise_models::gguf::GgufError;
use bise_models::tokenizer::TokenizerError;
use bise_models::{ForwardError, OutOfMemory};

use crate::sampling::SamplingError;

/// Why something failed, in one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Its vocabulary.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A forward pass.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// No memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// Sampling.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// Nothing to read: an empty prompt, and a vocabulary without a token to begin with.
    #[error("the prompt has no tokens: there is nothing to continue")]
    NoTokens,
    /// This machine cannot run it.
    #[error("this machine cannot run {asked}; it has {}", Isa::available().map(Isa::name).collect::<Vec<_>>().join(", "))]
    IsaUnavailable {
        /// What was asked for.
        asked: Isa,
    },
    /// The engine's threads could not be started.
    #[error(transparent)]
    Threads(#[from] TeamError),
    /// Sessions of several engines cannot be decoded together.
    #[error("sessions of different engines cannot be decoded together")]
    ForeignSession,
}

impl Error {
    /// Whether a [`Cancel`](crate::Cancel) ended the pass.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Error::Forward(ForwardError::Cancelled))
    }
}
