//! Adapters for a model that is open.

use std::path::Path;
use std::sync::Arc;

use bise_models::Adapter;

use super::load::load_within;
use crate::engine::Engine;
use crate::error::Error;

impl Engine {
    /// Reads an adapter (LoRA) for this model: a GGUF file as llama.cpp has them, or a folder of PEFT. It acts on the texts that ask for it:
    /// [`Session::set_adapters`](crate::Session::set_adapters), [`Sequence::set_adapters`](crate::Sequence::set_adapters),
    /// [`Job::adapters`](crate::scheduler::Job::adapters), or, with [`Engine::set_adapters`], on all that ask for no others. It is freed when
    /// nobody has it any more. [`Adapter::warnings`] are what a user should know about its file.
    ///
    /// ```no_run
    /// use bise::adapter::Adapters;
    /// use bise::{Engine, SessionOptions};
    ///
    /// let engine = Engine::open("mistral-7b.Q4_K_M.gguf")?;
    /// let (legal, polite) = (engine.load_adapter("legal.gguf")?, engine.load_adapter("polite/")?);
    /// let mut session = engine.session(&SessionOptions::default())?;
    /// session.set_adapters(Adapters::new([(legal, 1.0), (polite, 0.5)]))?;
    /// # Ok::<(), bise::Error>(())
    /// ```
    ///
    /// # Errors
    /// Files that are missing, damaged or for another model, adapters of a kind that is not supported, and no room under the ceiling on memory.
    pub fn load_adapter(&self, path: impl AsRef<Path>) -> Result<Arc<Adapter>, Error> {
        // Reading takes more than what is kept in the end.
        let mut while_reading = None;
        let mut adapter = load_within(path.as_ref(), self.model(), |n_bytes| {
            while_reading = Some(self.budget().reserve(n_bytes)?);
            Ok::<_, Error>(())
        })?;
        drop(while_reading);
        adapter.hold(self.budget().reserve(adapter.n_bytes())?);
        let adapter = Arc::new(adapter);
        self.count_adapter(&adapter);
        Ok(adapter)
    }
}
