//! Attention of the queries of one or several sequences over their pages, on the threads of a team.

use std::cmp::Reverse;
use std::collections::TryReserveError;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::partials::{PageHead, Partials};
use crate::aligned::try_filled;
use crate::attention::layout::{PAGE_LEN, PageLayout};
use crate::cancel::CancelFlags;
use crate::matmul::strip::OutStrip;
use crate::table::KernelTable;
use crate::team::Team;

/// Rows (query heads × queries) of a task: queries and partial results stay in L2 while the task reads page after page.
const TASK_ROWS: usize = 64;

/// Where each task is a page: pages attended to before their results are merged. Bounds the scratch.
const WAVE_PAGES: usize = 64;

/// Sequences of a batch for which there is room from the start.
const FEW_SEQUENCES: usize = 16;

/// Pages × query heads up to which splitting a query by pages is slower than one task, because of the merge.
const ONE_TASK: usize = 16;

/// The attention of one layer for some positions of one or several sequences.
pub struct Attention<'a> {
    /// Query heads, a multiple of the pages' heads: head `h` reads keys and values of head `h / (n_heads / n_kv_heads)`.
    pub n_heads: usize,
    /// `[m][n_heads · head_dim]`: the queries of the first sequence, then those of the second …
    pub q: &'a [f32],
    /// What each query is multiplied by, `[m]`: `1/√head_dim`, times an attention temperature where the model has one.
    pub scales: &'a [f32],
    /// Once it is set, no further task is begun, and the outputs are unspecified.
    pub cancel: CancelFlags<'a>,
    /// `pages(s, i)` is the page of sequence `s` that holds positions `64·i .. 64·i + 64`, for every `i` that has a position some query of
    /// the sequence sees.
    pub pages: &'a (dyn Fn(usize, usize) -> &'a [u8] + Sync),
}

/// Consecutive positions of a sequence whose queries are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuerySpan {
    /// The shape of the sequence's pages.
    pub layout: PageLayout,
    /// Position of the first query.
    pub start: usize,
    /// Number of queries.
    pub n: usize,
    /// Keys a query sees, itself included (`i − window < j ≤ i`); `None` for all before it.
    pub window: Option<usize>,
}

impl QuerySpan {
    /// The first position that query `t` sees.
    fn first_key(&self, t: usize) -> usize {
        self.window.map_or(0, |window| (self.start + t + 1).saturating_sub(window))
    }

    /// The pages that queries `first..first + n` see.
    fn pages(&self, first: usize, n: usize) -> Range<usize> {
        self.first_key(first) / PAGE_LEN..(self.start + first + n - 1) / PAGE_LEN + 1
    }

    /// The slots of page `page` that query `t` sees.
    fn slots(&self, t: usize, page: usize) -> (u8, u8) {
        let first = page * PAGE_LEN;
        let start = self.first_key(t).saturating_sub(first).min(PAGE_LEN);
        let end = (self.start + t + 1).saturating_sub(first).min(PAGE_LEN);
        (start as u8, end as u8)
    }
}

/// Room for [`attention`], made once. Only a list of the sequences grows, with the largest batch so far.
pub struct AttentionScratch {
    parts: Vec<Part>,
    /// The tasks of a wave for one head, where pages are tasks.
    visits: Vec<Visit>,
    /// One for each thread.
    workers: Vec<Mutex<Worker>>,
    /// `[WAVE_PAGES][n_kv_heads]`; empty for one thread.
    waves: Vec<Mutex<Partials>>,
    /// Merged results of each head so far, where pages are tasks.
    running: Vec<Mutex<Partials>>,
    head_dim: usize,
    n_rep: usize,
}

/// The queries of one sequence.
struct Part {
    /// Its place in the batch.
    sequence: usize,
    span: QuerySpan,
    /// Its first query among those of the batch.
    first: usize,
    /// Its first task, where tiles of queries are tasks.
    first_task: usize,
}

