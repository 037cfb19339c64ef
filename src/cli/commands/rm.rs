//! `bise rm`: removes models from this machine.

use anyhow::Result;
use bise::hub::Reference;

use crate::cli::args::log::LogArgs;
use crate::cli::args::source::SourceArgs;
use crate::cli::hub;

/// Which models.
#[derive(clap::Args, Debug)]
pub struct RmArgs {
    /// The models, as `bise list` names them
    #[arg(value_name = "MODEL", required = true, num_args = 1..)]
    names: Vec<String>,

    #[command(flatten)]
    pub log: LogArgs,
}

/// Runs the command. It ends with the first model that cannot be removed.
///
/// # Errors
/// There is no such model, or it is not ours to remove.
pub fn run(args: RmArgs) -> Result<()> {
    let hub = hub::open(&SourceArgs::default());
    for name in &args.names {
        hub.remove(&Reference::parse(name)?)?;
        args.log.log().note(format_args!("deleted '{name}'"));
    }
    Ok(())
}
