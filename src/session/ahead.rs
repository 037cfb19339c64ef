//! Tokens that a session has read ahead of its position, and the logits after each.

use bise_models::{MemoryBudget, OverCeiling, Reservation};

/// Drafts that were read but not chosen yet; their keys and values stand in the cache behind the position.
#[derive(Default)]
pub(super) struct Ahead {
    drafts: Vec<u32>,
    /// Logits after each draft, `[drafts, n_vocab]`.
    logits: Vec<f32>,
    /// Drafts that turned out to be chosen: those behind them remain.
    n_taken: usize,
    reservation: Option<Reservation>,
}

impl Ahead {
    /// Drafts that remain.
    pub fn len(&self) -> usize {
        self.drafts.len() - self.n_taken
    }

    /// The first of them.
    pub fn next(&self) -> Option<u32> {
        self.drafts.get(self.n_taken).copied()
    }

    /// The logits after the `i`-th that remains.
    pub fn row(&self, i: usize) -> &[f32] {
        let n_vocab = self.logits.len() / self.drafts.len();
        &self.logits[(self.n_taken + i) * n_vocab..][..n_vocab]
    }

    /// Makes room for the logits of `n` drafts.
    pub fn reserve(&mut self, n: usize, n_vocab: usize, budget: &MemoryBudget) -> Result<(), OverCeiling> {
        let bytes = n * n_vocab * size_of::<f32>();
        if self.reservation.as_ref().is_none_or(|reservation| reservation.bytes() < bytes) {
            // No copy: whatever remained is replaced.
            self.clear();
            self.logits = Vec::new();
            self.reservation = None;
            self.reservation = Some(budget.reserve(bytes)?);
            self.logits.reserve_exact(n * n_vocab);
        }
        Ok(())
    }

    /// Replaces what remained; the logits after each of `drafts` are to follow. The buffers are kept from one time to the next.
    pub fn set(&mut self, drafts: &[u32]) {
        self.clear();
        self.drafts.extend_from_slice(drafts);
    }

    /// The logits after the next draft that has none.
    pub fn push_logits(&mut self, logits: &[f32]) {
        self.logits.extend_from_slice(logits);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.drafts.clear();
        self.logits.clear();
        self.n_taken = 0;
    }

    /// The logits after the first draft that remains, if that is `token`; it does not remain then.
    pub fn take(&mut self, token: u32) -> Option<&[f32]> {
        if self.next() != Some(token) {
            return None;
        }
        let n_vocab = self.logits.len() / self.drafts.len();
        let logits = &self.logits[self.n_taken * n_vocab..][..n_vocab];
        self.n_taken += 1;
        Some(logits)
    }
}
