//! The command line: [`command_line`] is what can be typed, [`commands`] what is done about it.

mod args;
mod command_line;
mod commands;
#[cfg(feature = "compare")]
mod compare;
#[cfg(feature = "quantize")]
mod division;
#[cfg(any(feature = "compare", feature = "train"))]
mod drawing;
mod examples;
#[cfg(feature = "hub")]
mod hub;
mod ids;
mod load;
#[cfg(feature = "hub")]
mod modelfile;
mod npy;
#[cfg(feature = "hub")]
mod ollama_host;
mod overwrite;
#[cfg(feature = "quantize")]
mod plan;
mod prompt_cache;
mod score;
#[cfg(feature = "hub")]
mod server;
mod source;
mod term;
mod text;
mod threads;
mod timings;
mod usage;
mod writer;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use args::log::LogArgs;
use bise::description as describe;
use command_line::{Cli, Command, CommandLine};
#[cfg(feature = "compare")]
use commands::compare as compare_command;
#[cfg(feature = "convert")]
use commands::convert;
#[cfg(feature = "eval")]
use commands::eval;
#[cfg(feature = "convert")]
use commands::lora;
#[cfg(feature = "server")]
use commands::serve;
#[cfg(feature = "train")]
use commands::train;
use commands::{bench, chat, completions, embedding, generate, inspect, logits, man, perplexity, tokenize};
#[cfg(feature = "hub")]
use commands::{cp, create, list, ps, pull, rm, run, show, stop};
#[cfg(feature = "quantize")]
use commands::{imatrix, merge, quantize, split};
use term::{console, signals, stdout};
use usage::WrongUsage;

/// The exit code of wrong usage.
const EXIT_USAGE: u8 = 2;

/// Runs one command line, the program's name first.
///
/// Exit codes: 0 for success, 1 for an error (one line on stderr), 2 for wrong usage, 130 after Ctrl-C.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let CommandLine { cli, typed, warnings } = match command_line::parse(args, std::env::vars_os()) {
        Ok(line) => line,
        Err(error) => return print_usage(&error),
    };
    if let Some(log) = cli.log_args().map(LogArgs::log) {
        warnings.iter().for_each(|warning| log.warn(warning));
    }
    match execute(cli, &typed).and_then(|code| stdout::flush().map(|()| code)) {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

#[cfg_attr(
    not(feature = "hub"),
    expect(unused_variables, reason = "models by name alone have parameters of their own")
)]
fn execute(cli: Cli, typed: &[String]) -> Result<ExitCode> {
    #[cfg(feature = "server")]
    if let Some(Command::Serve(args)) = cli.command {
        // It has its own way to end.
        return serve::run(*args, typed, command_line::SERVE_FLAGS).map(|()| ExitCode::SUCCESS);
    }
    signals::listen()?;
    // `logits` writes to a file.
    if !matches!(cli.command, Some(Command::Logits(_))) {
        stdout::require_open()?;
    }
    match cli.command {
        None => return generate::run(cli.generate),
        Some(Command::Chat(args)) => return chat::run(*args),
        #[cfg(feature = "hub")]
        Some(Command::Run(args)) => return run::run(*args, typed),
        #[cfg(feature = "hub")]
        Some(Command::Pull(args)) => pull::run(args),
        #[cfg(feature = "hub")]
        Some(Command::List(args)) => list::run(args),
        #[cfg(feature = "hub")]
        Some(Command::Show(args)) => show::run(args),
        #[cfg(feature = "hub")]
        Some(Command::Cp(args)) => cp::run(args),
        #[cfg(feature = "hub")]
        Some(Command::Rm(args)) => rm::run(args),
        #[cfg(feature = "hub")]
        Some(Command::Create(args)) => create::run(args),
        #[cfg(feature = "hub")]
        Some(Command::Ps(args)) => ps::run(args),
        #[cfg(feature = "hub")]
        Some(Command::Stop(args)) => stop::run(args),
        Some(Command::Inspect(args)) => inspect::run(args),
        Some(Command::Tokenize(args)) => tokenize::run(args),
        Some(Command::Bench(args)) => bench::run(*args),
        Some(Command::Perplexity(args)) => perplexity::run(*args),
        #[cfg(feature = "compare")]
        Some(Command::Compare(args)) => compare_command::run(*args),
        #[cfg(feature = "eval")]
        Some(Command::Eval(args)) => eval::run(*args),
        #[cfg(feature = "convert")]
        Some(Command::Convert(args)) => convert::run(args),
        #[cfg(feature = "quantize")]
        Some(Command::Quantize(args)) => quantize::run(*args),
        #[cfg(feature = "quantize")]
        Some(Command::Imatrix(args)) => imatrix::run(*args),
        #[cfg(feature = "quantize")]
        Some(Command::Split(args)) => split::run(args),
        #[cfg(feature = "quantize")]
        Some(Command::Merge(args)) => merge::run(args),
        #[cfg(feature = "train")]
        Some(Command::Train(args)) => train::run(*args),
        #[cfg(feature = "convert")]
        Some(Command::Lora(args)) => lora::run(*args),
        Some(Command::Logits(args)) => logits::run(*args),
        Some(Command::Embedding(args)) => embedding::run(*args),
        #[cfg(feature = "server")]
        Some(Command::Serve(_)) => unreachable!("it was run above"),
        Some(Command::Completions { shell }) => completions::run(shell, &mut command_line::command()),
        Some(Command::Man { command }) => man::run(command.as_deref(), command_line::command()),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what clap has to say: the help or version on stdout, wrong usage on stderr.
fn print_usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        // In one write; what cannot be written to stderr is lost.
        let colours = console::wants_colours(&std::io::stderr());
        let _ = std::io::stderr().write_all(args::help::text(&error.render(), colours).as_bytes());
        return ExitCode::from(EXIT_USAGE);
    }
    let printed = stdout::require_open()
        .and_then(|()| {
            let mut out = std::io::stdout().lock();
            let text = args::help::text(&error.render(), console::wants_colours(&out));
            out.write_all(text.as_bytes()).context("standard output")
        })
        .and_then(|()| stdout::flush());
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

/// Writes an error in one line. That nobody reads standard output any more (`| head`) is none.
fn report(error: &anyhow::Error) -> ExitCode {
    if console::is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    let message = format!("{error:#}").replace('\n', " ");
    console::write_line(format_args!("bise: error: {message}"));
    let interrupted = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<bise::Error>().is_some_and(bise::Error::is_cancelled)
    };
    match error {
        error if error.is::<WrongUsage>() => ExitCode::from(EXIT_USAGE),
        #[cfg(feature = "hub")]
        error
            if error.downcast_ref().is_some_and(|e| {
                matches!(e, bise::hub::HubError::Cancelled | bise::hub::HubError::ConversionCancelled)
            }) =>
        {
            signals::exit_code()
        }
        #[cfg(feature = "server")]
        error if error.downcast_ref().is_some_and(|e| matches!(e, bise::server::ServeError::Interrupted)) => {
            signals::exit_code()
        }
        error if error.is::<signals::Interrupted>() => signals::exit_code(),
        error if error.chain().any(interrupted) => signals::exit_code(),
        _ => ExitCode::FAILURE,
    }
}
