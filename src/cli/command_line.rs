//! The command line as a whole: every command, its help, and how arguments become one of them.

use std::ffi::OsString;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use super::args::{ChatArgs, GenerateArgs, spelling};
use super::commands::{bench, inspect, logits, perplexity, tokenize};

const EXAMPLES: &str = "\
Examples:
  bise -p \"Once upon a time\" -n 64             a story from the built-in model
  bise -m mistral.gguf -p \"The bise is\" -n 128   go on from a text
  bise -m mistral.gguf -sys \"Be brief.\"          hold a conversation
  bise chat                                      the same, with the built-in model
  bise -m mistral.gguf -f notes.txt --temp 0 -c 8192 -ctk q8_0 -ctv q8_0
  bise -m codestral.gguf --infill --in-prefix @head.rs --in-suffix @tail.rs

Flags are named as in llama.cpp and may be written as there (-ngl, -cnv, -ub, --top_k); those for accelerators are accepted
and have no effect. One with LLAMA_ARG_… beside it can be given by that environment variable. A prompt is gone on from as it
stands; without one, a model that has a chat template holds a conversation (-cnv and -no-cnv decide). In a prompt, control
tokens such as </s> count as such, and a BOS is put first where the vocabulary wants one. Ctrl-C stops what is being written,
and a second one the program. Exit codes: 0 success, 1 error, 2 wrong usage, 130 Ctrl-C.";

/// Runs quantized Mistral models from GGUF files on a CPU
#[derive(Parser, Debug)]
#[command(name = "bise", version, about, after_help = EXAMPLES, args_conflicts_with_subcommands = true, args_override_self = true, styles = STYLES, max_term_width = 110)]
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
    Chat(Box<ChatArgs>),
    /// Show what a GGUF file holds and the memory it needs
    Inspect(inspect::InspectArgs),
    /// Turn a text into tokens
    Tokenize(tokenize::TokenizeArgs),
    /// Measure the speed of reading and writing
    Bench(Box<bench::BenchArgs>),
    /// Measure how well a model predicts a text
    Perplexity(Box<perplexity::PerplexityArgs>),
    /// Write the logits after every token to a .npy file
    Logits(Box<logits::LogitsArgs>),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// What clap has to say: wrong usage, but also the help or version asked for.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let args = spelling::respell(args, &Cli::command());
    let mut command = command();
    let mut matches = command.try_get_matches_from_mut(args)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// The definition of the whole command line.
pub fn command() -> clap::Command {
    spelling::describe_spellings(Cli::command())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::prompt::When;

    fn typed(line: &str) -> Result<Cli, clap::Error> {
        parse(std::iter::once("bise").chain(line.split_whitespace()).map(OsString::from))
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
        assert_eq!(
            args.chat.ignored.warnings,
            ["--gpu-layers 99 has no effect: bise computes on the CPU alone"]
        );
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
        assert_eq!(chat.ignored.warnings, ["--draft-min 2 has no effect: bise decides that itself"]);
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
