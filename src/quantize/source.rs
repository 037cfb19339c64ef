//! What is quantized: tensors that are read some rows at a time.

use std::borrow::Cow;
use std::ops::Range;
use std::path::PathBuf;

use bise_models::gguf::{Metadata, TensorType};

use super::error::QuantizeError;

/// A model to quantize or to copy: a [`GgufFile`](bise_models::gguf::GgufFile), or tensors that are made while they are read, as a checkpoint
/// in another format needs it.
///
/// [`rows`](Source::rows) is called from several threads at once, with pieces of some tens of thousands of weights.
pub trait Source: Sync {
    /// The metadata of the model. `split.*` is not taken over, and `general.file_type` and `general.quantization_version` are set anew.
    fn metadata(&self) -> &Metadata;

    /// The tensors, by the names that they have in GGUF files; each name once. Those of a part come one after the other.
    fn tensors(&self) -> Vec<SourceTensor>;

    /// Files that the model is in, as far as [`SourceTensor::part`] tells them apart.
    fn n_parts(&self) -> usize {
        1
    }

    /// The bytes of some rows of one of the [`tensors`](Source::tensors), in its type and little-endian: `rows.len()` times
    /// [`row_bytes`](SourceTensor::row_bytes). Rows are counted through all matrices of a stack; `rows` lie in one of them.
    ///
    /// # Errors
    /// Where they cannot be read or made.
    fn rows(&self, tensor: &SourceTensor, rows: Range<usize>) -> Result<Cow<'_, [u8]>, QuantizeError>;

    /// Asks the system for rows that are read soon.
    fn ask_for(&self, tensor: &SourceTensor, rows: Range<usize>) {
        let _ = (tensor, rows);
    }

    /// Gives back the memory of rows that are not read again.
    fn leave(&self, tensor: &SourceTensor, rows: Range<usize>) {
        let _ = (tensor, rows);
    }

    /// Checks that the files are what they were when they were opened.
    ///
    /// # Errors
    /// Where one has changed.
    fn check_unchanged(&self) -> Result<(), QuantizeError>;

    /// The files, which must not be written to.
    fn paths(&self) -> Vec<PathBuf>;
}

/// A tensor of a [`Source`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceTensor {
    /// Its name, as in `blk.0.attn_q.weight`.
    pub name: String,
    /// Sizes, the fastest first: `shape[0]` is the length of a row. 1 to 4 of them, none zero.
    pub shape: Vec<usize>,
    /// The type that [`Source::rows`] gives. Rows are whole blocks of it.
    pub tensor_type: TensorType,
    /// Which file it is in, from 0.
    pub part: usize,
    /// It keeps its type, whatever the mix and the user's options say.
    pub keeps_type: bool,
}

impl SourceTensor {
    /// A tensor of the only part.
    ///
    /// # Panics
    /// If the shape is empty or has a zero, rows are no whole blocks, or the size does not fit in memory.
    pub fn new(name: impl Into<String>, shape: &[usize], tensor_type: TensorType) -> SourceTensor {
        assert!((1..=4).contains(&shape.len()) && !shape.contains(&0), "shape {shape:?}");
        assert!(shape[0].is_multiple_of(tensor_type.block_len()), "rows of {} in {tensor_type}", shape[0]);
        let n_elements = shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(size));
        assert!(
            n_elements.and_then(|n| tensor_type.bytes_for(n)).is_some(),
            "shape {shape:?} of {tensor_type}"
        );
        SourceTensor { name: name.into(), shape: shape.to_vec(), tensor_type, part: 0, keeps_type: false }
    }

    /// Weights: the product of the shape.
    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Rows of all matrices: the product of the shape without its first entry.
    pub fn n_rows(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// Rows of one matrix.
    pub fn rows_a_matrix(&self) -> usize {
        self.shape.get(1).copied().unwrap_or(1)
    }

    /// Matrices: one, or as many as there are experts.
    pub fn n_matrices(&self) -> usize {
        self.n_rows() / self.rows_a_matrix()
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.tensor_type.bytes_for(self.shape[0]).expect("sizes were checked")
    }

    /// Bytes of the tensor.
    pub fn n_bytes(&self) -> usize {
        self.row_bytes() * self.n_rows()
    }
}
