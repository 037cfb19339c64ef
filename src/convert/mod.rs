//! Making GGUF files of the checkpoints that Hugging Face and Mistral publish: a folder of safetensors, a configuration and a tokenizer.

mod chat_template;
mod error;
pub mod integers;
mod tokenizer;
mod vocabulary;

pub use error::ConvertError;
pub use tokenizer::set_tokenizer;
pub use vocabulary::Layout;
