//! `bise completions`: shell completions.

use std::io::Write;

use anyhow::Result;
use clap_complete::Shell;

/// Prints the script that completes `command` in a shell.
///
/// # Errors
/// The output cannot be written.
pub fn run(shell: Shell, command: &mut clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "bise", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}
