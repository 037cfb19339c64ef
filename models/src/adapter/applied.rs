//! The adapters of a pass: which rows they act on, and their products.

use std::ffi::OsStr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bise_kernels::low_rank;

use super::packed::{Adapter, Part};
use crate::budget::{MemoryBudget, Reservation};
use crate::error::{ForwardError, OutOfMemory};
use crate::printable::Printable;
use crate::rows::Rows;
use crate::site::Site;
use crate::span::Span;

/// An adapter with the factor on its scale.
type Scaled = (Arc<Adapter>, f32);

fn is_same(a: &Scaled, b: &Scaled) -> bool {
    Arc::ptr_eq(&a.0, &b.0) && a.1.to_bits() == b.1.to_bits()
}

const WHAT: &str = "the adapters of a pass (a smaller --ubatch-size takes less)";

/// Matrices that are multiplied with one input at most.
const MAX_TARGETS: usize = 3;

/// The adapters of the spans of a pass, and working memory for their products.
#[derive(Default)]
pub(crate) struct AppliedAdapters {
    /// All of them, with the scale asked for.
    adapters: Vec<Scaled>,
    /// Which of these each span has. Neighbours that have the same ones share them.
    of_span: Vec<Range<usize>>,
    /// The products at hand.
    addends: Vec<Addend>,
    /// `x·Aᵀ` of each addend, one after the other.
    u: Vec<f32>,
    reservation: Option<Reservation>,
}

/// One part beside one matrix, for neighbouring rows.
#[derive(Clone, Copy)]
struct Addend {
    /// Which matrix, of those that the input is multiplied with.
    target: usize,
    first_row: usize,
    n_rows: usize,
    adapter: usize,
    part: usize,
}

impl AppliedAdapters {
    /// Prepares for a pass over `batch`; nothing is allocated later.
    pub fn begin(&mut self, batch: &[Span<'_>], budget: &MemoryBudget) -> Result<(), ForwardError> {
        self.end();
        let (mut n_addends, mut n_u) = (0, 0);
        for (i, span) in batch.iter().enumerate() {
            let used = || span.adapters.iter().filter(|(_, scale)| *scale != 0.0);
            let previous = i.checked_sub(1).map_or(0..0, |i| self.of_span[i].clone());
            if used().count() == previous.len()
                && self.adapters[previous.clone()].iter().zip(used()).all(|(a, b)| is_same(a, b))
            {
                self.of_span.push(previous);
            } else {
                let first = self.adapters.len();
                self.adapters.extend(used().cloned());
                self.of_span.push(first..self.adapters.len());
            }
            n_addends += MAX_TARGETS * used().count();
            n_u += used().map(|(adapter, _)| span.tokens.len() * adapter.n_ranks).sum::<usize>();
        }
        self.addends.reserve(n_addends);
        self.reserve(n_u, budget)
    }

    fn reserve(&mut self, n: usize, budget: &MemoryBudget) -> Result<(), ForwardError> {
        if n <= self.u.len() {
            return Ok(());
        }
        // The old ones first: both together may not fit.
        self.u = Vec::new();
        self.reservation = None;
        let reservation =
            budget.reserve(4 * n).map_err(|error| ForwardError::OverCeiling { what: WHAT, error })?;
        let out_of_memory = OutOfMemory { bytes: 4 * n, what: WHAT };
        self.u = bytemuck::allocation::try_zeroed_vec(n).map_err(|()| out_of_memory)?;
        self.reservation = Some(reservation);
        Ok(())
    }

    /// Lets go of the adapters.
    pub fn end(&mut self) {
        self.adapters.clear();
        self.of_span.clear();
        self.addends.clear();
    }

    /// The names and factors of the adapters that act on a span, for messages; empty for none. They are without folders: messages may go to
    /// the clients of a server.
    pub fn names(&self, span: usize) -> String {
        let range = self.of_span.get(span).cloned().unwrap_or_default();
        let named = |(adapter, scale): &Scaled| {
            let name = Path::new(adapter.name()).file_name().map(OsStr::to_string_lossy);
            format!("{} times {scale:?}", Printable(name.as_deref().unwrap_or(adapter.name())))
        };
        let names: Vec<String> = self.adapters[range].iter().map(named).collect();
        names.join(", ")
    }

    /// Finds the parts beside the matrices at `sites` for rows of these spans.
    pub fn find(&mut self, sites: &[Site], spans: &[usize]) {
        self.addends.clear();
        if self.adapters.is_empty() {
            return;
        }
        for (target, site) in sites.iter().enumerate() {
            let mut first_row = 0;
            while first_row < spans.len() {
                let of_span = &self.of_span;
                let adapters = of_span[spans[first_row]].clone();
                let n_rows = spans[first_row..].iter().take_while(|span| of_span[**span] == adapters).count();
                for adapter in adapters {
                    if let Some(part) = self.adapters[adapter].0.part_at(*site) {
                        self.addends.push(Addend { target, first_row, n_rows, adapter, part });
                    }
                }
                first_row += n_rows;
            }
        }
    }

    /// What was found for some targets, which are the products of a step over `x`, from 0 on: the number of addends, each of them, and room
    /// for their `x·Aᵀ`.
    pub fn beside<'a>(
        &'a mut self,
        targets: Range<usize>,
        x: Rows<'a>,
    ) -> (usize, impl Fn(usize) -> low_rank::Addend<'a> + Sync, &'a mut [f32]) {
        let end = self.addends.partition_point(|addend| addend.target < targets.end);
        let first = self.addends.partition_point(|addend| addend.target < targets.start);
        let (adapters, addends) = (&self.adapters, &self.addends[first..end]);
        let addend = move |i: usize| {
            let Addend { target, first_row, n_rows, adapter, part } = addends[i];
            let (adapter, scale) = &adapters[adapter];
            let Part { pair, scale: of_part } = &adapter.parts[part].1;
            low_rank::Addend {
                pair,
                product: target - targets.start,
                first_row,
                x: x.range(first_row..first_row + n_rows).data(),
                scale: scale * of_part,
            }
        };
        (addends.len(), addend, &mut self.u)
    }
}
