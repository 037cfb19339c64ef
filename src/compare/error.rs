use std::path::PathBuf;

use bise_models::printable::Printable;

/// Why models cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// A pass of the model.
    #[error(transparent)]
    Model(#[from] crate::Error),
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
    /// A file of log-probabilities that makes no sense, or does not belong to this model or text.
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
    /// Logits that are no numbers.
    #[error(
        "{}: chunk {chunk}, the logits of token {position}: found {found}, expected finite numbers: the weights may be damaged (see `bise \
         inspect --check-tensors`)",
        Printable(model)
    )]
    NotFinite {
        /// The file of the model.
        model: String,
        /// The chunk, from 1.
        chunk: usize,
        /// The token of the chunk that they come after, from 1.
        position: usize,
        /// Their largest or their sum of exponentials.
        found: f32,
    },
}
