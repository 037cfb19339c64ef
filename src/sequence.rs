//! The tokens of one text, with their keys and values.

use std::sync::atomic::{AtomicU64, Ordering};

use bise_models::{KvCache, PagePool};

/// Tokens that a list has room for from the start: it grows seldom after that.
const FIRST_TOKENS: usize = 4096;

/// One text as far as a model has read it. A [`Runner`](crate::Runner) reads more of it.
///
/// Clones are texts of their own that go on from the same place; they share memory until one of them writes to it.
pub struct Sequence {
    tokens: Vec<u32>,
    cache: KvCache,
    lineage: u64,
}

impl Sequence {
    /// An empty text of up to `n_ctx` tokens, or with a window of any number, that takes its pages from `pool`.
    pub fn new(pool: &PagePool, n_ctx: usize, window: Option<usize>) -> Sequence {
        let tokens = Vec::with_capacity(FIRST_TOKENS.min(n_ctx));
        Sequence { tokens, cache: KvCache::new(pool, n_ctx, window), lineage: new_lineage() }
    }

    /// The tokens read so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The number of tokens read so far.
    pub fn position(&self) -> usize {
        self.tokens.len()
    }

    /// Tokens it may hold; with a window it may go past that.
    pub fn n_ctx(&self) -> usize {
        self.cache.n_ctx()
    }

    /// Tokens that still fit; with a window there is no end.
    pub fn room(&self) -> usize {
        self.cache.room()
    }

    /// A number that no other sequence has, and this one no longer has once it has forgotten tokens: as long as it stays the same, the
    /// tokens only grow.
    pub fn lineage(&self) -> u64 {
        self.lineage
    }

    /// The keys and values.
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// Forgets the tokens from `position` on. False, with nothing changed, where `position` lies ahead, or so far back that rows are
    /// needed which have left the window: clear the sequence and read its tokens again.
    #[must_use]
    pub fn truncate(&mut self, position: usize) -> bool {
        let whole = self.cache.truncate(position);
        if whole && position < self.tokens.len() {
            self.tokens.truncate(position);
            self.lineage = new_lineage();
        }
        whole
    }

    /// Forgets all tokens.
    pub fn clear(&mut self) {
        let whole = self.truncate(0);
        debug_assert!(whole, "there is nothing before the first token");
    }

    /// Begins with the first `n` tokens of `other`, sharing its pages. False, with nothing changed, where this sequence is not empty, the
    /// two do not use the same pool and window, or `other` no longer has the rows that a token after `n` needs.
    #[must_use]
    pub fn adopt(&mut self, other: &Sequence, n: usize) -> bool {
        let adopted = self.cache.adopt(&other.cache, n);
        if adopted {
            self.tokens.extend_from_slice(&other.tokens[..n]);
        }
        adopted
    }

    pub(crate) fn cache_mut(&mut self) -> &mut KvCache {
        &mut self.cache
    }

    /// The cache has read `tokens`.
    pub(crate) fn extend(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }
}

impl Clone for Sequence {
    fn clone(&self) -> Sequence {
        Sequence { tokens: self.tokens.clone(), cache: self.cache.clone(), lineage: new_lineage() }
    }
}

fn new_lineage() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
