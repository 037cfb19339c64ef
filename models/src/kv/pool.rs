//! A pool of pages: made one by one up to a limit, counted by reference, and reused.

use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{Arc, Mutex, MutexGuard};

#[cfg(loom)]
use loom::sync::{Arc, Mutex, MutexGuard};

use bise_kernels::CacheLine;
use bise_kernels::kv_page::PageLayout;

use crate::budget::{MemoryBudget, OverCeiling, Reservation};

/// What an allocator adds to a block, at most.
const BLOCK_HEADER_BYTES: usize = 64;

/// Size from which on it maps each block by itself (glibc; others do so later).
const LARGE_BYTES: usize = 128 << 10;

/// The system's pages; where they are larger, blocks are too.
const SYSTEM_PAGE_BYTES: usize = 4096;

/// Why a pool has no page to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// All pages of the pool are in use.
    #[error("all {max_pages} pages of keys and values are in use ({page_bytes} bytes each)")]
    Full {
        /// Pages the pool may have.
        max_pages: usize,
        /// Size of a page.
        page_bytes: usize,
    },
    /// The ceiling on memory leaves no room for another page.
    #[error("no room for keys and values: {0} (a shorter context or a smaller cache type takes less)")]
    OverCeiling(#[from] OverCeiling),
    /// The system has no more memory for this process.
    #[error(
        "out of memory: {bytes} bytes for keys and values (a shorter context or a smaller cache type takes less)"
    )]
    OutOfMemory {
        /// What was asked for.
        bytes: usize,
    },
}

/// Pages of one shape for the sequences of one model. Clones are the same pool.
#[derive(Clone)]
pub struct PagePool(Arc<Shared>);

struct Shared {
    layout: PageLayout,
    n_layers: usize,
    max_pages: usize,
    budget: MemoryBudget,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Pages that no sequence uses. Its capacity is at least `n_pages`, so that giving a page back never allocates.
    free: Vec<Arc<Page>>,
    /// Pages that exist, free or in use.
    n_pages: usize,
}

/// The bytes of a page: one part for each layer, each starting at a cache line.
pub(super) struct Page {
    lines: Vec<CacheLine>,
    /// Given back with the page.
    _reservation: Reservation,
}

impl PagePool {
    /// A pool that makes pages as they are needed, at most `max_pages` at a time.
    pub fn new(layout: PageLayout, n_layers: usize, max_pages: usize) -> PagePool {
        PagePool::with_budget(layout, n_layers, max_pages, &MemoryBudget::unlimited())
    }

    /// A pool whose pages count against `budget`.
    pub fn with_budget(
        layout: PageLayout,
        n_layers: usize,
        max_pages: usize,
        budget: &MemoryBudget,
    ) -> PagePool {
        let budget = budget.clone();
        PagePool(Arc::new(Shared { layout, n_layers, max_pages, budget, state: Mutex::default() }))
    }

    /// Makes pages until there are `n_pages`, and touches them, so that no sequence has to wait for the system to find the memory.
    ///
    /// # Errors
    /// Where the limit, the budget or the system's memory does not allow it; the pages made so far stay.
    pub fn prepare(&self, n_pages: usize) -> Result<(), PoolError> {
        while self.n_pages() < n_pages {
            let page = self.make()?;
            let mut state = self.state();
            state.free.push(page);
        }
        Ok(())
    }

    /// Frees the memory of pages that no sequence uses.
    pub fn trim(&self) {
        let mut state = self.state();
        state.n_pages -= state.free.len();
        state.free.clear();
    }

    /// Layers of a page.
    pub fn n_layers(&self) -> usize {
        self.0.n_layers
    }

    /// The shape of a layer's part of a page.
    pub fn layout(&self) -> &PageLayout {
        &self.0.layout
    }

    /// Size of a page, all layers together.
    pub fn page_bytes(&self) -> usize {
        page_bytes(&self.0.layout, self.0.n_layers)
    }

    /// Pages that exist, in use or free.
    pub fn n_pages(&self) -> usize {
        self.state().n_pages
    }

    /// Pages that no sequence uses.
    pub fn n_free(&self) -> usize {
        self.state().free.len()
    }

    /// Pages that sequences use, each counted once however many share it.
    pub fn n_used(&self) -> usize {
        let state = self.state();
        state.n_pages - state.free.len()
    }

