use std::io;
use std::path::PathBuf;

/// Why a session could not be saved or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionFileError {
    /// The file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is some other kind of file.
    #[error("{}: this is no session file of bise: {found}", path.display())]
    NotASession {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// Another version of bise wrote it.
    #[error("{}: a session file of version {found}, and this program reads versions up to {expected}", path.display())]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that is understood.
        expected: u32,
    },
    /// Bytes are missing or not what was written.
    #[error("{}: the session file is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How that shows.
        what: String,
    },
    /// It does not fit into the context.
    #[error("{}: the session has {n_tokens} tokens, and the context holds {n_ctx}", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Tokens of the session.
        n_tokens: usize,
        /// Tokens that the context holds.
        n_ctx: usize,
    },
    /// It belongs to another model, or to the same model run in another way.
    #[error("{}: the session was saved with {field} {found}, here it is {expected}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What differs.
        field: &'static str,
        /// As it was saved.
        found: String,
        /// As the engine and the options have it.
        expected: String,
    },
}
