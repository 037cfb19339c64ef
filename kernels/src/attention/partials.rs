//! Partial results of attention over a page, and how they are merged.

use std::collections::TryReserveError;

use crate::aligned::try_filled;
use crate::attention::layout::{BLOCK, PageLayout};
use crate::simd::exp::exp;
use crate::simd::lanes::{LANES, Lanes};

/// One head of a page's keys and values.
#[derive(Clone, Copy)]
pub struct PageHead<'a> {
    /// The shape of the page.
    pub layout: &'a PageLayout,
    /// Its bytes.
    pub page: &'a [u8],
    /// The head.
    pub kv_head: usize,
    /// Bytes to prefetch meanwhile, such as the keys of the next page. May be empty.
    pub next: &'a [u8],
}

/// Partial results of some queries over a page, or over all pages so far: maximum, sum and weighted values.
#[derive(Clone, Debug)]
pub struct Partials {
    pub(crate) head_dim: usize,
    /// Floats of `acc` for one query: `head_dim` in whole blocks.
    pub(super) stride: usize,
    /// Largest score.
    pub(super) m: Vec<f32>,
    /// Sum of the exponentials; 0 where no key was seen.
    pub(super) l: Vec<f32>,
    /// `[n_rows][stride]`
    pub(super) acc: Vec<f32>,
}

impl Partials {
    /// Room for `n_rows` queries of `head_dim` dimensions, with nothing seen yet.
    pub fn new(n_rows: usize, head_dim: usize) -> Self {
        let stride = head_dim.next_multiple_of(BLOCK);
        let (m, l) = (vec![f32::NEG_INFINITY; n_rows], vec![0.0; n_rows]);
        Partials { head_dim, stride, m, l, acc: vec![0.0; n_rows * stride] }
    }

    /// Room for `n_rows` queries of `head_dim` dimensions, with nothing seen yet.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn try_new(n_rows: usize, head_dim: usize) -> Result<Self, TryReserveError> {
        let stride = head_dim.next_multiple_of(BLOCK);
        let (m, l) = (try_filled(f32::NEG_INFINITY, n_rows)?, try_filled(0.0, n_rows)?);
        Ok(Partials { head_dim, stride, m, l, acc: try_filled(0.0, n_rows.saturating_mul(stride))? })
    }

    /// Queries there is room for.
    pub fn n_rows(&self) -> usize {
        self.m.len()
    }

    /// Starts over, with nothing seen.
    pub fn clear(&mut self) {
        self.m.fill(f32::NEG_INFINITY);
        self.l.fill(0.0);
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
    for (acc, out) in acc.as_chunks().0.iter().zip(out.chunks_mut(LANES)) {
        s.store_part(s.div(s.load(acc), l), out);
    }
}
