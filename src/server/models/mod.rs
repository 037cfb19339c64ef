//! The models that are served: opened when they are wanted, taken out of memory when nobody wants them.

mod adapters;
mod catalog;
mod entry;
mod events;
mod facts;
mod keep;
mod load;
mod metadata;
mod model;
mod room;
mod served;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, Notify};

pub use adapters::ModelAdapters;
pub use catalog::{Catalog, Offer, OptionsOf, Preset, references};
pub use entry::{Entry, Status};
pub use events::Events;
pub use facts::Facts;
pub use metadata::metadata;
pub use model::Model;
pub use served::{RouterOptions, Served};

use self::keep::Keep;
use super::body::Body;
use super::error::ApiError;
use super::metrics::Metrics;
use crate::scheduler::{SchedulerStats, WorkerHandle};

/// Every model that can be asked for.
pub struct Models {
    /// The one model, or those a router knows, in the order of its lists.
    entries: RwLock<Vec<Arc<Entry>>>,
    /// Those that lists no longer have, and that are still in memory.
    retired: Mutex<Vec<Arc<Entry>>>,
    /// Held while it is looked which models there are.
    refreshing: Mutex<()>,
    /// What was found wrong with models, and logged.
    told: Mutex<HashSet<String>>,
    /// `None` where there is one model.
    router: Option<RouterOptions>,
    /// Bytes that all models and the program may take.
    max_bytes: Option<usize>,
    /// Bytes that the process had before it had a model.
    base_bytes: usize,
    /// Whether an idle model sleeps, rather than be unloaded.
    sleeps: bool,
    /// Held by whoever has a model loaded: one after the other, in the order they came.
    turn: Arc<AsyncMutex<()>>,
    /// Wakes the task that looks for idle models.
    watched: Notify,
    metrics: Arc<Metrics>,
    /// What becomes of models.
    pub events: Events,
}

