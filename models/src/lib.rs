//! From a GGUF file to logits: the model files, tokenizers and forward pass of bise.

pub mod atomic_file;
mod attend;
mod config;
mod error;
mod extras;
pub mod gguf;
mod kv_cache;
mod linear;
mod mistral;
mod rope_scaling;
mod scratch;
pub mod tokenizer;
pub mod weights;

pub use config::{ARCHITECTURES, AttentionTemperature, ExpertsConfig, MistralConfig};
pub use error::{ForwardError, Stage};
pub use kv_cache::KvCache;
pub use mistral::{Mistral, Span, Wanted};
pub use rope_scaling::{RopeConfig, RopeScaling};
pub use scratch::Scratch;
