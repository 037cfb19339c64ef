//! A model answers the questions of a task.

use std::ops::ControlFlow;

use serde_json::{Value, json};

use super::EvalError;
use super::encode::Encoder;
use super::likelihood::{Failure, Likelihood, ReadOptions, Scored, likelihoods};
use super::load::LoadedTask;
use super::prompt::{Prompt, PromptOptions, Prompts};
use super::python_str::{strip, without_punctuation};
use super::question::{Question, QuestionKind};
use super::task::{MAX_ANSWER_TOKENS, Metric, STOPS, Task};
use crate::chat::SpecialTokens;
use crate::generation::{Event, GenerationOptions};
use crate::many::{ManyOptions, Request, generate_many};
use crate::sampling::SamplingParams;
use crate::speculation::SpeculationOptions;
use crate::{Cancel, Engine, SessionOptions};

/// The seed that lm-evaluation-harness draws examples with.
pub const DEFAULT_SEED: u64 = 1234;

/// How a model is evaluated.
#[derive(Clone, Debug)]
pub struct EvalOptions {
    /// How prompts are made.
    pub prompts: PromptOptions,
    /// Of the draw of examples.
    pub seed: u64,
    /// The context, and how keys and values are kept.
    pub session: SessionOptions,
    /// Texts that are read in one pass at most.
    pub n_parallel: usize,
    /// Keep what was asked and answered.
    pub log_samples: bool,
    /// Ends the evaluation when set.
    pub cancel: Cancel,
}

/// What became of a task.
#[derive(Debug)]
pub struct TaskResult {
    pub(super) task: Task,
    pub(super) n_shots: usize,
    pub(super) n_all: usize,
    /// Of each question, for each of the task's metrics.
    pub(super) scores: Vec<Vec<f64>>,
    /// Questions with their answers, as lm-evaluation-harness logs them; empty unless asked for.
    pub(super) samples: Vec<Value>,
    /// Texts that were cut on the left, to fit the context.
    pub n_cut: usize,
}

impl TaskResult {
    /// The name of the task.
    pub fn name(&self) -> String {
        self.task.to_string()
    }
}

/// What the model made of a question.
enum Answer {
    Likelihoods(Vec<Likelihood>),
    Text(String),
}

/// Has a model answer the questions of a task. `done(n)` is told whenever `n` more of its texts are read.
///
/// # Errors
/// A question that cannot be scored, and what goes wrong in the model; [`Error::is_cancelled`](crate::Error::is_cancelled) tells whether it
/// was the cancel handle.
pub fn evaluate(
    engine: &Engine,
    loaded: &LoadedTask,
    options: &EvalOptions,
    done: &mut dyn FnMut(usize),
) -> Result<TaskResult, EvalError> {
    let LoadedTask { task, n_shots, questions, n_all, pool } = loaded;
    let mut prompts = Prompts::new(*task, pool, *n_shots, options.seed, &options.prompts);
    let prompts = questions.iter().map(|question| prompts.next(question)).collect::<Result<Vec<_>, _>>()?;
    let n_ctx = engine.n_ctx(&options.session);
    let mut encoder = Encoder { tokenizer: engine.tokenizer(), n_ctx, n_cut: 0 };
    let answers = match task {
        Task::TriviaQa => continued(engine, *task, &mut encoder, &prompts, options, done)?,
        _ => scored(engine, *task, &mut encoder, &prompts, options, done)?,
    };
    let scores: Vec<Vec<f64>> = questions
        .iter()
        .zip(&answers)
        .map(|(question, answer)| {
            task.metrics().iter().map(|metric| score(*metric, question, answer)).collect()
        })
        .collect();
    let mut samples = Vec::new();
    if options.log_samples {
        for (i, question) in questions.iter().enumerate() {
            samples.push(sample(*task, i, question, &prompts[i], &answers[i], &scores[i]));
        }
    }
    Ok(TaskResult { task: *task, n_shots: *n_shots, n_all: *n_all, scores, samples, n_cut: encoder.n_cut })
}

