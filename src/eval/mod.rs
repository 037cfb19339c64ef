//! A model's scores on public sets of questions (MMLU, HellaSwag, ARC, TriviaQA, Winogrande), read from the files that they are published as,
//! and scored as lm-evaluation-harness 0.4.13 scores them: the same prompts, examples, tokens and metrics.
//!
//! [`Selection`] finds tasks by their names, [`LoadedTask`] reads their questions, [`evaluate`] has a model answer them, and [`Report`] sums
//! up.

mod data;
mod encode;
mod error;
mod evaluate;
mod likelihood;
mod load;
mod mersenne_twister;
mod mmlu;
mod prompt;
mod python_random;
mod python_str;
mod question;
mod report;
mod select;
mod statistics;
mod table;
mod task;
pub mod task_file;

pub use error::EvalError;
pub use evaluate::{DEFAULT_SEED, EvalOptions, TaskResult, evaluate};
pub use load::{Limit, LoadedTask, Loader};
pub use mmlu::Category;
pub use prompt::{Chat, PromptOptions};
pub use report::Report;
pub use select::{Group, Selection, names};
pub use task::{Metric, Task};
