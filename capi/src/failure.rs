//! Why a call failed, on its way to C.

use engine::adapter::{AdapterError, AdapterFileError};
use engine::sampling::SamplingError;
use engine::{ForwardError, SessionFileError, SpanError, gguf::GgufError};

use crate::status::{bise_status, bise_status::*};

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub status: bise_status,
    pub message: String,
}

impl Failure {
    pub fn new(status: bise_status, message: impl ToString) -> Failure {
        Failure { status, message: message.to_string() }
    }

    pub fn argument(message: impl ToString) -> Failure {
        Failure::new(BISE_ERROR_ARGUMENT, message)
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Failure {
        Failure::new(status_of(&error), error)
    }
}

fn status_of(error: &engine::Error) -> bise_status {
    use engine::Error as E;
    match error {
        E::Gguf(GgufError::OutOfMemory { .. }) | E::OutOfMemory(_) => BISE_ERROR_MEMORY,
        E::OverCeiling(_) | E::DoesNotFit(_) => BISE_ERROR_MEMORY,
        E::SessionFile(SessionFileError::TooLong { .. }) => BISE_ERROR_CONTEXT_FULL,
        E::Adapter(error) => adapter_status(error),
        E::Gguf(_) | E::Tokenizer(_) | E::SessionFile(_) => BISE_ERROR_FILE,
        E::Forward(error) => forward_status(error),
        E::Sampling(SamplingError::NotFinite { .. }) => BISE_ERROR_NOT_FINITE,
        E::IsaUnavailable { .. } => BISE_ERROR_UNSUPPORTED,
        E::Threads(_) => BISE_ERROR_SYSTEM,
        E::Text { error, .. } => status_of(error),
        _ => BISE_ERROR_ARGUMENT,
    }
}

fn adapter_status(error: &AdapterFileError) -> bise_status {
    match error {
        AdapterFileError::Unsupported { .. } => BISE_ERROR_UNSUPPORTED,
        AdapterFileError::Gguf(GgufError::OutOfMemory { .. })
        | AdapterFileError::Adapter(AdapterError::OutOfMemory { .. }) => BISE_ERROR_MEMORY,
        _ => BISE_ERROR_FILE,
    }
}

fn forward_status(error: &ForwardError) -> bise_status {
    match error {
        ForwardError::Cancelled => BISE_ERROR_CANCELLED,
        ForwardError::OutOfMemory(_) => BISE_ERROR_MEMORY,
        ForwardError::Span { error, .. } => match error {
            SpanError::ContextFull { .. } => BISE_ERROR_CONTEXT_FULL,
            SpanError::NoPages(_) => BISE_ERROR_MEMORY,
            SpanError::NotFinite { .. } | SpanError::LogitsNotFinite { .. } => BISE_ERROR_NOT_FINITE,
            _ => BISE_ERROR_ARGUMENT,
        },
        _ => BISE_ERROR_ARGUMENT,
    }
}

impl From<SamplingError> for Failure {
    fn from(error: SamplingError) -> Failure {
        engine::Error::from(error).into()
    }
}

impl From<engine::chat::ChatError> for Failure {
    fn from(error: engine::chat::ChatError) -> Failure {
        Failure::new(BISE_ERROR_CHAT, error)
    }
}
