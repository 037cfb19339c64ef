//! `bise run`: a model by name, as `ollama run` runs it. One answer if there is a prompt, a conversation otherwise.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;

use anyhow::{Context, Result};
use bise::chat::Message;
use bise::gguf::GgufFile;
use bise::hub::modelfile::set_parameter;
use bise::hub::ollama::name::ModelName;
use bise::hub::{Extras, Hub, LocalModel, Place, Reference};
use serde_json::Value;

use super::chat::{self, Ended, Models, Opening, Talk};
use super::chat_command::ModelCommand;
use super::{generate, list, show};
use crate::cli::args::prompt::GenerationArgs;
use crate::cli::args::{ChatArgs, GenerateArgs};
use crate::cli::term::console::{Level, Log};
use crate::cli::usage::wrong;
use crate::cli::{hub, load, modelfile, text};

/// Which model, and what to say to it.
#[derive(clap::Args, Clone, Debug)]
pub struct RunArgs {
    /// The model: a name (bise pull --help lists some), hf.co/USER/REPO[:QUANT], a URL or a file; it is downloaded if it is not here
    #[arg(id = "name", value_name = "MODEL")]
    name: Option<String>,

    /// The message; without one, from a pipe or in a conversation
    #[arg(id = "words", value_name = "PROMPT", num_args = 0..)]
    words: Vec<String>,

    /// Show timings after each answer
    #[arg(long)]
    verbose: bool,

    #[command(flatten)]
    pub chat: ChatArgs,
}

/// Runs the command. `typed` has the long names of the flags that were given.
///
/// # Errors
/// Whatever is wrong with the name, the download, the model or the prompt.
pub fn run(args: RunArgs, typed: &[String]) -> Result<ExitCode> {
    let log = args.chat.output.log.log();
    let hub = hub::open(&args.chat.model.source);
    let mut reference = match (&args.name, hub::reference(&args.chat.model.source)?, &args.chat.model.model) {
        (Some(name), None, _) => Reference::parse(name)?,
        (None, Some(reference), _) => reference,
        (None, None, Some(path)) => Reference::File(path.clone()),
        (None, None, None) => return Err(wrong("expected a model: bise run mistral, or bise run builtin")),
        (Some(_), Some(_), _) => {
            return Err(wrong("the name and --hf-repo both name a model: give one of them"));
        }
    };
    let prompt = prompt(&args)?;
    let one_answer = prompt.is_some();
    loop {
        let mut shown = hub::Shown::new(log);
        let model = hub.get(&reference, &mut |progress| shown.watch(progress))?;
        drop(shown);
        let mut chat = args.chat.clone();
        chat.model.source = Default::default();
        chat.model.model = Some(model.path.clone()).filter(|_| model.place != Place::Builtin);
        chat.output.no_perf |= !args.verbose || !one_answer;
        // A message is not a format string.
        chat.prompt.escapes.no_escape = true;
        if let Some(prompt) = &prompt {
            chat.prompt.prompt = Some(prompt.into());
            chat.conversation.single_turn = true;
        }
        let mut opening = apply(&model.extras, &mut chat, typed, log);
        if !has_template(&model)?
            && chat.conversation.template.chat_template.is_none()
            && chat.conversation.template.chat_template_file.is_none()
        {
            // It goes on from a text instead.
            let generation = GenerationArgs {
                no_conversation: true,
                no_display_prompt: one_answer,
                interactive_first: !one_answer,
                ..GenerationArgs::default()
            };
            chat.conversation.single_turn = false;
            return generate::run(GenerateArgs { chat, generation });
        }
        if !one_answer {
            opening.models = Some(Box::new(Session {
                model: model.clone(),
                log,
                hub: hub::open(&args.chat.model.source),
            }));
        }
        let quiet = Log { level: log.level.min(if args.verbose { Level::Notes } else { Level::Warnings }) };
        opening.log = Some(quiet);
        let loaded = load::load(&chat.model, Some((1, chat.context.session_options())), quiet)?;
        match chat::converse(chat, loaded, opening, log)? {
            Ended::Exit(code) => return Ok(code),
            Ended::Open(name) => reference = Reference::parse(&name)?,
        }
    }
}

/// What stands behind the model's name, after what comes from a pipe.
fn prompt(args: &RunArgs) -> Result<Option<String>> {
    if args.chat.prompt.prompt.is_some() || args.chat.prompt.file.is_some() {
        return args.chat.prompt.text();
    }
    let mut parts = args.words.clone();
    let mut stdin = std::io::stdin();
    // A conversation may come from a pipe, too: one line, one message.
    if !stdin.is_terminal() && !args.chat.conversation.simple_io {
        let mut bytes = Vec::new();
        stdin.read_to_end(&mut bytes).context("standard input")?;
        let piped = text::from_bytes("standard input", bytes)?;
        if !piped.trim().is_empty() {
            parts.insert(0, piped.strip_suffix('\n').unwrap_or(&piped).to_string());
        }
    }
    let prompt = parts.join(" ");
    Ok(Some(prompt).filter(|prompt| !prompt.trim().is_empty()))
}

