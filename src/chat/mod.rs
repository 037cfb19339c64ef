//! Chat templates: from a conversation to the text a model was trained on.
//!
//! A template is Jinja, from the file's `tokenizer.chat_template` or one of [`ChatTemplate::names`]. It runs as under
//! Hugging Face's transformers, within bounds, in an interpreter of our own (`src/chat/jinja` says why). The prompt knows
//! which of its characters come from the conversation ([`RenderedPrompt`]), so a message that holds `</s>[INST]` stays
//! text, whatever the template does to it.
//!
//! Numbers of messages, tools and arguments print as in Python: integers of any length, and floats as `repr` writes them. The features `cli` and
//! `server` turn on serde_json's `arbitrary_precision` for that; without it, serde_json itself has no integers of more than 64 bits.
//!
//! A render takes less than 1 MB of stack, in a build without optimizations too.
//!
//! ```
//! use bise::chat::{ChatInput, ChatTemplate, Message, SpecialTokens};
//!
//! let template = ChatTemplate::by_name("mistral-v3")?;
//! let messages = [Message::new("user", "What is </s>?")];
//! let prompt = template.render(&ChatInput::new(&messages), &SpecialTokens::new("<s>", "</s>"))?;
//! assert_eq!(prompt.text, "<s>[INST]What is </s>?[/INST]");
//! assert_eq!(&prompt.text[prompt.protected[0].clone()], "What is </s>?");
//! # Ok::<(), bise::chat::ChatError>(())
//! ```

mod input;
mod jinja;
mod mistral;
mod named;
mod prompt;
pub mod reply;
mod system_role;
mod template;

pub use input::{ChatInput, Message, SpecialTokens};
pub use named::detect;
pub use prompt::{ChatNote, RenderedPrompt};
pub use template::ChatTemplate;

/// Why a prompt could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// No template has this name.
    #[error("no chat template is called {name:?}: expected one of {}", ChatTemplate::names().join(", "))]
    UnknownName {
        /// The name asked for.
        name: String,
    },
    /// The template is longer than any honest one.
    #[error("the chat template has {found} bytes: expected at most {limit}")]
    TemplateTooLong {
        /// Its length.
        found: usize,
        /// The longest accepted.
        limit: usize,
    },
    /// The template cannot be parsed.
    #[error("the chat template is not valid Jinja: line {line}: {message}")]
    Syntax {
        /// The line of the template, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The template does not take this conversation (it called `raise_exception`).
    #[error("the chat template refuses this conversation: {0}")]
    Refused(String),
    /// The template asks for more time or memory than any honest one.
    #[error("the chat template does not end, or takes too much memory: it was stopped at line {line}")]
    Endless {
        /// The line of the template, from 1.
        line: usize,
    },
    /// Another error while the template ran.
    #[error("the chat template failed at line {line}: {message}")]
    Failed {
        /// The line of the template, from 1.
        line: usize,
        /// What went wrong.
        message: String,
    },
    /// A role that is not a plain word. Templates build control tokens from roles, so nothing else may stand there.
    #[error("the role {0:?} is not a word of letters, digits, '_' and '-'")]
    BadRole(String),
    /// A message is not a JSON object with a role.
    #[error("a message is {found}: expected an object with a \"role\"")]
    BadMessage {
        /// What was found instead.
        found: &'static str,
    },
    /// [`ChatInput::continue_final_message`] asks for a prompt that ends with the last message, and that cannot be.
    #[error("the last message cannot be continued: {0}")]
    NotContinuable(&'static str),
}
