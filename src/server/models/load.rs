//! Models are loaded and unloaded: one after the other, as there is room, each once for all who ask.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::OwnedMutexGuard;

use super::room::{self, Bounds, Occupant, Verdict};
use super::{Entry, Model, Models, Status};
use crate::memory::format_bytes;
use crate::scheduler::SchedulerStats;
use crate::server::answer::blocking;
use crate::server::error::ApiError;

/// How often it is looked whether a model is idle.
const TICK: Duration = Duration::from_millis(100);

/// How often it is looked whether a busy model has become idle, while somebody waits for that.
const SHORT_TICK: Duration = Duration::from_millis(10);

/// How long a scheduler may take to end once nobody wants it. Longer than any pass.
const LONGEST_END: Duration = Duration::from_secs(60);

impl Models {
    /// The model of an entry, loaded if it is not. `autoload` says whether it may be, in place of what the server was told.
    ///
    /// # Errors
    /// 503 while the only model of a server is opened for the first time, and where there is no room; 400 where it may not be loaded; 500
    /// where it cannot be.
    pub async fn open(
        self: &Arc<Models>,
        entry: &Arc<Entry>,
        autoload: Option<bool>,
    ) -> Result<Arc<Model>, ApiError> {
        match (self.router(), entry.status()) {
            (None, Status::Loading) if entry.facts().is_none() => {
                return Err(ApiError { retry_after: Some(1), ..ApiError::unavailable("Loading model") });
            }
            (Some(router), Status::Unloaded | Status::Failed) if !autoload.unwrap_or(router.autoload) => {
                return Err(ApiError::invalid(format!(
                    "model '{}' is not loaded, and this request is not to load it: POST /models/load does",
                    entry.options().name()
                )));
            }
            _ => {}
        }
        entry.keep().wanted();
        match entry.loaded() {
            Some(model) => Ok(model),
            None => self.load(entry).await,
        }
    }

    /// Loads a model, unless it is there when its turn has come. Whoever goes away meanwhile leaves the turn to others, but a model that is
    /// being opened is opened to the end.
    ///
    /// # Errors
    /// As [`Models::open`].
    pub async fn load(self: &Arc<Models>, entry: &Arc<Entry>) -> Result<Arc<Model>, ApiError> {
        let before = entry.n_attempts();
        let turn = self.turn(entry).await?;
        if let Some(model) = entry.loaded() {
            return Ok(model);
        }
        // Those who waited for the same attempt share its failure.
        if entry.n_attempts() > before
            && let Some(failure) = entry.failure()
        {
            return Err(failure);
        }
        let bytes = match self.plan(entry).await {
            Ok(bytes) => bytes,
            // Nothing goes for a file that cannot be opened.
            Err(error) => {
                self.tell_failure(entry, &error);
                return entry.is_opened(Err(error));
            }
        };
        if let Err(error) = self.make_room(entry, bytes).await {
            self.tell_failure(entry, &error);
            return Err(error);
        }
        // On a task of its own: a client that goes away does not undo what others wait for.
        let opened = tokio::spawn(Arc::clone(self).open_now(Arc::clone(entry), bytes, turn)).await;
        opened.unwrap_or_else(|error| Err(ApiError::internal(format!("opening the model: {error}"))))
    }

    /// The turn to load a model, which comes once it is not on its way out of memory. Others are loaded meanwhile.
    async fn turn(&self, entry: &Entry) -> Result<OwnedMutexGuard<()>, ApiError> {
        let start = Instant::now();
        loop {
            let turn = Arc::clone(&self.turn).lock_owned().await;
            if !entry.is_leaving() {
                return Ok(turn);
            }
            drop(turn);
            if self.router().is_some_and(|router| start.elapsed() >= router.patience) {
                let name = entry.options().name();
                let message =
                    format!("model '{name}' is being unloaded, and answers of it are still under way");
                return Err(ApiError { retry_after: Some(1), ..ApiError::unavailable(message) });
            }
            tokio::time::sleep(SHORT_TICK).await;
        }
    }

