//! `bise lora`: adapters turned into other files, merged into models, and looked at.

mod convert;
mod inspect;
mod merge;

use anyhow::Result;

use crate::cli::args::log::LogArgs;
use crate::cli::examples;

/// What to do with adapters.
#[derive(clap::Args, Debug)]
pub struct LoraArgs {
    #[command(subcommand)]
    command: LoraCommand,
}

#[derive(clap::Subcommand, Debug)]
enum LoraCommand {
    /// Make a GGUF file of a PEFT folder, or a PEFT folder of a GGUF file
    #[command(after_help = examples::LORA_CONVERT)]
    Convert(convert::ConvertArgs),
    /// Write a model with adapters in its weights
    #[command(after_help = examples::LORA_MERGE)]
    Merge(merge::MergeArgs),
    /// Show what is in an adapter, and whether it fits a model
    #[command(after_help = examples::LORA_INSPECT)]
    Inspect(inspect::InspectArgs),
}

impl LoraArgs {
    /// The notes that its flags ask for.
    pub fn log(&self) -> LogArgs {
        match &self.command {
            LoraCommand::Convert(args) => args.log,
            LoraCommand::Merge(args) => args.log,
            LoraCommand::Inspect(args) => args.log,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Adapters that cannot be read or do not fit, and files that cannot be written.
pub fn run(args: LoraArgs) -> Result<()> {
    match args.command {
        LoraCommand::Convert(args) => convert::run(args),
        LoraCommand::Merge(args) => merge::run(args),
        LoraCommand::Inspect(args) => inspect::run(args),
    }
}
