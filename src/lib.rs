//! Quantized Mistral models on a CPU: exact, small and fast.
//!
//! An [`Engine`] is a model ready to run; a [`Session`] is one text, read and continued. Programs with many texts at a time use a
//! [`Runner`] and [`Sequence`]s, which sessions are made of.
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

pub mod adapter;
mod cancel;
pub mod chat;
#[cfg(feature = "compare")]
pub mod compare;
pub mod constraint;
mod continuation;
#[cfg(feature = "convert")]
pub mod convert;
pub mod description;
pub mod embedding;
mod engine;
mod error;
#[cfg(feature = "eval")]
pub mod eval;
pub mod generation;
#[cfg(feature = "hub")]
pub mod hub;
#[cfg(feature = "quantize")]
pub mod imatrix;
#[cfg(feature = "compare")]
pub mod inspect;
pub mod many;
pub mod memory;
pub mod prefix;
#[cfg(feature = "quantize")]
pub mod quantize;
mod runner;
pub mod sampling;
pub mod scheduler;
mod sequence;
#[cfg(feature = "server")]
pub mod server;
mod session;
mod session_file;
pub mod speculation;
pub mod threads;
#[cfg(feature = "train")]
pub mod train;

pub use bise_kernels::kv_page::CacheType;
pub use bise_kernels::{CancelFlags, Isa};
pub use bise_models::{
    ForwardError, Hook, KvCache, MistralConfig, Output, OutputRow, Outputs, PagePool, PageRef, PoolError,
    Projection, Rows, RowsMut, Site, SpanError, gguf, tokenizer,
};
pub use cancel::Cancel;
pub use continuation::Pieces;
pub use engine::{Engine, EngineBuilder, EngineOptions, SessionOptions};
pub use error::Error;
pub use runner::{Feed, Runner};
pub use sequence::Sequence;
pub use session::{Session, decode_together};
pub use session_file::{Restored, SessionFileError};
pub use threads::{Threads, ThreadsError};
