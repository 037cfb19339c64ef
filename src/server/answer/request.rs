//! Requests as every interface makes them.

use serde_json::{Map, Value};

use super::RequestAdapters;
use crate::sampling::SamplingParams;

/// What requests of all kinds may say.
#[derive(Clone, Debug, Default)]
pub struct RequestOptions {
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Tokens at most; `None` is until the context is full.
    pub max_tokens: Option<usize>,
    /// Log-probabilities of the tokens.
    pub log_probs: Option<LogProbs>,
    /// Log-probabilities of the prompt's tokens, with so many of the likeliest in the place of each.
    pub prompt_log_probs: Option<usize>,
    /// What the answer has to follow.
    pub format: Option<Format>,
    /// The adapters that act.
    pub adapters: RequestAdapters,
    /// Whether what was read of the prompt before is used again, and this one kept.
    pub cache_prompt: bool,
    /// The slot to run in; any, where `None`.
    pub slot: Option<usize>,
}

/// Log-probabilities that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogProbs {
    /// How many of the likeliest tokens are told beside the one chosen.
    pub n_top: usize,
    /// Probabilities after the sampler chain rather than the model's own.
    pub after_sampling: bool,
}

/// What an answer has to follow.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// A JSON object.
    JsonObject,
    /// JSON that a schema describes.
    Schema(Value),
    /// A text that a GBNF grammar describes.
    Grammar(String),
}

/// Which tools an answer may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// The one with this name.
    Function(String),
}

/// A conversation to be answered.
#[derive(Clone, Debug, Default)]
pub struct ChatRequest {
    /// The messages, as OpenAI's interface has them.
    pub messages: Vec<Value>,
    /// The tokens of a conversation that these messages go on with, or none.
    pub earlier: Vec<u32>,
    /// The tools, as OpenAI's interface has them (`{"type": "function", "function": {…}}`).
    pub tools: Vec<Value>,
    /// Which of them may be called.
    pub tool_choice: ToolChoice,
    /// Whether several may be called in one answer.
    pub parallel_tool_calls: bool,
    /// More variables for the chat template.
    pub template_args: Map<String, Value>,
    /// Whether to think first; `None` is as the server was started.
    pub thinking: Option<bool>,
    /// Whether thoughts stay in the answer as they are written, rather than come as [`super::Delta::Reasoning`]; `None` is as the server
    /// was started.
    pub raw_reasoning: Option<bool>,
    /// Whether the prompt ends with what comes before an answer; `None` is that it does, unless the last message is one of the
    /// assistant's, which is then continued.
    pub add_generation_prompt: Option<bool>,
    /// Whether the last message is continued.
    pub continue_final_message: Option<bool>,
    /// The rest.
    pub options: RequestOptions,
}

/// A text to be continued.
#[derive(Clone, Debug)]
pub struct TextRequest {
    /// The text.
    pub prompt: Prompt,
    /// The rest.
    pub options: RequestOptions,
}

/// A prompt without a chat template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A text, whose control tokens count as such.
    Text(String),
    /// Tokens.
    Tokens(Vec<u32>),
    /// Both, one after the other.
    Mixed(Vec<PromptPart>),
    /// The text before and after a gap that is to be filled.
    Infill {
        /// Before the gap.
        prefix: String,
        /// After the gap.
        suffix: String,
    },
}

/// A part of [`Prompt::Mixed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromptPart {
    /// A text.
    Text(String),
    /// A token.
    Token(u32),
}
