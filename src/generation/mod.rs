//! From logits to a text: [`Generation`].
//!
//! A generation holds no model and does no I/O. It says which tokens to read next, takes the logits after them, and tells what came
//! of it, so that whoever owns the model decides when passes run and what else is in them:
//!
//! ```
//! use bise::generation::{Event, Generation, GenerationOptions};
//! use bise::sampling::SamplingParams;
//! use bise::tokenizer::EncodeOptions;
//! use bise::{Engine, SessionOptions};
//!
//! # #[cfg(feature = "builtin-model")] {
//! let engine = Engine::builtin()?; // or Engine::open("mistral-7b.Q4_K_M.gguf")?
//! let mut session = engine.session(&SessionOptions::default())?;
//! let options = GenerationOptions {
//!     sampling: SamplingParams::greedy(),
//!     stop: vec![" roof".to_owned()],
//!     ..GenerationOptions::default()
//! };
//! let mut generation = Generation::new(engine.tokenizer(), options)?;
//! let as_text = EncodeOptions { add_special: true, parse_special: false };
//! let prompt = engine.tokenizer().encode("Once upon a time", as_text);
//! session.prefill(&prompt)?;
//! generation.prime(&prompt);
//! let mut story = String::new();
//! while generation.finish().is_none() {
//!     session.step(&mut generation)?; // one pass: feeds `next_tokens`, and calls `advance`
//!     story += generation.text();
//! }
//! assert_eq!(story, ", a kind boy named Hugo lived in a cottage with a red");
//! # }
//! # Ok::<(), bise::Error>(())
//! ```
//!
//! [`generate_many`](crate::many::generate_many) does this for many prompts at a time.

mod log_probs;
mod options;
mod state;
mod stop;
mod text;

pub(crate) use log_probs::{log_sum_exp, push_top};
pub use options::GenerationOptions;
pub use state::GenerationState;
pub use stop::StopTexts;
pub use text::{Event, Finish, Generation, GenerationStats};
