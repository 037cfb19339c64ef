//! What a reply consists of: content, reasoning and calls of tools, taken apart as tokens arrive.
//!
//! A [`ReplyParser`] knows every spelling of Mistral's models: a list of calls (`[TOOL_CALLS][{"name": …, "arguments": {…},
//! "id": …}]`), and calls one by one (`[TOOL_CALLS]name[CALL_ID]id[ARGS]{…}`, also without the id). The marks may be control tokens,
//! or text where the vocabulary has none. Reasoning stands between `[THINK]` and `[/THINK]`, or `<think>` and `</think>` at the
//! beginning of a reply.
//!
//! Nothing is lost: a call that cannot be parsed comes out as content, its marks spelled. Only of a reply that was cut, what is neither a
//! call yet nor said is left out.
//!
//! ```
//! use bise::chat::reply::{ReplyEvent, ReplyOptions, ReplyParser};
//!
//! let mut parser = ReplyParser::for_text(ReplyOptions { tools: true, ..ReplyOptions::default() });
//! let mut events = Vec::new();
//! for piece in ["I look.", "[TOOL_", "CALLS]weather[CALL_ID]abc123DEF[ARGS]{\"ci", "ty\": \"Nice\"}"] {
//!     parser.push_text(piece, &mut events);
//! }
//! parser.finish(&mut events);
//! assert_eq!(events[0], ReplyEvent::Content("I look.".to_owned()));
//! assert_eq!(events[1], ReplyEvent::ToolCall { index: 0, id: "abc123DEF".to_owned(), name: "weather".to_owned() });
//! assert_eq!(events[2], ReplyEvent::ToolArguments { index: 0, text: "{\"ci".to_owned() });
//! assert_eq!(events[3], ReplyEvent::ToolArguments { index: 0, text: "ty\": \"Nice\"}".to_owned() });
//! assert_eq!(events[4], ReplyEvent::ToolCallEnd { index: 0 });
//! ```

mod call;
mod ids;
mod json_scanner;
mod marks;
mod parser;
mod syntax;

use std::hash::Hasher;

pub use parser::ReplyParser;
pub use syntax::ToolSyntax;

/// A part of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyEvent {
    /// What is said to the user.
    Content(String),
    /// What the model thinks before it says something, without white space around it.
    Reasoning(String),
    /// A call begins.
    ToolCall {
        /// The number of the call in this reply, from 0.
        index: usize,
        /// What the result will refer to: 9 letters or digits, the model's own if it wrote such an id before the arguments.
        id: String,
        /// The name of the function.
        name: String,
    },
    /// The next piece of a call's arguments. Together the pieces are a JSON object, exactly as the model wrote it, unless the reply is
    /// cut.
    ToolArguments {
        /// The number of the call.
        index: usize,
        /// The piece.
        text: String,
    },
    /// A call is complete, or will not be completed.
    ToolCallEnd {
        /// The number of the call.
        index: usize,
    },
}

/// What to expect of a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyOptions {
    /// Whether the model may call tools. If not, calls are content.
    pub tools: bool,
    /// Whether reasoning is told apart from content. If not, both are content, with the marks spelled.
    pub reasoning: bool,
    /// Whether the prompt ends with the mark at which reasoning begins.
    pub starts_in_reasoning: bool,
    /// Whether calls come out only once they are complete. Those that cannot be parsed are content then.
    /// Otherwise arguments come out as they arrive, and what is wrong in them is noticed behind the first pieces.
    pub whole_calls: bool,
    /// The value of [`GenerationOptions::starts_text`](crate::generation::GenerationOptions::starts_text).
    pub starts_text: bool,
    /// Whether the reply can be nothing but calls. What [`ReplyParser::cut`] then finds at its beginning is the beginning of one.
    pub only_calls: bool,
    /// Decides the ids of calls without one. Should be another for every reply of a conversation: see [`Self::after`].
    pub id_seed: u64,
}

impl ReplyOptions {
    /// For the reply to a prompt: reasoning is told apart, and goes on if the prompt has begun it; the same prompt and seed give the same
    /// ids.
    pub fn after(prompt: &str, seed: u64) -> Self {
        let mut hasher = twox_hash::XxHash3_64::with_seed(seed);
        hasher.write(prompt.as_bytes());
        let end = prompt.trim_end();
        Self {
            reasoning: true,
            starts_in_reasoning: end.ends_with("[THINK]") || end.ends_with("<think>"),
            id_seed: hasher.finish(),
            ..Self::default()
        }
    }
}
