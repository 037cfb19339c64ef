//! `bise stop`: makes a server drop a model from memory.

use anyhow::Result;
use serde_json::json;

use crate::cli::args::log::LogArgs;
use crate::cli::server::ServerArgs;

/// Which model, of which server.
#[derive(clap::Args, Debug)]
pub struct StopArgs {
    /// The model, as `bise ps` names it
    #[arg(value_name = "MODEL")]
    name: String,

    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    pub log: LogArgs,
}

/// Runs the command.
///
/// # Errors
/// No server answers, or it has no such model.
pub fn run(args: StopArgs) -> Result<()> {
    let request = json!({ "model": args.name, "keep_alive": 0, "stream": false });
    args.server.ask("/api/generate", Some(&request))?;
    Ok(())
}
