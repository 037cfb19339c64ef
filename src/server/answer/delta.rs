//! What an answer is made of, as it comes.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::ApiError;
use crate::scheduler::PromptProgress;

/// A part of an answer.
#[derive(Debug)]
pub enum Delta {
    /// The request has left the queue.
    Started {
        /// The slot it runs in.
        slot: usize,
    },
    /// A part of the prompt was read. The first one comes before anything is.
    Progress(Progress),
    /// The tokens of the prompt and their log-probabilities, where they were asked for, before anything of the answer. The first has nothing
    /// before it, and no probability of its own.
    Prompt(Vec<TokenLogProb>),
    /// Text of the answer.
    Content {
        /// The text; empty where tokens have none to show yet and log-probabilities or tokens are told.
        text: String,
        /// The tokens since the last content.
        tokens: Vec<u32>,
        /// One for each of these tokens, where they were asked for.
        log_probs: Vec<TokenLogProb>,
    },
    /// A thought, apart from the answer.
    Reasoning(String),
    /// A call of a tool begins.
    ToolCall {
        /// Its place among the calls of this answer, from 0.
        index: usize,
        /// Its id.
        id: String,
        /// The name of the function.
        name: String,
    },
    /// A part of the arguments of a call, as JSON text.
    ToolArguments {
        /// The call.
        index: usize,
        /// The text.
        text: String,
    },
    /// The answer is complete. Nothing follows.
    Finished(Finished),
    /// The answer cannot be completed. Nothing follows.
    Failed(ApiError),
}

/// How far the prompt has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Tokens of the prompt.
    pub total: usize,
    /// Tokens of it that were found in the cache.
    pub cached: usize,
    /// Tokens of it that are done, the cached ones included.
    pub processed: usize,
    /// Time since reading began.
    pub elapsed: Duration,
}

impl From<PromptProgress> for Progress {
    fn from(PromptProgress { total, cached, processed, elapsed }: PromptProgress) -> Progress {
        Progress { total, cached, processed, elapsed }
    }
}

impl Progress {
    /// As llama-server's `prompt_progress`.
    pub fn to_json(self) -> Value {
        json!({
            "total": self.total,
            "cache": self.cached,
            "processed": self.processed,
            "time_ms": self.elapsed.as_millis() as u64,
        })
    }
}

/// A token and its probability.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogProb {
    /// The token.
    pub id: u32,
    /// Its bytes, as they stand in the answer.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    pub log_prob: f32,
    /// The likeliest tokens, the likeliest first.
    pub top: Vec<TokenLogProb>,
}

/// How an answer ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens read and written.
    pub usage: Usage,
    /// How long that took.
    pub timings: Timings,
    /// The context is full: the answer may not be what it would have been.
    pub context_full: bool,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, or what it had to follow was complete.
    Stop,
    /// It came to one of the stop texts.
    StopText(String),
    /// As many tokens as were asked for, or as the context has room for.
    Length,
    /// The model calls tools.
    ToolCalls,
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Tokens of the prompt that were found in the cache.
    pub n_cached: usize,
    /// Tokens of the answer.
    pub n_generated: usize,
}

/// Tokens and times of a request, as llama-server's `timings` has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Timings {
    /// Tokens of the prompt that were found in the cache.
    pub cache_n: usize,
    /// Tokens of the prompt that were read.
    pub prompt_n: usize,
    /// Milliseconds that took.
    pub prompt_ms: f64,
    /// Milliseconds for each.
    pub prompt_per_token_ms: f64,
    /// How many a second.
    pub prompt_per_second: f64,
    /// Tokens generated.
    pub predicted_n: usize,
    /// Milliseconds from the first of them to the last.
    pub predicted_ms: f64,
    /// Milliseconds for each but the first, which comes with the prompt.
    pub predicted_per_token_ms: f64,
    /// How many a second, the first left out.
    pub predicted_per_second: f64,
}

impl Timings {
    /// `n_read` tokens of a prompt read in `prefill`, beside `n_cached` from the cache, and `n_generated` tokens in `decode`.
    pub fn new(
        n_cached: usize,
        n_read: usize,
        prefill: Duration,
        n_generated: usize,
        decode: Duration,
    ) -> Timings {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let each = |ms: f64, n: usize| if n == 0 { 0.0 } else { ms / n as f64 };
        let rate = |ms: f64, n: usize| if n == 0 || ms <= 0.0 { 0.0 } else { 1e3 / ms * n as f64 };
        let (prompt_ms, predicted_ms) = (ms(prefill), ms(decode));
        let n_steps = n_generated.saturating_sub(1);
        Timings {
            cache_n: n_cached,
            prompt_n: n_read,
            prompt_ms,
            prompt_per_token_ms: each(prompt_ms, n_read),
            prompt_per_second: rate(prompt_ms, n_read),
            predicted_n: n_generated,
            predicted_ms,
            predicted_per_token_ms: each(predicted_ms, n_steps),
            predicted_per_second: rate(predicted_ms, n_steps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_leave_out_the_first_token_and_are_finite() {
        let timings = Timings::new(4, 10, Duration::from_millis(20), 5, Duration::from_millis(8));
        assert_eq!((timings.prompt_per_token_ms, timings.prompt_per_second), (2.0, 500.0));
        assert_eq!((timings.predicted_per_token_ms, timings.predicted_per_second), (2.0, 500.0));
        let nothing = Timings::new(0, 0, Duration::ZERO, 1, Duration::ZERO);
        assert_eq!(nothing, Timings { predicted_n: 1, ..Timings::default() });
    }
}
