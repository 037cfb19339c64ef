//! Quantized Mistral models on a CPU: exact, small and fast.
//!
//! An [`Engine`] is a model ready to run; a [`Session`] is one sequence of tokens, read and continued.
//!
//! ```
//! use bise::{Engine, SessionOptions, sampling::SamplingParams};
//!
//! # #[cfg(feature = "builtin-model")] {
//! let engine = Engine::builtin()?; // or Engine::open("mistral-7b.Q4_K_M.gguf")?
//! let mut session = engine.session(&SessionOptions::default())?;
//! let mut story = String::new();
//! for piece in session.generate("Once upon a time", &SamplingParams::greedy(), 12)? {
//!     story += &piece?;
//! }
//! assert_eq!(story, ", a kind boy named Hugo lived in a cottage with a");
//! # }
//! # Ok::<(), bise::Error>(())
//! ```

mod ahead;
pub mod chat;
mod engine;
mod error;
pub mod generation;
mod pieces;
pub mod sampling;
mod session;
pub mod speculation;
mod threads;

pub use bise_kernels::Isa;
pub use bise_kernels::kv_page::CacheType;
pub use bise_models::{MistralConfig, gguf, tokenizer};
pub use engine::{Engine, EngineOptions, MemoryPlan, SessionOptions};
pub use error::Error;
pub use pieces::Pieces;
pub use session::{Session, decode_together};
