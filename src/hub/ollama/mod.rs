//! Ollama's registry, and the layout of its store.

pub mod manifest;
pub mod name;
mod receive;
pub mod registry;
pub mod store;
