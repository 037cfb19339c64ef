//! llama-perplexity's files of questions, scored as llama-perplexity b11434 scores them.

mod draw;
mod hellaswag;
mod multiple_choice;
mod prepare;
mod winogrande;

use self::prepare::Answer;
use super::EvalError;
use super::likelihood::{Failure, ReadOptions, likelihoods};
use crate::{Cancel, Engine, SessionOptions};

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskFileKind {
    /// Six lines a question: the beginning, the number of the right ending from 0, four endings.
    HellaSwag,
    /// A line a question: `index,sentence with _,choice 1,choice 2,number of the right one`.
    Winogrande,
    /// Binary: questions with any number of answers, one of which is right.
    MultipleChoice,
}

/// A question of a file.
#[derive(Clone, Debug, PartialEq)]
enum FileTask {
    /// A beginning and what may follow it.
    Endings { context: String, endings: Vec<String>, is_right: Vec<bool> },
    /// A sentence with a gap.
    Gap { before: String, after: String, choices: [String; 2], right: usize },
}

/// The questions of a file that are asked, in this order.
#[derive(Debug)]
pub struct TaskFile {
    name: String,
    tasks: Vec<FileTask>,
    /// Lines that are not read, with their numbers, and why.
    pub skipped: Vec<String>,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq)]
pub struct FileOutcome {
    /// The mean log-probability of a token of each answer.
    pub log_probs: Vec<f32>,
    /// The answer that was chosen, from 0.
    pub chosen: usize,
    /// The right answer, from 0; the first of several.
    pub right: usize,
    /// The right one was chosen.
    pub is_right: bool,
}

impl TaskFile {
    /// Reads the questions of a file; `name` is for messages. `n` of them are drawn as llama-perplexity draws them: for HellaSwag always, in a
    /// random order, otherwise where there are more and `n` is not 0.
    ///
    /// # Errors
    /// A file that is not sound, or has no questions.
    pub fn read(kind: TaskFileKind, name: &str, content: &[u8], n: usize) -> Result<TaskFile, EvalError> {
        let text = || {
            std::str::from_utf8(content).map_err(|error| EvalError::TaskFile {
                file: name.to_owned(),
                what: format!("found no UTF-8 at byte {}, expected a text", error.valid_up_to()),
            })
        };
        let mut skipped = Vec::new();
        let tasks = match kind {
            TaskFileKind::HellaSwag => hellaswag::read(text()?, n),
            TaskFileKind::Winogrande => winogrande::read(text()?, n, &mut skipped),
            TaskFileKind::MultipleChoice => multiple_choice::read(content, n),
        };
        match tasks {
            Ok(tasks) if tasks.is_empty() => {
                let what = "found no questions, expected some".to_owned();
                Err(EvalError::TaskFile { file: name.to_owned(), what })
            }
            Ok(tasks) => Ok(TaskFile { name: name.to_owned(), tasks, skipped }),
            Err(what) => Err(EvalError::TaskFile { file: name.to_owned(), what }),
        }
    }

    /// The number of questions.
    pub fn n_tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Scores the questions, and calls `each(i, outcome)` with the outcome of each, in order. All answers of one have to fit `n_ctx` tokens
    /// together, where what they have in common counts once.
    ///
    /// # Errors
    /// A question that does not fit, or whose answers cannot be told apart, what goes wrong in the model, and the errors of `each`.
    pub fn score<E: From<EvalError>>(
        &self,
        engine: &Engine,
        session: &SessionOptions,
        n_ctx: usize,
        cancel: &Cancel,
        each: &mut dyn FnMut(usize, FileOutcome) -> Result<(), E>,
    ) -> Result<(), E> {
        /// Questions that are read together.
        const AT_ONCE: usize = 16;
        let options = ReadOptions { session: *session, n_parallel: 2 * AT_ONCE, cancel };
        for (i, tasks) in self.tasks.chunks(AT_ONCE).enumerate() {
            let first = i * AT_ONCE;
            let mut texts = Vec::new();
            // The question of each text.
            let mut owners = Vec::new();
            let mut prepared: Vec<Vec<Answer>> = Vec::new();
            for (j, task) in tasks.iter().enumerate() {
                let answers =
                    task.prepare(engine.tokenizer(), n_ctx).map_err(|what| self.refuse(first + j, what))?;
                texts.extend(answers.iter().flat_map(|answer| answer.texts.iter().cloned()));
                owners.resize(texts.len(), first + j);
                prepared.push(answers);
            }
            let found =
                likelihoods(engine, &texts, &options, &mut |_| {}).map_err(|failure| match failure {
                    Failure::Text(text, what) => self.refuse(owners[text], what),
                    Failure::Model(error) => error.into(),
                })?;
            let mut log_probs = found.iter().map(|likelihood| likelihood.log_prob);
            for (j, (task, answers)) in tasks.iter().zip(prepared).enumerate() {
                let mean = |answer: &Answer| answer.mean(log_probs.by_ref().take(answer.texts.len()).sum());
                let means = answers.iter().map(mean).collect();
                each(first + j, task.outcome(means))?;
            }
        }
        Ok(())
    }

    fn refuse(&self, task: usize, what: String) -> EvalError {
        EvalError::TaskFile { file: self.name.clone(), what: format!("question {}: {what}", task + 1) }
    }
}

impl FileTask {
    fn outcome(&self, log_probs: Vec<f32>) -> FileOutcome {
        match self {
            FileTask::Endings { is_right, .. } => {
                // The first of equals.
                let better = |best: usize, i: usize| if log_probs[i] > log_probs[best] { i } else { best };
                let chosen = (0..log_probs.len()).fold(0, better);
                let right = is_right.iter().position(|is_right| *is_right).unwrap_or(0);
                FileOutcome { is_right: is_right[chosen], log_probs, chosen, right }
            }
            FileTask::Gap { right, .. } => {
                // The last of equals, as llama-perplexity has it here.
                let chosen = if log_probs[0] > log_probs[1] { 0 } else { 1 };
                FileOutcome { is_right: chosen == *right, log_probs, chosen, right: *right }
            }
        }
    }
}
