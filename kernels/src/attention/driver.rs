//! Attention of a sequence's queries over all its pages, on the threads of a team.

use std::collections::TryReserveError;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::partials::{PageHead, Partials};
use crate::aligned::try_filled;
use crate::attention::layout::{PAGE_LEN, PageLayout};
use crate::matmul::strip::OutStrip;
use crate::table::KernelTable;
use crate::team::Team;

/// Rows (query heads × queries) of a task: queries and partial results stay in L2 while the task reads page after page.
const TASK_ROWS: usize = 64;

/// Where each task is a page: pages attended to before their results are merged. Bounds the scratch.
const WAVE_PAGES: usize = 64;

/// Pages × query heads up to which splitting a query by pages is slower than one task, because of the merge.
const ONE_TASK: usize = 16;

/// The attention of one layer for consecutive positions of one sequence.
pub struct Attention<'a> {
    /// The shape of pages.
    pub layout: &'a PageLayout,
    /// Query heads, a multiple of the layout's heads: head `h` reads keys and values of head `h / (n_heads / n_kv_heads)`.
    pub n_heads: usize,
    /// Position of the first query.
    pub start: usize,
    /// Keys a query sees, itself included (`i − window < j ≤ i`); `None` for all before it.
    pub window: Option<usize>,
    /// `[m][n_heads · head_dim]`
    pub q: &'a [f32],
    /// What each query is multiplied by, `[m]`: `1/√head_dim`, times an attention temperature where the model has one.
    pub scales: &'a [f32],
    /// Once it is set, no further task is begun, and the outputs are unspecified.
    pub cancel: &'a AtomicBool,
    /// The page that holds positions `64·i .. 64·i + 64`, for every `i` that has a position some query sees.
    pub pages: &'a (dyn Fn(usize) -> &'a [u8] + Sync),
}

/// Room for [`attention`], made once.
pub struct AttentionScratch {
    /// One for each thread.
    workers: Vec<Mutex<Worker>>,
    /// `[WAVE_PAGES][n_kv_heads]`; empty for one thread.
    waves: Vec<Mutex<Partials>>,
    /// Merged results of each head so far, where pages are tasks.
    running: Vec<Mutex<Partials>>,
    head_dim: usize,
    n_rep: usize,
}

struct Worker {
    /// Scaled queries `[rows][head_dim]`.
    q: Vec<f32>,
    ranges: Vec<(u8, u8)>,
    page: Partials,
    running: Partials,
}

impl AttentionScratch {
    /// Room for a team of `n_threads` and models with `n_heads` query heads.
    ///
    /// # Panics
    /// If `n_heads` is no multiple of the layout's heads, or the memory cannot be had.
    pub fn new(layout: &PageLayout, n_heads: usize, n_threads: usize) -> Self {
        AttentionScratch::try_new(layout, n_heads, n_threads).expect("memory for attention")
    }

    /// Room for a team of `n_threads` and models with `n_heads` query heads.
    ///
    /// # Errors
    /// If the memory cannot be had.
    ///
    /// # Panics
    /// If `n_heads` is no multiple of the layout's heads.
    pub fn try_new(layout: &PageLayout, n_heads: usize, n_threads: usize) -> Result<Self, TryReserveError> {
        let (n_kv_heads, head_dim) = (layout.n_kv_heads(), layout.head_dim());
        assert!(n_heads > 0 && n_heads.is_multiple_of(n_kv_heads), "{n_heads} heads on {n_kv_heads}");
        let n_rep = n_heads / n_kv_heads;
        let rows = TASK_ROWS.max(n_rep);
        let worker = |_| -> Result<_, TryReserveError> {
            Ok(Mutex::new(Worker {
                q: try_filled(0.0, rows.saturating_mul(head_dim))?,
                ranges: Vec::with_capacity(rows),
                page: Partials::try_new(rows, head_dim)?,
                running: Partials::try_new(rows, head_dim)?,
            }))
        };
        let partials = |n: usize| {
            (0..n).map(|_| Partials::try_new(n_rep, head_dim).map(Mutex::new)).collect::<Result<_, _>>()
        };
        let split = n_threads > 1;
        Ok(AttentionScratch {
            workers: (0..n_threads.max(1)).map(worker).collect::<Result<_, _>>()?,
            waves: partials(if split { WAVE_PAGES * n_kv_heads } else { 0 })?,
            running: partials(if split { n_kv_heads } else { 0 })?,
            head_dim,
            n_rep,
        })
    }

