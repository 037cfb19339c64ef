//! Quantized Mistral models on a CPU: exact, small and fast.

pub mod chat;
mod engine;
mod error;
mod pieces;
pub mod sampling;
mod session;

pub use bise_kernels::Isa;
pub use bise_kernels::kv_page::CacheType;
pub use bise_models::{MistralConfig, gguf, tokenizer};
pub use engine::{Engine, EngineOptions, MemoryPlan, SessionOptions};
pub use error::Error;
pub use pieces::Pieces;
pub use session::{Session, decode_together};
