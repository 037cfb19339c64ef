use std::path::Path;

use bise_models::printable::printable;
use bise_models::{AdapterError, LowRank, MistralConfig};

use crate::adapter::error::AdapterFileError;
use crate::convert::checkpoint::Dtype;
use crate::convert::checkpoint::StoredTensor;

/// A tensor and where it is.
pub(super) struct Tensor<'a> {
    pub path: &'a Path,
    pub name: &'a str,
    pub tensor: &'a StoredTensor,
}

impl Tensor<'_> {
    pub fn wrong(&self, found: String, expected: &str) -> AdapterFileError {
        AdapterFileError::Invalid {
            path: self.path.to_owned(),
            what: format!("tensor '{}'", printable(self.name.as_bytes())),
            found,
            expected: expected.to_owned(),
        }
    }

    pub fn unsupported(&self, what: &str, reason: &str) -> AdapterFileError {
        AdapterFileError::Unsupported {
            path: self.path.to_owned(),
            what: format!("tensor '{}', {what},", printable(self.name.as_bytes())),
            reason: reason.to_owned(),
        }
    }

    /// Its sizes, if there are two.
    pub fn sizes(&self) -> Result<[usize; 2], AdapterFileError> {
        self.tensor.shape.as_slice().try_into().map_err(|_| {
            let found = format!("shape {:?}", self.tensor.shape);
            self.wrong(found, "two sizes; a shard that was not gathered (ZeRO-3, FSDP) has others")
        })
    }

    /// Checks that the rank of this A with `b` is in proportion to their matrix, where they are those of `n` matrices.
    pub fn check_rank(&self, b: &Tensor<'_>, n: usize) -> Result<(), AdapterFileError> {
        // Other shapes are refused where they are read.
        let (&[rows, k], &[n_rows, _]) = (&self.tensor.shape[..], &b.tensor.shape[..]) else { return Ok(()) };
        let (rank, most) = (rows / n.max(1), LowRank::max_rank(n_rows, k));
        if rank <= most {
            return Ok(());
        }
        let found = format!("the rank {rank} in its shape [{rows}, {k}]");
        Err(self.wrong(found, &format!("{most} at most beside a matrix of {n_rows} rows and {k} columns")))
    }

    /// How many numbers it has.
    pub fn n_numbers(&self) -> usize {
        self.tensor.bytes.len() / self.tensor.dtype.n_bytes().max(1)
    }

    /// Room for `n` of its numbers.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn with_capacity(&self, n: usize) -> Result<Vec<f32>, AdapterFileError> {
        let mut values = Vec::new();
        match values.try_reserve_exact(n) {
            Ok(()) => Ok(values),
            Err(_) => {
                let path = printable(self.path.display().to_string().as_bytes());
                Err(AdapterError::out_of_memory(&path, self.name, n).into())
            }
        }
    }

    /// As many zeros.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn zeros(&self, n: usize) -> Result<Vec<f32>, AdapterFileError> {
        let mut values = self.with_capacity(n)?;
        values.resize(n, 0.0);
        Ok(values)
    }

    /// Its numbers, which have to be finite.
    pub fn values(&self) -> Result<Vec<f32>, AdapterFileError> {
        let dtype = self.tensor.dtype;
        if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(self.wrong(dtype.name().to_owned(), "F32, F16 or BF16"));
        }
        let mut values = self.zeros(self.n_numbers())?;
        dtype.to_f32(&self.tensor.bytes, &mut values);
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(i) => Err(self.wrong(format!("{} at {i}", values[i]), "finite numbers")),
        }
    }

    /// Checks that a matrix of the base model is as large as ours: what was saved may belong to a vocabulary that has grown.
    pub fn check_base(&self, base: &MistralConfig) -> Result<(), AdapterFileError> {
        let expected = [base.n_vocab, base.n_embd];
        let is_embedding = self.name.contains("embed_tokens") || self.name.contains("lm_head");
        match is_embedding && self.tensor.shape != expected {
            false => Ok(()),
            true => {
                let found = format!("shape {:?}", self.tensor.shape);
                Err(self.wrong(
                    found,
                    &format!("{expected:?}, as the base model has it: its vocabulary was changed"),
                ))
            }
        }
    }
}
