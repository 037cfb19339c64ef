//! From texts to tokens, as lm-evaluation-harness and `transformers` encode them.

use std::borrow::Cow;

use super::likelihood::Scored;
use super::prompt::Prompt;
use super::python_str::rstrip;
use crate::tokenizer::{EncodeOptions, Tokenizer};

/// Encodes prompts, and cuts them on the left where they are too long.
pub struct Encoder<'a> {
    pub tokenizer: &'a Tokenizer,
    /// Tokens that fit the model's context.
    pub n_ctx: usize,
    /// Texts that were cut.
    pub n_cut: usize,
}

impl Encoder<'_> {
    /// A text with BOS, where the vocabulary asks for it. Control tokens in it count as such.
    fn encode(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: true })
    }

    /// The prompt with each of its continuations.
    ///
    /// White space at the end of the context goes to the continuation. Both are encoded together, and the tokens of the continuation are
    /// those behind as many as the context has by itself.
    ///
    /// # Errors
    /// What is wrong with a continuation.
    pub fn scored(&mut self, prompt: &Prompt) -> Result<Vec<Scored>, String> {
        let context = rstrip(&prompt.context);
        let context_tokens = self.encode(context);
        prompt
            .continuations
            .iter()
            .map(|continuation| self.pair(prompt, &context_tokens, continuation))
            .collect()
    }

    fn pair(&mut self, prompt: &Prompt, context: &[u32], continuation: &str) -> Result<Scored, String> {
        let (context, scored) = match prompt.context.is_empty() {
            true => self.without_context(continuation)?,
            false => {
                let whole = self.encode(&format!("{}{continuation}", prompt.context));
                (Cow::Borrowed(context), whole.get(context.len()..).unwrap_or_default().to_vec())
            }
        };
        let (n_context, n_scored) = (context.len(), scored.len());
        if n_context == 0 || n_scored == 0 {
            return Err(format!(
                "found {n_context} tokens of context and {n_scored} of '{continuation}', expected some of both"
            ));
        }
        if n_scored > self.n_ctx {
            return Err(format!(
                "found a continuation of {n_scored} tokens, expected at most {}, the context (--ctx-size)",
                self.n_ctx
            ));
        }
        let mut tokens = context.into_owned();
        tokens.extend(scored);
        // One more than fits, as the last is not read.
        self.cut(&mut tokens, self.n_ctx + 1);
        Ok(Scored { tokens, n_scored })
    }

    /// The token that stands for no context, and the continuation.
    fn without_context<'t>(&self, continuation: &str) -> Result<(Cow<'t, [u32]>, Vec<u32>), String> {
        let options = EncodeOptions { add_special: false, parse_special: true };
        let tokens = self.tokenizer.encode(continuation, options);
        let Some(prefix) = self.tokenizer.bos().or(self.tokenizer.eos()) else {
            return Err("found no context and a vocabulary without BOS and EOS, expected either".to_owned());
        };
        Ok(match tokens.split_first() {
            Some((first, rest)) if *first == prefix => (Cow::Owned(vec![prefix]), rest.to_vec()),
            _ => (Cow::Owned(vec![prefix]), tokens),
        })
    }

    /// The prompt to go on from, with room for `n_more` tokens.
    pub fn prompt(&mut self, prompt: &Prompt, n_more: usize) -> Vec<u32> {
        let mut tokens = self.encode(&prompt.context);
        self.cut(&mut tokens, self.n_ctx - n_more);
        tokens
    }

    /// Keeps the last `n`.
    fn cut(&mut self, tokens: &mut Vec<u32>, n: usize) {
        let too_many = tokens.len().saturating_sub(n);
        tokens.drain(..too_many);
        self.n_cut += usize::from(too_many > 0);
    }
}
