//! `bise show`: what a model is.

use std::io::Write;

use anyhow::Result;
use bise::gguf::GgufFile;
use bise::hub::{Extras, HubError, LocalModel, Place, Reference, modelfile};
use bise::{EngineOptions, MistralConfig};
use bise_models::printable::Printable;

use crate::cli::args::log::LogArgs;
use crate::cli::args::source::SourceArgs;
use crate::cli::describe::{self, Description};
use crate::cli::{hub, load};

/// Which model, and what of it.
#[derive(clap::Args, Debug)]
pub struct ShowArgs {
    /// The model: a name, hf.co/USER/REPO[:QUANT], or a file
    #[arg(value_name = "MODEL")]
    name: String,

    /// Print its licence
    #[arg(long, conflicts_with_all = ["modelfile", "parameters", "system", "template"])]
    license: bool,

    /// Print the Modelfile that makes it
    #[arg(long, conflicts_with_all = ["parameters", "system", "template"])]
    modelfile: bool,

    /// Print its parameters
    #[arg(long, conflicts_with_all = ["system", "template"])]
    parameters: bool,

    /// Print its system prompt
    #[arg(long, conflicts_with = "template")]
    system: bool,

    /// Print its chat template
    #[arg(long)]
    template: bool,

    #[command(flatten)]
    pub log: LogArgs,
}

/// What of a model is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Everything, in short.
    Info,
    /// The licences.
    License,
    /// A Modelfile that makes it.
    Modelfile,
    /// Its parameters.
    Parameters,
    /// Its system prompt.
    System,
    /// Its chat template.
    Template,
}

/// Runs the command.
///
/// # Errors
/// There is no such model on this machine, or its file makes no sense.
pub fn run(args: ShowArgs) -> Result<()> {
    let what = match &args {
        _ if args.license => What::License,
        _ if args.modelfile => What::Modelfile,
        _ if args.parameters => What::Parameters,
        _ if args.system => What::System,
        _ if args.template => What::Template,
        _ => What::Info,
    };
    let reference = Reference::parse(&args.name)?;
    let model = hub::open(&SourceArgs::default()).find(&reference)?.ok_or_else(|| HubError::NotFound {
        name: args.name.clone(),
        advice: format!(" on this machine; `bise pull {}` downloads it", args.name),
    })?;
    let text = text(&model, what)?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// What is to be shown of a model, as lines.
///
/// # Errors
/// Its file makes no sense.
pub fn text(model: &LocalModel, what: What) -> Result<String> {
    let extras = &model.extras;
    let lines = |text: &str| Lines(text).to_string();
    Ok(match what {
        What::License => extras.licenses.iter().map(|license| lines(license)).collect(),
        What::Parameters => lines(&modelfile::parameters(&extras.params, "")),
        What::System => lines(extras.system.as_deref().unwrap_or_default()),
        What::Modelfile => {
            let from = if model.place == Place::Builtin {
                "builtin".into()
            } else {
                model.path.display().to_string()
            };
            lines(&modelfile::write(&from, extras))
        }
        What::Template => lines(&with_file(model, |file| Ok(template(file, extras)))?),
        What::Info => with_file(model, |file| info(model, file))?,
    })
}

fn with_file<T>(model: &LocalModel, use_it: impl FnOnce(&GgufFile) -> Result<T>) -> Result<T> {
    match model.place {
        Place::Builtin => use_it(load::builtin(&EngineOptions::default())?.file()),
        _ => use_it(&GgufFile::open(&model.path)?),
    }
}

/// The template that a conversation is rendered by.
fn template(file: &GgufFile, extras: &Extras) -> String {
    let own = file.metadata().str("tokenizer.chat_template").ok().flatten().unwrap_or_default();
    extras.jinja().unwrap_or(own).to_string()
}

fn info(model: &LocalModel, file: &GgufFile) -> Result<String> {
    let description = Description::of(file);
    let mut text = String::new();
    let mut section = |title: &str, rows: &[(String, String)]| {
        if rows.is_empty() {
            return;
        }
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        text += &format!("  {title}\n");
        for (name, value) in rows {
            let row = format!("    {:<width$}    {}", Printable(name), Printable(value));
            text += row.trim_end();
            text.push('\n');
        }
        text.push('\n');
    };
    let row = |name: &str, value: String| (name.to_string(), value);
    let mut rows = vec![
        row("architecture", description.arch.clone()),
        row("parameters", describe::count(description.n_params)),
    ];
    // A file that does not run here is still shown.
    if let Ok(config) = MistralConfig::from_metadata(file.metadata()) {
        rows.push(row("context length", config.n_ctx_train.to_string()));
        rows.push(row("embedding length", config.n_embd.to_string()));
    }
    rows.push(row("quantization", description.file_type.clone()));
    section("Model", &rows);
    let template = template(file, &model.extras);
    let mut capabilities = vec![row("completion", String::new())];
    if template.contains("tools") {
        capabilities.push(row("tools", String::new()));
    }
    section("Capabilities", &capabilities);
    let parameters = modelfile::parameters(&model.extras.params, "");
    let parameters: Vec<_> = parameters.lines().filter_map(|line| line.split_once(' ')).collect();
    section(
        "Parameters",
        &parameters.iter().map(|(name, value)| row(name, value.to_string())).collect::<Vec<_>>(),
    );
    let first_lines =
        |text: &str| text.lines().take(2).map(|line| row(line.trim(), String::new())).collect::<Vec<_>>();
    section("System", &first_lines(model.extras.system.as_deref().unwrap_or_default()));
    let metadata = || file.metadata().str("general.license").ok().flatten().map(str::to_string);
    let license = model.extras.licenses.first().cloned().or_else(metadata).unwrap_or_default();
    section("License", &first_lines(&license));
    if model.place != Place::Builtin {
        section("File", &[row(&model.path.display().to_string(), String::new())]);
    }
    Ok(text)
}

/// A text as lines that cannot drive the terminal, with a newline at the end if there is anything.
struct Lines<'a>(&'a str);

impl std::fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.lines().try_for_each(|line| writeln!(f, "{}", Printable(line)))
    }
}
