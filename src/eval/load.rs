//! The questions of tasks, read before the model is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::EvalError;
use super::data::{Files, Row, Split};
use super::prompt::Prompts;
use super::question::Question;
use super::task::{ALL_SUBJECTS, Task};

/// How many questions of each task are asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// So many, from the first.
    Count(usize),
    /// This part of them, rounded up.
    Part(f64),
}

impl Limit {
    fn of(self, n: usize) -> usize {
        match self {
            Limit::Count(most) => n.min(most),
            Limit::Part(part) => ((n as f64 * part).ceil() as usize).min(n),
        }
    }
}

/// A task with its questions.
#[derive(Debug)]
pub struct LoadedTask {
    pub(super) task: Task,
    pub(super) n_shots: usize,
    pub(super) questions: Vec<Question>,
    /// Questions before the limit.
    pub(super) n_all: usize,
    /// Examples to choose from.
    pub(super) pool: Vec<Question>,
}

impl LoadedTask {
    /// Reads the questions of a task, and the examples where `n_shots` of them are shown. `loader` keeps what several tasks read.
    ///
    /// # Errors
    /// Files that are missing or not sound, too few examples.
    pub fn read(
        loader: &mut Loader<'_>,
        task: Task,
        n_shots: usize,
        limit: Option<Limit>,
    ) -> Result<LoadedTask, EvalError> {
        let mut questions = loader.questions(task, task.split())?;
        let n_all = questions.len();
        if let Some(limit) = limit {
            questions.truncate(limit.of(n_all));
        }
        let pool = if n_shots > 0 { loader.questions(task, task.examples())? } else { Vec::new() };
        let expected = Prompts::pool_size(task, n_shots);
        if pool.len() < expected {
            let task = task.to_string();
            return Err(EvalError::TooFewExamples { task, found: pool.len(), expected, n_shots });
        }
        Ok(LoadedTask { task, n_shots, questions, n_all, pool })
    }

    /// Texts that the model reads for it.
    pub fn n_requests(&self) -> usize {
        self.questions.iter().map(Question::n_requests).sum()
    }
}

/// Reads files below one folder.
pub struct Loader<'a> {
    data: &'a Path,
    /// The questions of each subject in a file with all of them.
    subjects: HashMap<PathBuf, HashMap<String, Vec<Question>>>,
}

impl<'a> Loader<'a> {
    /// A loader that looks for datasets in the folder `data`.
    pub fn new(data: &'a Path) -> Loader<'a> {
        Loader { data, subjects: HashMap::new() }
    }

    fn questions(&mut self, task: Task, split: Split) -> Result<Vec<Question>, EvalError> {
        let files = task.dataset().find(self.data, split, &task.to_string())?;
        if let Task::Mmlu(_, subject) = task
            && files.folder == Some(ALL_SUBJECTS)
        {
            return self.of_subject(task, subject, &files);
        }
        let mut questions = Vec::new();
        let is_original = files.folder.is_none();
        files.each(task.columns(is_original), &mut |row| {
            questions.push(task.question(&row)?);
            Ok(())
        })?;
        if questions.is_empty() {
            return Err(EvalError::Empty { file: files.first().to_owned(), what: None });
        }
        Ok(questions)
    }

    fn of_subject(&mut self, task: Task, subject: &str, files: &Files) -> Result<Vec<Question>, EvalError> {
        let file = files.first().to_owned();
        if !self.subjects.contains_key(&file) {
            let mut subjects: HashMap<String, Vec<Question>> = HashMap::new();
            let columns: Vec<_> = task.columns(false).iter().copied().chain(["subject"]).collect();
            files.each(&columns, &mut |row: Row<'_>| {
                let question = task.question(&row)?;
                subjects.entry(row.text("subject")?.to_owned()).or_default().push(question);
                Ok(())
            })?;
            self.subjects.insert(file.clone(), subjects);
        }
        let questions = self.subjects.get_mut(&file).and_then(|subjects| subjects.remove(subject));
        questions.ok_or_else(|| EvalError::Empty { file, what: Some(format!("subject {subject}")) })
    }
}
