//! The pages of one sequence.

use std::collections::VecDeque;

use bise_kernels::kv_page::{PAGE_LEN, PageLayout};

use super::pool::{PagePool, PageRef, PoolError, allocated_bytes, page_bytes};

/// The initial capacity of the list of pages.
const FIRST_PAGES: usize = 256;

/// The keys and values of one sequence. With a sliding window, pages that no later query sees return to the pool, so memory stays constant
/// however long the text grows.
pub struct KvCache {
    pool: PagePool,
    window: Option<usize>,
    n_ctx: usize,
    slack: usize,
    /// Number (absolute position / [`PAGE_LEN`]) of the first page in `pages`.
    first_page: usize,
    pages: VecDeque<PageRef>,
    n_positions: usize,
}

impl KvCache {
    /// Positions kept beyond the window: a sequence can be truncated by as many without reading anything again.
    pub const SLACK: usize = 2 * PAGE_LEN;

    /// An empty cache for up to `n_ctx` positions, or any number with a window. It takes no page until something is read.
    pub fn new(pool: &PagePool, n_ctx: usize, window: Option<usize>) -> KvCache {
        KvCache {
            pool: pool.clone(),
            window,
            n_ctx,
            slack: KvCache::SLACK,
            first_page: 0,
            pages: VecDeque::new(),
            n_positions: 0,
        }
    }

    /// A cache that returns no page to the pool, so that [`KvCache::truncate`] reaches every position.
    #[must_use]
    pub fn keeping_all(mut self) -> KvCache {
        self.slack = usize::MAX;
        self
    }

    /// Pages that a sequence of `n` positions holds at most, read in passes of up to `n_rows` tokens.
    pub fn most_pages(n: usize, window: Option<usize>, n_rows: usize) -> usize {
        let all = n.div_ceil(PAGE_LEN);
        // Both ends of what a pass sees may lie inside a page.
        let seen = window.map_or(usize::MAX, |window| {
            window.saturating_add(KvCache::SLACK).saturating_add(n_rows).div_ceil(PAGE_LEN).saturating_add(1)
        });
        all.min(seen)
    }

    /// Bytes that those pages take.
    pub fn bytes(
        layout: &PageLayout,
        n_layers: usize,
        n: usize,
        window: Option<usize>,
        n_rows: usize,
    ) -> usize {
        KvCache::most_pages(n, window, n_rows).saturating_mul(allocated_bytes(page_bytes(layout, n_layers)))
    }

    /// The pool its pages come from.
    pub fn pool(&self) -> &PagePool {
        &self.pool
    }

    /// The sliding window, if there is one.
    pub fn window(&self) -> Option<usize> {
        self.window
    }

    /// The length of the context in positions. With a window, a sequence may grow past it.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// The number of positions read so far.
    pub fn len(&self) -> usize {
        self.n_positions
    }

    /// Whether nothing has been read yet.
    pub fn is_empty(&self) -> bool {
        self.n_positions == 0
    }

    /// The number of positions that still fit; `usize::MAX` with a window.
    pub fn room(&self) -> usize {
        match self.window {
            Some(_) => usize::MAX - self.n_positions,
            None => self.n_ctx - self.n_positions,
        }
    }

    /// The number of pages held, including shared ones.
    pub fn n_pages(&self) -> usize {
        self.pages.len()
    }

    /// The first position that a query at `pos` sees.
    pub fn first_seen(&self, pos: usize) -> usize {
        self.window.map_or(0, |window| (pos + 1).saturating_sub(window))
    }

    /// The number of the first page held that a text cut back to `position` would keep.
    pub fn first_kept(&self, position: usize) -> usize {
        (self.first_seen(position.saturating_sub(self.slack)) / PAGE_LEN).max(self.first_page)
    }

