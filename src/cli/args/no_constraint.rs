//! What a text has to follow, in a program that was built without grammars: nothing.

use anyhow::Result;
use bise::Engine;
use bise::constraint::Constraint;

/// No flags.
#[derive(clap::Args, Clone, Debug)]
pub struct ConstraintArgs {}

/// There are none.
pub enum Constraints {}

impl ConstraintArgs {
    /// Nothing was asked for.
    ///
    /// # Errors
    /// Never.
    pub fn constraints(&self, _: &Engine) -> Result<Option<Constraints>> {
        Ok(None)
    }
}

impl Constraints {
    /// Never called.
    ///
    /// # Errors
    /// Never.
    pub fn make(&self) -> Result<Box<dyn Constraint>> {
        match *self {}
    }
}
