//! From a GGUF file to logits: the model files, tokenizers and forward pass of bise.

pub mod atomic_file;
mod attend;
mod config;
mod error;
mod extras;
pub mod gguf;
mod kv;
mod linear;
mod mistral;
mod pass;
mod rope_scaling;
mod rows;
mod scratch;
mod site;
pub mod tokenizer;
pub mod weights;

pub use config::{ARCHITECTURES, AttentionTemperature, ExpertsConfig, MistralConfig};
pub use error::{ForwardError, OutOfMemory, SpanError, Stage};
pub use kv::{KvCache, PagePool, PoolError};
pub use mistral::{Mistral, Output, Span};
pub use pass::{OutputRow, Outputs, PassContext};
pub use rope_scaling::{RopeConfig, RopeScaling};
pub use rows::{Rows, RowsMut};
pub use site::{Hook, Projection, Site};
