//! [`EngineBuilder`]: the options of an engine, one method each.

use std::path::{Path, PathBuf};

use bise_kernels::Isa;
use bise_models::gguf::Value;

use crate::memory::{MemoryLimit, MemoryPlan};
use crate::threads::Threads;
use crate::{Engine, EngineOptions, Error, SessionOptions};

/// Opens an [`Engine`] with options. Made by [`Engine::builder`].
///
/// ```
/// # #[cfg(feature = "builtin-model")] {
/// let engine = bise::Engine::builder().threads(2).sliding_window(128).builtin()?;
/// assert_eq!(engine.n_threads(), 2);
/// assert_eq!(engine.config().sliding_window, Some(128));
/// # }
/// # Ok::<(), bise::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it opens a model"]
pub struct EngineBuilder {
    options: EngineOptions,
}

impl EngineBuilder {
    /// Starts `n` threads (at least one, the caller's included), in place of one for each performance core.
    pub fn threads(mut self, n: usize) -> EngineBuilder {
        self.options.threads = Some(n);
        self
    }

    /// Uses threads that other engines use too, in place of threads of its own.
    pub fn shared_threads(mut self, threads: &Threads) -> EngineBuilder {
        self.options.shared_threads = Some(threads.clone());
        self
    }

    /// Uses this instruction set, in place of the best that the machine has.
    pub fn isa(mut self, isa: Isa) -> EngineBuilder {
        self.options.isa = Some(isa);
        self
    }

    /// Whether the file is mapped (the default) or read into memory. A mapped file must stay as it is while it is in use: see
    /// [`EngineOptions::mmap`].
    pub fn mmap(mut self, mmap: bool) -> EngineBuilder {
        self.options.mmap = mmap;
        self
    }

    /// Whether the file's pages are kept from being swapped out or dropped.
    pub fn mlock(mut self, mlock: bool) -> EngineBuilder {
        self.options.mlock = mlock;
        self
    }

    /// Attends to the last `n` tokens, in place of what the file says; 0 turns the window off.
    pub fn sliding_window(mut self, n: usize) -> EngineBuilder {
        self.options.sliding_window = Some(n);
        self
    }

    /// Sets a key of the metadata, in place of what the file says.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Value>) -> EngineBuilder {
        self.options.overrides.push((key.into(), value.into()));
        self
    }

    /// Keeps the memory of the process below a ceiling: see [`EngineOptions::max_memory`].
    ///
    /// ```no_run
    /// use bise::memory::MemoryLimit;
    /// use bise::{Engine, Error, SessionOptions};
    ///
    /// let options = SessionOptions { n_ctx: 8192, ..SessionOptions::default() };
    /// let engine = Engine::builder().max_memory(MemoryLimit::Bytes(5 << 30)).sessions(2, &options);
    /// match engine.open("mistral-7b.Q4_K_M.gguf") {
    ///     Ok(engine) => println!("{} bytes", engine.memory(&options).for_sequences(2).full()),
    ///     Err(Error::DoesNotFit(error)) => error.remedies.iter().for_each(|what| println!("{what}")),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok::<(), bise::Error>(())
    /// ```
    pub fn max_memory(mut self, limit: MemoryLimit) -> EngineBuilder {
        self.options.max_memory = Some(limit);
        self
    }

    /// Says that `n` sessions with `options` are to have room under [`EngineBuilder::max_memory`]: opening fails where they do not. Without
    /// it, each session is checked when it is made.
    pub fn sessions(mut self, n: usize, options: &SessionOptions) -> EngineBuilder {
        self.options.sessions = Some((n, *options));
        self
    }

    /// Whether weights are read from the file again and again: see [`EngineOptions::stream_weights`].
    pub fn stream_weights(mut self, stream: bool) -> EngineBuilder {
        self.options.stream_weights = stream;
        self
    }

    /// Loads an adapter (LoRA) that acts on all texts which ask for no others, with this factor on its scale; see [`Engine::load_adapter`].
    pub fn adapter(mut self, path: impl Into<PathBuf>, scale: f32) -> EngineBuilder {
        self.options.adapters.push((path.into(), scale));
        self
    }

    /// What `n` sessions with `options` will take of memory. The file is opened, but no weight is read.
    ///
    /// # Errors
    /// As [`EngineBuilder::open`], except that it does not matter whether the memory is there.
    pub fn plan(
        &self,
        path: impl AsRef<Path>,
        n: usize,
        options: &SessionOptions,
    ) -> Result<MemoryPlan, Error> {
        Ok(super::ceiling::plan_file(path.as_ref(), &self.options)?.plan(options).for_sequences(n))
    }

    /// Opens a GGUF file, or the first part of a split one.
    ///
    /// # Errors
    /// As [`Engine::open_with`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Engine, Error> {
        Engine::open_with(path, &self.options)
    }

    /// Opens the small model inside this library.
    ///
    /// # Errors
    /// As [`Engine::builtin_with`].
    #[cfg(feature = "builtin-model")]
    pub fn builtin(self) -> Result<Engine, Error> {
        Engine::builtin_with(&self.options)
    }

    /// The options so far.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }
}

impl From<EngineOptions> for EngineBuilder {
    fn from(options: EngineOptions) -> EngineBuilder {
        EngineBuilder { options }
    }
}
