//! `bise eval`: scores on public sets of questions, as lm-evaluation-harness computes them.

mod announced;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow, ensure};
use bise::chat::SpecialTokens;
use bise::eval::{
    Chat, DEFAULT_SEED, EvalError, EvalOptions, Limit, LoadedTask, Loader, PromptOptions, Report, Selection,
    Task, evaluate, names,
};
use bise::{Cancel, Engine};
use bise_models::atomic_file::{AtomicFile, is_written_through, remove_left_over};
use bise_models::printable::Printable;
use serde_json::{Value, json};

use self::announced::Suite;
use super::chat::template;
use crate::cli::args::log::LogArgs;
use crate::cli::args::model::{ContextArgs, ModelArgs};
use crate::cli::args::numbers::positive;
use crate::cli::args::prompt::TemplateArgs;
use crate::cli::load;
use crate::cli::overwrite::{refuse_existing, refuse_sources};
use crate::cli::term::console::Log;
use crate::cli::term::printable::printable_json;
use crate::cli::term::signals;
use crate::cli::usage::wrong;

/// What to ask, and how.
#[derive(clap::Args, Debug)]
pub struct EvalArgs {
    /// Tasks, by the names of lm-evaluation-harness: arc_challenge, arc_easy, hellaswag, mmlu and its parts, triviaqa, winogrande; mmlu_*_history for several
    #[arg(long, value_name = "NAME,NAME…", value_delimiter = ',', required_unless_present_any = ["list", "suite"])]
    tasks: Vec<String>,

    /// Folder with the datasets, as downloaded from the Hugging Face Hub or from where they were first published
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    data: Option<PathBuf>,

    /// Run the tasks of a model's announcement, and print its figures, too
    #[arg(long, value_name = "NAME", conflicts_with_all = ["tasks", "num_fewshot"])]
    suite: Option<Suite>,

    /// Print the names of all tasks
    #[arg(long)]
    list: bool,

    /// Examples that are shown before each question
    #[arg(long, value_name = "N", default_value_t = 0)]
    num_fewshot: usize,

    /// Ask the first N questions of each task only, or below 1: this part of them
    #[arg(short = 'L', long, value_name = "N", value_parser = limit)]
    limit: Option<Limit>,

    /// Seed of the draw of examples
    #[arg(short, long, value_name = "N", default_value_t = DEFAULT_SEED)]
    seed: u64,

    /// Ask in the form of a conversation, with the chat template; so does giving a template
    #[arg(long)]
    apply_chat_template: bool,

    /// In a conversation: whether examples are turns of their own, rather than part of the question
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, action = clap::ArgAction::Set)]
    fewshot_as_multiturn: bool,

    /// Text that every prompt begins with; in a conversation, the system message
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system_instruction: Option<String>,

    /// Texts that are read together at most
    #[arg(long, alias = "np", value_name = "N", default_value_t = 16, value_parser = positive)]
    parallel: usize,

    /// Write the results as JSON, as lm-evaluation-harness does
    #[arg(long, alias = "output-path", value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write what was asked and answered into that file, too
    #[arg(long, requires = "json")]
    log_samples: bool,

    /// Overwrite the file
    #[arg(long, requires = "json")]
    force: bool,

    #[command(flatten)]
    pub log: LogArgs,
    #[command(flatten)]
    template: TemplateArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    context: ContextArgs,
}

/// Parses `--limit`: a count, or a part below 1.
fn limit(text: &str) -> Result<Limit, String> {
    let expected = || format!("found '{text}', expected a count, or a part between 0 and 1");
    if let Ok(n) = text.parse::<usize>() {
        return if n > 0 { Ok(Limit::Count(n)) } else { Err(expected()) };
    }
    let part: f64 = text.parse().map_err(|_| expected())?;
    if part == 1.0 {
        // As lm-evaluation-harness takes it.
        return Ok(Limit::Count(1));
    }
    if part > 0.0 && part < 1.0 { Ok(Limit::Part(part)) } else { Err(expected()) }
}

/// Runs the command.
///
/// # Errors
/// An unknown task, data that is missing or not sound, a model that cannot be run, a file that cannot be written.
pub fn run(args: EvalArgs) -> Result<()> {
    let log = args.log.log();
    if args.list {
        return print(&names().iter().map(|name| format!("{name}\n")).collect::<String>());
    }
    let selection = match args.suite {
        Some(suite) => Selection::of(suite.tasks()),
        None => Selection::of(&args.tasks),
    };
    let selection = selection.map_err(|error| wrong(format_args!("--tasks: {error}")))?;
    if selection.tasks.is_empty() {
        return Err(wrong("--tasks: found no name, expected some (--list prints them)"));
    }
    if let Some(path) = &args.json {
        refuse_existing(path, args.force)?;
        check_json(path)?;
    }
    let tasks = load_tasks(&args, &selection)?;
    let engine = load::load(&args.model, None, log)?.engine;
    if let Some(path) = &args.json {
        refuse_sources(path, engine.file().paths().chain(args.model.adapters.paths()))?;
        refuse_data(path, args.data.as_deref())?;
    }
    let session = args.context.session_options();
    let n_trained = engine.config().n_ctx_train;
    if session.n_ctx > n_trained {
        log.warn(format_args!("--ctx-size {}: the model was trained for {n_trained} tokens", session.n_ctx));
    }
    let options = EvalOptions {
        prompts: PromptOptions { system: args.system_instruction.clone(), chat: chat(&args, &engine)? },
        seed: args.seed,
        session,
        n_parallel: args.parallel,
        log_samples: args.log_samples,
        cancel: Cancel::new(),
    };
    let report = Report::new(ask(&engine, &tasks, &options, log)?, &selection.groups);
    if let Some(path) = &args.json {
        write_json(path, &args, &options, &engine, &report)?;
    }
    let mut text = report.table(false);
    if report.has_groups() {
        text += &format!("\n{}", report.table(true));
    }
    if let Some(suite) = args.suite {
        text += &format!("\n{}", suite.table(&report));
    }
    print(&text)
}

