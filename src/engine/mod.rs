//! A model opened and ready to run: the file, its tokenizer, its weights and a team of threads.

mod adapters;
mod builder;
mod ceiling;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bise_kernels::kv_page::CacheType;
use bise_kernels::{Isa, KernelTable};
use bise_models::gguf::{GgufFile, OpenOptions, Value};
use bise_models::tokenizer::Tokenizer;
use bise_models::{MemoryBudget, Mistral, MistralConfig, PagePool, PassContext, WeightStream};

use crate::adapter::list::Adapters;
use crate::memory::{MemoryLimit, MemoryPlan};
use crate::threads::Threads;
use crate::{Error, Sequence};

use adapters::LoadedAdapters;
pub use builder::EngineBuilder;
use ceiling::{Ceiling, Footprint, page_layout};

/// How a model is opened.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Number of threads; as many as there are performance cores that this process may use where `None`.
    pub threads: Option<usize>,
    /// Threads made beforehand, in place of threads of its own: with options ([`Threads::builder`]), or to be shared with other engines.
    pub shared_threads: Option<Threads>,
    /// Instruction set; the best of this machine where `None`.
    pub isa: Option<Isa>,
    /// Map the file rather than read it into memory. A mapped file must stay as it is while it is in use: if it shrinks in the
    /// middle of a pass, the process gets SIGBUS. See [`OpenOptions::mmap`](bise_models::gguf::OpenOptions::mmap).
    pub mmap: bool,
    /// Keep the file's pages from being swapped out or dropped. Where the system refuses, that is a warning.
    pub mlock: bool,
    /// A ceiling on the memory of the process: what it has when the model is opened, the weights, and what sessions, runners and page
    /// pools take. What would go past it is refused: opening a model whose weights alone do not fit ([`Error::DoesNotFit`]), a session
    /// that could not fill its context, and later a page or a buffer for which others have left no room. What the program takes besides,
    /// later, is not counted.
    pub max_memory: Option<MemoryLimit>,
    /// Sessions that are to have room under `max_memory`, and their options: opening fails where they do not fit.
    pub sessions: Option<(usize, SessionOptions)>,
    /// Read weights from the mapped file again for every pass as far as there is no room for them, rather than refuse a model that is
    /// larger than `max_memory` (without that: than the memory that is free). Layers are prefetched before a pass and released after it;
    /// what is computed stays the same. It is as slow as the disk: for a model that does not fit otherwise.
    pub stream_weights: bool,
    /// The sliding window, in place of the file's; 0 turns it off.
    pub sliding_window: Option<usize>,
    /// Metadata in place of the file's.
    pub overrides: Vec<(String, Value)>,
    /// Adapters (LoRA) that act on all texts which ask for no others, each with a factor on its scale: GGUF files and folders of PEFT.
    pub adapters: Vec<(PathBuf, f32)>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            threads: None,
            shared_threads: None,
            isa: None,
            mmap: true,
            mlock: false,
            max_memory: None,
            sessions: None,
            stream_weights: false,
            sliding_window: None,
            overrides: Vec::new(),
            adapters: Vec::new(),
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

/// A model ready to run. Clones share it.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    file: GgufFile,
    model: Mistral,
    tokenizer: Tokenizer,
    threads: Threads,
    /// Working memory of sessions whose passes are done: one, unless passes were under way at the same time.
    idle: Mutex<Vec<PassContext>>,
    warnings: Vec<String>,
    /// What tells the model from others; computed when a session is first saved or restored.
    fingerprint: OnceLock<u128>,
    footprint: Footprint,
    ceiling: Ceiling,
    adapters: LoadedAdapters,
}

impl Engine {
    /// Opens a model with options, which the builder's methods set: `Engine::builder().threads(4).open("model.gguf")`.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Opens a GGUF file, or the first part of a split one.
    ///
    /// # Errors
    /// Where the file cannot be read, is damaged, or holds a model that is not supported; the message names file and key or tensor.
    pub fn open(path: impl AsRef<Path>) -> Result<Engine, Error> {
        Engine::open_with(path, &EngineOptions::default())
    }

