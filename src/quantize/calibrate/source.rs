//! What calibration made, as a source that the new file is copied from.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;

use bise_models::gguf::{GgufFile, Metadata};

use super::folder::Folder;
use crate::quantize::error::QuantizeError;
use crate::quantize::plan::Plan;
use crate::quantize::source::{Source, SourceTensor};

/// A model whose calibrated tensors are those of a folder, and all others those of the file they were made from.
pub struct Calibrated<'a> {
    pub(super) file: &'a GgufFile,
    pub(super) folder: Folder,
    /// By their names in the file.
    pub(super) tensors: BTreeSet<String>,
    pub(super) notes: Vec<String>,
}

impl Calibrated<'_> {
    /// What the user should know, one line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Has `plan`, which this was made for, copy the tensors that are calibrated.
    pub fn put_into(&self, plan: &mut Plan) {
        for tensor in &mut plan.tensors {
            if self.tensors.contains(&tensor.source.name) {
                tensor.source.tensor_type = tensor.tensor_type;
            }
        }
    }

    /// Removes the folder's files, and the folder if nothing else is in it.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn remove(self) -> Result<(), QuantizeError> {
        self.folder.remove()
    }
}

impl Source for Calibrated<'_> {
    fn metadata(&self) -> &Metadata {
        self.file.metadata()
    }

    fn tensors(&self) -> Vec<SourceTensor> {
        Source::tensors(self.file)
    }

    fn n_parts(&self) -> usize {
        self.file.n_parts()
    }

    fn rows(&self, tensor: &SourceTensor, rows: Range<usize>) -> Result<Cow<'_, [u8]>, QuantizeError> {
        if !self.tensors.contains(&tensor.name) {
            return self.file.rows(tensor, rows);
        }
        let (matrix, row_bytes) = (rows.start / tensor.rows_a_matrix(), tensor.row_bytes());
        let path = self.folder.matrix(&tensor.name, matrix);
        let first = (rows.start - matrix * tensor.rows_a_matrix()) * row_bytes;
        let mut bytes = vec![0; rows.len() * row_bytes];
        let mut read = || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(first as u64))?;
            file.read_exact(&mut bytes)
        };
        read().map_err(|error| QuantizeError::File { path: path.clone(), action: "read the file", error })?;
        Ok(Cow::Owned(bytes))
    }

    fn ask_for(&self, tensor: &SourceTensor, rows: Range<usize>) {
        if !self.tensors.contains(&tensor.name) {
            self.file.ask_for(tensor, rows);
        }
    }

    fn leave(&self, tensor: &SourceTensor, rows: Range<usize>) {
        if !self.tensors.contains(&tensor.name) {
            self.file.leave(tensor, rows);
        }
    }

    fn check_unchanged(&self) -> Result<(), QuantizeError> {
        Source::check_unchanged(self.file)
    }

    fn paths(&self) -> Vec<PathBuf> {
        Source::paths(self.file)
    }
}
