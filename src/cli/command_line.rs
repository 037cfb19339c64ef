//! The command line as a whole: every command, its help, and how arguments become one of them.

use std::ffi::OsString;

use bise_models::printable::Printable;
use clap::builder::styling::{AnsiColor, Styles};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use super::args::log::LogArgs;
use super::args::{ChatArgs, GenerateArgs, environment, help, words};
#[cfg(feature = "compare")]
use super::commands::compare;
#[cfg(feature = "convert")]
use super::commands::convert;
#[cfg(feature = "eval")]
use super::commands::eval;
#[cfg(feature = "convert")]
use super::commands::lora;
#[cfg(feature = "server")]
use super::commands::serve;
#[cfg(feature = "train")]
use super::commands::train;
use super::commands::{bench, embedding, inspect, logits, perplexity, tokenize};
#[cfg(feature = "hub")]
use super::commands::{cp, create, list, ps, pull, rm, run, show, stop};
#[cfg(feature = "quantize")]
use super::commands::{imatrix, merge, quantize, split};
use super::examples;

/// Runs quantized Mistral models from GGUF files on a CPU
#[derive(Parser, Debug)]
#[command(
    name = "bise",
    version,
    about,
    after_help = examples::BISE,
    args_conflicts_with_subcommands = true,
    args_override_self = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    styles = STYLES,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub generate: GenerateArgs,
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Hold a conversation
    #[command(after_help = examples::CHAT)]
    Chat(Box<ChatArgs>),
    /// Run a model by its name
    #[cfg(feature = "hub")]
    #[command(after_help = examples::RUN)]
    Run(Box<run::RunArgs>),
    /// Download a model
    #[cfg(feature = "hub")]
    #[command(after_help = format!("{}\n{}", examples::PULL, pull::table()))]
    Pull(pull::PullArgs),
    /// List the models on this machine
    #[cfg(feature = "hub")]
    #[command(alias = "ls")]
    List(list::ListArgs),
    /// Show what a model is
    #[cfg(feature = "hub")]
    Show(show::ShowArgs),
    /// Give a model another name
    #[cfg(feature = "hub")]
    Cp(cp::CpArgs),
    /// Remove models
    #[cfg(feature = "hub")]
    Rm(rm::RmArgs),
    /// Make a model from a Modelfile
    #[cfg(feature = "hub")]
    #[command(after_help = examples::CREATE)]
    Create(create::CreateArgs),
    /// List the models that a server holds in memory
    #[cfg(feature = "hub")]
    Ps(ps::PsArgs),
    /// Make a server drop a model from memory
    #[cfg(feature = "hub")]
    Stop(stop::StopArgs),
    /// Show what is in a GGUF file and how much memory it needs
    #[command(after_help = examples::INSPECT)]
    Inspect(inspect::InspectArgs),
    /// Print the tokens of a text
    #[command(after_help = examples::TOKENIZE)]
    Tokenize(tokenize::TokenizeArgs),
    /// Measure the speed of prefill and decode
    #[command(after_help = examples::BENCH)]
    Bench(Box<bench::BenchArgs>),
    /// Measure how well a model predicts a text
    #[command(after_help = examples::PERPLEXITY)]
    Perplexity(Box<perplexity::PerplexityArgs>),
    /// Compare models over a text: quality, size and speed
    #[cfg(feature = "compare")]
    #[command(after_help = examples::COMPARE)]
    Compare(Box<compare::CompareArgs>),
    /// Score a model on public sets of questions, as lm-evaluation-harness does
    #[cfg(feature = "eval")]
    #[command(after_help = examples::EVAL)]
    Eval(Box<eval::EvalArgs>),
    /// Make a GGUF file of a checkpoint of Hugging Face or Mistral
    #[cfg(feature = "convert")]
    #[command(after_help = examples::CONVERT)]
    Convert(convert::ConvertArgs),
    /// Quantize a model file
    #[cfg(feature = "quantize")]
    #[command(after_help = examples::QUANTIZE)]
    Quantize(Box<quantize::QuantizeArgs>),
    /// Learn from a text which weights matter, for quantizing
    #[cfg(feature = "quantize")]
    #[command(after_help = examples::IMATRIX)]
    Imatrix(Box<imatrix::ImatrixArgs>),
    /// Put a model into several files
    #[cfg(feature = "quantize")]
    #[command(after_help = examples::SPLIT)]
    Split(split::SplitArgs),
    /// Put the files of a split model into one
    #[cfg(feature = "quantize")]
    #[command(after_help = examples::MERGE)]
    Merge(merge::MergeArgs),
    /// Train an adapter (LoRA) for a model
    #[cfg(feature = "train")]
    #[command(after_help = examples::TRAIN)]
    Train(Box<train::TrainArgs>),
    /// Convert, merge and inspect adapters (LoRA)
    #[cfg(feature = "convert")]
    #[command(after_help = examples::LORA, disable_help_subcommand = true)]
    Lora(Box<lora::LoraArgs>),
    /// Write the logits of every token to a .npy file
    #[command(after_help = examples::LOGITS)]
    Logits(Box<logits::LogitsArgs>),
    /// Print texts as vectors
    #[command(after_help = examples::EMBEDDING)]
    Embedding(Box<embedding::EmbeddingArgs>),
    /// Serve a model over HTTP
    #[cfg(feature = "server")]
    #[command(after_help = examples::SERVE)]
    Serve(Box<serve::ServeArgs>),
    /// Print shell completions
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a page of the manual
    #[command(after_help = examples::MAN)]
    Man {
        /// The command that the page is about (default: bise as a whole; lora-convert for `bise lora convert`)
        command: Option<String>,
    },
}