    /// Whether pages from number `first_page` on are all that a query at `position` sees before it.
    pub fn is_whole(window: Option<usize>, first_page: usize, position: usize) -> bool {
        let first_seen = window.map_or(0, |window| (position + 1).saturating_sub(window));
        first_page.checked_mul(PAGE_LEN).is_some_and(|first| first <= first_seen && first <= position)
    }

    /// A cache of the positions before `n_positions`, whose pages `fill` writes: the layers of page number `first_page`, then those of the
    /// next, as [`KvCache::page`] has them. The positions of the last page from `n_positions` on may be anything.
    ///
    /// # Errors
    /// Where the pool has no page to give, and what `fill` returns.
    ///
    /// # Panics
    /// Where the pages are not [whole](KvCache::is_whole), or without a window `n_positions` is above `n_ctx`.
    pub fn restore<E: From<PoolError>>(
        pool: &PagePool,
        n_ctx: usize,
        window: Option<usize>,
        first_page: usize,
        n_positions: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<KvCache, E> {
        assert!(KvCache::is_whole(window, first_page, n_positions), "pages are missing");
        assert!(window.is_some() || n_positions <= n_ctx, "{n_positions} positions in {n_ctx}");
        let mut cache = KvCache::new(pool, n_ctx, window);
        cache.first_page = first_page;
        for _ in first_page..n_positions.div_ceil(PAGE_LEN) {
            cache.pages.push_back(pool.filled_page(fill)?);
        }
        cache.n_positions = n_positions;
        Ok(cache)
    }

    /// Whether all keys and values that a query at `position` sees before it are still there.
    fn is_whole_at(&self, position: usize) -> bool {
        position == 0 || self.first_seen(position) >= self.first_page * PAGE_LEN
    }

    /// Forgets the positions from `position` on. Returns false, with nothing changed, if `position` is past the end, or if it needs keys and
    /// values that have left the window.
    #[must_use]
    pub fn truncate(&mut self, position: usize) -> bool {
        let whole = position <= self.n_positions && self.is_whole_at(position);
        if whole {
            self.n_positions = position;
            self.release_unused();
        }
        whole
    }

    /// Takes the first `n` positions of `other`, sharing its pages. Returns false, with nothing changed, if this cache is not empty, if the
    /// pools or windows differ, or if `other` no longer has what a query at `n` sees.
    #[must_use]
    pub fn adopt(&mut self, other: &KvCache, n: usize) -> bool {
        let alike = self.pool.is_same(&other.pool) && self.window == other.window;
        if !self.is_empty() || !alike || n > other.n_positions || n > self.room() || !other.is_whole_at(n) {
            return false;
        }
        if n == 0 {
            return true;
        }
        let first = self.first_seen(n.saturating_sub(self.slack)) / PAGE_LEN;
        self.first_page = first.max(other.first_page);
        self.pages.clear();
        let shared =
            other.pages.range(self.first_page - other.first_page..n.div_ceil(PAGE_LEN) - other.first_page);
        self.pages.extend(shared.cloned());
        self.n_positions = n;
        true
    }

    /// A reference to page number `page`; `None` where it is not held.
    pub fn share_page(&self, page: usize) -> Option<PageRef> {
        self.pages.get(page.checked_sub(self.first_page)?).cloned()
    }

    /// The number of the first page held.
    pub fn first_page(&self) -> usize {
        self.first_page
    }

    /// Starts with `n` positions whose keys and values are in `pages`, from page number `first_page` on; what those hold behind position
    /// `n` does not matter. Returns false, with nothing changed, if this cache is not empty, if it has no room, if pages are of another pool,
    /// or if they are not as many as that takes, or not [whole](KvCache::is_whole).
    #[must_use]
    pub fn adopt_pages(&mut self, first_page: usize, pages: &[PageRef], n: usize) -> bool {
        let n_pages = n.div_ceil(PAGE_LEN).checked_sub(first_page);
        let fits = self.is_empty() && n <= self.room() && n_pages == Some(pages.len());
        if !fits
            || !KvCache::is_whole(self.window, first_page, n)
            || !pages.iter().all(|page| page.is_of(&self.pool))
        {
            return false;
        }
        self.first_page = first_page;
        self.pages.clear();
        self.pages.extend(pages.iter().cloned());
        self.n_positions = n;
        true
    }

    /// Pages that reading `n` more positions takes from the pool: new ones, and a copy of one that is shared.
    pub fn n_new_pages(&self, n: usize) -> usize {
        let (start, end) = (self.n_positions, self.n_positions.saturating_add(n));
        let is_partial = n > 0 && !start.is_multiple_of(PAGE_LEN);
        let copies = is_partial && self.pages[start / PAGE_LEN - self.first_page].is_shared();
        end.div_ceil(PAGE_LEN).saturating_sub(self.first_page + self.pages.len()) + usize::from(copies)
    }

    /// Reserves the pages of the next `n` positions, copying those that are shared.
    ///
    /// # Errors
    /// If the pool has no page left; [`KvCache::release_unused`] undoes what was reserved.
    pub(crate) fn reserve(&mut self, n: usize) -> Result<(), PoolError> {
        let (start, end) = (self.n_positions, self.n_positions + n);
        if !start.is_multiple_of(PAGE_LEN) {
            let partial = &mut self.pages[start / PAGE_LEN - self.first_page];
            if partial.is_shared() {
                let mut own = self.pool.take()?;
                // With a window of 1, a query sees its own position alone.
                if self.window != Some(1) {
                    own.copy_from(partial);
                }
                *partial = own;
            }
        }
        let n_new = end.div_ceil(PAGE_LEN) - (self.first_page + self.pages.len());
        let n_entries =
            n_new.max(FIRST_PAGES.min(self.n_ctx.div_ceil(PAGE_LEN)).saturating_sub(self.pages.len()));
        self.pages
            .try_reserve(n_entries)
            .map_err(|_| PoolError::OutOfMemory { bytes: n_entries * size_of::<PageRef>() })?;
        for _ in 0..n_new {
            let page = self.pool.take()?;
            self.pages.push_back(page);
        }
        Ok(())
    }

    /// Returns pages past the positions read, and those that no later query sees, to the pool.
    pub(crate) fn release_unused(&mut self) {
        let kept = self.first_seen(self.n_positions.saturating_sub(self.slack)) / PAGE_LEN;
        while self.first_page < kept && self.pages.pop_front().is_some() {
            self.first_page += 1;
        }
        let n_used = self.n_positions.div_ceil(PAGE_LEN).saturating_sub(self.first_page);
        self.pages.truncate(n_used);
        if self.n_positions == 0 {
            self.first_page = 0;
        }
    }

    /// Counts `n` more positions as read.
    pub(crate) fn advance(&mut self, n: usize) {
        self.n_positions += n;
    }

    /// The bytes of one layer of page number `page`.
    ///
    /// # Panics
    /// Where the page is not held.
    pub fn page(&self, layer: usize, page: usize) -> &[u8] {
        self.pages[page - self.first_page].layer(layer)
    }

    /// The bytes of one layer of the pages that the next `n` positions go to, in order. [`KvCache::reserve`] must have succeeded for them.
    pub(crate) fn new_pages(&mut self, layer: usize, n: usize) -> impl Iterator<Item = &mut [u8]> {
        let first = self.n_positions / PAGE_LEN - self.first_page;
        let end = (self.n_positions + n).div_ceil(PAGE_LEN) - self.first_page;
        self.pages
            .range_mut(first..end.max(first))
            .map(move |page| page.layer_mut(layer).expect("reserved before it is written"))
    }
}

impl Clone for KvCache {
    /// A cache that continues independently from here; pages are shared until one of the two writes to them.
    fn clone(&self) -> KvCache {
        KvCache { pool: self.pool.clone(), pages: self.pages.clone(), ..*self }
    }
}