impl Models {
    /// Those of a server. `sleep_idle` is after how long without requests a model leaves memory.
    ///
    /// # Errors
    /// A ceiling on memory that cannot be told.
    pub fn new(
        served: Served,
        sleep_idle: Option<Duration>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Models>, crate::Error> {
        let (router, entries) = match served {
            Served::Model(model) => (None, vec![Arc::new(Entry::single(*model, Keep::new(sleep_idle)))]),
            Served::Router(router) => (Some(*router), Vec::new()),
        };
        let max_bytes = router.as_ref().and_then(|router| router.max_memory);
        let models = Models {
            entries: RwLock::new(entries),
            retired: Mutex::default(),
            refreshing: Mutex::default(),
            told: Mutex::default(),
            max_bytes: max_bytes.map(|limit| limit.bytes()).transpose()?,
            base_bytes: room::program_bytes(),
            sleeps: router.is_none() || sleep_idle.is_some(),
            router: router
                .map(|router| RouterOptions { keep_alive: sleep_idle.or(router.keep_alive), ..router }),
            turn: Arc::default(),
            watched: Notify::new(),
            metrics,
            events: Events::new(),
        };
        models.refresh();
        Ok(Arc::new(models))
    }

    /// All of them, as far as they are known.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The one model of a server that has no other.
    pub fn single(&self) -> Option<Arc<Entry>> {
        if self.router.is_some() { None } else { self.entries().into_iter().next() }
    }

    /// How a router was started.
    pub fn router(&self) -> Option<&RouterOptions> {
        self.router.as_ref()
    }

    /// The router, for what one model alone has no use for.
    ///
    /// # Errors
    /// 501 where there is one model.
    pub fn require_router(&self) -> Result<&RouterOptions, ApiError> {
        self.router().ok_or_else(|| {
            ApiError::not_supported(
                "this server has one model, which --model names: without --model it has all those on this machine",
            )
        })
    }

    /// Looks again which models there are. Models in memory that are no longer there, or others now, go once they are idle.
    /// Reads folders: not for a thread of the runtime.
    pub fn refresh(&self) {
        let Some(router) = &self.router else { return };
        // One at a time; others read the entries meanwhile.
        let _alone = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        let offers = router.catalog.list();
        let (mut before, mut entries) = (self.entries(), Vec::new());
        let n_before = before.len();
        for offer in offers {
            let known =
                before.iter().position(|entry| entry.offer().is_some_and(|known| known.is_same(&offer)));
            match known {
                Some(i) => entries.push(before.swap_remove(i)),
                None => match self.offered(router, offer) {
                    Ok(entry) => entries.push(entry),
                    Err(why) => self.warn_once(why),
                },
            }
        }
        // What has no name in lists stays as long as it is there: it was found by another name.
        let is_there = |offer: &Offer| {
            let found = router.catalog.find(&offer.name).ok().flatten();
            found.is_some_and(|found| found.is_same(offer))
        };
        let (stay, go): (Vec<_>, Vec<_>) = before.into_iter().partition(|entry| {
            let named = entries.iter().any(|listed: &Arc<Entry>| listed.is_called(entry.options().name()));
            !named && entry.offer().is_some_and(is_there)
        });
        entries.extend(stay);
        let has_changed = entries.len() != n_before || !go.is_empty();
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = entries;
        if has_changed {
            self.events.reloaded();
        }
        for entry in go {
            self.retire(&entry);
        }
    }

    /// The entry of a model that was found, or why there can be none.
    fn offered(&self, router: &RouterOptions, offer: Offer) -> Result<Arc<Entry>, String> {
        match router.catalog.options(&offer) {
            Ok(options) => Ok(Arc::new(Entry::offered(options, offer, Keep::new(router.keep_alive)))),
            Err(error) => Err(format!("model '{}': {error}", offer.name)),
        }
    }

    /// Logs what is wrong with a model the first time that it is seen.
    fn warn_once(&self, why: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.contains(&why) {
            tracing::warn!("{why}");
            told.insert(why);
        }
    }

    /// All of them as they are now, and what their files say.
    ///
    /// # Errors
    /// The server's own fault.
    pub async fn listed(self: &Arc<Models>) -> Result<Vec<Arc<Entry>>, ApiError> {
        if self.router.is_none() {
            return Ok(self.entries());
        }
        let models = Arc::clone(self);
        let look = move || {
            models.refresh();
            let entries = models.entries();
            for entry in &entries {
                if let Err(why) = entry.look() {
                    tracing::debug!("{}: {why}", entry.options().name());
                }
            }
            Ok(entries)
        };
        super::answer::blocking(look).await
    }

    /// Has what is known of a model be there: its file is read the first time.
    ///
    /// # Errors
    /// 500 where the file is none that can be served.
    pub async fn look(&self, entry: &Arc<Entry>) -> Result<(), ApiError> {
        if self.router.is_none() || entry.facts().is_some() {
            return Ok(());
        }
        let entry = Arc::clone(entry);
        super::answer::blocking(move || match entry.look() {
            Ok(_) => Ok(()),
            Err(why) => Err(ApiError::internal(why.to_owned())),
        })
        .await
    }

    /// The entry with this name or alias. Reads folders where it is not known yet.
    ///
    /// # Errors
    /// 404 where there is none; a store that makes no sense.
    pub async fn entry(self: &Arc<Models>, name: &str) -> Result<Arc<Entry>, ApiError> {
        let known = |models: &Models| models.entries().into_iter().find(|entry| entry.is_called(name));
        // One in memory is asked without a look at the disk.
        if let Some(entry) = known(self).filter(|entry| self.router.is_none() || entry.is_idle().is_some()) {
            return Ok(entry);
        }
        let missing = || ApiError::not_found(format!("model '{name}' not found"));
        if self.router.is_none() {
            return self.with_adapter(name).ok_or_else(missing);
        }
        let (models, asked) = (Arc::clone(self), name.to_owned());
        let found = super::answer::blocking(move || models.look_up(&asked)).await?;
        found.ok_or_else(missing)
    }

    fn look_up(&self, name: &str) -> Result<Option<Arc<Entry>>, ApiError> {
        let Some(router) = &self.router else { return Ok(None) };
        self.refresh();
        let known = |name: &str| self.entries().into_iter().find(|entry| entry.is_called(name));
        if let Some(entry) = known(name) {
            return Ok(Some(entry));
        }
        let found = router
            .catalog
            .find(name)
            .map_err(|error| ApiError::internal(format!("model '{name}': {error}")))?;
        let Some(offer) = found else { return Ok(self.with_adapter(name)) };
        let _alone = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known(&offer.name) {
            return Ok(Some(entry));
        }
        let entry = self.offered(router, offer).map_err(ApiError::internal)?;
        self.entries.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&entry));
        Ok(Some(entry))
    }

    /// The model that has an adapter of this name: whoever asks for that means both.
    fn with_adapter(&self, name: &str) -> Option<Arc<Entry>> {
        self.entries().into_iter().find(|entry| entry.adapters().has(name))
    }

    /// The model that a request names, loaded if it is not. Where there is one alone, any name stands for it: clients made for other
    /// services send the names of those.
    ///
    /// # Errors
    /// No such model, or it cannot be loaded. 503 while the only model is opened for the first time.
    pub async fn get(self: &Arc<Models>, body: &Body) -> Result<Arc<Model>, ApiError> {
        let entry = self.named(body.model()?).await?;
        self.open(&entry, body.autoload()).await
    }

    /// The entry that a request names, or the only one.
    ///
    /// # Errors
    /// There is none of this name, or no name and several models.
    pub async fn named(self: &Arc<Models>, name: Option<&str>) -> Result<Arc<Entry>, ApiError> {
        if let Some(entry) = self.single() {
            return Ok(entry);
        }
        match name.filter(|name| !name.is_empty()) {
            Some(name) => self.entry(name).await,
            None => {
                let expected = "the name of a model (/v1/models lists them)";
                Err(ApiError::field("model", "nothing", expected))
            }
        }
    }

    /// The models that are in memory.
    pub fn loaded(&self) -> impl Iterator<Item = Arc<Model>> {
        self.entries().into_iter().filter_map(|entry| entry.loaded())
    }

    /// The workers of all models that are in memory, those on their way out included.
    pub fn workers(&self) -> Vec<WorkerHandle> {
        self.entries().iter().chain(&self.retired()).filter_map(|entry| entry.worker()).collect()
    }

    /// What the schedulers of all models are doing together.
    pub fn scheduler_stats(&self) -> SchedulerStats {
        let mut sum = SchedulerStats::default();
        self.entries().iter().for_each(|entry| sum.add(&entry.scheduler_stats()));
        sum
    }
}