impl Cli {
    /// The notes that its flags ask for.
    pub fn log_args(&self) -> Option<LogArgs> {
        Some(match &self.command {
            None => self.generate.chat.output.log,
            Some(Command::Chat(args)) => args.output.log,
            #[cfg(feature = "hub")]
            Some(Command::Run(args)) => args.chat.output.log,
            #[cfg(feature = "hub")]
            Some(Command::Pull(args)) => args.log,
            #[cfg(feature = "hub")]
            Some(Command::List(args)) => args.log,
            #[cfg(feature = "hub")]
            Some(Command::Show(args)) => args.log,
            #[cfg(feature = "hub")]
            Some(Command::Cp(args)) => args.log,
            #[cfg(feature = "hub")]
            Some(Command::Rm(args)) => args.log,
            #[cfg(feature = "hub")]
            Some(Command::Create(args)) => args.log,
            #[cfg(feature = "hub")]
            Some(Command::Ps(args)) => args.log,
            #[cfg(feature = "hub")]
            Some(Command::Stop(args)) => args.log,
            Some(Command::Inspect(args)) => args.log,
            Some(Command::Tokenize(args)) => args.log,
            Some(Command::Bench(args)) => args.log,
            Some(Command::Perplexity(args)) => args.log,
            #[cfg(feature = "compare")]
            Some(Command::Compare(args)) => args.log,
            #[cfg(feature = "eval")]
            Some(Command::Eval(args)) => args.log,
            #[cfg(feature = "convert")]
            Some(Command::Convert(args)) => args.log,
            #[cfg(feature = "quantize")]
            Some(Command::Quantize(args)) => args.log,
            #[cfg(feature = "quantize")]
            Some(Command::Imatrix(args)) => args.log,
            #[cfg(feature = "quantize")]
            Some(Command::Split(args)) => args.log,
            #[cfg(feature = "quantize")]
            Some(Command::Merge(args)) => args.log,
            #[cfg(feature = "train")]
            Some(Command::Train(args)) => args.log,
            #[cfg(feature = "convert")]
            Some(Command::Lora(args)) => args.log(),
            Some(Command::Logits(args)) => args.log,
            Some(Command::Embedding(args)) => args.log,
            #[cfg(feature = "server")]
            Some(Command::Serve(args)) => args.log,
            Some(Command::Completions { .. } | Command::Man { .. }) => return None,
        })
    }
}

/// A command line that was understood.
#[derive(Debug)]
pub struct CommandLine {
    pub cli: Cli,
    /// The long names of the flags that were given, or set by a variable.
    pub typed: Vec<String>,
    /// What had no effect or was not understood, a line each.
    pub warnings: Vec<String>,
}

