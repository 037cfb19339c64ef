//! What texts have in common is read once: [`PrefixOptions`].
//!
//! Keys and values of a token depend on it, the tokens before it and the text's adapters, and on nothing else, bit for bit. So a
//! [`Scheduler`](crate::scheduler::Scheduler) keeps the pages of texts, running ones too, in a tree by adapters and tokens, and a prompt that begins as
//! another text does begins with the pages of that. They are shared, and copied before they are written to. Nobody has to ask for it, and
//! [`JobStats::n_cached`](crate::scheduler::JobStats::n_cached) tells how much it has saved.
//!
//! Pages take memory that no text needs, and are given up when one does, the least recently used first. In a
//! [folder](DiskCacheOptions), they also outlive the process and are shared with others.

mod disk;
mod page_file;
mod tree;

use bise_kernels::kv_page::PAGE_LEN;
use bise_models::{PagePool, PageRef};

pub use disk::{DiskCacheOptions, OnWarning};

use crate::adapter::list::Adapters;
use crate::{Engine, Error, Sequence, SessionOptions};
use disk::{DiskCache, Names};
use page_file::ReadError;
use tree::{Match, Tree, first_page};

/// What is kept of texts for others that begin alike.
#[derive(Clone, Debug)]
pub struct PrefixOptions {
    /// Pages in memory, at most; 0 turns the cache off.
    pub max_pages: usize,
    /// Pages on the disk.
    pub disk: Option<DiskCacheOptions>,
}

impl Default for PrefixOptions {
    /// As many as texts leave, and none on the disk.
    fn default() -> PrefixOptions {
        PrefixOptions { max_pages: usize::MAX, disk: None }
    }
}

/// The pages of texts, in memory and on the disk.
pub(crate) struct PrefixCache {
    tree: Tree,
    disk: Option<DiskCache>,
    max_pages: usize,
    window: Option<usize>,
    /// Changes whenever there is more to be found in memory.
    version: u64,
}

/// The beginning of a text, on its way into memory.
pub(crate) struct Restore {
    /// Tokens it has.
    n: usize,
    first_page: usize,
    /// Its pages, as far as they are there.
    pages: Vec<Option<PageRef>>,
    names: Option<Names>,
    /// What tells the text's adapters from others.
    adapters: u128,
}

impl Restore {
    /// Tokens it has.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Pages that have to be read from the disk.
    pub fn n_missing(&self) -> usize {
        self.pages.iter().filter(|page| page.is_none()).count()
    }

    /// The tokens, the number of the first page, and the pages. All must be there.
    pub fn into_pages(self) -> (usize, usize, Vec<PageRef>) {
        (self.n, self.first_page, self.pages.into_iter().flatten().collect())
    }
}

impl PrefixCache {
    /// An empty cache, or what the disk has; `None` where it is off.
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub fn open(
        engine: &Engine,
        session: &SessionOptions,
        pool: &PagePool,
        options: &PrefixOptions,
    ) -> Result<Option<PrefixCache>, Error> {
        if options.max_pages == 0 {
            return Ok(None);
        }
        let disk = match &options.disk {
            None => None,
            Some(options) => Some(
                DiskCache::open(engine, session, pool, options)
                    .map_err(|error| Error::CacheFolder { path: options.folder.clone(), error })?,
            ),
        };
        let window = engine.config().sliding_window;
        let (tree, max_pages) = (Tree::new(window), options.max_pages);
        Ok(Some(PrefixCache { tree, disk, max_pages, window, version: 0 }))
    }

    /// Pages in memory.
    pub fn n_pages(&self) -> usize {
        self.tree.n_pages()
    }

    /// Pages written to the disk.
    pub fn n_written(&self) -> usize {
        self.disk.as_ref().map_or(0, DiskCache::n_written)
    }

    /// Changes whenever there is more to be found in memory.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many of `tokens`, from the first on, there are in memory, read with these adapters.
    pub fn n_found(&self, adapters: &Adapters, tokens: &[u32]) -> usize {
        self.tree.n_found(adapters.fingerprint(), tokens)
    }

    fn find_in_memory(&mut self, adapters: u128, tokens: &[u32]) -> Restore {
        let Match { n, first_page, pages } = self.tree.find(adapters, tokens);
        Restore { n, first_page, pages: pages.into_iter().map(Some).collect(), names: None, adapters }
    }

    /// The longest beginning of `tokens` that there is, read with these adapters.
    pub fn find(&mut self, adapters: &Adapters, tokens: &[u32]) -> Restore {
        self.find_by(adapters.fingerprint(), tokens)
    }

    fn find_by(&mut self, adapters: u128, tokens: &[u32]) -> Restore {
        let in_memory = self.find_in_memory(adapters, tokens);
        let Some(disk) = &self.disk else { return in_memory };
        let n_known = in_memory.n / PAGE_LEN;
        let n_whole = tokens.len() / PAGE_LEN;
        if n_whole <= n_known {
            return in_memory;
        }
        let mut names = disk.names(adapters);
        let held = self.tree.whole_pages(adapters, tokens);
        let (mut best, mut n_in_a_row) = (0, 0);
        for (number, page) in held.iter().enumerate() {
            let is_there = page.is_some() || disk.has(&mut names, tokens, number);
            n_in_a_row = if is_there { n_in_a_row + 1 } else { 0 };
            let end = number + 1;
            if end - first_page(self.window, end * PAGE_LEN) <= n_in_a_row {
                best = end;
            } else if self.window.is_none() {
                break;
            }
        }
        if best <= n_known {
            return in_memory;
        }
        let n = best * PAGE_LEN;
        let first_page = first_page(self.window, n);
        let pages = held.into_iter().take(best).skip(first_page).collect();
        Restore { n, first_page, pages, names: Some(names), adapters }
    }

    /// Reads the next page from the disk. Where that cannot be had, `restore` becomes what there is without it.
    pub fn read_page(&mut self, restore: &mut Restore, tokens: &[u32]) {
        let missing = restore.pages.iter().position(Option::is_none);
        let (Some(i), Some(disk)) = (missing, &mut self.disk) else { return };
        let adapters = restore.adapters;
        let names = restore.names.get_or_insert_with(|| disk.names(adapters));
        match disk.read(names, tokens, restore.first_page + i) {
            Ok(page) => restore.pages[i] = Some(page),
            Err(ReadError::NoPage) => *restore = self.find_in_memory(adapters, tokens),
            Err(_) => *restore = self.find_by(adapters, tokens),
        }
    }

    /// Takes in the pages of a text. `tokens` are those whose keys and values `sequence` has, and whose pages will not change any more; those of the
    /// first `n_known` pages were taken in before.
    pub fn insert(&mut self, tokens: &[u32], sequence: &Sequence, n_known: usize) {
        let (adapters, cache) = (sequence.adapters().fingerprint(), sequence.cache());
        self.tree.insert(adapters, tokens, cache);
        self.version += 1;
        while self.tree.n_pages() > self.max_pages && self.tree.evict(|_| true) {}
        if let Some(disk) = &mut self.disk {
            let mut names = disk.names(adapters);
            for page in n_known.max(cache.first_page())..tokens.len() / PAGE_LEN {
                disk.offer(&mut names, tokens, page, || cache.share_page(page));
            }
        }
    }

    /// Gives up a page that nobody else uses. Returns false where there is none.
    pub fn evict(&mut self) -> bool {
        self.tree.evict(|page| !page.is_shared())
    }
}
