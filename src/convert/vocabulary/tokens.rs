//! The tokens of a vocabulary on their way into a GGUF file.

use std::path::Path;

use bise_models::gguf::{Array, Metadata, StrArray};
use bise_models::tokenizer::TokenType;

use super::files::invalid;
use crate::convert::ConvertError;

/// More tokens than any vocabulary has.
const MAX_TOKENS: usize = 1 << 22;

/// The score that converters give to tokens which were added to a vocabulary.
pub(super) const ADDED_SCORE: f32 = -1000.0;
/// The score of tokens that nothing is known of.
const PADDING_SCORE: f32 = -10000.0;

/// Tokens by id.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    pub texts: Vec<String>,
    pub types: Vec<TokenType>,
    /// Empty where the vocabulary has none.
    pub scores: Vec<f32>,
}

impl Tokens {
    /// `n` unused tokens called `[PAD0]`, `[PAD1]` and so on, with scores.
    ///
    /// # Errors
    /// If no vocabulary is that large; `path` is the file to name then.
    pub fn padding(n: usize, path: &Path) -> Result<Tokens, ConvertError> {
        let mut tokens = Tokens::default();
        tokens.pad(n, path)?;
        tokens.scores = vec![PADDING_SCORE; n];
        Ok(tokens)
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Adds a token at the end.
    pub fn push(&mut self, text: String, kind: TokenType) {
        self.texts.push(text);
        self.types.push(kind);
    }

    /// Takes the last token off.
    pub fn pop(&mut self) -> Option<String> {
        self.types.pop();
        self.scores.truncate(self.types.len());
        self.texts.pop()
    }

    /// Puts a token in the place of another.
    pub fn replace(&mut self, id: usize, text: &str, kind: TokenType, score: f32) {
        self.texts[id] = text.to_owned();
        self.types[id] = kind;
        self.scores[id] = score;
    }

    /// Adds unused tokens called `[PADi]`, `i` their id, until there are `n`: one for each row of the embedding.
    ///
    /// # Errors
    /// If there are more already, or no vocabulary is that large; `path` is the file to name then.
    pub fn pad(&mut self, n: usize, path: &Path) -> Result<(), ConvertError> {
        if n > MAX_TOKENS {
            return Err(invalid(path, "vocabulary", format!("{n} tokens"), format!("at most {MAX_TOKENS}")));
        }
        if self.len() > n {
            let found = format!("{} tokens", self.len());
            return Err(invalid(
                path,
                "vocabulary",
                found,
                format!("at most {n}, the rows of the embedding"),
            ));
        }
        let has_scores = !self.scores.is_empty();
        for id in self.len()..n {
            self.push(format!("[PAD{id}]"), TokenType::Unused);
        }
        if has_scores {
            self.scores.resize(n, PADDING_SCORE);
        }
        Ok(())
    }

    /// Sets `tokenizer.ggml.tokens` and `tokenizer.ggml.token_type`, and `tokenizer.ggml.scores` if there are scores.
    pub fn set(self, metadata: &mut Metadata) {
        metadata.set("tokenizer.ggml.tokens", Array::Str(self.texts.iter().collect::<StrArray>()));
        if !self.scores.is_empty() {
            metadata.set("tokenizer.ggml.scores", Array::F32(self.scores));
        }
        let types = self.types.into_iter().map(|kind| kind as i32).collect();
        metadata.set("tokenizer.ggml.token_type", Array::I32(types));
    }
}

/// Whether a token that its configuration does not call special is special all the same, by its name.
/// (llama.cpp's converter has the same list.)
pub(super) fn looks_special(text: &str) -> bool {
    let between = |start: &str, end: &str| text.starts_with(start) && text.ends_with(end);
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || between("<|", "|>")
        || between("<｜", "｜>")
        || between("<unused", ">")
}
