//! Buffers of the threads that compute.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::team::Team;

/// Buffers for each thread of a team: they grow when first used, and are used again.
#[derive(Debug)]
pub struct Workspace(Vec<Mutex<Buffers>>);

/// Those of one thread.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// Operands in the order in which the registers take them.
    pub packed: Vec<f32>,
    /// A block of a product.
    pub block: Vec<f32>,
}

impl Workspace {
    /// Empty buffers for the threads of `team`.
    pub fn new(team: &Team) -> Workspace {
        Workspace((0..team.n_threads()).map(|_| Mutex::default()).collect())
    }

    /// The buffers of a worker; a worker number belongs to one thread at a time.
    ///
    /// # Panics
    /// Where the team has more threads than this was made for.
    pub(crate) fn of(&self, worker: usize) -> MutexGuard<'_, Buffers> {
        self.0[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
