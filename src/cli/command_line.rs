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
#[cfg(feature = "server")]
use super::commands::serve;
use super::commands::{bench, embedding, inspect, logits, perplexity, tokenize};
#[cfg(feature = "hub")]
use super::commands::{cp, create, list, ps, pull, rm, run, show, stop};
#[cfg(feature = "quantize")]
use super::commands::{imatrix, merge, quantize, split};

const EXAMPLES: &str = "\
Examples:
  bise -p \"Once upon a time\" -n 64
      a story from the built-in model
  bise -m mistral.gguf -p \"The bise is\" -n 128
      continue a text
  bise -m mistral.gguf
      hold a conversation, if the model has a chat template
  bise -m mistral.gguf -sys \"Be brief.\" -p \"What is a fjord?\" -st
      one question, one answer
  bise -m mistral.gguf -f notes.txt --temp 0 -c 8192 -ctk q8_0 -ctv q8_0
      greedy decoding, with a cache of half the size
  bise -m mistral.gguf -f report.txt -n 200 --prompt-cache report.session
      a long prompt, which is read only the first time
  bise -m codestral.gguf --infill --in-prefix @head.rs --in-suffix @tail.rs
      fill in the middle

Flags are named as in llama.cpp and may be written as there (-ngl, -cnv, -ub, --top_k). Those that choose where or how fast \
to compute, such as -ngl, are accepted with a warning; those that bise does not support are refused. A flag with [env: NAME] \
can be set by that environment variable; what is typed wins.

Without a subcommand, bise continues the prompt as it stands. Without a prompt, it holds a conversation if the model has a \
chat template (-cnv and -no-cnv decide). Control tokens such as </s> in a prompt count as such, and a BOS token is added if \
the vocabulary asks for one.

Ctrl-C stops the text that is being generated, and a second one the program. Exit codes: 0 success, 1 error, 2 wrong usage, \
130 Ctrl-C.";

const CHAT_EXAMPLES: &str = "\
Examples:
  bise chat
      talk to the built-in model
  bise chat -m mistral.gguf -sys \"You are a pirate.\" --temp 0.7
      with a system prompt
  echo \"Name three winds.\" | bise chat -m mistral.gguf -st
      one question from a pipe

Type /help in a conversation for its commands.";

const INSPECT_EXAMPLES: &str = "\
Examples:
  bise inspect mistral.gguf
      shape, tensor types, memory for each context length, metadata
  bise inspect --check-tensors mistral.gguf
      also look for NaN and infinite weights
  bise inspect --verify mistral.gguf
      read every block and look for anything that is unsound; the exit code tells
  bise inspect --hash sha256 mistral.gguf >mistral.manifest
  bise inspect --check mistral.manifest mistral.gguf
      hashes of the tensors, as llama.cpp's gguf-hash makes them, and whether they still hold
  bise inspect mistral-f16.gguf --diff mistral-q4_k_m.gguf
      keys and tensors that differ, and by how much
  bise inspect --histogram tensor mistral.gguf
      how large the scales are
  bise inspect --json mistral.gguf
      for programs";

const TOKENIZE_EXAMPLES: &str = "\
Examples:
  bise tokenize -m mistral.gguf -p \"Once upon a time\"
      a line for each token
  bise tokenize -m mistral.gguf --stdin --ids <text.txt
      the ids alone";

const BENCH_EXAMPLES: &str = "\
Examples:
  bise bench -m mistral.gguf
      512 tokens of prefill, 128 of decode
  bise bench -m mistral.gguf -p 0 -n 64 -d 0,4096 -t 1,2
      decode at two depths, with one thread and with two
  bise bench -m mistral.gguf -p 0 -n 32 --parallel 8 -o json
      eight sequences together, as JSON";

