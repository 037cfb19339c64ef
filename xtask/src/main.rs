//! Chores of this repository that are more than a line of shell: `cargo xtask --help`.

mod archive;
mod checksums;
mod dist;
mod licences;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of this repository")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build bise for a target and pack it with its manual, completions and licences
    Dist(dist::Options),
}

fn main() -> Result<()> {
    match Cli::parse().chore {
        Chore::Dist(options) => dist::run(&options),
    }
}
