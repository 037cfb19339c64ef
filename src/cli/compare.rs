//! What the commands that compare models have in common.

use bise::compare::CompareError;

/// The error of a comparison; that Ctrl-C ended a pass is one of the model, which the exit code tells.
pub fn ended(error: CompareError) -> anyhow::Error {
    match error {
        CompareError::Model(error) => error.into(),
        error => error.into(),
    }
}

/// Whether Ctrl-C ended a pass.
pub fn is_interruption(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(bise::Error::is_cancelled)
}
