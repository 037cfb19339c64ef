//! The tokens of one text, with their keys and values.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bise_models::{Adapter, KvCache, OutOfMemory, PagePool, PageRef};

use crate::adapter::list::Adapters;

/// The initial capacity of the list of tokens.
const FIRST_TOKENS: usize = 4096;

/// The tokens of one text that a model has read, with their keys and values. A [`Runner`](crate::Runner) reads more.
///
/// A clone continues independently from the same position; the two share pages until one of them writes to them.
pub struct Sequence {
    tokens: Vec<u32>,
    cache: KvCache,
    lineage: u64,
    adapters: Adapters,
}

impl Sequence {
    /// An empty sequence that takes its pages from `pool` and holds up to `n_ctx` tokens, or any number with a sliding window.
    pub fn new(pool: &PagePool, n_ctx: usize, window: Option<usize>) -> Sequence {
        let tokens = Vec::with_capacity(FIRST_TOKENS.min(n_ctx));
        let cache = KvCache::new(pool, n_ctx, window);
        Sequence { tokens, cache, lineage: new_lineage(), adapters: Adapters::none() }
    }

    /// A sequence whose `tokens` the cache has read, with these adapters.
    pub(crate) fn restored(tokens: Vec<u32>, cache: KvCache, adapters: Adapters) -> Sequence {
        debug_assert_eq!(tokens.len(), cache.len());
        Sequence { tokens, cache, lineage: new_lineage(), adapters }
    }

    /// The tokens read so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The number of tokens read so far.
    pub fn position(&self) -> usize {
        self.tokens.len()
    }

    /// The length of the context in tokens. With a sliding window, a sequence may grow past it.
    pub fn n_ctx(&self) -> usize {
        self.cache.n_ctx()
    }

    /// The number of tokens that still fit; `usize::MAX` with a sliding window.
    pub fn room(&self) -> usize {
        self.cache.room()
    }

    /// A number that is unique to this sequence and changes whenever tokens are removed: while it stays the same, tokens were only appended.
    pub fn lineage(&self) -> u64 {
        self.lineage
    }

    /// The keys and values.
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// The adapters that act on it.
    pub fn adapters(&self) -> &Adapters {
        &self.adapters
    }

    /// Has `adapters` act on it from now on. If they are others than before, all tokens are forgotten: their keys and values are of no use.
    pub fn set_adapters(&mut self, adapters: Adapters) {
        if self.adapters != adapters {
            self.clear();
        }
        self.adapters = adapters;
    }

    /// Forgets the tokens from `position` on. Returns false, with nothing changed, if `position` is past the end, or so far back that the
    /// keys and values it needs have left the sliding window; clear the sequence and read its tokens again then.
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

    /// Starts with the first `n` tokens of `other`, sharing its pages. Returns false, with nothing changed, if this sequence is not empty, if
    /// the pools, windows or adapters differ, or if `other` no longer has the keys and values that position `n` needs.
    #[must_use]
    pub fn adopt(&mut self, other: &Sequence, n: usize) -> bool {
        let adopted = self.adapters == other.adapters && self.cache.adopt(&other.cache, n);
        if adopted {
            self.tokens.extend_from_slice(&other.tokens[..n]);
        }
        adopted
    }

    /// Starts with `tokens`, whose keys and values, computed with its adapters, are in `pages`; as [`KvCache::adopt_pages`].
    #[must_use]
    pub fn adopt_pages(&mut self, tokens: &[u32], first_page: usize, pages: &[PageRef]) -> bool {
        let adopted = self.cache.adopt_pages(first_page, pages, tokens.len());
        if adopted {
            self.tokens.extend_from_slice(tokens);
        }
        adopted
    }

    /// Makes room in the list of tokens for `n` of them. Keys and values are not concerned: see [`PagePool::prepare`].
    ///
    /// # Errors
    /// Where the system does not have the memory.
    pub fn reserve(&mut self, n: usize) -> Result<(), OutOfMemory> {
        let n_more = n.saturating_sub(self.tokens.len());
        let out_of_memory = OutOfMemory { bytes: n_more.saturating_mul(size_of::<u32>()), what: "tokens" };
        self.tokens.try_reserve_exact(n_more).map_err(|_| out_of_memory)
    }

    /// What a pass works with: keys and values, and adapters.
    pub(crate) fn parts_mut(&mut self) -> (&mut KvCache, &[(Arc<Adapter>, f32)]) {
        (&mut self.cache, self.adapters.as_slice())
    }

    /// Appends tokens whose keys and values are in the cache.
    pub(crate) fn extend(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }
}

impl Clone for Sequence {
    fn clone(&self) -> Sequence {
        Sequence {
            tokens: self.tokens.clone(),
            cache: self.cache.clone(),
            lineage: new_lineage(),
            adapters: self.adapters.clone(),
        }
    }
}

fn new_lineage() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