/// Reads a command line, the program's name first, and the environment variables that stand for flags.
///
/// # Errors
/// Wrong usage, but also the help or version asked for.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<CommandLine, clap::Error> {
    let mut definition = define();
    definition.build();
    let mut words = words::read(args, &definition).map_err(|refusal| refuse(&refusal))?;
    let names: Vec<String> =
        words.command.iter().skip(1).filter_map(|name| name.to_str()).map(str::to_string).collect();
    let inner = |command: &'_ clap::Command, name: &String| command.find_subcommand(name).cloned();
    let command = names.iter().try_fold(definition.clone(), |command, name| inner(&command, name));
    let command = command.unwrap_or_else(|| definition.clone());
    // Completions are printed each time a shell starts, which is not the time to talk about variables; neither is packaging.
    if !matches!(names.first().map(String::as_str), Some("completions" | "man")) {
        environment::read(&mut words, variables, &command, &definition)
            .map_err(|message| refuse(&words::Refusal { command: names.clone(), message }))?;
    }
    let line = words.command.iter().chain(&words.args);
    let mut command = self::command();
    let cli = command
        .try_get_matches_from_mut(line)
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches).map_err(|e| e.format(&mut command)))
        .map_err(|error| name_as_typed(error, &words.typed))?;
    let mut warnings = words.warnings;
    if let Some(log) = cli.log_args().filter(|log| log.verbosity > LogArgs::MOST) {
        let typed = words.typed.iter().rev().find(|(long, _)| long == "verbosity");
        let typed = typed.map_or("--verbosity", |(_, typed)| typed);
        warnings.push(format!("{typed} {} says no more than {typed} {}", log.verbosity, LogArgs::MOST));
    }
    let typed = words.typed.into_iter().map(|(long, _)| long).collect();
    Ok(CommandLine { cli, typed, warnings })
}

/// Flags of `bise serve` that stand elsewhere than on the command line.
#[cfg(feature = "server")]
pub const SERVE_FLAGS: serve::FlagReader = serve::FlagReader {
    read: |line, variables| match parse(line, variables).map_err(|error| error.to_string())? {
        CommandLine { cli: Cli { command: Some(Command::Serve(args)), .. }, typed, .. } => Ok((args, typed)),
        _ => Err("expected flags of `bise serve`".to_owned()),
    },
    has_value: |spelling| {
        let mut root = define();
        root.build();
        words::has_value(spelling, "serve", &root)
    },
};

/// The definition of the whole command line.
pub fn command() -> clap::Command {
    annotated(define())
}

fn annotated(command: clap::Command) -> clap::Command {
    command.mut_args(help::annotate).mut_subcommands(annotated)
}

/// The definition as [`words`] and [`environment`] read it.
pub fn define() -> clap::Command {
    with_help(Cli::command())
}

/// One help for a command and those in it, compact at any width: flags on lines of their own, and what they do below.
fn with_help(command: clap::Command) -> clap::Command {
    let help = clap::Arg::new("help").short('h').long("help").help("Print this help");
    let help = help.action(clap::ArgAction::HelpShort).help_heading(None::<&str>);
    command.next_line_help(true).arg(help).mut_subcommands(|inner| with_help(inner.disable_help_flag(true)))
}

/// An error of usage as clap writes it.
fn refuse(refusal: &words::Refusal) -> clap::Error {
    let mut root = command();
    root.build();
    let mut command = &mut root;
    for name in &refusal.command {
        command = command.find_subcommand_mut(name).expect("the command was found before");
    }
    command.error(ErrorKind::UnknownArgument, Printable(&refusal.message))
}