    async fn open_now(
        self: Arc<Models>,
        entry: Arc<Entry>,
        bytes: usize,
        turn: OwnedMutexGuard<()>,
    ) -> Result<Arc<Model>, ApiError> {
        let name = entry.options().name();
        entry.begins_to_load(bytes);
        self.events.status(name, Status::Loading.name());
        let opening = Arc::clone(&entry);
        let start = Instant::now();
        let opened = tokio::task::spawn_blocking(move || {
            Model::open(opening.options(), Arc::clone(opening.adapters()))
        })
        .await;
        let cannot = |why: String| self.cannot_open(name, &why);
        let opened = match opened {
            Ok(Ok(model)) => Ok(model),
            Ok(Err(error)) => Err(cannot(error.to_string())),
            Err(panic) => Err(cannot(panic.to_string())),
        };
        let opened = entry.is_opened(opened);
        drop(turn);
        match &opened {
            Ok(_) => {
                self.events.status(name, Status::Loaded.name());
                if self.router().is_some() {
                    tracing::info!(model = name, "loaded in {:.2} s", start.elapsed().as_secs_f64());
                }
                if !self.entries().iter().any(|listed| Arc::ptr_eq(listed, &entry)) {
                    self.retire(&entry);
                }
                self.watched.notify_one();
            }
            Err(error) => {
                entry.adapters().close();
                self.tell_failure(&entry, error);
            }
        }
        opened
    }

    fn cannot_open(&self, name: &str, why: &str) -> ApiError {
        let what = if self.router().is_some() { format!("model '{name}'") } else { "the model".to_owned() };
        ApiError::internal(format!("{what} cannot be opened: {why}"))
    }

    fn tell_failure(&self, entry: &Entry, error: &ApiError) {
        self.events.failed(entry.options().name(), &error.message);
        if self.router().is_some() {
            tracing::error!("{}", error.message);
        }
    }

    /// The bytes that a model of a router will take.
    async fn plan(self: &Arc<Models>, entry: &Arc<Entry>) -> Result<usize, ApiError> {
        if self.router().is_none() {
            return Ok(0);
        }
        let (models, entry) = (Arc::clone(self), Arc::clone(entry));
        let plan = move || {
            let options = entry.options();
            let plan = options.opener.plan();
            plan.map(|plan| room::model_bytes(&plan))
                .map_err(|error| models.cannot_open(options.name(), &error.to_string()))
        };
        blocking(plan).await
    }

    /// Unloads others until there is room for a model of so many bytes.
    async fn make_room(self: &Arc<Models>, entry: &Arc<Entry>, bytes: usize) -> Result<(), ApiError> {
        let Some(router) = self.router() else { return Ok(()) };
        let name = entry.options().name();
        let bounds =
            Bounds { max_models: router.max_models, max_bytes: self.max_bytes, base: self.base_bytes };
        let start = Instant::now();
        loop {
            let others: Vec<Arc<Entry>> =
                self.in_memory().into_iter().filter(|other| !Arc::ptr_eq(other, entry)).collect();
            let occupants: Vec<Occupant> = others.iter().map(|other| occupant(other)).collect();
            match room::decide(&bounds, bytes, &occupants) {
                Verdict::Fits => return Ok(()),
                Verdict::Evict(i) => {
                    if let Some(model) = others[i].dismiss(true) {
                        let other = others[i].options().name().to_owned();
                        tracing::info!(model = other, "unloading: room is needed for {name}");
                        self.see_off(&others[i], model, false).await;
                    }
                }
                Verdict::Wait if start.elapsed() < router.patience => tokio::time::sleep(SHORT_TICK).await,
                Verdict::Wait => {
                    let error = no_room(name, &bounds, bytes, &occupants, "those that are loaded are busy");
                    return Err(ApiError { retry_after: Some(1), ..error });
                }
                Verdict::Never => {
                    return Err(no_room(
                        name,
                        &bounds,
                        bytes,
                        &[],
                        "a shorter --ctx-size or fewer --parallel take less",
                    ));
                }
            }
        }
    }

    /// The entries whose models take memory, those on their way out included.
    fn in_memory(&self) -> Vec<Arc<Entry>> {
        let mut entries = self.entries();
        entries.extend(self.retired());
        entries.retain(|entry| entry.is_idle().is_some());
        entries
    }

    /// Takes a model out of memory: now if it is idle, else when the answers under way are over. Nobody gets it meanwhile. Returns whether it
    /// was in memory.
    pub async fn unload(self: &Arc<Models>, entry: &Arc<Entry>) -> bool {
        if entry.status() == Status::Loading {
            // Whether that goes well is told to those who asked for it.
            let _ = self.load(entry).await;
        }
        let idle = entry.is_idle() == Some(true);
        let Some(model) = entry.dismiss(false) else { return false };
        tracing::info!(model = entry.options().name(), "unloading");
        let gone = self.see_off(entry, model, self.router().is_none());
        if idle {
            gone.await;
        }
        true
    }

