//! From a GGUF file to logits: the model files, tokenizers and forward pass of bise.

pub mod adapter;
pub mod atomic_file;
mod attend;
mod budget;
mod config;
mod error;
mod extras;
pub mod gguf;
mod kv;
mod linear;
mod lm_head;
mod mistral;
mod outputs;
mod pass;
pub mod printable;
mod rope_scaling;
mod rows;
mod scratch;
mod site;
mod span;
mod stream;
mod symlinks;
pub mod tokenizer;
#[cfg(feature = "train")]
pub mod train;
pub mod weights;

pub use adapter::{Adapter, AdapterError, GgufAdapter, GgufAdapterTensors, LowRank};
pub use budget::{MemoryBudget, OverCeiling, Reservation};
pub use config::{ARCHITECTURES, AttentionTemperature, ExpertsConfig, MistralConfig};
pub use error::{ForwardError, OutOfMemory, SpanError, Stage};
pub use kv::{KvCache, PagePool, PageRef, PoolError};
pub use mistral::Mistral;
pub use outputs::{OutputRow, Outputs};
pub use pass::PassContext;
pub use rope_scaling::{RopeConfig, RopeScaling};
pub use rows::{Rows, RowsMut};
pub use site::{Hook, Projection, Site};
pub use span::{Output, Span};
pub use stream::WeightStream;

/// The built-in model: a Mistral of 8 million weights, as a GGUF file.
#[cfg(feature = "builtin-model")]
pub static BUILTIN: &[u8] = include_bytes!("../tiny/bise-tiny.Q4_K_M.gguf");
