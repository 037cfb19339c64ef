//! `bise pull`: downloads a model.

use anyhow::Result;
use bise::hub::{Reference, table};

use crate::cli::args::log::LogArgs;
use crate::cli::args::source::SourceArgs;
use crate::cli::usage::wrong;
use crate::cli::{describe, hub};

/// Which model.
#[derive(clap::Args, Debug)]
pub struct PullArgs {
    /// A name of the table below, hf.co/USER/REPO[:QUANT], a name of Ollama's registry, or the URL of a GGUF file
    #[arg(value_name = "MODEL")]
    name: Option<String>,

    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    pub log: LogArgs,
}

/// Runs the command.
///
/// # Errors
/// The network, the source, the disk, or a wrong digest.
pub fn run(args: PullArgs) -> Result<()> {
    let reference = match (&args.name, hub::reference(&args.source)?) {
        (Some(name), None) => Reference::parse(name)?,
        (None, Some(reference)) => reference,
        _ => return Err(wrong("expected one model: bise pull mistral, or bise pull -hf USER/REPO")),
    };
    let log = args.log.log();
    let mut shown = hub::Shown::new(log);
    let model = hub::open(&args.source).pull(&reference, &mut |progress| shown.watch(progress))?;
    drop(shown);
    let license = model.extras.licenses.first().filter(|license| !license.contains('\n'));
    let license = license.map_or(String::new(), |license| format!(", {license}"));
    log.note(format_args!("{}: {}{license}", model.name, describe::bytes(model.bytes)));
    log.note(format_args!("{}", model.path.display()));
    Ok(())
}

/// The table of names, for the help.
pub fn table() -> String {
    let mut text = String::from("Names:\n");
    for known in table::TABLE {
        text += &format!("  {:<18} {} ({})\n", known.names[0], known.about, known.license);
        if let [_, others @ ..] = known.names
            && !others.is_empty()
        {
            text += &format!("  {:<18}   also {}\n", "", others.join(", "));
        }
    }
    text + "\nAll are Q4_K_M files of the Hugging Face Hub. Other names are asked of Ollama's registry."
}
