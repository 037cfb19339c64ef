//! What a forward pass works with.

use std::sync::Arc;

use bise_kernels::{AttentionScratch, Team};

use crate::budget::MemoryBudget;
use crate::config::MistralConfig;
use crate::error::{ForwardError, SpanError, Stage};
use crate::linear::Linear;
use crate::rows::RowsMut;
use crate::scratch::{Buffers, Scratch, logits_rows};
use crate::site::Hook;
use crate::span::Span;

/// Threads and working memory for forward passes, one at a time.
pub struct PassContext {
    team: Arc<Team>,
    budget: MemoryBudget,
    hook: Option<Arc<dyn Hook>>,
    scratch: Option<Scratch>,
}

impl PassContext {
    /// A context for passes on `team`. The first pass allocates, and later ones only if they are longer than any before.
    pub fn new(team: Arc<Team>) -> PassContext {
        PassContext::with_budget(team, &MemoryBudget::unlimited())
    }

    /// A context whose memory counts against `budget`.
    pub fn with_budget(team: Arc<Team>, budget: &MemoryBudget) -> PassContext {
        PassContext { team, budget: budget.clone(), hook: None, scratch: None }
    }

    /// Bytes of buffers after a pass over `n_rows` tokens that asked for the outputs of `n_wanted` of them.
    pub fn bytes(config: &MistralConfig, n_threads: usize, n_rows: usize, n_wanted: usize) -> usize {
        let logits = 4 * config.n_vocab * n_wanted.min(logits_rows(config.n_vocab));
        Scratch::bytes(config, n_threads, n_rows).saturating_add(logits)
    }

    /// The threads.
    pub fn team(&self) -> &Arc<Team> {
        &self.team
    }

    /// Sets the hook that is called after every product, if any.
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
    /// Where the budget or the system does not have the memory. There is no room at all then, until the next pass takes some.
    pub fn reserve(&mut self, config: &MistralConfig, n_rows: usize) -> Result<(), ForwardError> {
        if self.scratch.is_none() || self.n_rows() < n_rows {
            // The old buffers first: both together may not fit.
            self.scratch = None;
            self.scratch = Some(Scratch::new(config, &self.team, n_rows, &self.budget)?);
        }
        Ok(())
    }

    /// Lets go of the adapters of the last pass, which the next one would do otherwise: one that nobody has any more is freed.
    pub fn release_adapters(&mut self) {
        if let Some(scratch) = &mut self.scratch {
            scratch.adapters.end();
        }
    }

    /// The team, the hook, and the scratch for a pass of `n_rows` tokens.
    pub(crate) fn split(
        &mut self,
        config: &MistralConfig,
        n_rows: usize,
    ) -> Result<(&Team, Option<&dyn Hook>, &mut Scratch), ForwardError> {
        self.reserve(config, n_rows)?;
        let scratch = self.scratch.as_mut().expect("made above");
        Ok((&self.team, self.hook.as_deref(), scratch))
    }
}

/// A pass under way.
pub(crate) struct Pass<'s, 'p, 'b> {
    pub linear: Linear<'s>,
    pub s: &'s mut Buffers,
    pub attention: &'s mut AttentionScratch,
    pub batch: &'p mut [Span<'b>],
    /// Rows in hand: one for each token; from the last layer's queries on, for each whose output is wanted.
    pub m: usize,
}

impl Pass<'_, '_, '_> {
    /// Reserves the pages that the tokens' keys and values go to.
    pub fn reserve(&mut self) -> Result<(), ForwardError> {
        self.batch.iter_mut().enumerate().try_for_each(|(span, Span { cache, tokens, .. })| {
            cache.reserve(tokens.len()).map_err(|e| ForwardError::Span { span, error: e.into() })
        })
    }

    /// Notes that a stage of layer `layer` begins, and checks for cancellation.
    pub fn enter(&mut self, layer: usize, stage: Stage) -> Result<(), ForwardError> {
        self.linear.not_finite = SpanError::NotFinite { layer, stage, adapters: String::new() };
        self.linear.check_cancel()
    }

    /// Drops all rows but those whose outputs are wanted.
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

    /// Returns the first error if every span has failed.
    pub fn check_any_is_sound(&self) -> Result<(), ForwardError> {
        match self.linear.errors.first() {
            Some(Some(error)) if self.linear.errors.iter().all(Option::is_some) => {
                Err(ForwardError::Span { span: 0, error: error.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Counts the tokens of all spans that have not failed as read, if the pass ran to its end.
    pub fn finish(&mut self, ran: bool) {
        for (Span { cache, tokens, .. }, error) in self.batch.iter_mut().zip(&*self.linear.errors) {
            if ran && error.is_none() {
                cache.advance(tokens.len());
            }
            cache.release_unused();
        }
    }
}
