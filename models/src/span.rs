//! The input of a forward pass: the next tokens of each sequence, and the output wanted for them.

use std::ops::Range;
use std::sync::Arc;

use crate::adapter::packed::Adapter;
use crate::kv::KvCache;

/// The output wanted for the tokens of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// None: only their keys and values are needed.
    None,
    /// The logits after the last token.
    Last,
    /// The logits after each token.
    All,
    /// The hidden state of each token after the last norm, for embeddings.
    Hidden,
}

/// The next tokens of one sequence; a batch has one span for each of several sequences.
pub struct Span<'a> {
    /// The sequence's keys and values so far.
    pub cache: &'a mut KvCache,
    /// Its next tokens.
    pub tokens: &'a [u32],
    /// The output wanted.
    pub output: Output,
    /// The adapters that act on it, each with a factor on its scale; those with a factor of 0 do not act. What is added is added in this order.
    pub adapters: &'a [(Arc<Adapter>, f32)],
}

impl Span<'_> {
    /// Indices of the tokens whose output is wanted.
    pub(crate) fn wanted(&self) -> Range<usize> {
        let n = self.tokens.len();
        match self.output {
            Output::None => n..n,
            Output::Last => n.saturating_sub(1)..n,
            Output::All | Output::Hidden => 0..n,
        }
    }
}
