//! What the steps run on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::kernels::BackwardKernels;
use crate::table::KernelTable;
use crate::team::Team;

/// A team, the kernels of its machine, and buffers that grow when first used. Its methods are the steps of training.
pub struct Executor {
    pub(super) team: Arc<Team>,
    pub(super) kernels: &'static KernelTable,
    /// The left factor of a product.
    pub(super) left: Vec<f32>,
    pub(super) workers: Vec<Mutex<Buffers>>,
}

/// Those of one thread.
#[derive(Default)]
pub(super) struct Buffers {
    /// The right factor of a product, or keys.
    pub right: Vec<f32>,
    /// Keys as they lie.
    pub key_rows: Vec<f32>,
    /// Values.
    pub values: Vec<f32>,
    /// Queries, scaled, and packed.
    pub queries: Vec<f32>,
    pub packed_queries: Vec<f32>,
    /// Gradients of outputs, and packed.
    pub outputs: Vec<f32>,
    pub packed_outputs: Vec<f32>,
    /// Scores, later probabilities, and their gradients; one of them packed.
    pub scores: Vec<f32>,
    pub score_gradients: Vec<f32>,
    pub packed_scores: Vec<f32>,
    /// Sums over keys or queries.
    pub sums: [Vec<f32>; 2],
    /// The largest score and the sum of the exponentials of each query.
    pub running: Vec<(f32, f32)>,
}

impl Executor {
    /// Runs on `team` with `kernels`.
    pub fn new(team: Arc<Team>, kernels: &'static KernelTable) -> Executor {
        let workers = (0..team.n_threads()).map(|_| Mutex::default()).collect();
        Executor { team, kernels, left: Vec::new(), workers }
    }

    /// The team.
    pub fn team(&self) -> &Arc<Team> {
        &self.team
    }

    /// The kernels.
    pub fn kernels(&self) -> &'static KernelTable {
        self.kernels
    }

    pub(super) fn backward(&self) -> &'static BackwardKernels {
        &self.kernels.floats.backward
    }
}

/// The buffers of a worker; a worker number belongs to one thread at a time.
pub(super) fn lock(buffers: &Mutex<Buffers>) -> MutexGuard<'_, Buffers> {
    // A panic of a task leaves numbers, which the next use overwrites.
    buffers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first `len` elements, in a buffer that grows to as many.
pub(super) fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Where a matrix begins that tasks write disjoint parts of.
#[derive(Clone, Copy)]
pub(super) struct Output(*mut f32);

impl Output {
    pub fn new(data: &mut [f32]) -> Output {
        Output(data.as_mut_ptr())
    }

    /// Element `i`; whoever dereferences it sees to it that there is one.
    pub fn at(&self, i: usize) -> *mut f32 {
        self.0.wrapping_add(i)
    }
}

// SAFETY: each task writes its own part, and the matrix stays borrowed until all are done.
unsafe impl Sync for Output {}
