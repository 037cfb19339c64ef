//! What a server is to serve.

use std::time::Duration;

use super::catalog::Catalog;
use crate::memory::MemoryLimit;
use crate::server::options::ModelOptions;

/// What a server answers with.
pub enum Served {
    /// One model, which answers whatever name a client gives.
    Model(Box<ModelOptions>),
    /// Any of those on this machine, by name.
    Router(Box<RouterOptions>),
}

/// How models are loaded when they are asked for.
#[derive(Clone)]
pub struct RouterOptions {
    /// Where they are.
    pub catalog: Catalog,
    /// Models in memory at a time; `None` is any number.
    pub max_models: Option<usize>,
    /// A ceiling on the memory of the process, which is checked before a model is loaded.
    pub max_memory: Option<MemoryLimit>,
    /// Whether a request for a model loads it, where it says nothing about that.
    pub autoload: bool,
    /// After how long without requests a model is unloaded, where those say nothing; `None` is never.
    pub keep_alive: Option<Duration>,
    /// How long a request waits while the models that would have to go are busy.
    pub patience: Duration,
}
