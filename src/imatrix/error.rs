use std::path::{Path, PathBuf};

use bise_models::gguf::{GgufError, WriteError};
use bise_models::printable::{Printable, printable};

/// Why an importance matrix cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImatrixError {
    /// A GGUF file that is broken.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The system.
    #[error("{}: cannot {action}: {error}", Printable(path.display()))]
    Io {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// The system's error.
        error: std::io::Error,
    },
    /// Writing it.
    #[error("{}: {error}", Printable(path.display()))]
    Write {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: WriteError,
    },
    /// Sums of another model.
    #[error("tensor '{tensor}': found {found}, expected {expected}")]
    Mismatch {
        /// The tensor.
        tensor: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// What is in it makes no sense.
    #[error("{}: {what}: found {found}, expected {expected}", Printable(path.display()))]
    Content {
        /// The file.
        path: PathBuf,
        /// The part that is concerned.
        what: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
}

/// An error about `what`, a part of the file at `path`.
pub(super) fn content(
    path: &Path,
    what: &str,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> ImatrixError {
    let (what, found, expected) = (printable(what.as_bytes()), found.into(), expected.into());
    ImatrixError::Content { path: path.to_owned(), what, found, expected }
}
