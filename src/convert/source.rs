//! Conversions as sources to quantize from.

use std::borrow::Cow;
use std::ops::Range;
use std::path::PathBuf;

use bise_models::gguf::{FileRanges, Metadata};

use super::conversion::Conversion;
use super::tensors::Tensor;
use crate::quantize::{QuantizeError, Source, SourceTensor};

impl Source for Conversion<'_> {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> Vec<SourceTensor> {
        let described = |tensor: &Tensor<'_>| {
            let mut described = SourceTensor::new(tensor.name.as_str(), &tensor.shape, tensor.tensor_type);
            described.keeps_type = tensor.keeps_type();
            described
        };
        self.tensors.iter().map(described).collect()
    }

    fn rows(&self, tensor: &SourceTensor, rows: Range<usize>) -> Result<Cow<'_, [u8]>, QuantizeError> {
        Ok(self.tensor(tensor).read(rows))
    }

    fn ask_for(&self, tensor: &SourceTensor, rows: Range<usize>) {
        FileRanges::of(self.tensor(tensor).places(rows)).ask_for();
    }

    fn leave(&self, tensor: &SourceTensor, rows: Range<usize>) {
        FileRanges::of(self.tensor(tensor).places(rows)).leave();
    }

    fn check_unchanged(&self) -> Result<(), QuantizeError> {
        self.checkpoint.check_unchanged().map_err(|error| QuantizeError::Source(Box::new(error)))
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.checkpoint.paths()
    }
}

impl<'a> Conversion<'a> {
    /// # Panics
    /// If the tensor is another source's.
    fn tensor(&self, tensor: &SourceTensor) -> &Tensor<'a> {
        let found = self.tensors.iter().find(|ours| ours.name == tensor.name);
        found.expect("the tensor is one of this source")
    }
}
