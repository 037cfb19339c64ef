//! A model that can be asked for, in memory or not.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex as AsyncMutex;

use super::keep::Keep;
use super::{Facts, Model};
use crate::scheduler::SchedulerStats;
use crate::server::ModelOptions;
use crate::server::error::ApiError;
use crate::server::metrics::Metrics;

/// How often it is looked whether a model is idle.
const TICK: Duration = Duration::from_millis(100);

/// A model that can be asked for.
pub struct Entry {
    options: ModelOptions,
    created: SystemTime,
    facts: OnceLock<Facts>,
    /// The model, while it is in memory. Held while it is being opened.
    model: Arc<AsyncMutex<Option<Arc<Model>>>>,
    /// The same for those who do not wait.
    current: Mutex<Option<Arc<Model>>>,
    keep: Mutex<Keep>,
    /// What its scheduler last had, while it sleeps.
    resting: Mutex<SchedulerStats>,
    asleep: AtomicBool,
}

/// Whether a model is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is being opened for the first time.
    Loading,
    /// It is in memory.
    Loaded,
    /// It is opened again when it is asked for.
    Sleeping,
}

impl Entry {
    /// A model that has not been opened.
    pub fn new(options: ModelOptions) -> Entry {
        Entry {
            options,
            created: SystemTime::now(),
            facts: OnceLock::new(),
            model: Arc::default(),
            current: Mutex::default(),
            keep: Mutex::new(Keep::new()),
            resting: Mutex::default(),
            asleep: AtomicBool::new(false),
        }
    }

    /// How it is opened and what it is called.
    pub fn options(&self) -> &ModelOptions {
        &self.options
    }

    /// When this program heard of it.
    pub fn created(&self) -> SystemTime {
        self.created
    }

    /// What is known about it; nothing before it was first opened.
    pub fn facts(&self) -> Option<&Facts> {
        self.facts.get()
    }

    /// Whether it is in memory.
    pub fn status(&self) -> Status {
        match (self.facts.get(), self.asleep.load(Relaxed)) {
            (None, _) => Status::Loading,
            (Some(_), true) => Status::Sleeping,
            (Some(_), false) => Status::Loaded,
        }
    }

    /// The model if it is in memory, without waiting and without waking it.
    pub fn loaded(&self) -> Option<Arc<Model>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What its scheduler is doing; while it sleeps, what it had before.
    pub fn scheduler_stats(&self) -> SchedulerStats {
        match self.loaded() {
            Some(model) => model.worker.stats(),
            None => self.resting.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Opens the model for the first time.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn open(self: &Arc<Entry>) -> Result<Arc<Model>, ApiError> {
        self.clone().open_unless_open().await
    }

    /// The model, opened if it sleeps.
    ///
    /// # Errors
    /// 503 while it is opened for the first time, 500 where it cannot be opened again.
    pub async fn get(self: &Arc<Entry>) -> Result<Arc<Model>, ApiError> {
        if self.facts.get().is_none() {
            return Err(ApiError { retry_after: Some(1), ..ApiError::unavailable("Loading model") });
        }
        self.kept().wanted();
        if let Some(model) = self.loaded() {
            return Ok(model);
        }
        // On a task of its own: a client that goes away does not undo what others wait for.
        let entry = Arc::clone(self);
        let opened = tokio::spawn(entry.open_unless_open()).await;
        opened.unwrap_or_else(|error| Err(ApiError::internal(format!("opening the model: {error}"))))
    }

    async fn open_unless_open(self: Arc<Entry>) -> Result<Arc<Model>, ApiError> {
        let mut slot = self.model.lock().await;
        if let Some(model) = &*slot {
            return Ok(Arc::clone(model));
        }
        let entry = Arc::clone(&self);
        let opened = tokio::task::spawn_blocking(move || Model::open(&entry.options)).await;
        let model = match opened {
            Ok(Ok(model)) => Arc::new(model),
            Ok(Err(error)) => return Err(ApiError::internal(format!("the model cannot be opened: {error}"))),
            Err(error) => return Err(ApiError::internal(format!("the model cannot be opened: {error}"))),
        };
        self.facts.get_or_init(|| Facts::of(&model));
        *slot = Some(Arc::clone(&model));
        self.set_current(Some(Arc::clone(&model)));
        self.asleep.store(false, Relaxed);
        self.kept().in_use();
        Ok(model)
    }

    fn set_current(&self, model: Option<Arc<Model>>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = model;
    }

    fn kept(&self) -> MutexGuard<'_, Keep> {
        self.keep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the model to sleep whenever nobody has used it for so long, unless a request says otherwise.
    pub fn sleep_when_idle(self: &Arc<Entry>, after: Duration, metrics: &Arc<Metrics>) {
        self.kept().default = Some(after);
        self.watch(metrics);
    }

    /// What a request says about how long the model stays: `Some(None)` is for ever, `None` is as the server was started.
    pub fn keep(self: &Arc<Entry>, asked: Option<Option<Duration>>, metrics: &Arc<Metrics>) {
        self.kept().ask(asked);
        if asked.flatten().is_some() {
            self.watch(metrics);
        }
    }

    /// When the model leaves memory if nobody wants it; `None` is never.
    pub fn expires_at(&self) -> Option<SystemTime> {
        SystemTime::now().checked_add(self.kept().left()?)
    }

    /// Looks for the model's being idle from now on.
    fn watch(self: &Arc<Entry>, metrics: &Arc<Metrics>) {
        if !std::mem::replace(&mut self.kept().is_watched, true) {
            tokio::spawn(Arc::clone(self).watching(Arc::clone(metrics)));
        }
    }

    async fn watching(self: Arc<Entry>, metrics: Arc<Metrics>) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            let mut slot = self.model.lock().await;
            // `slot` and `current` hold it; so does every request.
            let Some(model) = slot.as_ref() else { continue };
            if Arc::strong_count(model) > 2 {
                self.kept().in_use();
                continue;
            }
            if self.kept().left().is_none_or(|left| !left.is_zero()) {
                continue;
            }
            let stats = model.worker.stats();
            metrics.retire(&stats);
            // Passes are counted by `metrics` from now on.
            let stats = SchedulerStats { n_passes: 0, n_texts_in_passes: 0, ..stats };
            *self.resting.lock().unwrap_or_else(PoisonError::into_inner) = stats;
            self.set_current(None);
            self.asleep.store(true, Relaxed);
            if let Some(model) = slot.take() {
                tracing::info!(model = %self.options.name(), "sleeping: the model is out of memory until it is asked for");
                // Its thread is waited for.
                let _ = tokio::task::spawn_blocking(move || drop(model)).await;
            }
        }
    }
}
