//! The models that are served: opened when they are wanted, put to sleep when nobody wants them.

mod entry;
mod facts;
mod keep;
mod metadata;
mod model;

use std::sync::Arc;

pub use entry::{Entry, Status};
pub use facts::Facts;
pub use metadata::metadata;
pub use model::Model;

use super::ModelOptions;
use super::error::ApiError;

/// Every model that can be asked for.
pub struct Models {
    entries: Vec<Arc<Entry>>,
}

impl Models {
    /// One model, which answers whatever name a client gives.
    pub fn single(options: ModelOptions) -> Models {
        Models { entries: vec![Arc::new(Entry::new(options))] }
    }

    /// All of them.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The model for a request, opened if it is not. Where there is one alone, any name stands for it: clients made for other
    /// services send the names of those.
    ///
    /// # Errors
    /// 503 while the model is opened for the first time, 500 where it cannot be opened again.
    pub async fn get(&self, _name: Option<&str>) -> Result<Arc<Model>, ApiError> {
        self.entries[0].get().await
    }

    /// The entry with this name or alias. A tag `:latest` may be left out.
    pub fn find(&self, name: &str) -> Option<&Arc<Entry>> {
        let name = name.strip_suffix(":latest").unwrap_or(name);
        self.entries.iter().find(|entry| entry.options().aliases.iter().any(|alias| alias == name))
    }

    /// The entry that answers where none is named.
    pub fn default_entry(&self) -> &Arc<Entry> {
        &self.entries[0]
    }
}