    /// An entry that lists no longer have: its model goes when it is idle.
    pub(super) fn retire(&self, entry: &Arc<Entry>) {
        if entry.is_idle().is_some() {
            self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(entry));
            self.watched.notify_one();
        }
    }

    /// The entries that lists no longer have, as far as they take memory.
    pub(super) fn retired(&self) -> Vec<Arc<Entry>> {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|entry| entry.is_idle().is_some());
        retired.clone()
    }

    /// What a request says about how long a model stays: `Some(None)` is for ever, `None` is as the server was started.
    pub fn keep(&self, entry: &Entry, asked: Option<Option<Duration>>) {
        entry.keep().ask(asked);
        self.watched.notify_one();
    }

    /// Waits until a dismissed model is idle, ends its thread and gives its memory back. Goes on if nobody waits for it.
    fn see_off(
        self: &Arc<Models>,
        entry: &Arc<Entry>,
        model: Arc<Model>,
        sleeps: bool,
    ) -> impl Future<Output = ()> + use<> {
        let (models, entry) = (Arc::clone(self), Arc::clone(entry));
        let task = tokio::spawn(async move {
            while Arc::strong_count(&model) > 1 {
                tokio::time::sleep(SHORT_TICK).await;
            }
            let stats = model.worker.stats();
            let ended = tokio::task::spawn_blocking(move || {
                model.worker.stop();
                model.worker.wait(LONGEST_END);
                drop(model);
                crate::memory::give_back();
            });
            let _ = ended.await;
            models.metrics.retire(&stats);
            entry.adapters().close();
            // Passes are counted by `metrics` from now on.
            entry.is_gone(sleeps, SchedulerStats { n_passes: 0, n_texts_in_passes: 0, ..stats });
            let status = entry.status();
            models.events.status(entry.options().name(), status.name());
        });
        async move {
            let _ = task.await;
        }
    }

    /// Takes idle models out of memory when their time is over, for as long as the server runs.
    pub async fn watch(self: Arc<Models>) {
        loop {
            let retired = self.retired();
            let mut has_end = !retired.is_empty();
            let listed = self.entries().into_iter().map(|entry| (entry, false));
            for (entry, is_retired) in listed.chain(retired.into_iter().map(|entry| (entry, true))) {
                let Some(is_idle) = entry.is_idle() else { continue };
                if !is_idle {
                    entry.keep().in_use();
                }
                has_end |= entry.keep().left().is_some();
                if is_idle && (is_retired || entry.time_is_over()) {
                    let sleeps =
                        self.router().is_none() || self.sleeps && !is_retired && entry.keep().is_default();
                    if let Some(model) = entry.dismiss(true) {
                        let what = if sleeps { "sleeping" } else { "unloading" };
                        tracing::info!(model = entry.options().name(), "{what}: nobody asks for it");
                        self.see_off(&entry, model, sleeps).await;
                    }
                }
            }
            if has_end {
                tokio::time::sleep(TICK).await;
            } else {
                self.watched.notified().await;
            }
        }
    }
}

fn occupant(entry: &Entry) -> Occupant {
    let (used, is_pinned) = {
        let keep = entry.keep();
        (keep.used(), keep.is_pinned())
    };
    Occupant { bytes: entry.bytes(), is_idle: entry.is_idle() == Some(true), is_pinned, used }
}

/// Why a model cannot be loaded, with numbers.
fn no_room(name: &str, bounds: &Bounds, bytes: usize, others: &[Occupant], advice: &str) -> ApiError {
    let sum: usize = others.iter().map(|other| other.bytes).sum();
    let mut message = format!("there is no room for model '{name}': it takes {}", format_bytes(bytes));
    if let Some(max) = bounds.max_bytes {
        message += &format!(" of the {} of --max-memory", format_bytes(max));
    }
    if let Some(max) = bounds.max_models.filter(|max| others.len() >= *max) {
        message += &format!(", {} of at most {max} models are loaded (--models-max)", others.len());
    }
    message += &format!(
        "; the program has {}, models that are loaded take {}: {advice}",
        format_bytes(bounds.base),
        format_bytes(sum)
    );
    let mut error = ApiError::unavailable(message).with("n_bytes", bytes).with("n_loaded", others.len());
    error = error.with("program_bytes", bounds.base);
    for (field, value) in [("max_bytes", bounds.max_bytes), ("max_models", bounds.max_models)] {
        if let Some(value) = value {
            error = error.with(field, json!(value));
        }
    }
    error
}