    /// Opens a GGUF file with a number of threads, an instruction set and more.
    ///
    /// # Errors
    /// As [`Engine::open`], and for an instruction set that this machine does not have.
    pub fn open_with(path: impl AsRef<Path>, options: &EngineOptions) -> Result<Engine, Error> {
        let path = path.as_ref();
        let mapped = crate::memory::mapped_bytes().unwrap_or(0);
        ceiling::check_before_reading(path, options)?;
        let file = GgufFile::open_with(path, OpenOptions { mmap: options.mmap })?;
        Engine::new(file, mapped, options)
    }

    /// The small model inside this library: 8 million weights that tell stories.
    ///
    /// # Errors
    /// Where threads cannot be started.
    #[cfg(feature = "builtin-model")]
    pub fn builtin() -> Result<Engine, Error> {
        Engine::builtin_with(&EngineOptions::default())
    }

    /// The built-in model, with a number of threads, an instruction set and more.
    ///
    /// # Errors
    /// Where threads cannot be started, and for an instruction set that this machine does not have.
    #[cfg(feature = "builtin-model")]
    pub fn builtin_with(options: &EngineOptions) -> Result<Engine, Error> {
        let mapped = crate::memory::mapped_bytes().unwrap_or(0);
        Engine::new(GgufFile::from_static(bise_models::BUILTIN, "built-in model")?, mapped, options)
    }

    /// `mapped`: bytes of files that the process had in memory before this one was opened.
    fn new(mut file: GgufFile, mapped: usize, options: &EngineOptions) -> Result<Engine, Error> {
        let mut warnings = file.warnings().to_vec();
        let config = configure(&mut file, options)?;
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
        let model = Mistral::load(&file, config.clone(), kernels)?;
        warnings.extend(model.weights().left_out());
        let slow = model.weights().matrices().map(|m| m.format()).find(|f| !kernels.is_tuned(*f));
        if let Some(format) = slow {
            warnings.push(format!(
                "{format} has no kernel of its own on {}: it runs on a slower path",
                kernels.isa()
            ));
        }
        let threads = match &options.shared_threads {
            Some(threads) => threads.clone(),
            None => options.threads.map_or_else(Threads::builder, |n| Threads::builder().n(n)).build()?,
        };
        let n_threads = threads.n();
        let footprint = Footprint::new(&file, &config, model.weights(), &tokenizer, n_threads, mapped);
        let mut footprint = footprint.opened_as(&file, options);
        footprint.adapters = adapters::n_bytes(&options.adapters);
        let (ceiling, model) = Ceiling::new(options, &mut footprint, model)?;
        if options.stream_weights && footprint.weights.streamed.is_none() {
            warnings.push(
                "the weights are not streamed: there is no mapped file to read them from again".to_owned(),
            );
        }
        if options.mlock {
            // It costs speed at worst.
            let locked = file.mlock();
            warnings.extend(locked.err().map(|error| format!("mlock had no effect: {error}")));
            footprint.set_locked(&file);
        }
        // From here on they are counted as they are.
        footprint.adapters = 0;
        let mut engine = Engine(Arc::new(Inner {
            file,
            model,
            tokenizer,
            threads,
            idle: Mutex::default(),
            warnings,
            fingerprint: OnceLock::new(),
            footprint,
            ceiling,
            adapters: LoadedAdapters::default(),
        }));
        let adapters = options.adapters.iter().map(|(path, scale)| Ok((engine.load_adapter(path)?, *scale)));
        let adapters = adapters.collect::<Result<Vec<_>, Error>>()?;
        let inner = Arc::get_mut(&mut engine.0).expect("nobody else has it yet");
        inner.warnings.extend(adapters.iter().flat_map(|(adapter, _)| adapter.warnings().iter().cloned()));
        engine.set_adapters(Adapters::new(adapters))?;
        Ok(engine)
    }

