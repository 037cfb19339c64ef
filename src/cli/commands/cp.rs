//! `bise cp`: gives a model another name.

use anyhow::Result;
use bise::hub::ollama::name::ModelName;
use bise::hub::{HubError, Reference};

use crate::cli::args::log::LogArgs;
use crate::cli::args::source::SourceArgs;
use crate::cli::hub;

/// Which model, and its new name.
#[derive(clap::Args, Debug)]
pub struct CpArgs {
    /// A model on this machine, or a GGUF file
    #[arg(value_name = "SOURCE")]
    source: String,

    /// Its new name; the weights are not copied where the file system can avoid it
    #[arg(value_name = "NAME")]
    to: String,

    #[command(flatten)]
    pub log: LogArgs,
}

/// Runs the command.
///
/// # Errors
/// There is no such model, or the name is none.
pub fn run(args: CpArgs) -> Result<()> {
    let hub = hub::open(&SourceArgs::default());
    let (reference, name) = (Reference::parse(&args.source)?, ModelName::parse(&args.to)?);
    let model = hub
        .find(&reference)?
        .ok_or_else(|| HubError::NotFound { name: args.source.clone(), advice: " on this machine".into() })?;
    let log = args.log.log();
    let mut shown = hub::Shown::new(log);
    hub.store(&model, &model.extras, &name, &mut |progress| shown.watch(progress))?;
    drop(shown);
    log.note(format_args!("copied '{}' to '{}'", args.source, args.to));
    Ok(())
}
