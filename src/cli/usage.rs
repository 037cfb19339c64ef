//! Errors of usage that only a command can see.

use std::fmt;

/// What is wrong with the flags themselves, whatever the files and the machine: it ends the program with exit code 2.
#[derive(Debug)]
pub struct WrongUsage(String);

impl fmt::Display for WrongUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUsage {}

/// An error of usage with this message.
pub fn wrong(message: impl fmt::Display) -> anyhow::Error {
    WrongUsage(message.to_string()).into()
}
