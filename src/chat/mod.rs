//! Chat templates: from messages to the text a model was trained on.
//!
//! A template is Jinja, from the file's `tokenizer.chat_template` or one of [`ChatTemplate::names`], run by minijinja
//! with the settings and the functions that Hugging Face templates rely on. What it renders to knows which of its
//! characters must not become part of a control token ([`RenderedPrompt`]), so that a message which holds `</s>[INST]`
//! stays text.
//!
//! ```
//! use bise::chat::{ChatTemplate, Message};
//!
//! let template = ChatTemplate::by_name("mistral-v3")?;
//! let messages = [Message::new("user", "What is </s>?")];
//! let prompt = template.render(&messages, true, "<s>", "</s>", &["<s>", "</s>", "[INST]", "[/INST]"])?;
//! assert_eq!(prompt.text, "<s>[INST]What is </s>?[/INST]");
//! # Ok::<(), bise::chat::ChatError>(())
//! ```

mod guard;
mod jinja;
mod named;
mod protect;
mod python;
mod system_role;
mod template;

use std::fmt;

use bise_models::tokenizer::{TokenType, Tokenizer};

pub use named::detect;
pub use protect::RenderedPrompt;
pub use template::ChatTemplate;

/// The texts that a tokenizer takes for single tokens wherever they stand, for [`ChatTemplate::render`]: control tokens
/// such as `[INST]`, and added tokens such as `<tool_call>`.
pub fn special_texts(tokenizer: &Tokenizer) -> Vec<String> {
    use TokenType::{Control, Unknown, UserDefined};
    (0..tokenizer.n_vocab() as u32)
        .filter(|&id| matches!(tokenizer.token_type(id), Some(Control | Unknown | UserDefined)))
        .map(|id| String::from_utf8_lossy(tokenizer.piece(id)).into_owned())
        .filter(|text| !text.is_empty())
        .collect()
}

/// What a caller should pass on to the person who runs a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatNote {
    /// The template has no system role, so the system message went before the first user message.
    SystemMerged,
}

impl fmt::Display for ChatNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SystemMerged => f.write_str(
                "the chat template has no system role: the system message goes before the first user message",
            ),
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant` or another word the template knows.
    pub role: String,
    /// What is said. Never becomes a control token.
    pub content: String,
}

impl Message {
    /// A message of `role` that says `content`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

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
        /// The longest taken.
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
    /// The template runs too long or makes too much text.
    #[error("the chat template does not end: it was stopped at line {line}")]
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
    /// The messages use every character that could have marked the places to protect.
    #[error("the messages hold every noncharacter and private-use character")]
    NoMark,
}