/// Errs where the file would replace one in the folder of datasets.
fn refuse_data(path: &Path, data: Option<&Path>) -> Result<()> {
    let (Ok(file), Some(Ok(folder))) = (path.canonicalize(), data.map(Path::canonicalize)) else {
        return Ok(());
    };
    ensure!(
        !file.starts_with(folder),
        "{}: found a file in the folder of --data, expected another one to write to",
        Printable(path.display())
    );
    Ok(())
}

fn print(text: &str) -> Result<()> {
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

fn load_tasks(args: &EvalArgs, selection: &Selection) -> Result<Vec<LoadedTask>> {
    let data = args.data.as_deref().ok_or_else(|| wrong("there is no data: expected --data DIR"))?;
    if !data.is_dir() {
        let data = Printable(data.display());
        return Err(anyhow!("{data}: found no folder, expected one with datasets (--data)"));
    }
    let mut loader = Loader::new(data);
    let shots = |task: Task| args.suite.map_or(args.num_fewshot, |suite| suite.n_shots(task));
    let read = |task: &Task| Ok(LoadedTask::read(&mut loader, *task, shots(*task), args.limit)?);
    selection.tasks.iter().map(read).collect()
}

fn chat(args: &EvalArgs, engine: &Engine) -> Result<Option<Chat>> {
    let template_args = &args.template;
    let is_given = template_args.chat_template.is_some() || template_args.chat_template_file.is_some();
    if !(args.apply_chat_template || is_given) {
        return Ok(None);
    }
    Ok(Some(Chat {
        template: template(template_args, engine)?,
        tokens: SpecialTokens::of(engine.tokenizer()),
        arguments: template_args.template_arguments(),
        multi_turn: args.fewshot_as_multiturn,
    }))
}

fn ask(
    engine: &Engine,
    tasks: &[LoadedTask],
    options: &EvalOptions,
    log: Log,
) -> Result<Vec<bise::eval::TaskResult>> {
    let _writing = signals::writing(options.cancel.clone());
    let progress = log.progress("evaluating", tasks.iter().map(LoadedTask::n_requests).sum());
    let mut n_done = 0;
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        let mut done = |n| {
            n_done += n;
            progress.set(n_done);
        };
        let result = evaluate(engine, task, options, &mut done).map_err(|error| match error {
            // Whether Ctrl-C ended a pass is told by the model's error.
            EvalError::Model(error) => anyhow::Error::from(error),
            error => error.into(),
        })?;
        if result.n_cut > 0 {
            log.warn(format_args!(
                "{}: {} texts do not fit the context and were cut on the left",
                result.name(),
                result.n_cut
            ));
        }
        results.push(result);
    }
    Ok(results)
}

/// Errs where the file cannot be written, before anything is computed.
fn check_json(path: &Path) -> Result<()> {
    // A pipe is opened once.
    if is_written_through(path) {
        return Ok(());
    }
    remove_left_over(path);
    AtomicFile::create(path)
        .map_err(|error| anyhow!("{}: cannot create the file: {error}", Printable(path.display())))?;
    Ok(())
}

fn write_json(
    path: &Path,
    args: &EvalArgs,
    options: &EvalOptions,
    engine: &Engine,
    report: &Report,
) -> Result<()> {
    let mut whole = report.json();
    let limit = match args.limit {
        None => Value::Null,
        Some(Limit::Count(n)) => json!(n),
        Some(Limit::Part(part)) => json!(part),
    };
    let config = json!({
        "model": "bise",
        "model_args": {"file": engine.file().name().to_string()},
        "limit": limit,
        "num_fewshot": if args.suite.is_some() { Value::Null } else { json!(args.num_fewshot) },
        "fewshot_seed": args.seed,
        "apply_chat_template": options.prompts.chat.is_some(),
        "chat_template": options.prompts.chat.as_ref().map(|chat| chat.template.source()),
        "fewshot_as_multiturn": options.prompts.chat.as_ref().is_some_and(|chat| chat.multi_turn),
        "system_instruction": args.system_instruction,
    });
    whole.insert("config".to_owned(), config);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    whole.insert("date".to_owned(), json!(since.as_secs_f64()));
    whole.insert("bise_version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    let text = printable_json(&format!("{:#}\n", Value::from(whole))).to_string();
    let failed = |error| anyhow!("{}: cannot write the file: {error}", Printable(path.display()));
    let mut file = AtomicFile::create(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.commit()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_count_or_a_part() {
        assert_eq!(limit("10"), Ok(Limit::Count(10)));
        assert_eq!(limit("0.1"), Ok(Limit::Part(0.1)));
        assert_eq!(limit("1.0"), Ok(Limit::Count(1)));
        for text in ["0", "-1", "2.5", "0.0", "x", "nan", "inf"] {
            assert!(limit(text).is_err(), "{text}");
        }
    }
}