fn has_template(model: &LocalModel) -> Result<bool> {
    if model.place == Place::Builtin {
        return Ok(true);
    }
    let file = GgufFile::open(&model.path)?;
    let template = file.metadata().str("tokenizer.chat_template").ok().flatten();
    Ok(template.is_some_and(|template| !template.is_empty()) || model.extras.jinja().is_some())
}

/// What a Modelfile says, where no flag says otherwise.
fn apply(extras: &Extras, chat: &mut ChatArgs, typed: &[String], log: Log) -> Opening {
    chat.model.adapters.add_first(&extras.adapters);
    let conversation = &mut chat.conversation;
    if conversation.system_prompt.is_none() && conversation.system_prompt_file.is_none() {
        conversation.system_prompt =
            extras.system.as_ref().filter(|system| !system.is_empty()).map(Into::into);
    }
    if conversation.template.chat_template.is_none() && conversation.template.chat_template_file.is_none() {
        conversation.template.chat_template = extras.jinja().map(str::to_string);
    }
    let mut opening = Opening {
        messages: extras.messages.iter().map(|(role, content)| Message::new(role, content)).collect(),
        ..Opening::default()
    };
    for (name, value) in &extras.params {
        if modelfile::is_overridden(name, typed) {
            continue;
        }
        let number = value.as_i64();
        match (name.as_str(), number) {
            ("stop", _) => {
                let list = value.as_array().into_iter().flatten().filter_map(Value::as_str);
                opening.stop.extend(list.filter(|stop| !stop.is_empty()).map(str::to_string));
            }
            ("num_ctx", Some(n)) if u32::try_from(n).is_ok() => chat.context.ctx_size = n as u32,
            ("num_predict", Some(n)) if n >= -2 => chat.prompt.n_predict = n,
            ("num_keep", Some(n)) if i32::try_from(n).is_ok() => chat.prompt.keep = n as _,
            ("num_batch", Some(n)) if n > 0 => chat.context.batch_size = n as usize,
            ("num_thread", Some(n)) if n > 0 && i32::try_from(n).is_ok() => {
                chat.model.threads.threads = n as i32
            }
            ("num_ctx" | "num_predict" | "num_keep" | "num_batch" | "num_thread", _) => {
                log.warn(format_args!("PARAMETER {name} {value} has no effect: it is out of range"));
            }
            ("num_gpu" | "main_gpu" | "low_vram" | "numa", _) => {
                log.warn(format_args!(
                    "PARAMETER {name} {value} has no effect: bise computes on the CPU alone"
                ));
            }
            ("use_mmap", _) => chat.model.no_mmap = value == &Value::Bool(false),
            ("use_mlock", _) => chat.model.mlock = value == &Value::Bool(true),
            _ => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
                opening.params.push((name.clone(), text));
            }
        }
    }
    opening
}

/// Carries out commands about models in a conversation.
struct Session {
    hub: Hub,
    model: LocalModel,
    log: Log,
}

impl Models for Session {
    fn obey(&mut self, command: ModelCommand<'_>, talk: &Talk<'_>) -> Result<()> {
        match command {
            ModelCommand::List => {
                let mut table = Vec::new();
                list::print(&self.hub.list(), &mut table)?;
                String::from_utf8_lossy(&table).lines().for_each(|line| self.log.note(line));
            }
            ModelCommand::Show(what) => {
                let what = match what {
                    "" | "info" => show::What::Info,
                    "license" => show::What::License,
                    "modelfile" => show::What::Modelfile,
                    "template" => show::What::Template,
                    _ => {
                        let expected = "info, license, modelfile, parameters, system or template";
                        anyhow::bail!("/show: found {what:?}, expected {expected}");
                    }
                };
                show::text(&self.model, what)?.lines().for_each(|line| self.log.note(line));
            }
            ModelCommand::Save(name) => {
                let name = ModelName::parse(name)?;
                let extras = self.extras(talk);
                let mut shown = hub::Shown::new(self.log);
                self.hub.store(&self.model, &extras, &name, &mut |progress| shown.watch(progress))?;
                drop(shown);
                self.log.note(format_args!("created new model '{name}'"));
            }
            ModelCommand::Load(_) => unreachable!("it ends the conversation"),
        }
        Ok(())
    }
}

impl Session {
    /// What a Modelfile would have to say to go on with this conversation.
    fn extras(&self, talk: &Talk<'_>) -> Extras {
        let mut extras = self.model.extras.clone();
        let content = |message: &Message| message.content().unwrap_or_default().to_string();
        extras.system = talk.messages.first().filter(|message| message.role() == "system").map(content);
        let said = talk.messages.iter().filter(|message| message.role() != "system");
        extras.messages = said.map(|message| (message.role().to_string(), content(message))).collect();
        for (name, value) in talk.params {
            let name = modelfile::FLAGS
                .iter()
                .find(|(_, flag)| flag.replace('-', "_") == *name)
                .map_or(name.as_str(), |(param, _)| param);
            if let Err(error) = set_parameter(&mut extras.params, name, value) {
                self.log.warn(format_args!("{name} is not saved: {error}"));
            }
        }
        extras
    }
}
