//! Errors about the vocabulary of a file.

use crate::gguf::GgufError;

/// Why a vocabulary cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A metadata key is missing, has the wrong type, or holds an impossible value; the message names the file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A [`Vocabulary`](super::Vocabulary) holds an impossible value.
    #[error("key '{key}': found {found}, expected {expected}")]
    Key {
        /// The metadata key of the value.
        key: &'static str,
        /// The value, or what is wrong with it.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// The model was not trained to fill in the middle.
    #[error(
        "the vocabulary has no fill-in-the-middle tokens: found neither `[PREFIX]` and `[SUFFIX]` nor key \
         'tokenizer.ggml.fim_pre_token_id' and its kind, expected one of the two"
    )]
    NoInfill,
}

impl TokenizerError {
    pub(super) fn key(key: &'static str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Key { key, found: found.into(), expected: expected.into() }
    }
}

/// Text from a file, escaped and shortened.
pub(super) fn quoted(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(240)]).into_owned();
    let cut: String = text.chars().take(60).collect();
    let rest = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{rest}")
}

/// Metadata keys that messages name.
pub(super) mod keys {
    pub(in super::super) const MODEL: &str = "tokenizer.ggml.model";
    pub(in super::super) const PRE: &str = "tokenizer.ggml.pre";
    pub(in super::super) const TOKENS: &str = "tokenizer.ggml.tokens";
    pub(in super::super) const SCORES: &str = "tokenizer.ggml.scores";
    pub(in super::super) const TYPES: &str = "tokenizer.ggml.token_type";
    pub(in super::super) const MERGES: &str = "tokenizer.ggml.merges";
}
