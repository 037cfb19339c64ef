//! Adapters of an engine: those that were loaded for it, and those that act on texts which ask for no others.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bise_models::{Adapter, ForwardError};

use crate::adapter::list::Adapters;
use crate::adapter::load::kept_bytes;
use crate::{Engine, Error};

/// What was loaded, and what acts.
#[derive(Default)]
pub(super) struct LoadedAdapters {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    loaded: Vec<Weak<Adapter>>,
    acting: Adapters,
}

impl LoadedAdapters {
    /// The lock is only ever held to look or to put something in its place.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that those which are still in use take, with their buffers in passes of `n_rows` tokens.
    pub fn n_bytes(&self, n_rows: usize) -> usize {
        let state = self.state();
        let used = state.loaded.iter().filter_map(Weak::upgrade);
        used.map(|adapter| adapter.n_bytes() + n_rows * adapter.row_bytes()).sum()
    }
}

impl Engine {
    /// Counts an adapter as long as somebody has it.
    pub(crate) fn count_adapter(&self, adapter: &Arc<Adapter>) {
        let mut state = self.0.adapters.state();
        state.loaded.retain(|adapter| adapter.strong_count() > 0);
        state.loaded.push(Arc::downgrade(adapter));
    }

    /// The adapters of texts that ask for no others.
    pub fn adapters(&self) -> Adapters {
        self.0.adapters.state().acting.clone()
    }

    /// Has `adapters` act on all texts that begin from now on and ask for no others. Those under way go on as they are.
    ///
    /// # Errors
    /// Adapters for another model, or with a factor that is no finite number.
    pub fn set_adapters(&self, adapters: Adapters) -> Result<(), Error> {
        adapters.check(self.config()).map_err(|error| ForwardError::Span { span: 0, error })?;
        let before = std::mem::replace(&mut self.0.adapters.state().acting, adapters);
        // Freed outside of the lock.
        drop(before);
        Ok(())
    }
}

/// About as many bytes as the adapters at these paths will take at most.
pub(super) fn n_bytes(adapters: &[(PathBuf, f32)]) -> usize {
    adapters.iter().map(|(path, _)| kept_bytes(path)).fold(0, usize::saturating_add)
}
