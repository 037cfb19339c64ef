//! WASI has no terminal to edit lines on.

use anyhow::Result;

use super::line::Line;

/// There are none.
pub enum Editor {}

impl Editor {
    /// `None`: lines come as they are typed.
    pub fn new(_keep_history: bool) -> Result<Option<Self>> {
        Ok(None)
    }

    /// Cannot be called, as there is nothing to call it on.
    pub fn read(&mut self, _prompt: &str) -> Result<Line> {
        match *self {}
    }
}
