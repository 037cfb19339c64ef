//! `--hellaswag`, `--winogrande` and `--multiple-choice`: llama-perplexity's files of questions, with what it prints about them.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use bise::Cancel;
use bise::eval::EvalError;
use bise::eval::task_file::{FileOutcome, TaskFile, TaskFileKind};

use super::{DEFAULT_N_CTX, PerplexityArgs};
use crate::cli::args::numbers::positive;
use crate::cli::load;
use crate::cli::term::console::Log;
use crate::cli::term::signals;
use crate::cli::usage::wrong;

/// Sequences that share llama-perplexity's context, at least.
const N_SEQUENCES: usize = 4;

/// Questions in place of a text.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Questions")]
pub struct QuestionArgs {
    /// Score HellaSwag's questions in the file, six lines each: beginning, number of the right ending, four endings
    #[arg(long, conflicts_with_all = ["ids", "chunks", "all_positions", "ppl_stride", "ppl_output_type", "winogrande", "multiple_choice"])]
    hellaswag: bool,

    /// Questions of HellaSwag to draw from the file
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = positive, requires = "hellaswag")]
    hellaswag_tasks: usize,

    /// Score Winogrande's questions in the file, a line each: index,sentence with _,choice,choice,1 or 2
    #[arg(long, conflicts_with_all = ["ids", "chunks", "all_positions", "ppl_stride", "ppl_output_type", "multiple_choice"])]
    winogrande: bool,

    /// Questions of Winogrande to draw from the file; 0: all
    #[arg(long, value_name = "N", default_value_t = 0, requires = "winogrande")]
    winogrande_tasks: usize,

    /// Score the questions in the binary file, as those of ikawrakow/validation-datasets-for-llama.cpp (ARC, MMLU, TruthfulQA)
    #[arg(long, conflicts_with_all = ["ids", "chunks", "all_positions", "ppl_stride", "ppl_output_type"])]
    multiple_choice: bool,

    /// Questions to draw from the binary file; 0: all
    #[arg(long, value_name = "N", default_value_t = 0, requires = "multiple_choice")]
    multiple_choice_tasks: usize,
}

impl QuestionArgs {
    /// What kind of questions there are, and how many are drawn.
    pub fn kind(&self) -> Option<(TaskFileKind, usize)> {
        let kinds = [
            (self.hellaswag, TaskFileKind::HellaSwag, self.hellaswag_tasks),
            (self.winogrande, TaskFileKind::Winogrande, self.winogrande_tasks),
            (self.multiple_choice, TaskFileKind::MultipleChoice, self.multiple_choice_tasks),
        ];
        kinds.into_iter().find(|(is_asked, ..)| *is_asked).map(|(_, kind, n)| (kind, n))
    }
}

/// Scores the questions in the file.
///
/// # Errors
/// There is no file, it is not sound, or a pass fails.
pub fn run(args: &PerplexityArgs, kind: TaskFileKind, n: usize, log: Log) -> Result<()> {
    let file = read(args, kind, n)?;
    file.skipped.iter().for_each(|line| log.warn(line));
    let mut session = args.context.session_options();
    if session.n_ctx == 0 {
        session.n_ctx = DEFAULT_N_CTX;
    }
    // A question's answers share what llama-perplexity gives to all sequences together.
    let n_ctx = N_SEQUENCES * session.n_ctx;
    session.n_ctx = n_ctx;
    let engine = load::load(&args.model, None, log)?.engine;
    log.note(format_args!("perplexity: scoring {} questions", file.n_tasks()));
    let cancel = Cancel::new();
    let _writing = signals::writing(cancel.clone());
    let mut tally = Tally { kind, n_done: 0, n_right: 0, n_answers: 0, out: std::io::stdout().lock() };
    tally.begin()?;
    file.score(&engine, &session, n_ctx, &cancel, &mut |_, outcome| {
        tally.add(&outcome).map_err(Failed::Print)
    })
    .map_err(Failed::into_error)?;
    tally.end()
}

/// The file of `--file`, without the newline at its end, or that of `--binary-file` as it is.
fn read(args: &PerplexityArgs, kind: TaskFileKind, n: usize) -> Result<TaskFile> {
    let (path, drops_newline) = match (&args.file, &args.binary_file) {
        (Some(path), _) => (path, true),
        (None, Some(path)) => (path, false),
        (None, None) => return Err(wrong("there are no questions: expected --file or --binary-file")),
    };
    let mut content = std::fs::read(path).with_context(|| path.display().to_string())?;
    if drops_newline && content.last() == Some(&b'\n') {
        content.pop();
    }
    let name = path.display().to_string();
    if kind != TaskFileKind::MultipleChoice && args.escapes.given().is_some() {
        content = unescaped(args, path, content)?;
    }
    Ok(TaskFile::read(kind, &name, &content, n)?)
}

