//! How much is said on stderr.

use crate::cli::term::console::{Level, Log};

/// The flags of every command that writes notes.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct LogArgs {
    /// Print nothing but errors to stderr
    #[arg(long)]
    log_disable: bool,

    /// What to print to stderr: 1 errors, 2 warnings too, 3 everything
    #[arg(
        long,
        aliases = ["lv", "log-verbosity"],
        value_name = "N",
        default_value_t = LogArgs::MOST,
        env = "LLAMA_ARG_LOG_VERBOSITY"
    )]
    pub verbosity: i32,
}

impl LogArgs {
    /// The verbosity above which there is nothing more to say.
    pub const MOST: i32 = 3;

    /// The log that was asked for.
    pub fn log(self) -> Log {
        let level = match self.verbosity {
            _ if self.log_disable => Level::Errors,
            ..=1 => Level::Errors,
            2 => Level::Warnings,
            _ => Level::Notes,
        };
        Log { level }
    }
}
