//! Adapters as GGUF files.

mod fold;
mod write;

pub use write::{GgufWriteOptions, GgufWritten, write};
