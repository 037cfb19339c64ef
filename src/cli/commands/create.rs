//! `bise create`: makes a model from a Modelfile.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bise::hub::modelfile::Modelfile;
use bise::hub::ollama::name::ModelName;
use bise::hub::{HubError, Reference};

use crate::cli::args::log::LogArgs;
use crate::cli::args::source::SourceArgs;
use crate::cli::{hub, text};

/// Which Modelfile, and the name of the model.
#[derive(clap::Args, Debug)]
pub struct CreateArgs {
    /// The name of the new model
    #[arg(value_name = "NAME")]
    name: String,

    /// The Modelfile
    #[arg(short, long, value_name = "MODELFILE", default_value = "Modelfile")]
    file: PathBuf,

    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    pub log: LogArgs,
}

/// Runs the command.
///
/// # Errors
/// A Modelfile that makes no sense, or asks for what bise does not do; a model that is not there.
pub fn run(args: CreateArgs) -> Result<()> {
    let name = ModelName::parse(&args.name)?;
    let source = text::from_file(&args.file)?;
    let file = Modelfile::parse(&source).with_context(|| args.file.display().to_string())?;
    let log = args.log.log();
    let hub = hub::open(&args.source);
    let mut shown = hub::Shown::new(log);
    let base = hub.get(&from(&file.from, &args.file)?, &mut |progress| shown.watch(progress))?;
    let mut extras = base.extras.clone();
    for adapter in &file.adapters {
        let path = args.file.parent().unwrap_or(Path::new("")).join(adapter);
        if !path.exists() {
            let why = format!("ADAPTER {adapter}: found no file {}", path.display());
            return Err(HubError::Unsupported { name: args.name, why }.into());
        }
        extras.adapters.push(path);
    }
    let takes_template =
        extras.extend(file.extras).with_context(|| format!("{}: TEMPLATE", args.file.display()))?;
    if !takes_template {
        log.warn("TEMPLATE is written in Go's template language, which bise does not speak: the chat template of the GGUF file is used");
    }
    hub.store(&base, &extras, &name, &mut |progress| shown.watch(progress))?;
    drop(shown);
    log.note(format_args!("created '{name}'"));
    Ok(())
}

/// What stands after FROM: a name, or a file, which lies beside the Modelfile unless its path says otherwise.
fn from(from: &str, modelfile: &Path) -> Result<Reference> {
    let reference = Reference::parse(from)?;
    let beside = modelfile.parent().unwrap_or(Path::new("")).join(from);
    match &reference {
        Reference::File(_) if beside.is_file() => Ok(Reference::File(beside)),
        _ => Ok(reference),
    }
}
