use std::path::PathBuf;

use bise_models::gguf::GgufError;
use bise_models::printable::Printable;

use crate::quantize::error::QuantizeError;

/// Why a checkpoint cannot be converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
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
    /// A checkpoint of a kind that `bise` does not convert.
    #[error("{}: {what} is not supported: {reason}", Printable(path.display()))]
    Unsupported {
        /// The file that says of which kind the checkpoint is.
        path: PathBuf,
        /// The kind.
        what: String,
        /// Why not, and what can be done instead.
        reason: String,
    },
    /// A weight that is not finite.
    #[error(
        "{}: tensor '{}': {error}; the checkpoint is damaged, or was when it was saved: download this file again",
        Printable(path.display()),
        Printable(name)
    )]
    Weight {
        /// The file.
        path: PathBuf,
        /// The tensor in the file.
        name: String,
        /// The weight and its place in the new file's tensor.
        error: Box<QuantizeError>,
    },
    /// A file with weights that cannot be opened or mapped.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The new file cannot be written, or a weight cannot become what it should.
    #[error(transparent)]
    Write(#[from] QuantizeError),
}
