//! A model opened and ready to run: the file, its tokenizer, its weights and a team of threads.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bise_kernels::kv_page::{CacheType, PageLayout};
use bise_kernels::{Isa, KernelTable, Team};
use bise_models::gguf::{GgufFile, OpenOptions, Value};
use bise_models::tokenizer::Tokenizer;
use bise_models::{KvCache, Mistral, MistralConfig, Scratch};

use crate::{Error, Session};

/// How a model is opened.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Threads; the performance cores this process may use where `None`.
    pub threads: Option<usize>,
    /// Instruction set; the best of this machine where `None`.
    pub isa: Option<Isa>,
    /// Map the file rather than read it into memory.
    pub mmap: bool,
    /// Keep the file's pages from being swapped out.
    pub mlock: bool,
    /// The sliding window, in place of the file's; 0 turns it off.
    pub sliding_window: Option<usize>,
    /// Metadata in place of the file's.
    pub overrides: Vec<(String, Value)>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            threads: None,
            isa: None,
            mmap: true,
            mlock: false,
            sliding_window: None,
            overrides: Vec::new(),
        }
    }
}

/// How a sequence is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Tokens it may hold (without a window); 0 is the length the model was trained for.
    pub n_ctx: usize,
    /// How keys are stored.
    pub k_type: CacheType,
    /// How values are stored.
    pub v_type: CacheType,
    /// Tokens read in one pass at most. More is a little faster and takes more memory; the results are the same.
    pub n_ubatch: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions { n_ctx: 0, k_type: CacheType::F16, v_type: CacheType::F16, n_ubatch: 512 }
    }
}

/// What a model and one sequence will take of memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The tensors that the model uses, resident once read; mapped, not copied.
    pub weights_bytes: usize,
    /// Keys and values when the context, or the window, is full.
    pub cache_bytes: usize,
    /// Buffers of a forward pass.
    pub scratch_bytes: usize,
}

impl MemoryPlan {
    /// All together.
    pub fn total(&self) -> usize {
        self.weights_bytes + self.cache_bytes + self.scratch_bytes
    }
}

/// A model ready to run. Clones share it.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    file: GgufFile,
    model: Mistral,
    tokenizer: Tokenizer,
    team: Team,
    /// Scratches that no pass is using: one, unless passes were under way at the same time.
    idle_scratches: Mutex<Vec<Scratch>>,
    warnings: Vec<String>,
}

impl Engine {
    /// Opens a GGUF file, or the first part of a split one.
    ///
    /// # Errors
    /// Where the file cannot be read, is damaged, or holds a model that is not supported; the message names file and key or tensor.
    pub fn open(path: impl AsRef<Path>) -> Result<Engine, Error> {
        Engine::open_with(path, &EngineOptions::default())
    }

    /// The same, with options.
    ///
    /// # Errors
    /// As [`Engine::open`], and for an instruction set that this machine does not have.
    pub fn open_with(path: impl AsRef<Path>, options: &EngineOptions) -> Result<Engine, Error> {
        let open = OpenOptions { mmap: options.mmap };
        let file = GgufFile::open_with(path.as_ref(), open)?;
        Engine::new(file, options)
    }

    /// The small model inside this library: 8 million weights that tell stories.
    ///
    /// # Errors
    /// Where threads cannot be started.
    #[cfg(feature = "builtin-model")]
    pub fn builtin() -> Result<Engine, Error> {
        Engine::builtin_with(&EngineOptions::default())
    }

    /// The same, with options.
    ///
    /// # Errors
    /// Where threads cannot be started, and for an instruction set that this machine does not have.
    #[cfg(feature = "builtin-model")]
    pub fn builtin_with(options: &EngineOptions) -> Result<Engine, Error> {
        const TINY: &[u8] = include_bytes!("../models/tiny/bise-tiny.Q4_K_M.gguf");
        Engine::new(GgufFile::from_static(TINY, "built-in model")?, options)
    }

