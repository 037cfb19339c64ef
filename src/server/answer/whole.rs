//! Answers that are sent as a whole.

use super::{Answer, ApiError, Delta, FinishReason, Finished, Timings, TokenLogProb, Usage};

/// A complete answer.
#[derive(Debug)]
pub struct Whole {
    /// What is said.
    pub content: String,
    /// What was thought.
    pub reasoning: String,
    /// Calls of tools.
    pub tool_calls: Vec<WholeToolCall>,
    /// The tokens of the content.
    pub tokens: Vec<u32>,
    /// Their log-probabilities, where they were asked for.
    pub log_probs: Vec<TokenLogProb>,
    /// Those of the prompt's tokens; see [`Delta::Prompt`].
    pub prompt_log_probs: Vec<TokenLogProb>,
    /// The slot it ran in.
    pub slot: usize,
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens read and written.
    pub usage: Usage,
    /// How long that took.
    pub timings: Timings,
    /// The context is full.
    pub context_full: bool,
}

/// A complete call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeToolCall {
    /// Its id.
    pub id: String,
    /// The name of the function.
    pub name: String,
    /// The arguments, as JSON text.
    pub arguments: String,
}

impl Answer {
    /// Waits for the end of the answer.
    ///
    /// # Errors
    /// The answer cannot be completed.
    pub async fn whole(&mut self) -> Result<Whole, ApiError> {
        let mut whole = Whole {
            content: String::new(),
            reasoning: String::new(),
            tool_calls: Vec::new(),
            tokens: Vec::new(),
            log_probs: Vec::new(),
            prompt_log_probs: Vec::new(),
            slot: 0,
            reason: FinishReason::Stop,
            usage: Usage::default(),
            timings: Timings::default(),
            context_full: false,
        };
        while let Some(delta) = self.next().await {
            match delta {
                Delta::Started { slot } => whole.slot = slot,
                Delta::Progress(_) => {}
                Delta::Prompt(tokens) => whole.prompt_log_probs = tokens,
                Delta::Content { text, tokens, log_probs } => {
                    whole.content += &text;
                    whole.tokens.extend(tokens);
                    whole.log_probs.extend(log_probs);
                }
                Delta::Reasoning(text) => whole.reasoning += &text,
                Delta::ToolCall { id, name, .. } => {
                    whole.tool_calls.push(WholeToolCall { id, name, arguments: String::new() });
                }
                Delta::ToolArguments { index, text } => whole.tool_calls[index].arguments += &text,
                Delta::Finished(Finished { reason, usage, timings, context_full }) => {
                    (whole.reason, whole.usage, whole.timings) = (reason, usage, timings);
                    whole.context_full = context_full;
                }
                Delta::Failed(error) => return Err(error),
            }
        }
        Ok(whole)
    }
}
