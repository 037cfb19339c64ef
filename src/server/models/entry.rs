//! A model that can be asked for, in memory or not.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use super::catalog::Offer;
use super::keep::Keep;
use super::{Facts, Model, ModelAdapters};
use crate::hub::Extras;
use crate::scheduler::{SchedulerStats, WorkerHandle};
use crate::server::ModelOptions;
use crate::server::error::ApiError;

/// A model that can be asked for.
pub struct Entry {
    options: ModelOptions,
    /// Where a router has it from.
    offer: Option<Offer>,
    adapters: Arc<ModelAdapters>,
    created: SystemTime,
    facts: OnceLock<Result<Facts, String>>,
    state: Mutex<State>,
    keep: Mutex<Keep>,
    /// What its scheduler last had, while it is not in memory.
    resting: Mutex<SchedulerStats>,
}

struct State {
    phase: Phase,
    /// Attempts to open it that are over.
    n_attempts: usize,
    /// Why the last one failed, if it did.
    failure: Option<ApiError>,
    /// Bytes that it takes with full contexts, as foretold when it was opened.
    bytes: usize,
}

enum Phase {
    Unloaded,
    Sleeping,
    Loading,
    Loaded(Arc<Model>),
    /// Requests that have it go on; nobody else gets it.
    Leaving(Weak<Model>),
}

/// Whether a model is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is opened when it is asked for.
    Unloaded,
    /// It is opened when it is asked for, though the last attempt failed.
    Failed,
    /// It is being opened.
    Loading,
    /// It is in memory.
    Loaded,
    /// It was idle, and is opened again when it is asked for.
    Sleeping,
}

impl Status {
    /// In llama-server's words.
    pub fn name(self) -> &'static str {
        match self {
            Status::Unloaded | Status::Failed => "unloaded",
            Status::Loading => "loading",
            Status::Loaded => "loaded",
            Status::Sleeping => "sleeping",
        }
    }
}

impl Entry {
    /// The one model of a server, which is opened at once.
    pub fn single(options: ModelOptions, keep: Keep) -> Entry {
        Entry::new(options, None, Phase::Loading, keep)
    }

    /// A model of a router, which is opened when it is asked for.
    pub fn offered(options: ModelOptions, offer: Offer, keep: Keep) -> Entry {
        Entry::new(options, Some(offer), Phase::Unloaded, keep)
    }

    fn new(options: ModelOptions, offer: Option<Offer>, phase: Phase, keep: Keep) -> Entry {
        let state = State { phase, n_attempts: 0, failure: None, bytes: 0 };
        Entry {
            adapters: Arc::new(ModelAdapters::new(&options.adapters, &options.aliases)),
            options,
            offer,
            created: SystemTime::now(),
            facts: OnceLock::new(),
            state: Mutex::new(state),
            keep: Mutex::new(keep),
            resting: Mutex::default(),
        }
    }

    /// How it is opened and what it is called.
    pub fn options(&self) -> &ModelOptions {
        &self.options
    }

    /// Where a router has it from.
    pub fn offer(&self) -> Option<&Offer> {
        self.offer.as_ref()
    }

    /// What a Modelfile says beside the weights.
    pub fn extras(&self) -> &Extras {
        &self.options.extras
    }

    /// Its adapters.
    pub fn adapters(&self) -> &Arc<ModelAdapters> {
        &self.adapters
    }

    /// When this program heard of it.
    pub fn created(&self) -> SystemTime {
        self.created
    }

    /// Whether a client means this model.
    pub fn is_called(&self, name: &str) -> bool {
        match &self.offer {
            Some(offer) => offer.is_called(name),
            None => {
                let name = name.strip_suffix(":latest").unwrap_or(name);
                self.options.aliases.iter().any(|alias| alias == name)
            }
        }
    }

    /// What is known about it; nothing before it was first opened or looked at.
    pub fn facts(&self) -> Option<&Facts> {
        self.facts.get()?.as_ref().ok()
    }

    /// What can be known about it without opening it; the file is read the first time. Takes a while.
    ///
    /// # Errors
    /// The file is none that can be served.
    pub fn look(&self) -> Result<&Facts, &str> {
        let look = || {
            let digest = self.offer.as_ref().and_then(|offer| offer.model.digest);
            Facts::of_file(&self.options, digest).map_err(|error| error.to_string())
        };
        self.facts.get_or_init(look).as_ref().map_err(String::as_str)
    }