const PERPLEXITY_EXAMPLES: &str = "\
Examples:
  bise perplexity -m mistral.gguf -f wiki.test.raw -c 512
      as llama-perplexity computes it
  bise perplexity -m mistral-f16.gguf -f wiki.test.raw --kl-divergence-base mistral.kld
  bise perplexity -m mistral-q4_k_m.gguf --kl-divergence --kl-divergence-base mistral.kld
      how far the predictions of the second model are from those of the first";

#[cfg(feature = "compare")]
const COMPARE_EXAMPLES: &str = "\
Examples:
  bise compare mistral-f16.gguf mistral-q8_0.gguf mistral-q4_k_m.gguf -f wiki.test.raw --chunks 40
      how much worse each of the others is than the first, how much smaller and how much faster
  bise compare mistral-q4_k_m.gguf mistral-q3_k_m.gguf --kl-divergence-base mistral.kld -r 0
      compared with what `bise perplexity --kl-divergence-base mistral.kld` wrote; speed is not measured
  bise compare f16.gguf q6_k.gguf q4_k_m.gguf -f text.txt --plot quality.svg --json >quality.json
      for a web page

One model at a time is in memory. The log-probabilities of the first lie in a file in TMPDIR for a while (2 bytes for each token of the \
vocabulary and position). Divergence is that of Kullback and Leibler, in nats; `same top` is how often the likeliest token is the same.";

#[cfg(feature = "convert")]
const CONVERT_EXAMPLES: &str = "\
Examples:
  bise convert Mistral-7B-Instruct-v0.3 -o mistral-7b-{ftype}.gguf
      a file in the 16 bits that the weights have
  bise convert Mistral-7B-Instruct-v0.3 -o mistral-7b-q4_k_m.gguf --outtype q4_k_m
      straight to a model of 4.8 bits a weight
  bise convert --dry-run Ministral-3-8B-Instruct-2512
      what would become of each tensor
  bise convert --mistral-format Devstral-Small-2507 -o devstral.gguf --outtype bf16
      from params.json and consolidated.safetensors";

#[cfg(feature = "quantize")]
const QUANTIZE_EXAMPLES: &str = "\
Examples:
  bise quantize mistral-f16.gguf mistral-q4_k_m.gguf Q4_K_M
      a model of 4.8 bits a weight
  bise quantize --imatrix mistral.imatrix.gguf mistral-f16.gguf mistral-q3_k_m.gguf Q3_K_M
      with what a text says about which columns matter
  bise quantize --dry-run mistral-f16.gguf Q4_K_M
      what would become of each tensor
  bise quantize --tensor-type 'ffn_down=q6_k' --token-embedding-type q8_0 in.gguf out.gguf Q4_K_S
      with types of one's own

Types: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q2_K_S, Q3_K_S, Q3_K_M, Q3_K_L, Q4_K_S, Q4_K_M, Q5_K_S, Q5_K_M, Q6_K, \
IQ4_NL, IQ4_XS and COPY, or their numbers as in llama-quantize; Q3_K, Q4_K and Q5_K are short for the _M ones.";

#[cfg(feature = "quantize")]
const IMATRIX_EXAMPLES: &str = "\
Examples:
  bise imatrix -m mistral-f16.gguf -f calibration.txt -o mistral.imatrix.gguf
      for bise quantize --imatrix, and for llama-quantize
  bise imatrix -m mistral-f16.gguf -f calibration.txt -o all.gguf --in-file part.gguf --from-chunk 40
      go on where part.gguf ended after 40 chunks
  bise imatrix --in-file one.gguf --in-file two.dat -o both.gguf
      add up two of them";

#[cfg(feature = "quantize")]
const SPLIT_EXAMPLES: &str = "\
Examples:
  bise split --split-max-size 4G mistral-f16.gguf mistral-f16
      mistral-f16-00001-of-00004.gguf and so on, each with 4 GB of weights at most
  bise split --dry-run --split-max-tensors 100 mistral.gguf mistral
      how many files there would be";