/// How likely the model finds each continuation.
fn scored(
    engine: &Engine,
    task: Task,
    encoder: &mut Encoder<'_>,
    prompts: &[Vec<Prompt>],
    options: &EvalOptions,
    done: &mut dyn FnMut(usize),
) -> Result<Vec<Answer>, EvalError> {
    let refuse = |question, what| EvalError::Question { task: task.to_string(), question, what };
    let mut texts: Vec<Scored> = Vec::new();
    // The question of each text.
    let mut owners = Vec::new();
    for (question, prompts) in prompts.iter().enumerate() {
        for prompt in prompts {
            texts.extend(encoder.scored(prompt).map_err(|what| refuse(question, what))?);
        }
        owners.resize(texts.len(), question);
    }
    let EvalOptions { session, n_parallel, cancel, .. } = options;
    let read = ReadOptions { session: *session, n_parallel: *n_parallel, cancel };
    let found = likelihoods(engine, &texts, &read, done).map_err(|failure| match failure {
        Failure::Text(text, what) => refuse(owners[text], what),
        Failure::Model(error) => error.into(),
    })?;
    let mut answers: Vec<Vec<Likelihood>> = vec![Vec::new(); prompts.len()];
    owners.into_iter().zip(found).for_each(|(question, likelihood)| answers[question].push(likelihood));
    Ok(answers.into_iter().map(Answer::Likelihoods).collect())
}

/// What the model says.
fn continued(
    engine: &Engine,
    task: Task,
    encoder: &mut Encoder<'_>,
    prompts: &[Vec<Prompt>],
    options: &EvalOptions,
    done: &mut dyn FnMut(usize),
) -> Result<Vec<Answer>, EvalError> {
    if encoder.n_ctx <= MAX_ANSWER_TOKENS {
        let (n_ctx, max_tokens) = (encoder.n_ctx, MAX_ANSWER_TOKENS);
        return Err(EvalError::NoRoom { task: task.to_string(), n_ctx, max_tokens });
    }
    let eos = SpecialTokens::of(engine.tokenizer()).eos;
    let stop = STOPS.map(str::to_owned).into_iter().chain(Some(eos).filter(|eos| !eos.is_empty())).collect();
    let generation = GenerationOptions {
        sampling: SamplingParams::greedy(),
        max_tokens: Some(MAX_ANSWER_TOKENS),
        stop,
        speculation: SpeculationOptions::off(),
        ..GenerationOptions::default()
    };
    let requests = prompts.iter().map(|prompts| Request {
        prompt: encoder.prompt(&prompts[0], MAX_ANSWER_TOKENS),
        options: generation.clone(),
        constraint: None,
        adapters: None,
    });
    let many = ManyOptions {
        session: options.session,
        n_parallel: options.n_parallel,
        cancel: options.cancel.clone(),
        ..ManyOptions::default()
    };
    let outcomes = generate_many(engine, requests.collect(), &many, &mut |_, event| {
        if !matches!(event, Ok(Event::Token { .. })) {
            done(1);
        }
        ControlFlow::Continue(())
    })?;
    if options.cancel.is_cancelled() {
        return Err(crate::Error::from(bise_models::ForwardError::Cancelled).into());
    }
    outcomes
        .into_iter()
        .enumerate()
        .map(|(question, outcome)| match outcome.finish {
            Ok(_) => Ok(Answer::Text(outcome.text)),
            Err(error) => {
                Err(EvalError::Question { task: task.to_string(), question, what: error.to_string() })
            }
        })
        .collect()
}

fn score(metric: Metric, question: &Question, answer: &Answer) -> f64 {
    let is_right = match (answer, &question.kind) {
        (Answer::Likelihoods(found), QuestionKind::Choices { choices, gold, .. }) => {
            let log_probs = found.iter().map(|likelihood| likelihood.log_prob);
            match metric {
                Metric::AccNorm => {
                    let lengths = choices.iter().map(|choice| choice.chars().count() as f64);
                    best(log_probs.zip(lengths).map(|(log_prob, length)| log_prob / length)) == *gold
                }
                _ => best(log_probs) == *gold,
            }
        }
        (Answer::Likelihoods(found), QuestionKind::Contexts { gold, .. }) => {
            best(found.iter().map(|likelihood| likelihood.log_prob)) == *gold
        }
        (Answer::Text(text), QuestionKind::Answer { answers, .. }) => is_one_of(strip(text), answers),
        _ => unreachable!("texts answer questions without choices"),
    };
    f64::from(u8::from(is_right))
}

