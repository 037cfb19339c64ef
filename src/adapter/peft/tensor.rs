use std::path::Path;

use bise_models::MistralConfig;
use bise_models::printable::printable;

use crate::adapter::error::AdapterFileError;
use crate::convert::Dtype;
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

    /// Its numbers, which have to be finite.
    pub fn values(&self) -> Result<Vec<f32>, AdapterFileError> {
        let dtype = self.tensor.dtype;
        if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(self.wrong(dtype.name().to_owned(), "F32, F16 or BF16"));
        }
        let mut values = vec![0.0; self.tensor.bytes.len() / dtype.n_bytes()];
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