#[cfg(feature = "quantize")]
const MERGE_EXAMPLES: &str = "\
Examples:
  bise merge mistral-f16-00001-of-00004.gguf mistral-f16.gguf
      one file of all four";

const LOGITS_EXAMPLES: &str = "\
Examples:
  bise logits -m mistral.gguf -f text.txt -o logits.npy
      for a text
  bise logits -m mistral.gguf --tokens 1,415,2936 -o logits.npy
      for token ids";

const EMBEDDING_EXAMPLES: &str = "\
Examples:
  bise embedding -m e5-mistral.gguf -p \"The cat sat by the fire.\"
      the vector of a text
  bise embedding -m mistral.gguf -f lines.txt --pooling mean --embd-output-format json
      a vector for each line, in the JSON of the OpenAI API";

#[cfg(feature = "hub")]
const RUN_EXAMPLES: &str = "\
Examples:
  bise run mistral
      downloads it the first time, and holds a conversation
  bise run mistral \"What is a fjord?\"
      one question, one answer
  bise run hf.co/bartowski/Codestral-22B-v0.1-GGUF <question.txt
      any model of Hugging Face; the question from a file

A name is looked for among your own models (bise create, bise cp), in the table of names (bise pull --help), in Ollama's store, and \
then in Ollama's registry. Type /? in a conversation for its commands.";

#[cfg(feature = "hub")]
const PULL_EXAMPLES: &str = "\
Examples:
  bise pull mistral
      by a name of the table
  bise pull hf.co/bartowski/Codestral-22B-v0.1-GGUF:Q5_K_M
      from Hugging Face
  bise pull smollm:135m
      from Ollama's registry

A download that was cut, by Ctrl-C or otherwise, goes on where it ended. Every file is checked by its size and SHA-256.
";

#[cfg(feature = "hub")]
const CREATE_EXAMPLES: &str = "\
Examples:
  printf 'FROM mistral\\nSYSTEM You are a pirate.\\nPARAMETER temperature 0.5\\n' >Modelfile
  bise create pirate -f Modelfile
  bise run pirate

FROM, PARAMETER, SYSTEM, MESSAGE, LICENSE and TEMPLATE (in Jinja) are understood. A TEMPLATE in Go's language is left out, with a \
warning, and the GGUF file's own is used; ADAPTER is refused.";

#[cfg(feature = "server")]
const SERVE_EXAMPLES: &str = "\
Examples:
  bise serve -m mistral.gguf
      http://127.0.0.1:8080 for programs made for the OpenAI API (/v1/chat/completions …) or llama-server (/completion …)
  bise serve --max-memory 12G
      every model that `bise list` shows, loaded when a request names it
  bise serve -m mistral.gguf --host 0.0.0.0 --api-key SECRET
      for others in the network
  bise serve -m mistral.gguf -c 32768 --parallel 8
      eight requests at a time, 4096 tokens each
  curl http://127.0.0.1:8080/v1/chat/completions -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  bise completions bash >~/.local/share/bash-completion/completions/bise
  bise completions zsh >~/.zfunc/_bise
  bise completions fish >~/.config/fish/completions/bise.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  bise man | man -l -
      read it
  bise man chat >~/.local/share/man/man1/bise-chat.1";

