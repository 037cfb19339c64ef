//! The keys and values of one sequence, in pages.
//!
//! A page holds [`PAGE_LEN`] positions, aligned to absolute position, of every layer. The table is cyclic: position `p` lives in entry
//! `(p / 64) % n_pages`, so that a sequence with a window takes constant memory however long it grows. Pages are counted by reference:
//! sequences with a common beginning share them until one writes.

use std::sync::Arc;

use bise_kernels::CacheLine;
use bise_kernels::kv_page::{PAGE_LEN, PageLayout};

/// Pages beyond those a window needs: room to read a few pages of a prompt at once, and to rewind a little.
const SLACK_PAGES: usize = 3;

type Page = Vec<CacheLine>;

/// The keys and values of one sequence.
#[derive(Clone)]
pub struct KvCache {
    layout: PageLayout,
    /// Bytes of one layer's part of a page, whole cache lines.
    layer_bytes: usize,
    n_layers: usize,
    window: Option<usize>,
    n_ctx: usize,
    /// `None` until first written.
    pages: Vec<Option<Arc<Page>>>,
    n_positions: usize,
    /// Positions that were ever written, whether or not taken back: what lies further back than the table is lost.
    n_written: usize,
}

impl KvCache {
    /// An empty cache for up to `n_ctx` positions, or, with a window, any number.
    pub fn new(layout: PageLayout, n_layers: usize, n_ctx: usize, window: Option<usize>) -> KvCache {
        KvCache::with_pages(layout, n_layers, n_ctx, window, n_pages(n_ctx, window))
    }

    /// The same with room for `n_ctx` positions where a window needs less: so far [`KvCache::rewind`] reaches everywhere.
    pub fn keeping_all(layout: PageLayout, n_layers: usize, n_ctx: usize, window: Option<usize>) -> KvCache {
        let enough = n_pages(n_ctx, window).max(n_pages(n_ctx, None));
        KvCache::with_pages(layout, n_layers, n_ctx, window, enough)
    }

    fn with_pages(
        layout: PageLayout,
        n_layers: usize,
        n_ctx: usize,
        window: Option<usize>,
        n_pages: usize,
    ) -> KvCache {
        let layer_bytes = layout.page_bytes().next_multiple_of(64);
        KvCache {
            layout,
            layer_bytes,
            n_layers,
            window,
            n_ctx,
            pages: vec![None; n_pages],
            n_positions: 0,
            n_written: 0,
        }
    }

    /// Bytes that the pages of such a cache take when all are in use.
    pub fn bytes(layout: &PageLayout, n_layers: usize, n_ctx: usize, window: Option<usize>) -> usize {
        n_pages(n_ctx, window) * n_layers * layout.page_bytes().next_multiple_of(64)
    }

    /// The layout of a page.
    pub fn layout(&self) -> &PageLayout {
        &self.layout
    }

    /// The window, if there is one.
    pub fn window(&self) -> Option<usize> {
        self.window
    }

    /// Positions read so far.
    pub fn len(&self) -> usize {
        self.n_positions
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.n_positions == 0
    }

    /// Positions that still fit; without end where there is a window.
    pub fn room(&self) -> usize {
        match self.window {
            Some(_) => usize::MAX - self.n_positions,
            None => self.n_ctx - self.n_positions,
        }
    }

    /// The first position that a query at `pos` sees.
    pub fn first_seen(&self, pos: usize) -> usize {
        self.window.map_or(0, |window| (pos + 1).saturating_sub(window))
    }

    /// How far past `start` positions can be written before they take the place of one that a query at `start` sees.
    pub fn writable_until(&self, start: usize) -> usize {
        (self.first_seen(start) / PAGE_LEN + self.pages.len()) * PAGE_LEN
    }

    /// Forgets positions from `position` on. Returns whether what is left is whole: with a window, a query at `position` may see rows
    /// that were overwritten since, and then nothing was changed.
    pub fn rewind(&mut self, position: usize) -> bool {
        let last_page = self.n_written.saturating_sub(1) / PAGE_LEN;
        let oldest_kept = (last_page + 1).saturating_sub(self.pages.len()) * PAGE_LEN;
        let whole =
            position <= self.n_positions && (position == 0 || self.first_seen(position) >= oldest_kept);
        if whole {
            self.n_positions = position;
            if position == 0 {
                self.n_written = 0;
            }
        }
        whole
    }

    /// Makes the pages of the next `n` positions present and this sequence's own.
    pub(crate) fn reserve(&mut self, n: usize) {
        let (first, end) = (self.n_positions / PAGE_LEN, (self.n_positions + n).div_ceil(PAGE_LEN));
        let lines = self.n_layers * self.layer_bytes / 64;
        for page in first..end.min(first + self.pages.len()) {
            let entry = page % self.pages.len();
            match &mut self.pages[entry] {
                Some(page) => drop(Arc::make_mut(page)),
                empty => *empty = Some(Arc::new(bytemuck::allocation::zeroed_vec(lines))),
            }
        }
    }

    /// Counts `n` more positions as read.
    pub(crate) fn advance(&mut self, n: usize) {
        self.count_written(n);
        self.n_positions += n;
    }

    /// Counts the rows of the next `n` positions as written, though they hold nothing that counts.
    pub(crate) fn count_written(&mut self, n: usize) {
        self.n_written = self.n_written.max(self.n_positions + n);
    }

    /// The part of layer `layer` in page `page` (absolute position / [`PAGE_LEN`]).
    pub(crate) fn page(&self, layer: usize, page: usize) -> &[u8] {
        let page = self.pages[page % self.pages.len()].as_deref().expect("reserved before it is read");
        &bytemuck::cast_slice(page)[layer * self.layer_bytes..][..self.layout.page_bytes()]
    }

    /// The parts of layer `layer` in the pages from `first` on, to write; they are this sequence's own since [`KvCache::reserve`].
    /// At most as many as the table has.
    pub(crate) fn pages_mut<'a>(&'a mut self, layer: usize, first: usize, out: &mut [Option<&'a mut [u8]>]) {
        let (n, first, part) = (self.pages.len(), first % self.pages.len(), layer * self.layer_bytes);
        let page_bytes = self.layout.page_bytes();
        let (wrapped, from_first) = self.pages.split_at_mut(first);
        assert!(out.len() <= n, "{} pages of {n}", out.len());
        for (out, page) in out.iter_mut().zip(from_first.iter_mut().chain(wrapped)) {
            let page = page.as_mut().and_then(Arc::get_mut).expect("reserved before it is written");
            *out = Some(&mut bytemuck::cast_slice_mut(page)[part..][..page_bytes]);
        }
    }
}

/// With a window: the pages that it can touch, one more for the page being filled, and slack; never more than the context takes
/// where the window is as long as that.
fn n_pages(n_ctx: usize, window: Option<usize>) -> usize {
    match window {
        None => n_ctx.div_ceil(PAGE_LEN).max(1),
        Some(window) => window.div_ceil(PAGE_LEN) + 1 + SLACK_PAGES,
    }
}