    /// Whether it is in memory.
    pub fn status(&self) -> Status {
        let state = self.state();
        match (&state.phase, &state.failure) {
            (Phase::Unloaded, None) => Status::Unloaded,
            (Phase::Unloaded, Some(_)) => Status::Failed,
            (Phase::Sleeping, _) => Status::Sleeping,
            (Phase::Loading, _) => Status::Loading,
            (Phase::Loaded(_) | Phase::Leaving(_), _) => Status::Loaded,
        }
    }

    /// The model if it is in memory, without waiting and without waking it.
    pub fn loaded(&self) -> Option<Arc<Model>> {
        match &self.state().phase {
            Phase::Loaded(model) => Some(Arc::clone(model)),
            _ => None,
        }
    }

    /// Its worker as long as it is in memory, on its way out too.
    pub fn worker(&self) -> Option<WorkerHandle> {
        match &self.state().phase {
            Phase::Loaded(model) => Some(model.worker.clone()),
            Phase::Leaving(model) => Some(model.upgrade()?.worker.clone()),
            _ => None,
        }
    }

    /// What its scheduler is doing; while it is not in memory, what it had before.
    pub fn scheduler_stats(&self) -> SchedulerStats {
        match self.loaded() {
            Some(model) => model.worker.stats(),
            None => self.resting.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// When the model leaves memory if nobody wants it; `None` is never.
    pub fn expires_at(&self) -> Option<SystemTime> {
        SystemTime::now().checked_add(self.keep().left()?)
    }

    /// Bytes that it takes, where it is in memory.
    pub fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// A request wants it.
    pub fn wanted(&self) {
        self.keep().wanted();
    }

    /// How long it stays.
    pub(super) fn keep(&self) -> MutexGuard<'_, Keep> {
        self.keep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attempts to open it that are over.
    pub(super) fn n_attempts(&self) -> usize {
        self.state().n_attempts
    }

    /// Why the last attempt to open it failed.
    pub fn failure(&self) -> Option<ApiError> {
        self.state().failure.clone()
    }

    /// Whether no request uses the model; `None` if it takes no memory.
    pub fn is_idle(&self) -> Option<bool> {
        match &self.state().phase {
            Phase::Loaded(model) => Some(Arc::strong_count(model) == 1),
            Phase::Loading | Phase::Leaving(_) => Some(false),
            _ => None,
        }
    }

    /// Whether the model is on its way out of memory.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.state().phase, Phase::Leaving(_))
    }

    /// It is being opened, and will take so many bytes.
    pub(super) fn begins_to_load(&self, bytes: usize) {
        let mut state = self.state();
        (state.phase, state.bytes) = (Phase::Loading, bytes);
    }

    /// An attempt to open it is over.
    pub(super) fn is_opened(&self, opened: Result<Model, ApiError>) -> Result<Arc<Model>, ApiError> {
        let opened = opened.map(Arc::new);
        if let Ok(model) = &opened {
            self.facts.get_or_init(|| Ok(Facts::of(model)));
        }
        self.keep().in_use();
        let mut state = self.state();
        state.n_attempts += 1;
        state.failure = opened.as_ref().err().cloned();
        state.phase = match &opened {
            Ok(model) => Phase::Loaded(Arc::clone(model)),
            Err(_) => Phase::Unloaded,
        };
        opened
    }

    /// Takes the model from those who ask from now on, unless it is not in memory, or `only_idle` and in use.
    pub(super) fn dismiss(&self, only_idle: bool) -> Option<Arc<Model>> {
        let mut state = self.state();
        match &state.phase {
            Phase::Loaded(model) if !only_idle || Arc::strong_count(model) == 1 => {
                let model = Arc::clone(model);
                state.phase = Phase::Leaving(Arc::downgrade(&model));
                Some(model)
            }
            _ => None,
        }
    }

    /// The model that was dismissed is out of memory.
    pub(super) fn is_gone(&self, sleeps: bool, stats: SchedulerStats) {
        *self.resting.lock().unwrap_or_else(PoisonError::into_inner) = stats;
        let mut state = self.state();
        state.phase = if sleeps { Phase::Sleeping } else { Phase::Unloaded };
        state.bytes = 0;
    }

    /// Nobody has to wait for it any longer.
    pub(super) fn time_is_over(&self) -> bool {
        self.keep().left() == Some(Duration::ZERO)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