/// `numpy.argmax`: the place of the largest, the first of equals; of the first NaN, if there is one.
fn best(numbers: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (i, number) in numbers.enumerate() {
        if number.is_nan() {
            return i;
        }
        if number > best.1 {
            best = (i, number);
        }
    }
    best.0
}

/// Whether a text is one of the answers, without case and punctuation.
///
/// NumPy lowers texts in place: what grows by it (`İ`) is cut at the length of the longest of them.
fn is_one_of(text: &str, answers: &[String]) -> bool {
    let width = |text: &str| text.chars().count();
    let plain = |text: &str, width: usize| {
        let lower: String = text.to_lowercase().chars().take(width).collect();
        without_punctuation(&lower).into_owned()
    };
    let longest = answers.iter().map(|answer| width(answer)).max().unwrap_or(0);
    let text = plain(text, width(text));
    answers.iter().any(|answer| plain(answer, longest) == text)
}

/// A question and what became of it, as lm-evaluation-harness logs it.
fn sample(
    task: Task,
    doc_id: usize,
    question: &Question,
    prompts: &[Prompt],
    answer: &Answer,
    scores: &[f64],
) -> Value {
    let target = match &question.kind {
        QuestionKind::Choices { gold, .. } => json!(gold),
        QuestionKind::Contexts { ending, .. } => json!(ending),
        QuestionKind::Answer { answers, .. } => json!(answers),
    };
    let pairs = prompts.iter().flat_map(|prompt| {
        prompt.continuations.iter().map(move |continuation| json!([prompt.context, continuation]))
    });
    let (arguments, responses, filtered): (Value, Value, Value) = match answer {
        Answer::Likelihoods(found) => {
            let response = |likelihood: &Likelihood| json!([likelihood.log_prob, likelihood.is_greedy]);
            let nested = found.iter().map(|likelihood| json!([response(likelihood)])).collect();
            (pairs.collect(), nested, found.iter().map(response).collect())
        }
        Answer::Text(text) => {
            let settings = json!({"until": STOPS, "do_sample": false, "temperature": 0.0});
            (json!([[prompts[0].context, settings]]), json!([[text]]), json!([strip(text)]))
        }
    };
    let mut sample = json!({
        "doc_id": doc_id,
        "target": target,
        "arguments": arguments,
        "resps": responses,
        "filtered_resps": filtered,
        "filter": task.filter(),
        "metrics": task.metrics().iter().map(|metric| metric.name()).collect::<Vec<_>>(),
    });
    for (metric, score) in task.metrics().iter().zip(scores) {
        sample[metric.name()] = json!(score);
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_numpy_s() {
        assert_eq!(best([-2.0, -1.0, -1.0].into_iter()), 1);
        assert_eq!(best([-1.0, f64::NAN, 0.0].into_iter()), 1);
        assert_eq!(best([f64::NEG_INFINITY, f64::NEG_INFINITY].into_iter()), 0);
    }

    /// lm_eval.api.metrics.exact_match_hf_evaluate(…, ignore_case=True, ignore_punctuation=True)
    #[test]
    fn answers_match_without_case_and_punctuation() {
        let answers = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let right = answers(&["Sunset Blvd.", "West Sunset Boulevard"]);
        assert!(is_one_of("sunset blvd", &right) && is_one_of("WEST, SUNSET Boulevard!", &right));
        assert!(!is_one_of("sunset  blvd", &right) && !is_one_of("", &right));
        assert!(is_one_of("\u{130}zmir", &answers(&["\u{130}zmir"])));
        assert!(!is_one_of("\u{130}zmir", &answers(&["\u{130}zmir", "Smyrna"])));
    }
}