    /// Bytes of [`AttentionScratch::new`]'s buffers.
    pub fn bytes(layout: &PageLayout, n_heads: usize, n_threads: usize) -> usize {
        let (n_kv_heads, head_dim) = (layout.n_kv_heads(), layout.head_dim());
        let n_rep = n_heads / n_kv_heads;
        let rows = TASK_ROWS.max(n_rep);
        let waves = if n_threads > 1 { (WAVE_PAGES + 1) * n_kv_heads * n_rep * (head_dim + 2) } else { 0 };
        4 * (n_threads.max(1) * rows * (3 * head_dim + 4) + waves)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of a task leaves numbers, which the next use overwrites.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the output of every query, `out [m][n_heads · head_dim]`. Keys and values of the queries' own positions lie in the pages.
///
/// The bits do not depend on the team, nor on how positions are cut into calls.
///
/// # Panics
/// Where shapes do not fit, the window is 0, or the scratch was made for another layout or a smaller team.
pub fn attention(
    team: &Team,
    kernels: &KernelTable,
    scratch: &AttentionScratch,
    task: &Attention<'_>,
    out: &mut [f32],
) {
    let head_dim = task.layout.head_dim();
    let n_kv_heads = task.layout.n_kv_heads();
    let (m, width) = (task.scales.len(), task.n_heads * head_dim);
    assert_eq!((task.q.len(), out.len()), (m * width, m * width), "queries and outputs of {m} positions");
    assert_eq!(
        (scratch.head_dim, scratch.n_rep * n_kv_heads),
        (head_dim, task.n_heads),
        "scratch of attention"
    );
    assert!(scratch.workers.len() >= team.n_threads(), "scratch for {} threads", scratch.workers.len());
    assert_ne!(task.window, Some(0), "a window of 0");
    if m == 0 {
        return;
    }
    let job = Job { kernels, scratch, task, n_rep: scratch.n_rep, out: Output(out.as_mut_ptr()) };
    let pages = job.first_key(0) / PAGE_LEN..(task.start + m - 1) / PAGE_LEN + 1;
    // One query (or few) of few heads leaves threads idle unless they share its pages.
    let few = m * n_kv_heads < 2 * team.n_threads();
    if few && pages.len() * job.n_rep > ONE_TASK && !scratch.waves.is_empty() {
        for t in 0..m {
            job.query_by_pages(team, t);
        }
        return;
    }
    let tile =
        (TASK_ROWS / job.n_rep).max(1).min(m.div_ceil(2 * team.n_threads().div_ceil(n_kv_heads)).max(1));
    let n_tiles = m.div_ceil(tile);
    team.run(n_tiles * n_kv_heads, |i, worker| {
        if task.cancel.load(Relaxed) {
            return;
        }
        // The last queries see most keys: they go first.
        let first = (n_tiles - 1 - i / n_kv_heads) * tile;
        let mut worker = lock(&scratch.workers[worker]);
        job.tile(&mut worker, i % n_kv_heads, first, tile.min(m - first));
    });
}

/// A call of [`attention`].
struct Job<'a, 'p> {
    kernels: &'a KernelTable,
    scratch: &'a AttentionScratch,
    task: &'a Attention<'p>,
    /// Query heads on one head of keys.
    n_rep: usize,
    out: Output,
}

struct Output(*mut f32);
// SAFETY: each task writes the outputs of its own queries and heads.
unsafe impl Sync for Output {}

impl Job<'_, '_> {
    /// The first position that query `t` sees.
    fn first_key(&self, t: usize) -> usize {
        let pos = self.task.start + t;
        self.task.window.map_or(0, |window| (pos + 1).saturating_sub(window))
    }

    /// The slots of page `page` that query `t` sees.
    fn range(&self, t: usize, page: usize) -> (u8, u8) {
        let first = page * PAGE_LEN;
        let start = self.first_key(t).saturating_sub(first).min(PAGE_LEN);
        let end = (self.task.start + t + 1).saturating_sub(first).min(PAGE_LEN);
        (start as u8, end as u8)
    }

    /// A head of a page, before page and head `next`.
    fn head(&self, page: usize, kv_head: usize, next: Option<(usize, usize)>) -> PageHead<'_> {
        let (layout, pages) = (self.task.layout, self.task.pages);
        let next = next.map_or(&[][..], |(page, kv_head)| layout.keys(pages(page), kv_head));
        PageHead { layout, page: pages(page), kv_head, next }
    }

    /// Scales the queries `first..first + n` of a group of heads into `q`, `[n][n_rep][head_dim]`.
    fn scale_queries(&self, q: &mut [f32], kv_head: usize, first: usize, n: usize) {
        let group = self.n_rep * self.task.layout.head_dim();
        for t in 0..n {
            let at = (first + t) * self.task.n_heads * self.task.layout.head_dim() + kv_head * group;
            let scale = self.task.scales[first + t];
            for (q, x) in q[t * group..][..group].iter_mut().zip(&self.task.q[at..][..group]) {
                *q = x * scale;
            }
        }
    }

    /// Writes the output of queries `first..first + n` of a group of heads.
    ///
    /// # Safety
    /// Nobody else writes the outputs of these queries and heads.
    unsafe fn write(&self, running: &Partials, kv_head: usize, first: usize, n: usize) {
        let head_dim = self.task.layout.head_dim();
        let (group, width) = (self.n_rep * head_dim, self.task.n_heads * head_dim);
        let at = first * width + kv_head * group;
        // SAFETY: `attention` asserted that `out` has `width` values for each query; no other task has these queries and heads.
        let mut out = unsafe { OutStrip::new(self.out.0.add(at), width, group, n) };
        for t in 0..n {
            for (h, out) in out.row(t).chunks_exact_mut(head_dim).enumerate() {
                self.kernels.finish(running, t * self.n_rep + h, out);
            }
        }
    }

    /// Queries `first..first + n` of one head of keys, page after page.
    fn tile(&self, worker: &mut Worker, kv_head: usize, first: usize, n: usize) {
        let rows = n * self.n_rep;
        let head_dim = self.task.layout.head_dim();
        self.scale_queries(&mut worker.q, kv_head, first, n);
        worker.running.clear();
        let last = (self.task.start + first + n - 1) / PAGE_LEN;
        for page in self.first_key(first) / PAGE_LEN..=last {
            worker.ranges.clear();
            for t in first..first + n {
                worker.ranges.extend(std::iter::repeat_n(self.range(t, page), self.n_rep));
            }
            let head = self.head(page, kv_head, (page < last).then_some((page + 1, kv_head)));
            let q = &worker.q[..rows * head_dim];
            self.kernels.attend_page(head, q, &worker.ranges, &mut worker.page);
            self.kernels.merge(&mut worker.running, &worker.page, rows);
        }
        // SAFETY: tasks differ in their queries or in their heads.
        unsafe { self.write(&worker.running, kv_head, first, n) }
    }

    /// Query `t`, its pages split over the threads; results are merged in the order of positions all the same.
    fn query_by_pages(&self, team: &Team, t: usize) {
        let n_kv_heads = self.task.layout.n_kv_heads();
        let head_dim = self.task.layout.head_dim();
        for running in &self.scratch.running {
            lock(running).clear();
        }
        let mut page = self.first_key(t) / PAGE_LEN;
        let end = (self.task.start + t) / PAGE_LEN + 1;
        while page < end {
            let n = WAVE_PAGES.min(end - page);
            team.run(n * n_kv_heads, |i, worker| {
                if self.task.cancel.load(Relaxed) {
                    return;
                }
                let at = |i| (page + i / n_kv_heads, i % n_kv_heads);
                let (page, kv_head) = at(i);
                // Tasks are taken in order: while threads keep step, this one's next.
                let next = Some(i + team.n_threads()).filter(|i| *i < n * n_kv_heads).map(at);
                let worker = &mut *lock(&self.scratch.workers[worker]);
                self.scale_queries(&mut worker.q, kv_head, t, 1);
                worker.ranges.clear();
                worker.ranges.resize(self.n_rep, self.range(t, page));
                let q = &worker.q[..self.n_rep * head_dim];
                let out = &mut lock(&self.scratch.waves[i]);
                let head = self.head(page, kv_head, next);
                self.kernels.attend_page(head, q, &worker.ranges, out);
            });
            page += n;
            team.run(n_kv_heads, |kv_head, _| {
                let running = &mut lock(&self.scratch.running[kv_head]);
                for i in 0..n {
                    self.kernels.merge(
                        running,
                        &lock(&self.scratch.waves[i * n_kv_heads + kv_head]),
                        self.n_rep,
                    );
                }
                if page == end {
                    // SAFETY: tasks differ in their heads.
                    unsafe { self.write(running, kv_head, t, 1) }
                }
            });
        }
    }
}
