//! What a download tells the program that waits for it.

use std::ops::ControlFlow;
use std::time::Duration;

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// The list of a model's files is fetched.
    Listing {
        /// The model.
        name: &'a str,
    },
    /// Another process downloads the same file.
    Waiting {
        /// The file.
        file: &'a str,
    },
    /// Another process converts the same checkpoint.
    WaitingForConversion {
        /// The model.
        name: &'a str,
    },
    /// Bytes arrive.
    Downloading {
        /// The file.
        file: &'a str,
        /// Its digest, where it is known.
        digest: Option<&'a str>,
        /// Bytes that are here.
        done: u64,
        /// Bytes there are.
        total: Option<u64>,
    },
    /// Something went wrong that may go better next time.
    Retrying {
        /// What.
        why: &'a str,
        /// When it is tried again.
        after: Duration,
    },
    /// The SHA-256 is computed.
    Checking {
        /// The file.
        file: &'a str,
        /// Bytes that were read.
        done: u64,
        /// Bytes there are.
        total: u64,
    },
    /// A checkpoint is made into a GGUF file.
    Converting {
        /// The model.
        name: &'a str,
        /// Bytes of its weights that were read.
        done: u64,
        /// Bytes there are.
        total: u64,
    },
    /// The file is whole, checked and in its place.
    Done {
        /// The file.
        file: &'a str,
        /// Its size.
        bytes: u64,
    },
    /// Something that the user should know.
    Note {
        /// In a line.
        text: &'a str,
    },
}

/// Is told how far a download is, some ten times a second. `Break` ends it; what has arrived is kept.
pub type Watch<'a> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'a;