    /// Pages for sequences that are to share them, at most `max_pages`; `options` says how keys and values are stored.
    pub fn page_pool(&self, options: &SessionOptions, max_pages: usize) -> PagePool {
        let layout = page_layout(self.config(), options);
        PagePool::with_budget(layout, self.config().n_layers, max_pages, self.budget())
    }

    /// An empty sequence with pages of its own and the engine's adapters; see [`Sequence::new`] for one that shares them.
    pub fn sequence(&self, options: &SessionOptions) -> Sequence {
        let pool = self.page_pool(options, usize::MAX);
        let mut sequence = Sequence::new(&pool, self.n_ctx(options), self.config().sliding_window);
        sequence.set_adapters(self.adapters());
        sequence
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

    /// What a user should know about this file on this machine, and about the adapters that it was opened with, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.0.model.kernels().isa()
    }

    /// The threads of its passes.
    pub(crate) fn threads(&self) -> &Threads {
        &self.0.threads
    }

    /// Threads.
    pub fn n_threads(&self) -> usize {
        self.0.threads.n()
    }

    /// What this process will take of memory with one session, beside what other sessions have.
    pub fn memory(&self, options: &SessionOptions) -> MemoryPlan {
        let mut plan = self.0.footprint.plan(options);
        // The program may have grown since; what is reserved is not the program's.
        let anonymous = crate::memory::anonymous_bytes().unwrap_or(0);
        let others = (self.budget().used() + plan.weights.copied).saturating_sub(self.0.ceiling.base_bytes());
        plan.program.anonymous = plan.program.anonymous.max(anonymous.saturating_sub(others));
        plan.adapters = self.0.adapters.n_bytes(options.n_ubatch);
        plan
    }

    /// Where weights are streamed: the layers that stay in memory from one pass to the next, of how many. The output counts as one.
    pub fn kept_layers(&self) -> Option<(usize, usize)> {
        self.0.model.stream().map(WeightStream::kept)
    }

    /// What the engine may reserve of memory, and has.
    pub(crate) fn budget(&self) -> &MemoryBudget {
        &self.0.ceiling.budget
    }

    pub(crate) fn n_ctx(&self, options: &SessionOptions) -> usize {
        if options.n_ctx == 0 { self.config().n_ctx_train } else { options.n_ctx }
    }

    pub(crate) fn model(&self) -> &Mistral {
        &self.0.model
    }

    /// What tells the model from others.
    pub(crate) fn fingerprint(&self) -> u128 {
        *self.0.fingerprint.get_or_init(|| crate::session_file::fingerprint(self.file()))
    }

    pub(crate) fn is_same(&self, other: &Engine) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Working memory for a pass. It goes to [`idle`](Self::idle) once the pass is over.
    pub(crate) fn new_context(&self) -> PassContext {
        PassContext::with_budget(Arc::clone(self.0.threads.team()), self.budget())
    }

    /// Errs where a session with these options could not fill its context under the ceiling on memory.
    pub(crate) fn check_ceiling(&self, options: &SessionOptions) -> Result<(), Error> {
        let mut plan = self.0.footprint.plan(options);
        plan.adapters = self.0.adapters.n_bytes(options.n_ubatch);
        self.0.ceiling.check(&self.0.footprint, &plan)
    }

    /// Working memory that no pass uses. The lock is only ever held to push or pop, which leaves the list whole even if it panics.
    pub(crate) fn idle(&self) -> MutexGuard<'_, Vec<PassContext>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hyper-parameters of a file, with `options` in place of what it says.
fn configure(file: &mut GgufFile, options: &EngineOptions) -> Result<MistralConfig, Error> {
    for (key, value) in &options.overrides {
        file.metadata_mut().set(key, value.clone());
    }
    if let Some(window) = options.sliding_window {
        // As a key it is checked like one of the file. (A file without an architecture is refused below.)
        let arch = file.metadata().str("general.architecture").ok().flatten().unwrap_or_default();
        let key = format!("{arch}.attention.sliding_window");
        file.metadata_mut().set(&key, window as u64);
    }
    Ok(MistralConfig::from_metadata(file.metadata())?)
}