    /// Whether both are the same pool.
    pub fn is_same(&self, other: &PagePool) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A page whose layers `fill` writes, one after the other.
    ///
    /// # Errors
    /// Where there is no page to give, and what `fill` returns.
    pub fn filled_page<E: From<PoolError>>(
        &self,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<PageRef, E> {
        let mut page = self.take()?;
        for layer in 0..self.n_layers() {
            fill(page.layer_mut(layer).expect("a page that was just taken has one owner"))?;
        }
        Ok(page)
    }

    /// A page of unknown content, with one owner.
    pub(super) fn take(&self) -> Result<PageRef, PoolError> {
        let free = self.state().free.pop();
        let page = match free {
            Some(page) => page,
            None => self.make()?,
        };
        Ok(PageRef { page: Some(page), pool: self.clone() })
    }

    /// A new page, already counted. Zeroed and touched: memory is found here, not in the middle of a pass.
    fn make(&self) -> Result<Arc<Page>, PoolError> {
        let bytes = self.page_bytes();
        let mut state = self.state();
        if state.n_pages >= self.0.max_pages {
            return Err(PoolError::Full { max_pages: self.0.max_pages, page_bytes: bytes });
        }
        let reservation = self.0.budget.reserve(allocated_bytes(bytes))?;
        let n_used = state.n_pages - state.free.len();
        state.free.try_reserve(n_used + 1).map_err(|_| PoolError::OutOfMemory { bytes })?;
        state.n_pages += 1;
        drop(state);
        let mut lines = Vec::new();
        if lines.try_reserve_exact(bytes / size_of::<CacheLine>()).is_err() {
            self.state().n_pages -= 1;
            return Err(PoolError::OutOfMemory { bytes });
        }
        lines.resize(bytes / size_of::<CacheLine>(), bytemuck::Zeroable::zeroed());
        Ok(Arc::new(Page { lines, _reservation: reservation }))
    }

    /// The lock is held for a few instructions that cannot panic half-way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for PagePool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("PagePool")
            .field("page_bytes", &self.page_bytes())
            .field("max_pages", &self.0.max_pages)
            .field("n_pages", &state.n_pages)
            .field("n_free", &state.free.len())
            .finish()
    }
}

/// A layer's part of a page, in whole cache lines.
pub(super) fn layer_bytes(layout: &PageLayout) -> usize {
    layout.page_bytes().next_multiple_of(size_of::<CacheLine>())
}

/// What a page of `bytes` takes of memory: an allocator maps large blocks in pages of the system, its own header included.
pub(super) fn allocated_bytes(bytes: usize) -> usize {
    bytes + if bytes < LARGE_BYTES { BLOCK_HEADER_BYTES } else { SYSTEM_PAGE_BYTES }
}

/// A page, all layers together.
pub(super) fn page_bytes(layout: &PageLayout, n_layers: usize) -> usize {
    n_layers * layer_bytes(layout)
}

/// A reference to a page; the last one gives it back to the pool. What a page holds never changes while somebody else refers to it.
pub struct PageRef {
    /// `None` only while being dropped.
    page: Option<Arc<Page>>,
    pool: PagePool,
}

impl PageRef {
    /// The part of one layer.
    ///
    /// # Panics
    /// Where there is no such layer.
    pub fn layer(&self, layer: usize) -> &[u8] {
        let layout = &self.pool.0.layout;
        &bytemuck::cast_slice(&self.page().lines)[layer * layer_bytes(layout)..][..layout.page_bytes()]
    }

    /// The part of one layer, to write to; `None` where the page is shared.
    pub(super) fn layer_mut(&mut self, layer: usize) -> Option<&mut [u8]> {
        let layout = &self.pool.0.layout;
        let page = Arc::get_mut(self.page.as_mut()?)?;
        Some(
            &mut bytemuck::cast_slice_mut(&mut page.lines)[layer * layer_bytes(layout)..]
                [..layout.page_bytes()],
        )
    }

    /// Whether somebody else refers to the page too.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(self.page()) > 1
    }

    /// Overwrites all of the page with another's content. Does nothing where the page is shared.
    pub(super) fn copy_from(&mut self, other: &PageRef) {
        if let Some(page) = self.page.as_mut().and_then(Arc::get_mut) {
            page.lines.copy_from_slice(&other.page().lines);
        }
    }

    /// Whether it comes from `pool`.
    pub fn is_of(&self, pool: &PagePool) -> bool {
        self.pool.is_same(pool)
    }

    fn page(&self) -> &Arc<Page> {
        self.page.as_ref().expect("a page until it is dropped")
    }
}

impl Clone for PageRef {
    fn clone(&self) -> PageRef {
        PageRef { page: self.page.clone(), pool: self.pool.clone() }
    }
}

impl Drop for PageRef {
    fn drop(&mut self) {
        let Some(page) = self.page.take() else { return };
        // Counts only fall under the lock, so exactly one of several owners that drop at the same time finds itself the last.
        let mut state = self.pool.state();
        if Arc::strong_count(&page) == 1 {
            state.free.push(page);
        } else {
            // Here and not at the end of the function, which the lock does not reach.
            drop(page);
        }
    }
}
