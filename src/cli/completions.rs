//! `bise completions`: what a shell needs to complete our flags.

use std::io::Write;

use anyhow::Result;
use clap_complete::Shell;

/// Prints the script for a shell.
///
/// # Errors
/// If nobody reads it.
pub fn run(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::args::command(), "bise", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}
