//! A layer's attention for one sequence: writes the new rows into their pages, and lets the queries see them.

use bise_kernels::kv_page::PAGE_LEN;
use bise_kernels::{Attention, AttentionScratch, attention};
use bise_kernels::{KernelTable, NotFinite, Team};

use crate::kv_cache::KvCache;

/// Pages written in one step at most.
const PAGES_A_STEP: usize = 8;

/// A layer's projections of one span's rows, queries and keys rotated.
#[derive(Clone, Copy)]
pub(crate) struct Projected<'a> {
    /// `[n, n_heads · head_dim]`
    pub q: &'a [f32],
    /// What each query is multiplied by, `[n]`.
    pub scales: &'a [f32],
    /// `[n, n_kv_heads · head_dim]`
    pub k: &'a [f32],
    /// `[n, n_kv_heads · head_dim]`
    pub v: &'a [f32],
}

/// `out = softmax(q·Kᵀ)·V` over what each query sees, `[n, n_heads · head_dim]`.
///
/// With a window the table of pages is cyclic, and a row's place may be one that an earlier query of the same span still sees. So the
/// span is taken in steps, each as long as nothing is overwritten that its first query sees.
pub(crate) fn attend(
    team: &Team,
    kernels: &KernelTable,
    layer: usize,
    cache: &mut KvCache,
    new: Projected<'_>,
    out: &mut [f32],
    scratch: &AttentionScratch,
) -> Result<(), NotFinite> {
    let layout = *cache.layout();
    let kv_dim = layout.n_kv_heads() * layout.head_dim();
    let n = new.k.len() / kv_dim;
    let q_dim = new.q.len() / n;
    let (start, end) = (cache.len(), cache.len() + n);
    let mut pos = start;
    while pos < end {
        let first_page = pos / PAGE_LEN;
        let until = end.min(cache.writable_until(pos)).min((first_page + PAGES_A_STEP) * PAGE_LEN);
        let rows = pos - start..until - start;
        let (k, v) = (&new.k[rows.start * kv_dim..], &new.v[rows.start * kv_dim..]);

        let mut pages = [const { None }; PAGES_A_STEP];
        let n_pages = until.div_ceil(PAGE_LEN) - first_page;
        cache.pages_mut(layer, first_page, &mut pages[..n_pages]);
        let finite = std::sync::atomic::AtomicBool::new(true);
        team.for_each_chunk(&mut pages[..n_pages], 1, |i, page| {
            let page: &mut [u8] = page[0].as_mut().expect("filled above");
            let first = (first_page + i) * PAGE_LEN;
            for p in first.max(pos)..(first + PAGE_LEN).min(until) {
                let row = (p - pos) * kv_dim;
                if !layout.store(page, p % PAGE_LEN, &k[row..][..kv_dim], &v[row..][..kv_dim]) {
                    finite.store(false, std::sync::atomic::Ordering::Relaxed);
                }
            }
        });
        if !finite.into_inner() {
            return Err(NotFinite);
        }

        let queries = Attention {
            layout: &layout,
            n_heads: q_dim / layout.head_dim(),
            start: pos,
            window: cache.window(),
            q: &new.q[rows.start * q_dim..rows.end * q_dim],
            scales: &new.scales[rows.clone()],
            pages: &|page| cache.page(layer, page),
        };
        attention(team, kernels, scratch, &queries, &mut out[rows.start * q_dim..rows.end * q_dim]);
        pos = until;
    }
    Ok(())
}
