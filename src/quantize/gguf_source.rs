//! Model files as sources.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bise_models::gguf::{FileRanges, GgufFile, Metadata, TensorBytes};

use super::error::QuantizeError;
use super::source::{Source, SourceTensor};

impl Source for GgufFile {
    fn metadata(&self) -> &Metadata {
        self.metadata()
    }

    fn tensors(&self) -> Vec<SourceTensor> {
        let mut tensors: Vec<_> = self.tensors().collect();
        tensors.sort_by_key(|info| (info.part, info.offset));
        let described = tensors.into_iter().map(|info| SourceTensor {
            name: info.name.clone(),
            shape: info.shape.clone(),
            tensor_type: info.tensor_type,
            part: info.part,
            keeps_type: false,
        });
        described.collect()
    }

    fn n_parts(&self) -> usize {
        self.n_parts()
    }

    fn rows(&self, tensor: &SourceTensor, rows: Range<usize>) -> Result<Cow<'_, [u8]>, QuantizeError> {
        let n = tensor.row_bytes();
        let bytes = self.stored(self.require_tensor(&tensor.name)?);
        Ok(Cow::Borrowed(&bytes[rows.start * n..rows.end * n]))
    }

    fn ask_for(&self, tensor: &SourceTensor, rows: Range<usize>) {
        FileRanges::of(place(self, tensor, rows)).ask_for();
    }

    fn leave(&self, tensor: &SourceTensor, rows: Range<usize>) {
        FileRanges::of(place(self, tensor, rows)).leave();
    }

    fn check_unchanged(&self) -> Result<(), QuantizeError> {
        Ok(self.check_unchanged()?)
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.paths().map(Path::to_owned).collect()
    }
}

/// Where rows are in the file.
fn place(file: &GgufFile, tensor: &SourceTensor, rows: Range<usize>) -> Option<TensorBytes> {
    let n = tensor.row_bytes();
    file.tensor(&tensor.name).map(|info| file.bytes(info).slice(rows.start * n..rows.end * n))
}
