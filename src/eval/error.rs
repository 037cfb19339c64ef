//! What can go wrong.

use std::path::PathBuf;

use bise_models::printable::Printable;

use crate::Error;
use crate::chat::ChatError;

/// Why a model could not be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// No task has this name.
    #[error(
        "found no task '{}'{}; there are arc_challenge, arc_easy, hellaswag, mmlu (also mmlu_stem, mmlu_anatomy and so on), triviaqa and \
         winogrande (bise eval --list prints all names)",
        Printable(name),
        nearest.as_ref().map_or(String::new(), |name| format!(", did you mean {name}?"))
    )]
    UnknownTask {
        /// The name.
        name: String,
        /// The name that is most like it.
        nearest: Option<String>,
    },
    /// A task's questions are not where they are looked for.
    #[error("{}: found no data for {task} ({split}): expected {}; to download it: {download}", Printable(folder.display()), expected.join(" or "))]
    NoData {
        /// The folder of all data.
        folder: PathBuf,
        /// The task.
        task: String,
        /// The split of the dataset.
        split: &'static str,
        /// Where files would have been read, relative to the folder.
        expected: Vec<String>,
        /// The command that downloads them.
        download: String,
    },
    /// A file of several is missing.
    #[error("{}: found {found} of {expected} files, expected all", Printable(file.display()))]
    MissingPart {
        /// The first that is there.
        file: PathBuf,
        /// Those that are there.
        found: usize,
        /// Those that there should be.
        expected: usize,
    },
    /// A file cannot be read.
    #[error("{}: cannot read the file: {error}", Printable(file.display()))]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file is no sound Parquet file.
    #[error("{}: found a damaged Parquet file, expected a whole one: {}", Printable(file.display()), Printable(what))]
    Parquet {
        /// The file.
        file: PathBuf,
        /// What the reader says.
        what: String,
    },
    /// Columns are missing.
    #[error("{}: found the columns {}, expected {} too", Printable(file.display()), Printable(found.join(", ")), missing.join(", "))]
    Columns {
        /// The file.
        file: PathBuf,
        /// All that are there.
        found: Vec<String>,
        /// Those that are not.
        missing: Vec<&'static str>,
    },
    /// A row does not hold a question.
    #[error("{}: {place} {number}: {}", Printable(file.display()), Printable(what))]
    Row {
        /// The file.
        file: PathBuf,
        /// `line` or `row`.
        place: &'static str,
        /// Its number; lines count from 1, rows from 0.
        number: usize,
        /// What was found and what was expected.
        what: String,
    },
    /// A split without rows.
    #[error("{}: found no rows{}, expected questions", Printable(file.display()), what.as_ref().map_or(String::new(), |what| format!(" with {what}")))]
    Empty {
        /// The file.
        file: PathBuf,
        /// What rows were looked for, if not any.
        what: Option<String>,
    },
    /// A file of llama-perplexity's is not sound.
    #[error("{}: {}", Printable(file), Printable(what))]
    TaskFile {
        /// The file.
        file: String,
        /// Where, what was found and what was expected.
        what: String,
    },
    /// There are fewer examples than are to be shown.
    #[error(
        "{task}: found {found} examples to choose from, expected at least {expected} for --num-fewshot {n_shots}"
    )]
    TooFewExamples {
        /// The task.
        task: String,
        /// Those that there are.
        found: usize,
        /// Those that are drawn.
        expected: usize,
        /// Those that are shown.
        n_shots: usize,
    },
    /// The text of a question cannot be scored.
    #[error("{task}: question {question}: {what}")]
    Question {
        /// The task.
        task: String,
        /// Its number, from 0.
        question: usize,
        /// What was found and what was expected.
        what: String,
    },
    /// The context leaves no room for an answer.
    #[error(
        "{task}: found a context of {n_ctx} tokens, expected more than the {max_tokens} that an answer may take (--ctx-size)"
    )]
    NoRoom {
        /// The task.
        task: String,
        /// The model's, or the one asked for.
        n_ctx: usize,
        /// Tokens of an answer.
        max_tokens: usize,
    },
    /// The chat template failed.
    #[error("chat template: {0}")]
    Chat(#[from] ChatError),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] Error),
}

impl EvalError {
    pub(super) fn io(file: &std::path::Path, error: std::io::Error) -> EvalError {
        EvalError::Io { file: file.to_owned(), error }
    }
}
