//! Making GGUF files of the checkpoints that Hugging Face and Mistral publish: a folder of safetensors, a configuration and a tokenizer.

mod error;
pub mod integers;

pub use error::ConvertError;
