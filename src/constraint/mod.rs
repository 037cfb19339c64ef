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
mod mask;
mod spelling;

pub use choices::Choices;
pub use mask::TokenMask;

/// What a model may write, token by token.
pub trait Constraint: Send {
    /// Adds the tokens that may come next to `allowed`, which is empty. End tokens are not for it to add: they may come where
    /// [`Self::can_end`].
    fn mask(&mut self, allowed: &mut TokenMask);

    /// Takes a token that was chosen: one of those allowed, or an end token.
    fn accept(&mut self, token: u32);

    /// Whether the text may end here. Where it may and no token is allowed, it is complete.
    fn can_end(&self) -> bool;
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
}
