use std::path::{Path, PathBuf};

use bise_models::printable::Printable;

use crate::chat::ChatError;

/// Why an adapter cannot be trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The forward or backward pass.
    #[error("step {step}: {error}")]
    Pass {
        /// The step, from 1.
        step: usize,
        /// What went wrong.
        error: bise_models::train::TrainError,
    },
    /// Training that cannot begin.
    #[error(transparent)]
    Setup(#[from] bise_models::train::TrainError),
    /// An adapter that does not fit the model.
    #[error(transparent)]
    Adapter(#[from] bise_models::AdapterError),
    /// A file of an adapter.
    #[error(transparent)]
    AdapterFile(#[from] crate::adapter::AdapterFileError),
    /// The system.
    #[error("{}: cannot {action}: {error}", Printable(path.display()))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// The system's error.
        error: std::io::Error,
    },
    /// A row of the training data.
    #[error("{}:{line}: {}found {found}, expected {expected}", Printable(path.display()), prefix(what))]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The part of the row that is concerned; empty for all of it.
        what: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A conversation that the chat template does not take.
    #[error("{}:{line}: {error}", Printable(path.display()))]
    Template {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the template says.
        error: ChatError,
    },
    /// Training data without anything to learn from.
    #[error("{}: found {found}, expected at least one", Printable(path.display()))]
    NoRows {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: &'static str,
    },
    /// A loss, a gradient or a weight that is no number.
    #[error(
        "step {step}: found the {what} {value}, expected a finite number: training diverged (a lower learning rate or a longer warmup may help)"
    )]
    NotFinite {
        /// The step, from 1.
        step: usize,
        /// What is not finite.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// A saved state that is damaged.
    #[error("{}: found {found}, expected {expected}", Printable(path.display()))]
    State {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// A saved state of a run with other settings, data, or model.
    #[error(
        "{}: {what}: found {found}, expected {expected}: a run goes on as it was begun (--init starts a new one from its adapter)",
        Printable(path.display())
    )]
    OtherRun {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: String,
        /// What this run was asked to do.
        found: String,
        /// What the saved one did.
        expected: String,
    },
    /// A run that was stopped.
    #[error("training was interrupted")]
    Cancelled,
}

impl TrainError {
    pub(super) fn pass(step: usize, error: bise_models::train::TrainError) -> TrainError {
        match error {
            bise_models::train::TrainError::Cancelled => TrainError::Cancelled,
            error => TrainError::Pass { step, error },
        }
    }

    pub(super) fn io(path: &Path, action: &'static str, error: std::io::Error) -> TrainError {
        TrainError::Io { path: path.to_owned(), action, error }
    }

    pub(super) fn row(
        path: &Path,
        line: usize,
        what: impl Into<String>,
        found: impl Into<String>,
        expected: &'static str,
    ) -> TrainError {
        TrainError::Row { path: path.to_owned(), line, what: what.into(), found: found.into(), expected }
    }
}

fn prefix(what: &str) -> String {
    if what.is_empty() { String::new() } else { format!("{what}: ") }
}
