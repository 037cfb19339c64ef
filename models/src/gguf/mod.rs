//! GGUF: the files that models come in.
//!
//! [`GgufFile`] maps a file and checks everything in it but the weights. [`Metadata`] has the keys, by type;
//! [`TensorInfo`] and [`TensorBytes`] give the weights without copying them. [`GgufWriter`] writes files.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, read as gguf-py 0.19 and llama.cpp read it.

pub mod check;
mod error;
mod file;
mod foreign;
mod layout;
mod metadata;
mod mmap;
mod pages;
mod purpose;
mod reader;
mod residency;
mod split;
mod str_array;
mod tensor;
mod value;
mod whole_file;
mod writer;

pub use error::GgufError;
pub use file::{GgufFile, OpenOptions};
pub use metadata::Metadata;
pub use mmap::TensorBytes;
pub use residency::FileRanges;
pub use str_array::StrArray;
pub use tensor::{TensorInfo, TensorType};
pub use value::{Array, FromValue, Misfit, Value, ValueType};
pub use whole_file::WholeFile;
pub use writer::{GgufDataWriter, GgufWriter, WriteError};
