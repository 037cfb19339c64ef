use std::path::PathBuf;

use bise_models::ForwardError;
use bise_models::gguf::{GgufError, WriteError};
use bise_models::printable::Printable;

use crate::imatrix::ImatrixError;

/// Why a file cannot be quantized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The source, a GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Another source.
    #[error(transparent)]
    Source(Box<dyn std::error::Error + Send + Sync>),
    /// The importance matrix.
    #[error(transparent)]
    Imatrix(#[from] ImatrixError),
    /// The file that is written.
    #[error("{}: {error}", Printable(path.display()))]
    Write {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: WriteError,
    },
    /// The file that is written could not be created, flushed or renamed.
    #[error("{}: cannot {action}: {error}", Printable(path.display()))]
    File {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// The system's error.
        error: std::io::Error,
    },
    /// The source would be overwritten.
    #[error("{}: found the source, expected another file to write to", Printable(path.display()))]
    SameFile {
        /// The file.
        path: PathBuf,
    },
    /// There is a file already.
    #[error("{}: found a file, expected none: --force overwrites it", Printable(path.display()))]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A tensor that is quantized already.
    #[error(
        "tensor '{tensor}': found {from}, expected F32, F16 or BF16 to make {to} of: quantizing twice loses quality (--allow-requantize does it \
         anyway)"
    )]
    Requantized {
        /// The tensor.
        tensor: String,
        /// Its type.
        from: &'static str,
        /// The type it would get.
        to: &'static str,
    },
    /// A type that cannot be read or written.
    #[error("tensor '{tensor}': found {found}, expected {expected}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// A weight that is larger than the halves of its new type can be.
    #[error(
        "tensor '{tensor}': found {found}, expected what the halves of {format} can hold: BF16 and F32 hold more"
    )]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// The weight and its place.
        found: String,
        /// The type it would get.
        format: &'static str,
    },
    /// A type that is garbage without an importance matrix.
    #[error(
        "tensor '{tensor}': {to} in a {file_type} file needs an importance matrix, expected one with this tensor (--imatrix)"
    )]
    NeedsImportance {
        /// The tensor.
        tensor: String,
        /// The type it would get.
        to: &'static str,
        /// The mix.
        file_type: &'static str,
    },
    /// A pattern that names tensors.
    #[error("pattern '{pattern}': {error}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        error: String,
    },
    /// A layer to prune that is not there, or nothing would be left.
    #[error("--prune-layers: found {found}, expected {expected}")]
    Prune {
        /// What was asked for.
        found: String,
        /// What can be.
        expected: String,
    },
    /// A model that is not in as many files as it should be.
    #[error("{}: found {found}, expected {expected}", Printable(path.display()))]
    Parts {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// A text to calibrate with is too short.
    #[error(
        "the text to calibrate with: found {found} tokens, expected at least {expected}, and better 30000 or more (in whole contexts of {n_ctx}: --ctx-size)"
    )]
    TextTooShort {
        /// Its tokens.
        found: usize,
        /// Tokens that are enough.
        expected: usize,
        /// Tokens of a context.
        n_ctx: usize,
    },
    /// A folder holds what another calibration has done.
    #[error(
        "{}: found what was done with another model, text or type, expected an empty folder, or that of this run: remove it, or name another with \
         --calibration-dir",
        Printable(path.display())
    )]
    OtherCalibration {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that a calibration cannot go on in.
    #[error("{}: found {found}, expected {expected}", Printable(path.display()))]
    CalibrationFolder {
        /// The folder, or a file in it.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What was expected, and what to do.
        expected: String,
    },
    /// No tensor would be calibrated.
    #[error(
        "--calibrate: found no matrix that gets another type with scales, expected a type as Q4_K_M that is not the source's"
    )]
    NothingToCalibrate,
    /// The machine has less memory than calibrating takes.
    #[error(
        "calibrating with {n_chunks} contexts: found {free} bytes of memory free, expected {needed}: {}",
        match fits {
            Some(n) => format!("--chunks {n} fits"),
            None => "no number of --chunks fits".to_owned(),
        }
    )]
    TooLittleMemory {
        /// Contexts that are read.
        n_chunks: usize,
        /// Bytes that the machine has free.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
        /// Contexts for which they are enough.
        fits: Option<usize>,
    },
    /// The model cannot read the text.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// The system has no more memory.
    #[error("no memory for {bytes} bytes: {what}")]
    NoMemory {
        /// Bytes that were asked for.
        bytes: u64,
        /// What for.
        what: String,
    },
    /// It was cancelled.
    #[error("interrupted")]
    Cancelled,
}
