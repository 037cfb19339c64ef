//! `bise._bise`: the engine as Python sees it. The package around it (`python/bise`) adds what is more easily said in Python.

mod adapter;
mod errors;
mod logits;
mod many;
mod model;
mod options;
mod passes;
mod sampler;
mod session;
mod slot;
mod stream;
mod tokenizer;

use pyo3::prelude::*;

/// The compiled part of bise. Its public names are those of the package `bise`.
#[pymodule(gil_used = true)]
mod _bise {
    use super::*;

    #[pymodule_export]
    use super::adapter::Adapter;
    #[pymodule_export]
    use super::logits::Logits;
    #[pymodule_export]
    use super::many::{embed, generate, hidden_states};
    #[pymodule_export]
    use super::model::Model;
    #[pymodule_export]
    use super::sampler::Sampler;
    #[pymodule_export]
    use super::session::Session;
    #[pymodule_export]
    use super::stream::Stream;
    #[pymodule_export]
    use super::tokenizer::Tokenizer;

    /// The names of the chat templates that need no source.
    #[pyfunction]
    fn chat_template_names() -> Vec<&'static str> {
        bise::chat::ChatTemplate::names()
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
