//! What the model reads for a question: a description, examples, and the question.

use super::EvalError;
use super::python_random::PythonRandom;
use super::python_str::{ends_with_space, starts_with_space};
use super::question::{Question, QuestionKind};
use super::task::{Sampler, Task};
use crate::chat::{ChatInput, ChatNote, ChatTemplate, Message, SpecialTokens};

/// Between a question and its answer.
const DELIMITER: &str = " ";
/// Behind an example.
const EXAMPLE_DELIMITER: &str = "\n\n";

/// How prompts become a conversation.
#[derive(Clone, Debug)]
pub struct Chat {
    /// The chat template.
    pub template: ChatTemplate,
    /// The texts of BOS and EOS, for the template.
    pub tokens: SpecialTokens,
    /// Variables for the template.
    pub arguments: serde_json::Map<String, serde_json::Value>,
    /// Examples are turns of their own, and not part of the question.
    pub multi_turn: bool,
}

/// How prompts are made.
#[derive(Clone, Debug, Default)]
pub struct PromptOptions {
    /// Comes before a task's description.
    pub system: Option<String>,
    /// Ask in the form of a conversation.
    pub chat: Option<Chat>,
}

/// A text and what may follow it.
#[derive(Debug, PartialEq)]
pub struct Prompt {
    pub context: String,
    /// Empty where the model is to go on by itself.
    pub continuations: Vec<String>,
}

/// Makes the prompts of a task, question after question.
pub struct Prompts<'a> {
    task: Task,
    options: &'a PromptOptions,
    /// Examples to choose from.
    pool: &'a [Question],
    n_shots: usize,
    random: PythonRandom,
}

/// A part of a prompt.
struct Turn<'a> {
    role: &'static str,
    text: &'a str,
    /// What follows it in plain text.
    delimiter: &'static str,
}

impl<'a> Prompts<'a> {
    pub fn new(
        task: Task,
        pool: &'a [Question],
        n_shots: usize,
        seed: u64,
        options: &'a PromptOptions,
    ) -> Prompts<'a> {
        Prompts { task, options, pool, n_shots, random: PythonRandom::new(seed) }
    }

    /// Examples that a pool must have at least.
    pub fn pool_size(task: Task, n_shots: usize) -> usize {
        match task.sampler() {
            _ if n_shots == 0 => 0,
            Sampler::First | Sampler::Random => n_shots,
            Sampler::RandomOthers => n_shots.saturating_add(1),
        }
    }

    /// The prompts of the next question: one for each context.
    ///
    /// # Errors
    /// The chat template fails, or no example is left besides the question.
    pub fn next(&mut self, question: &Question) -> Result<Vec<Prompt>, EvalError> {
        let examples = self.examples(question)?;
        let delimiter = if self.options.chat.is_some() { "" } else { DELIMITER };
        let after = |text: &String| format!("{delimiter}{text}");
        match &question.kind {
            QuestionKind::Choices { text, choices, .. } => {
                let continuations = choices.iter().map(after).collect();
                Ok(vec![Prompt { context: self.context(&examples, text)?, continuations }])
            }
            QuestionKind::Contexts { contexts, ending, .. } => contexts
                .iter()
                .map(|text| {
                    Ok(Prompt { context: self.context(&examples, text)?, continuations: vec![after(ending)] })
                })
                .collect(),
            QuestionKind::Answer { text, .. } => {
                Ok(vec![Prompt { context: self.context(&examples, text)?, continuations: Vec::new() }])
            }
        }
    }

    fn examples(&mut self, question: &Question) -> Result<Vec<&'a Question>, EvalError> {
        let (pool, n) = (self.pool, self.n_shots);
        let expected = Prompts::pool_size(self.task, n);
        let too_few = |found| {
            Err(EvalError::TooFewExamples { task: self.task.to_string(), found, expected, n_shots: n })
        };
        if pool.len() < expected {
            return too_few(pool.len());
        }
        if n == 0 {
            return Ok(Vec::new());
        }
        let is_other = |example: &&Question| example.identity != question.identity;
        Ok(match self.task.sampler() {
            Sampler::First => pool[..n].iter().collect(),
            Sampler::Random => self.random.sample(pool.len(), n).into_iter().map(|i| &pool[i]).collect(),
            Sampler::RandomOthers => {
                let drawn = self.random.sample(pool.len(), n + 1).into_iter().map(|i| &pool[i]);
                let drawn: Vec<_> = drawn.filter(is_other).take(n).collect();
                if drawn.len() == n {
                    return Ok(drawn);
                }
                // The question is there several times.
                let others: Vec<_> = pool.iter().filter(is_other).collect();
                if others.len() < n {
                    return too_few(others.len());
                }
                self.random.sample(others.len(), n).into_iter().map(|i| others[i]).collect()
            }
        })
    }

    fn context(&self, examples: &[&Question], text: &str) -> Result<String, EvalError> {
        let description = self.task.description().unwrap_or_default();
        let system = delimited(self.options.system.as_deref().unwrap_or_default(), &description);
        let mut turns = Vec::new();
        if !system.is_empty() {
            turns.push(Turn { role: "system", text: &system, delimiter: "" });
        }
        for example in examples {
            let (text, answer) = example.example();
            // An ending of no characters counts as no answer.
            let has_answer = !(answer.is_empty() && matches!(example.kind, QuestionKind::Contexts { .. }));
            turns.push(Turn { role: "user", text, delimiter: if has_answer { DELIMITER } else { "" } });
            if has_answer {
                turns.push(Turn { role: "assistant", text: answer, delimiter: EXAMPLE_DELIMITER });
            }
        }
        turns.push(Turn { role: "user", text, delimiter: "" });
        match &self.options.chat {
            Some(chat) => chat.render(&turns),
            None => Ok(plain(&turns)),
        }
    }
}

fn plain(turns: &[Turn<'_>]) -> String {
    turns.iter().flat_map(|turn| [turn.text, turn.delimiter]).collect()
}

/// Both texts, with an empty line between them unless there is white space already.
fn delimited(before: &str, after: &str) -> String {
    let joined = before.is_empty() || after.is_empty() || ends_with_space(before) || starts_with_space(after);
    format!("{before}{}{after}", if joined { "" } else { EXAMPLE_DELIMITER })
}

impl Chat {
    fn render(&self, turns: &[Turn<'_>]) -> Result<String, EvalError> {
        let message = |turn: &Turn<'_>| Message::new(turn.role, turn.text);
        let messages: Vec<_> = match self.multi_turn {
            true => turns.iter().map(message).collect(),
            false => {
                let (system, rest) = turns.split_at(usize::from(turns[0].role == "system"));
                system.iter().map(message).chain([Message::new("user", plain(rest))]).collect()
            }
        };
        let render = |messages: &[Message]| {
            let input = ChatInput { arguments: Some(&self.arguments), ..ChatInput::new(messages) };
            self.template.render(&input, &self.tokens)
        };
        let rendered = render(&messages);
        // A template without a system role gets no system message.
        let is_refused =
            rendered.as_ref().map_or(true, |prompt| prompt.notes.contains(&ChatNote::SystemMerged));
        let rendered = match is_refused && messages[0].role() == "system" {
            true => render(&messages[1..]),
            false => rendered,
        };
        Ok(rendered?.text)
    }
}
