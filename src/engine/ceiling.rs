//! What an engine takes of memory beside its sessions, and the ceiling that all of it stays below.

use std::path::Path;

use bise_kernels::kv_page::{PAGE_LEN, PageLayout};
use bise_models::gguf::{GgufFile, OpenOptions};
use bise_models::tokenizer::Tokenizer;
use bise_models::weights::Weights;
use bise_models::{MemoryBudget, Mistral, MistralConfig, Reservation, WeightStream};

use crate::memory::{self, MemoryLimit, MemoryPlan, Program, Streamed, WeightsPlan};
use crate::speculation::SpeculationOptions;
use crate::{EngineOptions, Error, SessionOptions};

/// What a plan for any session needs to know of the model.
#[derive(Clone)]
pub(super) struct Footprint {
    pub config: MistralConfig,
    pub n_threads: usize,
    pub program: Program,
    pub weights: WeightsPlan,
    /// Adapters that are to be loaded.
    pub adapters: usize,
    /// The least that weights take while they are streamed; `None` where there is nothing to stream.
    least_streamed: Option<usize>,
    n_weights: u64,
}

/// A ceiling, and what already counts against it.
pub(super) struct Ceiling {
    /// `None` without one.
    limit: Option<usize>,
    pub budget: MemoryBudget,
    /// The program's memory, and that of copied weights.
    base: Reservation,
}

impl Footprint {
    /// Of a model in `file`, in a process that had `mapped` bytes of files before that was opened.
    pub fn new(
        file: &GgufFile,
        config: &MistralConfig,
        weights: &Weights,
        tokenizer: &Tokenizer,
        n_threads: usize,
        mapped: usize,
    ) -> Footprint {
        let (embeddings, output) = (weights.token_embd.view().bytes(), weights.output.view().bytes());
        let is_tied = embeddings.as_ptr() == output.as_ptr();
        let copied = file.n_copied_bytes();
        let anonymous = memory::anonymous_bytes().unwrap_or(0).saturating_sub(copied);
        Footprint {
            config: config.clone(),
            n_threads,
            program: Program {
                anonymous,
                tokenizer: tokenizer.heap_bytes(),
                mapped: mapped + memory::PROGRAM_GROWTH_BYTES,
            },
            weights: WeightsPlan {
                bytes: weights.n_bytes(),
                embeddings: if is_tied { 0 } else { embeddings.len() },
                header: file.n_header_bytes(),
                copied,
                locked: file.n_resident_bytes() - copied,
                streamed: None,
            },
            adapters: 0,
            least_streamed: WeightStream::is_possible(weights).then(|| WeightStream::least_bytes(weights)),
            n_weights: file.tensors().map(|tensor| tensor.n_elements() as u64).sum(),
        }
    }

    /// Counts the file as copied or locked, as `options` ask for.
    pub fn opened_as(mut self, file: &GgufFile, options: &EngineOptions) -> Footprint {
        let bytes = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let n_bytes = bytes(file.n_bytes());
        let is_file = self.weights.copied > 0 || self.least_streamed.is_some();
        if !options.mmap && is_file {
            self.weights.copied = n_bytes;
        } else if file.n_big_endian_bytes() > 0 {
            // Swapped, and so without a mapped file to stream from.
            self.weights.copied = bytes(file.n_big_endian_bytes());
            self.least_streamed = None;
        } else if is_file && options.mlock && self.weights.copied == 0 {
            self.weights.locked = n_bytes;
        }
        self
    }

    /// The ceiling that `options` ask for, or that weights are to be streamed below. Notes whether they are.
    fn limit(&mut self, options: &EngineOptions) -> Result<Option<usize>, Error> {
        let w = &self.weights;
        let least = self.least_streamed.filter(|_| options.stream_weights && w.copied == 0 && w.locked == 0);
        let limit = options.max_memory.or(least.map(|_| MemoryLimit::Auto));
        let limit = limit.map(MemoryLimit::bytes).transpose()?;
        if let (Some(limit), Some(least)) = (limit, least) {
            let total = limit.saturating_sub(self.other_mapped());
            self.weights.streamed = Some(Streamed { least, total });
        }
        Ok(limit)
    }

    /// What is mapped beside the weights.
    fn other_mapped(&self) -> usize {
        self.program.mapped + if self.weights.copied > 0 { 0 } else { self.weights.header }
    }

    /// One session with `options`.
    pub fn plan(&self, options: &SessionOptions) -> MemoryPlan {
        let n_ctx = if options.n_ctx == 0 { self.config.n_ctx_train } else { options.n_ctx };
        MemoryPlan {
            config: self.config.clone(),
            layout: page_layout(&self.config, options),
            n_ctx,
            n_ubatch: options.n_ubatch,
            n_threads: self.n_threads,
            n_sequences: 1,
            n_drafts: SpeculationOptions::default().n_max,
            program: self.program,
            weights: self.weights,
            adapters: self.adapters,
        }
    }

