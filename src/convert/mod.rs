//! Making GGUF files of the checkpoints that Hugging Face and Mistral publish: a folder of safetensors, a configuration and a tokenizer.
//!
//! [`convert`] does all of it. In steps: [`Checkpoint::open`] finds and maps the files, [`Conversion::new`] reads the configuration and the tokenizer
//! and finds the weights, and [`Conversion::plan`] decides what each tensor becomes. A conversion is a [`Source`](crate::quantize::Source), so it
//! is written in any type that [`quantize`](crate::quantize) knows, a few rows at a time.
//!
//! The keys and tensors are those of llama.cpp's converter; `docs/convert.md` lists what differs.

mod chat_template;
pub(crate) mod checkpoint;
mod config;
mod conversion;
pub(crate) mod error;
mod general;
pub mod integers;
pub(crate) mod json_file;
mod keep;
mod layout;
mod quantization;
mod source;
pub(crate) mod tensors;
mod tokenizer;
mod vocabulary;

pub use checkpoint::{Checkpoint, Dtype, StoredTensor};
pub use config::configuration;
pub use conversion::{Conversion, ConvertOptions, Converted, OutType, convert};
pub use error::ConvertError;
pub use general::repository_of;
pub use keep::Lossless;
pub use layout::Layout;
pub(crate) use quantization::has_integers;
pub use tokenizer::set_tokenizer;
