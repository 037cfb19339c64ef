use std::path::{Path, PathBuf};

use bise_models::AdapterError;
use bise_models::gguf::{GgufError, WriteError};
use bise_models::printable::Printable;

/// Why an adapter cannot be read or written. Every message is one line that names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterFileError {
    /// A file could not be opened, read, created, flushed or renamed.
    #[error("{}: cannot {action}: {error}", Printable(path.display()))]
    File {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// The system's error.
        error: std::io::Error,
    },
    /// There is a file already.
    #[error("{}: found a file, expected none: --force overwrites it", Printable(path.display()))]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file says what cannot be.
    #[error("{}: {what}: found {found}, expected {expected}", Printable(path.display()))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The key, the tensor or the part of the file.
        what: String,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
    },
    /// An adapter of a kind that `bise` does not run.
    #[error("{}: {what} is not supported: {reason}", Printable(path.display()))]
    Unsupported {
        /// The file that says of which kind the adapter is.
        path: PathBuf,
        /// The kind.
        what: String,
        /// Why not, and what can be done instead.
        reason: String,
    },
    /// A matrix that an adapter is to be written for is none of the model's, or has another shape.
    #[error("adapter of {place}: found {found}, expected {expected}")]
    Part {
        /// The matrix, as in `blk.0.attn_q.weight`.
        place: String,
        /// What was given.
        found: String,
        /// What can be written.
        expected: String,
    },
    /// The file could not be written.
    #[error("{}: {error}", Printable(path.display()))]
    Write {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: WriteError,
    },
    /// The GGUF file of an adapter or of a model.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The adapter does not fit the model.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The files of an adapter or of a checkpoint.
    #[cfg(feature = "convert")]
    #[error(transparent)]
    Checkpoint(#[from] crate::convert::error::ConvertError),
}

/// The error for weights that run code when they are read.
pub(super) fn pickled(path: &Path) -> AdapterFileError {
    AdapterFileError::Unsupported {
        path: path.to_owned(),
        what: "an adapter of PyTorch".into(),
        reason: "it is a Python pickle, which runs code when it is read: save it with PEFT's `save_pretrained`, which writes safetensors"
            .into(),
    }
}
