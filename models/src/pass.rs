//! What a forward pass works with, and what it leaves behind.

use std::ops::Range;
use std::sync::Arc;

use bise_kernels::{AttentionScratch, Team};

use crate::config::MistralConfig;
use crate::error::{ForwardError, OutOfMemory, SpanError, Stage};
use crate::linear::Linear;
use crate::mistral::{Mistral, Span};
use crate::rows::RowsMut;
use crate::scratch::{Buffers, Scratch, WantedRow, logits_rows};
use crate::site::Hook;

/// Threads and working memory for forward passes, one at a time.
pub struct PassContext {
    team: Arc<Team>,
    hook: Option<Arc<dyn Hook>>,
    scratch: Option<Scratch>,
}

impl PassContext {
    /// Passes on `team`. Memory is taken by the first pass, and more by one that is longer than any before.
    pub fn new(team: Arc<Team>) -> PassContext {
        PassContext { team, hook: None, scratch: None }
    }

    /// Bytes of buffers after a pass over `n_rows` tokens that asked for the outputs of `n_wanted` of them.
    pub fn bytes(config: &MistralConfig, n_threads: usize, n_rows: usize, n_wanted: usize) -> usize {
        let logits = 4 * config.n_vocab * n_wanted.min(logits_rows(config.n_vocab));
        Scratch::bytes(config, n_threads, n_rows) + logits
    }

    /// The threads.
    pub fn team(&self) -> &Arc<Team> {
        &self.team
    }

    /// Has `hook` called after every product, or none.
    pub fn set_hook(&mut self, hook: Option<Arc<dyn Hook>>) {
        self.hook = hook;
    }

    /// Tokens a pass can have without taking more memory.
    pub fn n_rows(&self) -> usize {
        self.scratch.as_ref().map_or(0, |scratch| scratch.n_rows)
    }

    /// Makes room for passes of `n_rows` tokens.
    ///
    /// # Errors
    /// Where the system does not have the memory. There is no room at all then, until the next pass takes some.
    pub fn reserve(&mut self, config: &MistralConfig, n_rows: usize) -> Result<(), OutOfMemory> {
        if self.scratch.is_none() || self.n_rows() < n_rows {
            // The old buffers first: both together may not fit.
            self.scratch = None;
            self.scratch = Some(Scratch::new(config, &self.team, n_rows)?);
        }
        Ok(())
    }

    /// The parts, for a pass of `n_rows` tokens.
    pub(crate) fn split(
        &mut self,
        config: &MistralConfig,
        n_rows: usize,
    ) -> Result<(&Team, Option<&dyn Hook>, &mut Scratch), OutOfMemory> {
        self.reserve(config, n_rows)?;
        let scratch = self.scratch.as_mut().expect("made above");
        Ok((&self.team, self.hook.as_deref(), scratch))
    }
}

/// A pass under way.
pub(crate) struct Pass<'s, 'p, 'b> {
    pub linear: Linear<'s>,
    pub s: &'s mut Buffers,
    pub attention: &'s AttentionScratch,
    pub batch: &'p mut [Span<'b>],
    /// Rows in hand: one for each token; from the last layer's queries on, for each whose output is wanted.
    pub m: usize,
}

impl Pass<'_, '_, '_> {
    /// Makes the pages that the tokens go to.
    pub fn reserve(&mut self) -> Result<(), ForwardError> {
        self.batch.iter_mut().enumerate().try_for_each(|(span, Span { cache, tokens, .. })| {
            cache.reserve(tokens.len()).map_err(|e| ForwardError::Span { span, error: e.into() })
        })
    }

    /// A part of layer `layer` begins.
    pub fn enter(&mut self, layer: usize, stage: Stage) -> Result<(), ForwardError> {
        self.linear.not_finite = SpanError::NotFinite { layer, stage };
        self.linear.check_cancel()
    }

    /// Lets go of all rows but those whose outputs are wanted.
    pub fn keep_wanted(&mut self, config: &MistralConfig) {
        let (s, m, d, n_rot) = (&mut *self.s, self.m, config.n_embd, 2 * config.rope.n_dims);
        self.m = s.wanted.len();
        if self.m == m {
            return;
        }
        let kept = || s.wanted.iter().map(|wanted| wanted.row);
        RowsMut::new(&mut s.x[..m * d], d).keep(kept());
        RowsMut::new(&mut s.h[..m * d], d).keep(kept());
        RowsMut::new(&mut s.rotations[..m * n_rot], n_rot).keep(kept());
        for (to, from) in kept().enumerate() {
            s.scales[to] = s.scales[from];
            s.spans[to] = s.spans[from];
        }
        s.spans.truncate(self.m);
    }

    /// Errs where every span has failed.
    pub fn check_any_is_sound(&self) -> Result<(), ForwardError> {
        match self.linear.errors.first() {
            Some(Some(error)) if self.linear.errors.iter().all(Option::is_some) => {
                Err(ForwardError::Span { span: 0, error: error.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Counts the tokens as read, except those of spans that failed, if the pass was run to its end.
    pub fn finish(&mut self, ran: bool) {
        for (Span { cache, tokens, .. }, error) in self.batch.iter_mut().zip(&*self.linear.errors) {
            if ran && error.is_none() {
                cache.advance(tokens.len());
            }
            cache.release_unused();
        }
    }
}

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

/// The outputs that a pass's spans asked for.
///
/// Hidden states are there; logits are computed from them some rows at a time, as [`Outputs::next_row`] comes to them.
pub struct Outputs<'s> {
    model: &'s Mistral,
    linear: Linear<'s>,
    s: &'s mut Buffers,
    /// Wanted rows that were visited.
    next: usize,
    /// The wanted rows whose logits are there.
    computed: Range<usize>,
}

impl<'s> Outputs<'s> {
    pub(crate) fn new(
        model: &'s Mistral,
        linear: Linear<'s>,
        s: &'s mut Buffers,
        computed: Range<usize>,
    ) -> Outputs<'s> {
        Outputs { model, linear, s, next: 0, computed }
    }

    /// What went wrong in a span of the batch; its tokens were not read.
    ///
    /// # Panics
    /// Where there is no such span.
    pub fn failure(&self, span: usize) -> Option<&SpanError> {
        self.linear.errors[span].as_ref()
    }

    /// The next output, in the order of spans and tokens; spans that failed have none.
    ///
    /// # Errors
    /// For logits that are not finite, and when cancelled. The tokens were read all the same; other outputs may follow.
    pub fn next_row(&mut self) -> Result<Option<OutputRow<'_>>, ForwardError> {
        let i = loop {
            let Some(wanted) = self.s.wanted.get(self.next) else { return Ok(None) };
            self.next += 1;
            if self.linear.errors[wanted.span].is_none() {
                break self.next - 1;
            }
        };
        let WantedRow { span, index, is_hidden, .. } = self.s.wanted[i];
        let (d, n_vocab) = (self.model.config().n_embd, self.model.config().n_vocab);
        if is_hidden {
            return Ok(Some(OutputRow { span, index, values: &self.s.h[i * d..][..d] }));
        }
        if !self.computed.contains(&i) {
            let team = self.linear.team;
            self.computed = team.together(|| self.model.logits(&mut self.linear, self.s, i))?;
        }
        let values = &self.s.logits[(i - self.computed.start) * n_vocab..][..n_vocab];
        if !values.iter().all(|value| value.is_finite()) {
            return Err(ForwardError::Span { span, error: SpanError::LogitsNotFinite });
        }
        Ok(Some(OutputRow { span, index, values }))
    }
}
