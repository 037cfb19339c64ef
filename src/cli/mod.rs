//! The command line: [`command_line`] is what can be typed, [`commands`] what is done about it.

mod args;
mod command_line;
mod commands;
mod describe;
mod generator;
mod ids;
mod load;
mod npy;
mod term;
mod text;
mod timings;

use std::ffi::OsString;
use std::process::ExitCode;

use command_line::Command;
use commands::{bench, chat, completions, generate, inspect, logits, perplexity, tokenize};
use term::{console, signals};

/// Runs one command line, the program's name first.
///
/// Exit codes: 0 for success, 1 for an error (one line on stderr), 2 for wrong usage, 130 after Ctrl-C.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match command_line::parse(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody may be reading the help any more; that is no error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let result = signals::listen().and_then(|()| match cli.command {
        None => generate::run(cli.generate),
        Some(Command::Chat(args)) => chat::run(*args),
        Some(Command::Inspect(args)) => inspect::run(args).map(|()| ExitCode::SUCCESS),
        Some(Command::Tokenize(args)) => tokenize::run(args).map(|()| ExitCode::SUCCESS),
        Some(Command::Bench(args)) => bench::run(*args).map(|()| ExitCode::SUCCESS),
        Some(Command::Perplexity(args)) => perplexity::run(*args).map(|()| ExitCode::SUCCESS),
        Some(Command::Logits(args)) => logits::run(*args).map(|()| ExitCode::SUCCESS),
        Some(Command::Completions { shell }) => {
            completions::run(shell, &mut command_line::command()).map(|()| ExitCode::SUCCESS)
        }
    });
    match result {
        Ok(code) => code,
        Err(error) if console::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let message = format!("{error:#}").replace('\n', " ");
            console::write_line(format_args!("bise: error: {message}"));
            ExitCode::FAILURE
        }
    }
}