/// A query and one page that it sees.
#[derive(Clone, Copy)]
struct Visit {
    part: usize,
    t: usize,
    page: usize,
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
            parts: Vec::with_capacity(FEW_SEQUENCES),
            visits: Vec::with_capacity(WAVE_PAGES),
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
        let lists = FEW_SEQUENCES * size_of::<Part>() + WAVE_PAGES * size_of::<Visit>();
        4 * (n_threads.max(1) * rows * (3 * head_dim + 4) + waves) + lists
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of a task leaves numbers, which the next use overwrites.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the output of every query, `out [m][n_heads · head_dim]`. `spans` has the sequences in order. Keys and values of the queries' own
/// positions lie in the pages.
///
/// The bits do not depend on the team, nor on how positions are cut into calls, nor on what other sequences are in the batch.
///
/// # Panics
/// Where shapes do not fit, a window is 0, or the scratch was made for another layout or a smaller team.
pub fn attention(
    team: &Team,
    kernels: &KernelTable,
    scratch: &mut AttentionScratch,
    task: &Attention<'_>,
    spans: impl IntoIterator<Item = QuerySpan>,
    out: &mut [f32],
) {
    let AttentionScratch { parts, visits, workers, waves, running, head_dim, n_rep } = scratch;
    let (head_dim, n_rep) = (*head_dim, *n_rep);
    let (m, width, n_kv_heads) = (task.scales.len(), task.n_heads * head_dim, task.n_heads / n_rep);
    assert_eq!((task.q.len(), out.len()), (m * width, m * width), "queries and outputs of {m} positions");
    assert!(workers.len() >= team.n_threads(), "scratch for {} threads", workers.len());
    parts.clear();
    let mut first = 0;
    for (sequence, span) in spans.into_iter().enumerate() {
        assert_ne!(span.window, Some(0), "a window of 0");
        let shape = (span.layout.n_kv_heads() * n_rep, span.layout.head_dim());
        assert_eq!(shape, (task.n_heads, head_dim), "heads of the pages and of the scratch");
        if span.n > 0 {
            parts.push(Part { sequence, span, first, first_task: 0 });
            first += span.n;
        }
    }
    assert_eq!(first, m, "queries of all sequences");
    if m == 0 {
        return;
    }
    // Few queries of few heads leave threads idle unless they share their pages.
    let few = m * n_kv_heads < 2 * team.n_threads();
    let many_pages = |part: &Part| part.span.pages(0, part.span.n).len() * n_rep > ONE_TASK;
    if few && !waves.is_empty() && parts.iter().any(many_pages) {
        let job = Job { kernels, workers, parts, task, n_rep, head_dim, out: Output(out.as_mut_ptr()) };
        return job.by_pages(team, visits, waves, running);
    }
    // Tasks of the sequences whose queries see most keys go first, so that none of them is left for the end.
    parts.sort_unstable_by_key(|part| Reverse(part.span.start + part.span.n));
    let tile = (TASK_ROWS / n_rep).max(1).min(m.div_ceil(2 * team.n_threads().div_ceil(n_kv_heads)).max(1));
    let mut n_tasks = 0;
    for part in parts.iter_mut() {
        part.first_task = n_tasks;
        n_tasks += part.span.n.div_ceil(tile) * n_kv_heads;
    }
    let job = Job { kernels, workers, parts, task, n_rep, head_dim, out: Output(out.as_mut_ptr()) };
    team.run(n_tasks, |i, worker| {
        if task.cancel.is_set() {
            return;
        }
        let part = &job.parts[job.parts.partition_point(|part| part.first_task <= i) - 1];
        let (i, n) = (i - part.first_task, part.span.n);
        // So do the last queries of a sequence.
        let first = (n.div_ceil(tile) - 1 - i / n_kv_heads) * tile;
        job.tile(&mut lock(&job.workers[worker]), part, i % n_kv_heads, first, tile.min(n - first));
    });
}

/// A call of [`attention`].
struct Job<'a, 'p> {
    kernels: &'a KernelTable,
    workers: &'a [Mutex<Worker>],
    parts: &'a [Part],
    task: &'a Attention<'p>,
    /// Query heads on one head of keys.
    n_rep: usize,
    head_dim: usize,
    out: Output,
}

struct Output(*mut f32);
// SAFETY: each task writes the outputs of its own queries and heads.
unsafe impl Sync for Output {}

impl Job<'_, '_> {
    /// A head of a page, and the keys that are read next.
    fn head<'a>(&'a self, part: &'a Part, page: usize, kv_head: usize, next: &'a [u8]) -> PageHead<'a> {
        let page = (self.task.pages)(part.sequence, page);
        PageHead { layout: &part.span.layout, page, kv_head, next }
    }

    /// The keys of a head of a page.
    fn keys(&self, part: &Part, page: usize, kv_head: usize) -> &[u8] {
        part.span.layout.keys((self.task.pages)(part.sequence, page), kv_head)
    }

    /// Scales the batch's queries `first..first + n` of a group of heads into `q`, `[n][n_rep][head_dim]`.
    fn scale_queries(&self, q: &mut [f32], kv_head: usize, first: usize, n: usize) {
        let group = self.n_rep * self.head_dim;
        for t in 0..n {
            let at = (first + t) * self.task.n_heads * self.head_dim + kv_head * group;
            let scale = self.task.scales[first + t];
            for (q, x) in q[t * group..][..group].iter_mut().zip(&self.task.q[at..][..group]) {
                *q = x * scale;
            }
        }
    }

    /// Writes the output of the batch's queries `first..first + n` of a group of heads.
    ///
    /// # Safety
    /// Nobody else writes the outputs of these queries and heads.
    unsafe fn write(&self, running: &Partials, kv_head: usize, first: usize, n: usize) {
        let head_dim = self.head_dim;
        let (group, width) = (self.n_rep * head_dim, self.task.n_heads * head_dim);
        let at = first * width + kv_head * group;
        // SAFETY: `attention` asserted that `out` has `width` values for each query of its parts; no other task has these queries and heads.
        let mut out = unsafe { OutStrip::new(self.out.0.add(at), width, group, n) };
        for t in 0..n {
            for (h, out) in out.row(t).chunks_exact_mut(head_dim).enumerate() {
                self.kernels.finish(running, t * self.n_rep + h, out);
            }
        }
    }

    /// Queries `first..first + n` of a sequence and one head of keys, page after page.
    fn tile(&self, worker: &mut Worker, part: &Part, kv_head: usize, first: usize, n: usize) {
        let rows = n * self.n_rep;
        let head_dim = self.head_dim;
        self.scale_queries(&mut worker.q, kv_head, part.first + first, n);
        worker.running.clear();
        let pages = part.span.pages(first, n);
        for page in pages.clone() {
            worker.ranges.clear();
            for t in first..first + n {
                worker.ranges.extend(std::iter::repeat_n(part.span.slots(t, page), self.n_rep));
            }
            let next = if page + 1 < pages.end { self.keys(part, page + 1, kv_head) } else { &[] };
            let head = self.head(part, page, kv_head, next);
            let q = &worker.q[..rows * head_dim];
            self.kernels.attend_page(head, q, &worker.ranges, &mut worker.page);
            self.kernels.merge(&mut worker.running, &worker.page, rows);
        }
        // SAFETY: tasks differ in their queries or in their heads.
        unsafe { self.write(&worker.running, kv_head, part.first + first, n) }
    }

    /// Every query's pages split over the threads, some pages at a time; results are merged in the order of positions all the same.
    fn by_pages(
        &self,
        team: &Team,
        visits: &mut Vec<Visit>,
        waves: &[Mutex<Partials>],
        running: &[Mutex<Partials>],
    ) {
        let n_kv_heads = self.task.n_heads / self.n_rep;
        let mut all = self.parts.iter().enumerate().flat_map(|(i, part)| {
            (0..part.span.n)
                .flat_map(move |t| part.span.pages(t, 1).map(move |page| Visit { part: i, t, page }))
        });
        loop {
            visits.clear();
            visits.extend(all.by_ref().take(WAVE_PAGES));
            if visits.is_empty() {
                return;
            }
            let visits = &visits[..];
            self.visit(team, visits, waves);
            team.run(n_kv_heads, |kv_head, _| {
                if self.task.cancel.is_set() {
                    return;
                }
                let running = &mut lock(&running[kv_head]);
                for (i, visit) in visits.iter().enumerate() {
                    let part = &self.parts[visit.part];
                    let pages = part.span.pages(visit.t, 1);
                    if visit.page == pages.start {
                        running.clear();
                    }
                    self.kernels.merge(running, &lock(&waves[i * n_kv_heads + kv_head]), self.n_rep);
                    if visit.page + 1 == pages.end {
                        // SAFETY: tasks differ in their heads.
                        unsafe { self.write(running, kv_head, part.first + visit.t, 1) }
                    }
                }
            });
        }
    }

    /// What each query gets from one page, for every head: `waves [visits][n_kv_heads]`.
    fn visit(&self, team: &Team, visits: &[Visit], waves: &[Mutex<Partials>]) {
        let n_kv_heads = self.task.n_heads / self.n_rep;
        let head_dim = self.head_dim;
        team.run(visits.len() * n_kv_heads, |i, worker| {
            if self.task.cancel.is_set() {
                return;
            }
            let (Visit { part, t, page }, kv_head) = (visits[i / n_kv_heads], i % n_kv_heads);
            let part = &self.parts[part];
            // Tasks are taken in order: while threads keep step, this one's next.
            let next = i + team.n_threads();
            let next = visits
                .get(next / n_kv_heads)
                .map_or(&[][..], |visit| self.keys(&self.parts[visit.part], visit.page, next % n_kv_heads));
            let worker = &mut *lock(&self.workers[worker]);
            self.scale_queries(&mut worker.q, kv_head, part.first + t, 1);
            worker.ranges.clear();
            worker.ranges.resize(self.n_rep, part.span.slots(t, page));
            let q = &worker.q[..self.n_rep * head_dim];
            let head = self.head(part, page, kv_head, next);
            self.kernels.attend_page(head, q, &worker.ranges, &mut lock(&waves[i]));
        });
    }
}
