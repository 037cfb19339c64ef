use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::digest::Sha256;

/// Why a model could not be found, downloaded or stored, in one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// No model can have this name.
    #[error("{name:?} is not the name of a model: {why}")]
    InvalidName {
        /// As given.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing has this name.
    #[error("there is no model {name:?}{advice}")]
    NotFound {
        /// As given.
        name: String,
        /// What to do, with the punctuation before it.
        advice: String,
    },
    /// The network is needed and was not to be used.
    #[error("{what} is not on this machine, and the network is not to be used (--offline, HF_HUB_OFFLINE)")]
    Offline {
        /// What is missing.
        what: String,
    },
    /// A server could not be reached, or the connection broke.
    #[error("{url}: {why}")]
    Network {
        /// Without its query.
        url: String,
        /// What happened.
        why: String,
        /// Whether it may go better next time.
        temporary: bool,
    },
    /// A server refused.
    #[error("{url}: the server answered {status}{advice}")]
    Status {
        /// Without its query.
        url: String,
        /// Of HTTP.
        status: u16,
        /// What it means and what to do, with the punctuation before it.
        advice: String,
        /// When to try again.
        retry_after: Option<Duration>,
    },
    /// A server answered something that its protocol does not allow.
    #[error("{url}: {why}")]
    Protocol {
        /// Without its query.
        url: String,
        /// What was found and what was expected.
        why: String,
    },
    /// The file changed on the server while it was being downloaded.
    #[error("{url}: the file changed on the server while it was being downloaded; try again")]
    Changed {
        /// Without its query.
        url: String,
    },
    /// What arrived is not what was announced.
    #[error("{}: found SHA-256 {found}, expected {expected}; {consequence}", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Of what arrived.
        found: Sha256,
        /// As the server or the table of names says.
        expected: Sha256,
        /// What became of the file.
        consequence: &'static str,
    },
    /// The disk has no room.
    #[error("{}: {needed} more bytes are needed, and the disk has {free} free", path.display())]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// Bytes still to come.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// A file on this machine.
    #[error("{}: {error}{advice}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
        /// What to do, with the punctuation before it.
        advice: &'static str,
    },
    /// A file on this machine holds something else than it should.
    #[error("{}: {why}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        why: String,
    },
    /// A model needs something that bise does not do.
    #[error("{name}: {why}")]
    Unsupported {
        /// The model.
        name: String,
        /// What it needs.
        why: String,
    },
    /// A Modelfile that makes no sense.
    #[error("Modelfile, line {line}: {why}")]
    Modelfile {
        /// From 1.
        line: usize,
        /// What was found and what was expected.
        why: String,
    },
    /// A checkpoint cannot be made into a GGUF file.
    #[error("{name}: {why}")]
    Conversion {
        /// The checkpoint.
        name: String,
        /// What was found and what was expected.
        why: String,
    },
    /// The caller asked for it.
    #[error("the download was cancelled; what has arrived is kept")]
    Cancelled,
    /// The caller asked for it.
    #[error("the conversion was cancelled; nothing of it is kept")]
    ConversionCancelled,
}

impl HubError {
    /// An error of the system about a file.
    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        let advice = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                "; what has arrived is kept, and the same command goes on from there"
            }
            _ => "",
        };
        HubError::Io { path: path.to_path_buf(), error, advice }
    }

    /// Whether the same request may succeed a little later.
    pub fn is_temporary(&self) -> bool {
        match self {
            HubError::Network { temporary, .. } => *temporary,
            HubError::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// Whether no server could be asked: a model that is on this machine is then good enough.
    pub fn is_network(&self) -> bool {
        matches!(self, HubError::Network { .. } | HubError::Offline { .. })
            || matches!(self, HubError::Status { status: 429 | 500..=599, .. })
    }
}