/// Runs quantized Mistral models from GGUF files on a CPU
#[derive(Parser, Debug)]
#[command(
    name = "bise",
    version,
    about,
    after_help = EXAMPLES,
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
    #[command(after_help = CHAT_EXAMPLES)]
    Chat(Box<ChatArgs>),
    /// Run a model by its name
    #[cfg(feature = "hub")]
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<run::RunArgs>),
    /// Download a model
    #[cfg(feature = "hub")]
    #[command(after_help = format!("{PULL_EXAMPLES}\n{}", pull::table()))]
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
    #[command(after_help = CREATE_EXAMPLES)]
    Create(create::CreateArgs),
    /// List the models that a server holds in memory
    #[cfg(feature = "hub")]
    Ps(ps::PsArgs),
    /// Make a server drop a model from memory
    #[cfg(feature = "hub")]
    Stop(stop::StopArgs),
    /// Show what is in a GGUF file and how much memory it needs
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(inspect::InspectArgs),
    /// Print the tokens of a text
    #[command(after_help = TOKENIZE_EXAMPLES)]
    Tokenize(tokenize::TokenizeArgs),
    /// Measure the speed of prefill and decode
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(Box<bench::BenchArgs>),
    /// Measure how well a model predicts a text
    #[command(after_help = PERPLEXITY_EXAMPLES)]
    Perplexity(Box<perplexity::PerplexityArgs>),
    /// Compare models over a text: quality, size and speed
    #[cfg(feature = "compare")]
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(Box<compare::CompareArgs>),
    /// Make a GGUF file of a checkpoint of Hugging Face or Mistral
    #[cfg(feature = "convert")]
    #[command(after_help = CONVERT_EXAMPLES)]
    Convert(convert::ConvertArgs),
    /// Quantize a model file
    #[cfg(feature = "quantize")]
    #[command(after_help = QUANTIZE_EXAMPLES)]
    Quantize(Box<quantize::QuantizeArgs>),
    /// Learn from a text which weights matter, for quantizing
    #[cfg(feature = "quantize")]
    #[command(after_help = IMATRIX_EXAMPLES)]
    Imatrix(Box<imatrix::ImatrixArgs>),
    /// Put a model into several files
    #[cfg(feature = "quantize")]
    #[command(after_help = SPLIT_EXAMPLES)]
    Split(split::SplitArgs),
    /// Put the files of a split model into one
    #[cfg(feature = "quantize")]
    #[command(after_help = MERGE_EXAMPLES)]
    Merge(merge::MergeArgs),
    /// Write the logits of every token to a .npy file
    #[command(after_help = LOGITS_EXAMPLES)]
    Logits(Box<logits::LogitsArgs>),
    /// Print texts as vectors
    #[command(after_help = EMBEDDING_EXAMPLES)]
    Embedding(Box<embedding::EmbeddingArgs>),
    /// Serve a model over HTTP
    #[cfg(feature = "server")]
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Box<serve::ServeArgs>),
    /// Print shell completions
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a page of the manual
    #[command(after_help = MAN_EXAMPLES)]
    Man {
        /// The command that the page is about (default: bise as a whole)
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
    let name = words.command.get(1).and_then(|name| name.to_str()).map(str::to_string);
    let command = name.as_ref().and_then(|name| definition.find_subcommand(name)).unwrap_or(&definition);
    // Completions are printed each time a shell starts, which is not the time to talk about variables; neither is packaging.
    if !matches!(name.as_deref(), Some("completions" | "man")) {
        environment::read(&mut words, variables, command, &definition)
            .map_err(|message| refuse(&words::Refusal { command: name.clone(), message }))?;
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
    define().mut_args(help::annotate).mut_subcommands(|sub| sub.mut_args(help::annotate))
}

/// The definition as [`words`] and [`environment`] read it.
pub fn define() -> clap::Command {
    // One help, compact at any width: flags on lines of their own, and what they do below.
    let with_help = |command: clap::Command| {
        let help = clap::Arg::new("help").short('h').long("help").help("Print this help");
        command.next_line_help(true).arg(help.action(clap::ArgAction::HelpShort).help_heading(None::<&str>))
    };
    with_help(Cli::command()).mut_subcommands(move |sub| with_help(sub.disable_help_flag(true)))
}

/// An error of usage as clap writes it.
fn refuse(refusal: &words::Refusal) -> clap::Error {
    let mut root = command();
    root.build();
    let command = match &refusal.command {
        Some(name) => root.find_subcommand_mut(name).expect("the command was found before"),
        None => &mut root,
    };
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
