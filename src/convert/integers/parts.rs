//! The tensors that a quantized layer is made of.

use std::path::{Path, PathBuf};

use bise_models::printable::printable;

use crate::convert::ConvertError;

/// The tensors of a checkpoint by name, whichever of its files they are in.
pub trait Tensors<'a> {
    /// The tensor of that name.
    fn tensor(&self, name: &str) -> Option<StoredTensor<'a>>;

    /// What a message about a tensor that is missing names: the folder, or its index.
    fn path(&self) -> &Path;
}

/// A tensor as it lies in a safetensors file.
#[derive(Clone, Copy, Debug)]
pub struct StoredTensor<'a> {
    /// The file.
    pub path: &'a Path,
    /// The type of its elements, by safetensors' name, as in `I32`.
    pub dtype: &'a str,
    /// Sizes, the slowest first.
    pub shape: &'a [usize],
    /// The elements, little-endian.
    pub bytes: &'a [u8],
}

/// One tensor of a layer.
pub(super) struct Part<'a> {
    pub(super) name: String,
    pub(super) tensor: StoredTensor<'a>,
}

/// Finds the tensors of a layer.
pub(super) struct Parts<'t, 'a> {
    pub(super) tensors: &'t dyn Tensors<'a>,
    pub(super) layer: &'t str,
}

impl<'a> Parts<'_, 'a> {
    pub(super) fn find(&self, suffix: &str) -> Option<Part<'a>> {
        let name = format!("{}.{suffix}", self.layer);
        self.tensors.tensor(&name).map(|tensor| Part { name, tensor })
    }

    pub(super) fn get(&self, suffix: &str) -> Result<Part<'a>, ConvertError> {
        self.find(suffix).ok_or_else(|| ConvertError::Invalid {
            path: self.tensors.path().to_owned(),
            what: format!("tensor '{}.{suffix}'", printable(self.layer.as_bytes())),
            found: "no such tensor".to_owned(),
            expected: "all tensors of a quantized layer".to_owned(),
        })
    }
}

impl<'a> Part<'a> {
    pub(super) fn path(&self) -> PathBuf {
        self.tensor.path.to_owned()
    }

    /// What a message calls it.
    pub(super) fn what(&self) -> String {
        format!("tensor '{}'", printable(self.name.as_bytes()))
    }

    pub(super) fn invalid(&self, found: String, expected: String) -> ConvertError {
        ConvertError::Invalid { path: self.path(), what: self.what(), found, expected }
    }

    /// Checks the type of the elements and that there are as many as the shape says, each of `n_bytes`.
    pub(super) fn check_dtype(&self, dtypes: &[&str], n_bytes: usize) -> Result<(), ConvertError> {
        if !dtypes.contains(&self.tensor.dtype) {
            return Err(self.invalid(self.tensor.dtype.to_owned(), dtypes.join(" or ")));
        }
        let expected = self.tensor.shape.iter().try_fold(n_bytes, |n, size| n.checked_mul(*size));
        if expected != Some(self.tensor.bytes.len()) {
            let found = format!("{} bytes", self.tensor.bytes.len());
            return Err(self.invalid(found, format!("elements of the shape {:?}", self.tensor.shape)));
        }
        Ok(())
    }

    /// The sizes of a matrix.
    pub(super) fn matrix(&self) -> Result<[usize; 2], ConvertError> {
        match self.tensor.shape {
            [rows, columns] if *rows > 0 && *columns > 0 => Ok([*rows, *columns]),
            shape => Err(self.invalid(format!("the shape {shape:?}"), "a matrix".to_owned())),
        }
    }

    pub(super) fn check_shape(&self, expected: &[usize], because: &str) -> Result<(), ConvertError> {
        if self.tensor.shape != expected {
            let found = format!("the shape {:?}", self.tensor.shape);
            return Err(self.invalid(found, format!("{expected:?}, {because}")));
        }
        Ok(())
    }

    /// The weights of a group of a row of `n_in`: `group_len`, or all of them.
    pub(super) fn group_len(&self, n_in: usize, group_len: Option<usize>) -> Result<usize, ConvertError> {
        let group_len = group_len.unwrap_or(n_in);
        if !n_in.is_multiple_of(32) || !n_in.is_multiple_of(group_len) {
            let expected = match n_in % 32 {
                0 => format!("whole groups of {group_len}"),
                _ => "multiples of 32, the length of a block in GGUF".to_owned(),
            };
            return Err(self.invalid(format!("rows of {n_in} weights"), expected));
        }
        Ok(group_len)
    }

    /// A few integers of any width.
    pub(super) fn integers(&self) -> Result<Vec<i64>, ConvertError> {
        let bytes = self.tensor.bytes;
        if self.tensor.dtype == "I64" {
            self.check_dtype(&["I64"], 8)?;
            return Ok(bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect());
        }
        self.check_dtype(&["I32", "I64"], 4)?;
        Ok(bytes.as_chunks().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect())
    }
}
