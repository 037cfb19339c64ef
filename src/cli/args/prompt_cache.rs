//! A session kept in a file from one run to the next.

use std::path::PathBuf;

/// The flags of the prompt cache.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Prompt cache")]
pub struct PromptCacheArgs {
    /// Keep what was computed for the prompt in this file, and read no token again that the file has; without a prompt, go on from the file
    #[arg(long, value_name = "FILE")]
    pub prompt_cache: Option<PathBuf>,

    /// Keep the generated text and the user's lines in the file, too
    #[arg(long)]
    pub prompt_cache_all: bool,

    /// Use the file, but do not write it
    #[arg(long)]
    pub prompt_cache_ro: bool,
}
