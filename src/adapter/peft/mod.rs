//! Adapters as folders of PEFT (<https://github.com/huggingface/peft>): `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Names, keys and their meaning are those of PEFT 0.21.

mod config;
mod experts;
mod folder;
mod keys;
mod name;
mod pattern;
mod read;
mod selection;
mod summary;
mod tensor;
mod write;

pub use config::PeftConfig;
pub use read::PeftAdapter;
pub use write::PeftWriteOptions;
