//! Summing products of inputs while a layer runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bise_kernels::KernelTable;
use bise_kernels::linalg::{Gram, Workspace};

use super::steps::Input;
use crate::{Hook, Projection, Rows, RowsMut, Site, Threads};

/// Inputs that are added to the sums at a time.
const ROWS: usize = 512;

/// Sums `XᵀX` for the inputs that a pass is about.
pub(super) struct Collector {
    threads: Threads,
    kernels: &'static KernelTable,
    workspace: Workspace,
    sums: BTreeMap<(Projection, Option<usize>), Mutex<Sums>>,
}

struct Sums {
    gram: Gram,
    /// Inputs that are not yet added.
    rows: Vec<f32>,
}

impl Sums {
    fn flush(&mut self, threads: &Threads, kernels: &KernelTable, workspace: &Workspace) {
        self.gram.add(threads.team(), kernels, workspace, &self.rows);
        self.rows.clear();
    }
}

impl Collector {
    /// Zeros for `inputs`, or `None` where there is no memory.
    pub fn try_new(threads: &Threads, kernels: &'static KernelTable, inputs: &[Input]) -> Option<Collector> {
        let sums = inputs.iter().map(|input| {
            let gram = Gram::try_new(input.k)?;
            Some(((input.projection, input.expert), Mutex::new(Sums { gram, rows: Vec::new() })))
        });
        let (threads, workspace) = (threads.clone(), Workspace::new(threads.team()));
        Some(Collector { workspace, threads, kernels, sums: sums.collect::<Option<_>>()? })
    }

    /// Adds inputs `x`, `[n, k]`.
    pub fn add(&self, projection: Projection, expert: Option<usize>, x: Rows<'_>) {
        let Some(sums) = self.sums.get(&(projection, expert)) else { return };
        let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = x.data();
        while !rest.is_empty() {
            // Always the same pieces, so that sums do not depend on how the rows come.
            let (piece, more) = rest.split_at(rest.len().min(ROWS * x.width() - sums.rows.len()));
            sums.rows.extend_from_slice(piece);
            rest = more;
            if sums.rows.len() == ROWS * x.width() {
                sums.flush(&self.threads, self.kernels, &self.workspace);
            }
        }
    }

    /// The sums over what was added, which are then no longer there.
    ///
    /// # Panics
    /// Where `input` is not one that this was made for, or was taken before.
    pub fn take(&mut self, input: &Input) -> Gram {
        let sums = self.sums.remove(&(input.projection, input.expert)).expect("made for this input");
        let mut sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
        sums.flush(&self.threads, self.kernels, &self.workspace);
        sums.gram
    }
}

impl Hook for Collector {
    fn product(&self, site: Site, x: Rows<'_>, _: RowsMut<'_>) {
        // Keys and values have the inputs of queries, and the second matrix of a feed-forward those of the first: they are not asked for.
        self.add(site.projection, site.expert, x);
    }
}
