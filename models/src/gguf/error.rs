//! Errors about GGUF files, one line each.

use std::io;
use std::sync::Arc;

/// Why a GGUF file cannot be used.
///
/// Every message is one line that names the file, then the key or tensor, what was found and what was expected.
/// Names that come from the file are escaped and cut short, so that a hostile file cannot write to the terminal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The operating system reported an error.
    #[error("{file}: cannot {action}: {error}")]
    Io {
        /// The file concerned.
        file: Arc<str>,
        /// What was attempted, as a verb and its object.
        action: &'static str,
        /// The system's error. Not a `source`, since the message includes it.
        error: io::Error,
    },
    /// The file is something other than a model: another format, or a GGUF that holds something else.
    #[error("{file}: found {found}, expected a GGUF model: {advice}")]
    NotAModel {
        /// The file concerned.
        file: Arc<str>,
        /// What the file is.
        found: String,
        /// What to do about it.
        advice: String,
    },
    /// The file is larger than what a program of this kind can address, which is 2 GB with 32 bits.
    #[error(
        "{file}: found {n_bytes} bytes, expected at most {most}, what a {bits}-bit program can address: take a \
         smaller quantization or parts (bise split), or build for 64 bits",
        most = isize::MAX,
        bits = usize::BITS
    )]
    TooLarge {
        /// The file concerned.
        file: Arc<str>,
        /// Its size.
        n_bytes: u64,
    },
    /// The header is malformed.
    #[error("{file}: {what}: found {found}, expected {expected}")]
    Header {
        /// The file concerned.
        file: Arc<str>,
        /// Which part of the header.
        what: String,
        /// What the file has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// A metadata value is malformed, of the wrong type, or out of range.
    #[error("{file}: key '{key}': found {found}, expected {expected}")]
    Key {
        /// The file concerned.
        file: Arc<str>,
        /// The metadata key.
        key: String,
        /// What the file has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// A required metadata key is missing.
    #[error("{file}: key '{key}' is missing, expected {expected}")]
    MissingKey {
        /// The file concerned.
        file: Arc<str>,
        /// The metadata key.
        key: String,
        /// The type of value that is expected.
        expected: String,
    },
    /// A tensor's description or data offset is malformed, or the tensor does not fit the model.
    #[error("{file}: tensor '{tensor}': found {found}, expected {expected}")]
    Tensor {
        /// The file concerned.
        file: Arc<str>,
        /// The tensor's name.
        tensor: String,
        /// What the file has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// A required tensor is missing.
    #[error("{file}: tensor '{tensor}' is missing")]
    MissingTensor {
        /// The file concerned.
        file: Arc<str>,
        /// The tensor's name.
        tensor: String,
    },
    /// The file was changed in place while it was mapped. If it shrank, reading on would end the process with a
    /// bus error; otherwise the weights are no longer those that were opened.
    #[error(
        "{file}: the file changed while in use: found {found}, expected {expected} as when it was opened"
    )]
    Changed {
        /// The file concerned.
        file: Arc<str>,
        /// Its size or modification time now.
        found: String,
        /// Its size or modification time when it was opened.
        expected: String,
    },
    /// Memory for something whose size the file gives could not be allocated.
    #[error("{file}: {what}: found {n_bytes} bytes, expected less than this machine has memory for")]
    OutOfMemory {
        /// The file concerned.
        file: Arc<str>,
        /// What the memory was for: a key, a tensor, or the file.
        what: String,
        /// How much was requested.
        n_bytes: u64,
    },
}
