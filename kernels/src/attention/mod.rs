//! `softmax(q·Kᵀ)·V` over pages of keys and values, without a matrix of scores.
//!
//! # The rule
//!
//! Within a page, for one query (`q` scaled beforehand) and the keys it may see:
//! `s_j = Σ_d q_d·k_jd` by fused multiply-add over the dimensions in order, from 0; `m = max s_j`; `p_j = exp(s_j − m)`;
//! `l = Σ p_j`, key `j` in lane `j % 16`, folded in the tree of the lanes; `acc_d = Σ_j p_j·v_jd` by fused multiply-add over the keys in
//! order, from 0. Keys it may not see are skipped: whatever lies in their slots has no influence.
//!
//! Pages fold in the order of positions: with `M` the larger of the two `m`, `a = exp(m − M)` of what is there and `b` of the page,
//! `l = fma(l_page, b, l·a)` and `acc = fma(acc_page, b, acc·a)`; the first page with a key is taken as it is. The output is `acc / l`.
//!
//! So the result does not depend on which queries travel together, nor on which thread does a page.

mod driver;
mod page;

pub use driver::{Attention, AttentionScratch, attention};
pub(crate) use page::attend_page;

use crate::KernelTable;
use crate::kv_page::{BLOCK, PAGE_LEN, PageLayout};
use crate::lanes::{Lanes, exp};

/// One head of a page's keys and values.
#[derive(Clone, Copy)]
pub struct PageHead<'a> {
    /// The shape of the page.
    pub layout: &'a PageLayout,
    /// Its bytes.
    pub page: &'a [u8],
    /// The head.
    pub kv_head: usize,
    /// What is read afterwards, as the keys of another page: asked for meanwhile. May be empty.
    pub next: &'a [u8],
}

/// What some queries have gathered from a page, or from all pages so far: maximum, sum and weighted values.
#[derive(Clone, Debug)]
pub struct Partials {
    head_dim: usize,
    /// Floats of `acc` for one query: `head_dim` in whole blocks.
    stride: usize,
    /// Largest score.
    m: Vec<f32>,
    /// Sum of the exponentials; 0 where no key was seen.
    l: Vec<f32>,
    /// `[n_rows][stride]`
    acc: Vec<f32>,
}

impl Partials {
    /// Room for `n_rows` queries of `head_dim` dimensions, with nothing seen yet.
    pub fn new(n_rows: usize, head_dim: usize) -> Self {
        let stride = head_dim.next_multiple_of(BLOCK);
        let (m, l) = (vec![f32::NEG_INFINITY; n_rows], vec![0.0; n_rows]);
        Partials { head_dim, stride, m, l, acc: vec![0.0; n_rows * stride] }
    }

    /// Queries there is room for.
    pub fn n_rows(&self) -> usize {
        self.m.len()
    }

    /// Forgets what was seen.
    pub fn clear(&mut self) {
        self.m.fill(f32::NEG_INFINITY);
        self.l.fill(0.0);
    }
}

impl KernelTable {
    /// Lets queries `q [n_q][head_dim]` (scaled beforehand) attend to one head of a page: query `r` to the slots
    /// `ranges[r].0..ranges[r].1`. Overwrites the first `n_q` rows of `out`.
    ///
    /// # Panics
    /// Where shapes do not fit the layout, or a range ends past the page.
    pub fn attend_page(&self, head: PageHead<'_>, q: &[f32], ranges: &[(u8, u8)], out: &mut Partials) {
        let layout = head.layout;
        assert_eq!(head.page.len(), layout.page_bytes(), "bytes of a page");
        assert!(head.kv_head < layout.n_kv_heads(), "head {} of {}", head.kv_head, layout.n_kv_heads());
        assert_eq!(q.len(), ranges.len() * layout.head_dim(), "queries");
        assert_eq!(out.head_dim, layout.head_dim(), "dimensions of a head");
        assert!(ranges.len() <= out.n_rows(), "room for {} queries, not {}", out.n_rows(), ranges.len());
        assert!(ranges.iter().all(|range| range.1 as usize <= PAGE_LEN), "a range past the page");
        // SAFETY: a table is handed out for an available ISA only.
        unsafe { (self.floats.attend_page)(head, q, ranges, out) }
    }

    /// Adds a page's first `n_rows` rows to what its predecessors gave.
    ///
    /// # Panics
    /// Where there are not so many rows, or the heads differ.
    pub fn merge(&self, running: &mut Partials, page: &Partials, n_rows: usize) {
        assert_eq!(running.head_dim, page.head_dim, "dimensions of a head");
        assert!(n_rows <= running.n_rows().min(page.n_rows()), "{n_rows} rows to merge");
        // SAFETY: a table is handed out for an available ISA only.
        unsafe { (self.floats.merge)(running, page, n_rows) }
    }

    /// The output of query `row`, `[head_dim]`: zeros where it saw no key.
    ///
    /// # Panics
    /// Where there is no such row, or `out` is not as long as a head.
    pub fn finish(&self, running: &Partials, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), running.head_dim, "dimensions of a head");
        // SAFETY: a table is handed out for an available ISA only.
        unsafe { (self.floats.finish)(running, row, out) }
    }
}

#[inline(always)]
pub(crate) fn merge<S: Lanes>(s: S, running: &mut Partials, page: &Partials, n_rows: usize) {
    let stride = page.stride;
    for r in 0..n_rows {
        let ours = &mut running.acc[r * stride..][..stride];
        let theirs = &page.acc[r * stride..][..stride];
        if page.l[r] == 0.0 {
            continue;
        }
        if running.l[r] == 0.0 {
            (running.m[r], running.l[r]) = (page.m[r], page.l[r]);
            ours.copy_from_slice(theirs);
            continue;
        }
        let (m_ours, m_theirs) = (running.m[r], page.m[r]);
        let m = if m_ours > m_theirs { m_ours } else { m_theirs };
        let a = exp(s, s.splat(m_ours - m));
        let b = exp(s, s.splat(m_theirs - m));
        for (ours, theirs) in ours.as_chunks_mut().0.iter_mut().zip(theirs.as_chunks().0) {
            s.store(s.fma(s.load(theirs), b, s.mul(s.load(ours), a)), ours);
        }
        let l = s.fma(s.splat(page.l[r]), b, s.mul(s.splat(running.l[r]), a));
        running.m[r] = m;
        s.store_part(l, &mut running.l[r..r + 1]);
    }
}

#[inline(always)]
pub(crate) fn finish<S: Lanes>(s: S, running: &Partials, row: usize, out: &mut [f32]) {
    let acc = &running.acc[row * running.stride..][..running.stride];
    if running.l[row] == 0.0 {
        out.fill(0.0);
        return;
    }
    let l = s.splat(running.l[row]);
    for (acc, out) in acc.as_chunks().0.iter().zip(out.chunks_mut(crate::lanes::LANES)) {
        s.store_part(s.div(s.load(acc), l), out);
    }
}