    /// The sessions that `options` ask room for, or the smallest one.
    fn least_plan(&self, options: &EngineOptions) -> MemoryPlan {
        match &options.sessions {
            Some((n, options)) => self.plan(options).for_sequences(*n),
            None => self.plan(&SessionOptions { n_ctx: PAGE_LEN, n_ubatch: 1, ..SessionOptions::default() }),
        }
    }

    /// Counts the file as locked only if it is.
    pub fn set_locked(&mut self, file: &GgufFile) {
        self.weights.locked = file.n_resident_bytes() - file.n_copied_bytes();
    }

    /// What is mapped while the sessions that `options` ask room for are full; the least, where weights are streamed.
    fn least_mapped(&self, options: &EngineOptions) -> usize {
        let plan = self.least_plan(options);
        match self.weights.streamed {
            Some(streamed) => self.other_mapped() + streamed.least.min(self.weights.bytes),
            None => plan.mapped_at(plan.n_ctx),
        }
    }
}

impl Ceiling {
    /// The ceiling that `options` ask for. Has `model` stream its weights, if that is asked for as well.
    ///
    /// # Errors
    /// Where the model does not fit.
    pub fn new(
        options: &EngineOptions,
        footprint: &mut Footprint,
        model: Mistral,
    ) -> Result<(Ceiling, Mistral), Error> {
        let limit = footprint.limit(options)?;
        if options.max_memory.is_some() && options.sessions.is_none() {
            // Nobody knows how many tokens will be looked up.
            footprint.weights.embeddings = 0;
        }
        let others = footprint.other_mapped();
        if let (Some(limit), true) = (limit, options.max_memory.is_some()) {
            footprint.least_plan(options).check(limit, footprint.least_streamed, footprint.n_weights)?;
        }
        let anonymous =
            footprint.weights.copied.saturating_add(footprint.program.anonymous + memory::HEAP_GROWTH_BYTES);
        let budget = match (limit, options.max_memory) {
            (Some(limit), Some(_)) => {
                MemoryBudget::new(limit.saturating_sub(footprint.least_mapped(options)))
            }
            _ => MemoryBudget::unlimited(),
        };
        let base = budget.reserve(anonymous)?;
        let planned = options.sessions.map_or(0, |_| {
            let plan = footprint.least_plan(options);
            plan.anonymous_at(plan.n_ctx)
        });
        let model = match limit {
            Some(limit) if footprint.weights.streamed.is_some() => {
                model.streamed(limit.saturating_sub(others), planned, &budget)
            }
            _ => model,
        };
        let limit = options.max_memory.and(limit);
        Ok((Ceiling { limit, budget, base }, model))
    }

    /// What was reserved before any session.
    pub fn base_bytes(&self) -> usize {
        self.base.bytes()
    }

    /// Checks that a session with a full context can fit at all.
    pub fn check(&self, footprint: &Footprint, plan: &MemoryPlan) -> Result<(), Error> {
        match self.limit {
            Some(limit) => Ok(plan.check(limit, footprint.least_streamed, footprint.n_weights)?),
            None => Ok(()),
        }
    }
}

/// The footprint of a model that is opened as `options` say, without reading its weights.
pub(super) fn plan_file(path: &Path, options: &EngineOptions) -> Result<Footprint, Error> {
    let mapped = memory::mapped_bytes().unwrap_or(0);
    let mut file = GgufFile::open_as_stored(path, OpenOptions { mmap: true })?;
    let config = super::configure(&mut file, options)?;
    let weights = Weights::load(&file, &config)?;
    let tokenizer = Tokenizer::from_metadata(file.metadata())?;
    let n_threads = match &options.shared_threads {
        Some(threads) => threads.n(),
        None => options.threads.unwrap_or_else(|| crate::threads::default_threads(None)),
    };
    let footprint = Footprint::new(&file, &config, &weights, &tokenizer, n_threads, mapped);
    let mut footprint = footprint.opened_as(&file, options);
    footprint.adapters = super::adapters::n_bytes(&options.adapters);
    footprint.limit(options)?;
    Ok(footprint)
}

/// Checks that a file fits before it is read into memory, if it is to be.
pub(super) fn check_before_reading(path: &Path, options: &EngineOptions) -> Result<(), Error> {
    let Some(limit) = options.max_memory else { return Ok(()) };
    let is_mapped =
        || GgufFile::open_as_stored(path, OpenOptions { mmap: true }).map(|f| f.n_big_endian_bytes() == 0);
    if options.mmap && is_mapped()? {
        return Ok(());
    }
    let footprint = plan_file(path, options)?;
    let plan = footprint.least_plan(options);
    Ok(plan.check(limit.bytes()?, footprint.least_streamed, footprint.n_weights)?)
}

pub(super) fn page_layout(config: &MistralConfig, options: &SessionOptions) -> PageLayout {
    PageLayout::new(config.n_kv_heads, config.head_dim, options.k_type, options.v_type)
}
