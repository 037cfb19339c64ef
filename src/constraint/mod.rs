//! Constraints on what a model may write.
//!
//! A [`Constraint`] says before each token which ones may come next. A [`Sampler`](crate::sampling::Sampler) applies it before all
//! other links of its chain, so that probabilities are those among the tokens it allows.
//!
//! ```
//! use bise::constraint::Choices;
//! use bise::generation::{Finish, Generation, GenerationOptions};
//! use bise::{Engine, SessionOptions};
//!
//! # #[cfg(feature = "builtin-model")] {
//! let engine = Engine::builtin()?; // or Engine::open("mistral-7b.Q4_K_M.gguf")?
//! let mut session = engine.session(&SessionOptions::default())?;
//! let mut pieces = session.generate_with("[INST] Is ice cold? [/INST]", GenerationOptions::default())?;
//! pieces.generation_mut().constrain(Choices::new(engine.tokenizer(), [" Yes", " No"])?);
//! let answer = pieces.by_ref().collect::<Result<String, _>>()?;
//! assert!(answer == " Yes" || answer == " No");
//! assert_eq!(pieces.generation().finish(), Some(&Finish::Constraint));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod choices;
#[cfg(feature = "grammar")]
mod gbnf;
#[cfg(feature = "grammar")]
mod grammars;
#[cfg(feature = "grammar")]
mod guided;
#[cfg(feature = "grammar")]
mod json_schema;
mod lazy;
mod mask;
mod spelling;
#[cfg(feature = "grammar")]
mod tool_grammar;

pub use choices::Choices;
#[cfg(feature = "grammar")]
pub use gbnf::Gbnf;
#[cfg(feature = "grammar")]
pub use grammars::Grammars;
#[cfg(feature = "grammar")]
pub use json_schema::JsonSchema;
pub use lazy::{Lazy, Trigger};
pub use mask::TokenMask;
#[cfg(feature = "grammar")]
pub use tool_grammar::{ToolChoice, ToolGrammar};

/// What a model may write, token by token.
pub trait Constraint: Send {
    /// Adds the tokens that may come next to `allowed`, which is empty. End tokens are not for it to add: they may come where
    /// [`Self::can_end`].
    fn mask(&mut self, allowed: &mut TokenMask);

    /// Takes a token that was chosen: one of those allowed, or an end token.
    fn accept(&mut self, token: u32);

    /// Whether the text may end here. Where it may and no token is allowed, it is complete.
    fn can_end(&self) -> bool;

    /// Why this constraint cannot be followed any further, if that is so: a grammar that takes too much time or memory, say. No token is
    /// allowed then.
    fn fault(&self) -> Option<&str> {
        None
    }
}

impl<C: Constraint + ?Sized> Constraint for Box<C> {
    fn mask(&mut self, allowed: &mut TokenMask) {
        (**self).mask(allowed);
    }

    fn accept(&mut self, token: u32) {
        (**self).accept(token);
    }

    fn can_end(&self) -> bool {
        (**self).can_end()
    }

    fn fault(&self) -> Option<&str> {
        (**self).fault()
    }
}

/// Why a constraint cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// No choices.
    #[error("there is nothing to choose from: expected at least one text")]
    NoChoices,
    /// A text that the vocabulary has no tokens for.
    #[error("the vocabulary has no tokens for {text:?}: expected a text it can spell")]
    Unspeakable {
        /// The text.
        text: String,
    },
    /// A keyword of a JSON schema that would not be obeyed.
    #[error("the JSON schema has {keyword} at {at}, which is not supported")]
    Keyword {
        /// The keyword, and its value where that is the reason.
        keyword: String,
        /// Where, as a JSON pointer.
        at: String,
    },
    /// Another fault of a JSON schema.
    #[error("the JSON schema cannot be followed{}: {message}", if at.is_empty() { String::new() } else { format!(" at {at}") })]
    Schema {
        /// Where, as a JSON pointer; empty if that is not known.
        at: String,
        /// What is wrong.
        message: String,
    },
    /// A fault of a grammar.
    #[error("the grammar is not valid: line {line}, column {column}: {message}")]
    Grammar {
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// A tool that cannot be called.
    #[error("tool {name:?}: {message}")]
    Tool {
        /// Its name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A vocabulary that grammars have no room for.
    #[error("grammars have no room for this vocabulary of {n_tokens} tokens and {n_bytes} bytes")]
    Vocabulary {
        /// Tokens.
        n_tokens: usize,
        /// Bytes in all of them.
        n_bytes: usize,
    },
}
