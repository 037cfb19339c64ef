//! GGUF: the files that models come in.
//!
//! [`GgufFile`] maps a file and checks all of it that is not weights; [`Metadata`] answers by type; [`TensorInfo`]
//! and [`TensorBytes`] lead to the weights without copying them. [`GgufWriter`] is the other way round.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, read as gguf-py 0.19 and llama.cpp read it.

pub mod check;
mod error;
mod file;
mod layout;
mod metadata;
mod mmap;
mod reader;
mod split;
mod tensor;
mod value;
mod writer;

pub use error::GgufError;
pub use file::{GgufFile, OpenOptions};
pub use metadata::Metadata;
pub use mmap::TensorBytes;
pub use tensor::{TensorInfo, TensorType};
pub use value::{Array, FromValue, StrArray, Value, ValueType};
pub use writer::{GgufDataWriter, GgufWriter, WriteError};
