use std::sync::Arc;

use crate::gguf::GgufError;
use crate::printable::{Printable, printable};

/// Why an adapter cannot be used. Every message is one line that names the adapter and the tensor or key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// The file is no sound GGUF, or a key of it is wrong.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A tensor does not fit the model, or holds something that cannot be used.
    #[error("{adapter}: tensor '{tensor}': found {found}, expected {expected}")]
    Tensor {
        /// The adapter's name.
        adapter: Arc<str>,
        /// The tensor's name.
        tensor: String,
        /// What the adapter has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// There is nothing in it.
    #[error(
        "{adapter}: found no tensors, expected 'NAME.lora_a' and 'NAME.lora_b' for some of the model's matrices"
    )]
    Empty {
        /// The adapter's name.
        adapter: Arc<str>,
    },
    /// There is no memory for a tensor.
    #[error(
        "{adapter}: tensor '{tensor}': found {n_bytes} bytes, expected less than this machine has memory for"
    )]
    OutOfMemory {
        /// The adapter's name.
        adapter: Arc<str>,
        /// The tensor's name.
        tensor: String,
        /// What was asked for.
        n_bytes: u64,
    },
}

impl AdapterError {
    /// [`AdapterError::OutOfMemory`], for `n` numbers of a tensor in f32.
    pub fn out_of_memory(adapter: &str, tensor: &str, n: usize) -> AdapterError {
        let (adapter, tensor) = (adapter.into(), printable(tensor.as_bytes()));
        AdapterError::OutOfMemory { adapter, tensor, n_bytes: 4 * n as u64 }
    }

    /// [`AdapterError::Tensor`]; control characters that come from a file are escaped.
    pub fn tensor(
        adapter: &str,
        tensor: impl AsRef<str>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> AdapterError {
        AdapterError::Tensor {
            adapter: adapter.into(),
            tensor: printable(tensor.as_ref().as_bytes()),
            found: Printable::<String>(found.into()).to_string(),
            expected: Printable::<String>(expected.into()).to_string(),
        }
    }
}
