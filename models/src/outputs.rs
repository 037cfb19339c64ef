//! What a forward pass leaves behind.

use std::ops::Range;

use crate::error::{ForwardError, SpanError};
use crate::linear::Linear;
use crate::lm_head::LmHead;
use crate::scratch::{Buffers, WantedRow};

/// The output of one token.
#[derive(Clone, Copy, Debug)]
pub struct OutputRow<'a> {
    /// Index of the span in the batch.
    pub span: usize,
    /// Index of the token in the span.
    pub index: usize,
    /// Logits `[n_vocab]`, or the hidden state after the last norm `[n_embd]`.
    pub values: &'a [f32],
}

/// The outputs that the spans of a pass asked for.
///
/// Hidden states have been computed; logits are computed from them a block of rows at a time, as [`Outputs::next_row`] gets to them.
pub struct Outputs<'s> {
    head: LmHead<'s>,
    linear: Linear<'s>,
    s: &'s mut Buffers,
    /// Index of the next wanted row.
    next: usize,
    /// The wanted rows whose logits are in the buffer.
    computed: Range<usize>,
}

impl<'s> Outputs<'s> {
    pub(crate) fn new(
        head: LmHead<'s>,
        linear: Linear<'s>,
        s: &'s mut Buffers,
        computed: Range<usize>,
    ) -> Outputs<'s> {
        Outputs { head, linear, s, next: 0, computed }
    }

    /// The error of a span of the batch, if it failed; none of its tokens were read then.
    ///
    /// # Panics
    /// If there is no such span.
    pub fn failure(&self, span: usize) -> Option<&SpanError> {
        self.linear.errors[span].as_ref()
    }

    /// The next output, in the order of spans and tokens. Spans that failed have none.
    ///
    /// # Errors
    /// Logits that are not finite, or a cancelled pass. The tokens have been read nevertheless, and other outputs may follow.
    pub fn next_row(&mut self) -> Result<Option<OutputRow<'_>>, ForwardError> {
        let i = loop {
            let Some(wanted) = self.s.wanted.get(self.next) else { return Ok(None) };
            self.next += 1;
            if self.linear.errors[wanted.span].is_none() {
                break self.next - 1;
            }
        };
        let WantedRow { span, index, is_hidden, .. } = self.s.wanted[i];
        let (n_vocab, d) = (self.head.w.view().n_rows(), self.head.w.view().k());
        if is_hidden {
            return Ok(Some(OutputRow { span, index, values: &self.s.h[i * d..][..d] }));
        }
        if !self.computed.contains(&i) {
            let team = self.linear.team;
            self.computed = team.together(|| self.head.logits(&mut self.linear, self.s, i))?;
        }
        let values = &self.s.logits[(i - self.computed.start) * n_vocab..][..n_vocab];
        if !values.iter().all(|value| value.is_finite()) {
            let error = SpanError::LOGITS.beside(|| self.linear.adapters.names(span));
            return Err(ForwardError::Span { span, error });
        }
        Ok(Some(OutputRow { span, index, values }))
    }
}
