//! Fill-in-the-middle prompts.

use super::encode::EncodeOptions;
use super::error::TokenizerError;
use super::handle::Tokenizer;
use super::names;

/// Put before a suffix while it is tokenized, so that the suffix gets no space (as in mistral-common).
const GUARD: &str = "☺";

impl Tokenizer {
    /// The prompt for the text between `prefix` and `suffix`. Control tokens in them are not parsed.
    ///
    /// Mistral's models (Codestral) are trained on `<s>[SUFFIX]suffix[PREFIX]prefix`; the tokens are those of
    /// `mistral_common`'s `encode_fim`. Models with `<fim_prefix>` and the like get prefix, suffix and middle, in this
    /// order.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::NoInfill`] if the vocabulary lacks the tokens for it.
    pub fn infill(&self, prefix: &str, suffix: &str) -> Result<Vec<u32>, TokenizerError> {
        let (Some(before_prefix), Some(before_suffix)) = (self.infill_prefix(), self.infill_suffix()) else {
            return Err(TokenizerError::NoInfill);
        };
        let plain = EncodeOptions { add_special: false, parse_special: false };
        let prefix = self.encode(prefix, plain);
        let suffix = match suffix {
            "" => Vec::new(),
            _ => {
                let guard = self.encode(GUARD, plain).len();
                self.encode(&format!("{GUARD}{suffix}"), plain).split_off(guard)
            }
        };
        let mistral = self.piece(before_prefix) == names::MISTRAL_PREFIX.as_bytes();
        let mut tokens: Vec<u32> = self.bos().filter(|_| mistral || self.adds_bos()).into_iter().collect();
        if mistral {
            tokens.push(before_suffix);
            tokens.extend(suffix);
            tokens.push(before_prefix);
            tokens.extend(prefix);
        } else {
            tokens.push(before_prefix);
            tokens.extend(prefix);
            tokens.push(before_suffix);
            tokens.extend(suffix);
            tokens.extend(self.infill_middle());
        }
        Ok(tokens)
    }
}
