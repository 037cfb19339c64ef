//! A layer's attention: stores new keys and values in their pages, then answers the queries.

use bise_kernels::kv_page::PAGE_LEN;
use bise_kernels::{Attention, AttentionScratch, CancelFlags, KernelTable, QuerySpan, Team, attention};

use crate::rows::{Rows, RowsMut};
use crate::span::Span;

/// The most pages written in one step.
const PAGES_A_STEP: usize = 32;

/// The part of a page that new rows go to.
struct NewRows<'a> {
    page: &'a mut [u8],
    span: usize,
    /// The first row of the batch that goes here, its slot, and how many follow.
    first: usize,
    slot: usize,
    n: usize,
    is_finite: bool,
}

/// Stores the keys and values `[rows of the batch, kv_dim]` of all spans. Calls `fail` with each span that has a value which the cache's
/// type cannot hold.
pub(crate) fn store(
    team: &Team,
    layer: usize,
    batch: &mut [Span<'_>],
    k: Rows<'_>,
    v: Rows<'_>,
    mut fail: impl FnMut(usize),
) {
    let mut first_row = 0;
    let mut parts = batch.iter_mut().enumerate().flat_map(|(span, Span { cache, tokens, .. })| {
        let (start, end) = (cache.len(), cache.len() + tokens.len());
        let (row, layout) = (first_row, *cache.pool().layout());
        first_row += tokens.len();
        cache.new_pages(layer, tokens.len()).enumerate().map(move |(i, page)| {
            let first = ((start / PAGE_LEN + i) * PAGE_LEN).max(start);
            let until = ((start / PAGE_LEN + i + 1) * PAGE_LEN).min(end);
            let (slot, n) = (first % PAGE_LEN, until - first);
            (layout, NewRows { page, span, first: row + first - start, slot, n, is_finite: true })
        })
    });
    loop {
        let mut step = [const { None }; PAGES_A_STEP];
        let mut n_parts = 0;
        for (place, part) in step.iter_mut().zip(parts.by_ref()) {
            *place = Some(part);
            n_parts += 1;
        }
        if n_parts == 0 {
            return;
        }
        team.for_each_chunk(&mut step[..n_parts], 1, |_, part| {
            let Some((layout, part)) = &mut part[0] else { return };
            for i in 0..part.n {
                let row = part.first + i;
                part.is_finite &= layout.store(part.page, part.slot + i, k.row(row), v.row(row));
            }
        });
        for (_, part) in step.iter().flatten().filter(|(_, part)| !part.is_finite) {
            fail(part.span);
        }
    }
}

/// Which queries a layer answers, beside their values.
pub(crate) struct Queries<'a> {
    pub layer: usize,
    pub n_heads: usize,
    /// Whether there is a query only for tokens whose output is wanted, which are the last of their spans; or for every token.
    pub wanted_only: bool,
    /// What each query is multiplied by.
    pub scales: &'a [f32],
    /// Ends the work early.
    pub cancel: CancelFlags<'a>,
}

/// `out = softmax(q·Kᵀ)·V` over what each query sees, `[queries, n_heads · head_dim]`.
pub(crate) fn attend(
    team: &Team,
    kernels: &KernelTable,
    scratch: &mut AttentionScratch,
    batch: &[Span<'_>],
    queries: Queries<'_>,
    q: Rows<'_>,
    mut out: RowsMut<'_>,
) {
    let Queries { layer, n_heads, wanted_only, scales, cancel } = queries;
    let task = Attention {
        n_heads,
        cancel,
        q: q.data(),
        scales: &scales[..q.n()],
        pages: &|span, page| batch[span].cache.page(layer, page),
    };
    let spans = batch.iter().map(|span| {
        let n = if wanted_only { span.wanted().len() } else { span.tokens.len() };
        let end = span.cache.len() + span.tokens.len();
        QuerySpan { layout: *span.cache.pool().layout(), start: end - n, n, window: span.cache.window() }
    });
    attention(team, kernels, scratch, &task, spans, out.data());
}