fn unescaped(args: &PerplexityArgs, path: &Path, content: Vec<u8>) -> Result<Vec<u8>> {
    let text = crate::cli::text::from_bytes(&path.display().to_string(), content)?;
    Ok(args.escapes.meant("--file", text)?.into_bytes())
}

/// Why scoring ended early.
enum Failed {
    Eval(EvalError),
    Print(anyhow::Error),
}

impl From<EvalError> for Failed {
    fn from(error: EvalError) -> Failed {
        Failed::Eval(error)
    }
}

impl Failed {
    fn into_error(self) -> anyhow::Error {
        match self {
            // Whether Ctrl-C ended a pass is told by the model's error.
            Failed::Eval(EvalError::Model(error)) => error.into(),
            Failed::Eval(error) => anyhow!(error),
            Failed::Print(error) => error,
        }
    }
}

/// What is printed, question after question.
struct Tally {
    kind: TaskFileKind,
    n_done: usize,
    n_right: usize,
    n_answers: usize,
    out: std::io::StdoutLock<'static>,
}

impl Tally {
    fn begin(&mut self) -> Result<()> {
        match self.kind {
            TaskFileKind::HellaSwag => writeln!(self.out, "task\tacc_norm\t95% confidence interval")?,
            TaskFileKind::MultipleChoice => writeln!(self.out, "task\tacc_norm")?,
            TaskFileKind::Winogrande => {}
        }
        Ok(())
    }

    fn add(&mut self, outcome: &FileOutcome) -> Result<()> {
        self.n_done += 1;
        self.n_right += usize::from(outcome.is_right);
        self.n_answers += outcome.log_probs.len();
        let part = self.n_right as f64 / self.n_done as f64;
        let (n, percent) = (self.n_done, 100.0 * part);
        match self.kind {
            TaskFileKind::HellaSwag => {
                let (low, high) = wilson(part, n);
                writeln!(self.out, "{n}\t{percent:.8}%\t[{:.4}%, {:.4}%]", 100.0 * low, 100.0 * high)?;
            }
            TaskFileKind::Winogrande => {
                let [first, second] = [0, 1].map(|i| number(outcome.log_probs[i]));
                let (chosen, right) = (outcome.chosen + 1, outcome.right + 1);
                writeln!(self.out, "{n}\t{percent:.4}\t{first:>10}  {second:>10}  {chosen}  {right}")?;
            }
            TaskFileKind::MultipleChoice => writeln!(self.out, "{n}\t{percent:.8}")?,
        }
        Ok(self.out.flush()?)
    }

    fn end(&mut self) -> Result<()> {
        let error = |part: f64| (part * (1.0 - part) / (self.n_done as f64 - 1.0)).sqrt();
        let part = self.n_right as f64 / self.n_done as f64;
        let (percent, plus) = (100.0 * part, 100.0 * error(part));
        match self.kind {
            TaskFileKind::HellaSwag => {}
            // As llama-perplexity: not before there are a hundred.
            TaskFileKind::Winogrande if self.n_done < 100 => {}
            TaskFileKind::Winogrande => {
                writeln!(
                    self.out,
                    "Final Winogrande score({} tasks): {percent:.4} +/- {plus:.4}",
                    self.n_done
                )?;
            }
            TaskFileKind::MultipleChoice => {
                let chance = self.n_done as f64 / self.n_answers as f64;
                writeln!(self.out, "Final result: {percent:.4} +/- {plus:.4}")?;
                writeln!(self.out, "Random chance: {:.4} +/- {:.4}", 100.0 * chance, 100.0 * error(chance))?;
            }
        }
        Ok(())
    }
}

/// A mean with six digits behind the point, as C prints it.
fn number(mean: f32) -> String {
    if mean.is_nan() { "nan".to_owned() } else { format!("{mean:.6}") }
}

/// Wilson's interval around a part of `n`, which holds the true one with a probability of 95%.
fn wilson(part: f64, n: usize) -> (f64, f64) {
    const Z: f64 = 1.959_963_984_54;
    let n = n as f64;
    let z = Z * Z / n;
    let half = z * (n * (4.0 * part * (1.0 - part) + z)).sqrt() / (Z + Z);
    ((part + z * 0.5 - half) / (1.0 + z), (part + z * 0.5 + half) / (1.0 + z))
}