/// An error that names a flag by the word the user wrote.
fn name_as_typed(mut error: clap::Error, typed: &[(String, String)]) -> clap::Error {
    let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else { return error };
    let (long, placeholder) = named.split_once(' ').unwrap_or((named, ""));
    let word = typed.iter().rev().find(|(given, _)| long.strip_prefix("--") == Some(given));
    if let Some((_, word)) = word {
        let placeholder = if word.starts_with('-') { placeholder } else { "" };
        let named = format!("{word} {placeholder}").trim_end().to_string();
        error.insert(ContextKind::InvalidArg, ContextValue::String(named));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::term::console::When;

    fn read(line: &str) -> Result<CommandLine, clap::Error> {
        parse(std::iter::once("bise").chain(line.split_whitespace()).map(OsString::from), [])
    }

    fn typed(line: &str) -> Result<Cli, clap::Error> {
        read(line).map(|line| line.cli)
    }

    #[test]
    fn the_definitions_hold_together() {
        command().debug_assert();
    }

    #[test]
    fn a_line_for_llama_cpp_is_understood() {
        let line = "-m x.gguf -p hi -n 128 -c 4096 -t 8 -tb 8 -b 512 -ub 256 -s 42 --temp 0.7 --top-k 50 --top-p 0.9 --min-p 0.1 \
                    --repeat-penalty 1.1 --repeat-last-n 256 -no-cnv -ngl 99 -fa on -ctk q8_0 -ctv f16 --no-mmap --color \
                    -r User: -e --ignore-eos -l 15043+1 --no-display-prompt";
        let args = typed(line).unwrap().generate;
        assert_eq!(args.chat.prompt.n_predict, 128);
        assert_eq!(args.chat.context.ubatch_size, 256);
        assert_eq!(args.chat.sampling.seed, 42);
        assert!(args.generation.no_conversation);
        assert_eq!(args.chat.prompt.reverse_prompt, ["User:"]);
        assert_eq!(args.chat.sampling.logit_bias, [(15043, 1.0)]);
        assert_eq!(read(line).unwrap().warnings, ["-ngl 99 has no effect: bise computes on the CPU alone"]);
        assert_eq!(args.chat.output.color, When::On);
        assert!(args.chat.model.no_mmap);
    }

    #[test]
    fn speculation_is_spelled_as_in_llama_cpp() {
        let options = |line: &str| typed(line).unwrap().generate.chat.speculation.options();
        assert_eq!(options(""), bise::speculation::SpeculationOptions::default());
        assert_eq!(options("--spec-type none --draft-max 8"), bise::speculation::SpeculationOptions::off());
        assert_eq!(options("--draft-max 8").n_max, 8);
        assert_eq!(options("--spec-type ngram-mod --spec-ngram-mod-n-max 64").n_max, 64);
        assert_eq!(options("--spec-type ngram-simple --spec-draft-n-max 3").n_max, 3);
        assert_eq!(typed("--spec-type draft-mtp").unwrap_err().exit_code(), 2);
        let args = typed("chat --spec-type none --draft-min 2").unwrap();
        let Some(Command::Chat(chat)) = args.command else { panic!("a chat") };
        assert_eq!(chat.speculation.options().n_max, 0);
        let line = read("chat --spec-type none --draft-min 2").unwrap();
        assert_eq!(line.warnings, ["--draft-min 2 has no effect: bise decides that itself"]);
    }

    #[test]
    fn the_last_of_two_counts() {
        let args = typed("-n 1 -n 2 -cnv -no-cnv").unwrap().generate;
        assert_eq!(args.chat.prompt.n_predict, 2);
        assert!(!args.generation.conversation && args.generation.no_conversation);
    }

    #[test]
    fn negative_numbers_are_values() {
        let args = typed("-n -2 -s -1 -t -1 --keep -1 --repeat-last-n -1").unwrap().generate;
        assert_eq!(args.chat.prompt.n_predict, -2);
        assert_eq!(args.chat.sampling.seed, bise::sampling::RANDOM_SEED);
        assert_eq!(args.chat.prompt.keep, -1);
    }

    #[test]
    fn what_is_not_understood_is_an_error_of_usage() {
        for line in [
            "--bogus",
            "-n",
            "-n -3",
            "-c many",
            "-s 4294967296",
            "-ctk q9_9",
            "--mirostat 3",
            "--color blue",
            "chat --bogus",
        ] {
            let error = typed(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        assert_eq!(typed("--help").unwrap_err().exit_code(), 0);
        assert_eq!(typed("--version").unwrap_err().exit_code(), 0);
    }
}