    fn new(mut file: GgufFile, options: &EngineOptions) -> Result<Engine, Error> {
        let mut warnings = file.warnings().to_vec();
        for (key, value) in &options.overrides {
            file.metadata_mut().set(key, value.clone());
        }
        if let Some(window) = options.sliding_window {
            // As a key it is checked like one of the file. (A file without an architecture is refused below.)
            let arch = file.metadata().str("general.architecture").ok().flatten().unwrap_or_default();
            let key = format!("{arch}.attention.sliding_window");
            file.metadata_mut().set(&key, window as u64);
        }
        let config = MistralConfig::from_metadata(file.metadata())?;
        if config.window_assumed {
            warnings.push(
                "this looks like Mistral 7B v0.1, whose sliding window of 4096 is missing in the file: it is used \
                 (--sliding-window 0 turns it off)"
                    .to_owned(),
            );
        }
        let kernels = match options.isa {
            Some(isa) => KernelTable::for_isa(isa).ok_or(Error::IsaUnavailable { asked: isa })?,
            None => KernelTable::detect(),
        };
        let tokenizer = Tokenizer::from_metadata(file.metadata())?;
        warnings.extend_from_slice(tokenizer.warnings());
        let model = Mistral::load(&file, config, kernels)?;
        warnings.extend(model.weights().left_out());
        let slow = model.weights().matrices().map(|m| m.format()).find(|f| !kernels.is_tuned(*f));
        if let Some(format) = slow {
            warnings.push(format!(
                "{format} has no kernel of its own on {}: it runs on a slower path",
                kernels.isa()
            ));
        }
        if options.mlock {
            file.mlock()?;
        }
        let team = Team::new(options.threads.unwrap_or_else(crate::threads::default_threads))?;
        Ok(Engine(Arc::new(Inner {
            file,
            model,
            tokenizer,
            team,
            idle_scratches: Mutex::default(),
            warnings,
        })))
    }

    /// A new sequence.
    ///
    /// # Errors
    /// None today; a ceiling on memory will have one.
    pub fn session(&self, options: &SessionOptions) -> Result<Session, Error> {
        Ok(Session::new(self.clone(), options))
    }

    /// The file.
    pub fn file(&self) -> &GgufFile {
        &self.0.file
    }

    /// The hyper-parameters.
    pub fn config(&self) -> &MistralConfig {
        self.0.model.config()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// What a user should know about this file on this machine, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.0.model.kernels().isa()
    }

    /// Threads.
    pub fn n_threads(&self) -> usize {
        self.0.team.n_threads()
    }

    /// What this model and one sequence will take of memory.
    pub fn memory(&self, options: &SessionOptions) -> MemoryPlan {
        let config = self.config();
        let layout = page_layout(config, options);
        MemoryPlan {
            weights_bytes: self.0.model.weights().n_bytes(),
            cache_bytes: KvCache::bytes(&layout, config.n_layers, self.n_ctx(options), config.sliding_window),
            scratch_bytes: Scratch::bytes(config, self.n_threads(), options.n_ubatch),
        }
    }

    pub(crate) fn n_ctx(&self, options: &SessionOptions) -> usize {
        if options.n_ctx == 0 { self.config().n_ctx_train } else { options.n_ctx }
    }

    pub(crate) fn cache(&self, options: &SessionOptions) -> KvCache {
        let config = self.config();
        KvCache::new(
            page_layout(config, options),
            config.n_layers,
            self.n_ctx(options),
            config.sliding_window,
        )
    }

    pub(crate) fn model(&self) -> &Mistral {
        &self.0.model
    }

    pub(crate) fn team(&self) -> &Team {
        &self.0.team
    }

    pub(crate) fn is_same(&self, other: &Engine) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A scratch with room for `n_rows`, given back when dropped. No lock is held meanwhile: whoever looks at its logits may start
    /// passes of other sessions.
    pub(crate) fn scratch(&self, n_rows: usize) -> ScratchGuard<'_> {
        let mut scratch = self.idle_scratches().pop();
        scratch.take_if(|scratch| scratch.n_rows() < n_rows);
        let scratch = scratch.unwrap_or_else(|| Scratch::new(self.config(), &self.0.team, n_rows));
        ScratchGuard { engine: self, scratch: Some(scratch) }
    }

    /// The lock is only ever held to push or pop, which leaves the list whole even if it panics.
    fn idle_scratches(&self) -> MutexGuard<'_, Vec<Scratch>> {
        self.0.idle_scratches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct ScratchGuard<'a> {
    engine: &'a Engine,
    scratch: Option<Scratch>,
}

impl ScratchGuard<'_> {
    pub fn get(&mut self) -> &mut Scratch {
        self.scratch.as_mut().expect("taken when dropped")
    }
}

impl Drop for ScratchGuard<'_> {
    fn drop(&mut self) {
        // What a panic has interrupted is not used again.
        if !std::thread::panicking() {
            self.engine.idle_scratches().extend(self.scratch.take());
        }
    }
}

fn page_layout(config: &MistralConfig, options: &SessionOptions) -> PageLayout {
    PageLayout::new(config.n_kv_heads, config.head_dim, options.k_type, options.v_type)
}
