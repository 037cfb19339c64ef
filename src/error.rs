use bise_kernels::Isa;
use bise_models::gguf::GgufError;
use bise_models::tokenizer::TokenizerError;
use bise_models::{ForwardError, OutOfMemory, OverCeiling, SpanError};

use crate::adapter::error::AdapterFileError;
use crate::memory::fit::DoesNotFit;
use crate::sampling::SamplingError;
use crate::scheduler::refused::Refused;
use crate::session_file::error::SessionFileError;
use crate::threads::ThreadsError;

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
    /// No room under the ceiling on memory, now: others of the engine have it.
    #[error(transparent)]
    OverCeiling(#[from] OverCeiling),
    /// A model, or a session with a full context, does not fit under the ceiling on memory.
    #[error(transparent)]
    DoesNotFit(#[from] Box<DoesNotFit>),
    /// `auto` is no ceiling on this system.
    #[error("this system does not say how much memory is free: give the ceiling in bytes")]
    UnknownFreeMemory,
    /// Sampling.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// Nothing to read: an empty prompt, and a vocabulary without a token to begin with.
    #[error("the prompt has no tokens: there is nothing to continue")]
    NoTokens,
    /// This machine cannot run it.
    #[cfg_attr(not(bise_isa = "avx2"), error("this machine cannot run {asked}; it has {}", isas()))]
    #[cfg_attr(
        bise_isa = "avx2",
        error("this machine cannot run {asked}, or the program was built without it; there is {}", isas())
    )]
    IsaUnavailable {
        /// What was asked for.
        asked: Isa,
    },
    /// The engine's threads could not be had.
    #[error(transparent)]
    Threads(#[from] ThreadsError),
    /// Sessions of several engines cannot be decoded together.
    #[error("sessions of different engines cannot be decoded together")]
    ForeignSession,
    /// A request that would not fit even if it were the only one.
    #[error(
        "this request may need {n_pages} pages of keys and values, and there may be {max_pages}: a shorter prompt, fewer \
         tokens or a shorter context takes less"
    )]
    TooFewPages {
        /// Pages it may need.
        n_pages: usize,
        /// Pages there may be.
        max_pages: usize,
    },
    /// A scheduler does not take a request.
    #[error(transparent)]
    Refused(Box<Refused>),
    /// The folder of the cache on the disk.
    #[error("{}: the cache of prompts cannot be made: {error}", path.display())]
    CacheFolder {
        /// The folder.
        path: std::path::PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// No pass can run, for reasons that concern all texts.
    #[error("{what}")]
    NoPass {
        /// What went wrong.
        what: String,
    },
    /// A fault in the program, of which one text was the occasion.
    #[error("an internal error: {what}")]
    Panicked {
        /// What the panic says.
        what: String,
    },
    /// An adapter.
    #[error(transparent)]
    Adapter(Box<AdapterFileError>),
    /// A session in a file.
    #[error(transparent)]
    SessionFile(#[from] SessionFileError),
    /// One of several texts has nothing to read.
    #[error("text {index}: there are no tokens to embed")]
    EmptyText {
        /// Its place among them, from 0.
        index: usize,
    },
    /// One of several texts cannot be read.
    #[error("text {index}: {error}")]
    Text {
        /// Its place among them, from 0.
        index: usize,
        /// What is wrong with it.
        error: Box<Error>,
    },
}

impl Error {
    /// This error, of one of several texts.
    pub(crate) fn of_text(self, index: usize) -> Error {
        Error::Text { index, error: Box::new(self) }
    }

    /// Whether a [`Cancel`](crate::Cancel) ended the pass.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Error::Forward(ForwardError::Cancelled))
    }
}

/// The instruction sets there are, as a list.
fn isas() -> String {
    Isa::available().map(Isa::name).collect::<Vec<_>>().join(", ")
}

impl From<Refused> for Error {
    /// The error that a job ends with where it is not refused at once.
    fn from(refused: Refused) -> Error {
        let span = |error| ForwardError::Span { span: 0, error }.into();
        match refused {
            Refused::NoTokens => Error::NoTokens,
            Refused::EmptyText { index } => Error::EmptyText { index },
            Refused::UnknownToken { token, n_vocab } => span(SpanError::UnknownToken { token, n_vocab }),
            Refused::PromptTooLong { n_prompt_tokens, n_ctx } => {
                span(SpanError::ContextFull { n_tokens: n_prompt_tokens, position: 0, room: n_ctx })
            }
            Refused::Sampling(error) => error.into(),
            Refused::TooFewPages { n_pages, max_pages } => Error::TooFewPages { n_pages, max_pages },
            refused => Error::Refused(Box::new(refused)),
        }
    }
}

impl From<AdapterFileError> for Error {
    fn from(error: AdapterFileError) -> Error {
        Error::Adapter(Box::new(error))
    }
}
