//! Writing, in llama.cpp's GGUF format.

use std::path::Path;

use bise_models::gguf::{Array, GgufWriter, StrArray, TensorType, WriteError};

use super::{Imatrix, ImatrixError, legacy};

impl Imatrix {
    /// Writes the file at `path`, aside and then renamed. Entries come in the order of their names.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ImatrixError> {
        self.write(path).map_err(|error| match error {
            WriteError::File { path, action, error } => ImatrixError::Io { path, action, error },
            error => ImatrixError::Write { path: path.to_owned(), error },
        })
    }

    /// Writes the older format, `.dat`, which has mean squares alone, and one text.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save_dat(&self, path: &Path) -> Result<(), ImatrixError> {
        legacy::write(self, path)
    }

    fn write(&self, path: &Path) -> Result<(), WriteError> {
        let mut writer = GgufWriter::new();
        let metadata = writer.metadata_mut();
        metadata.set("general.type", "imatrix");
        let datasets: StrArray = self.datasets.iter().map(String::as_bytes).collect();
        metadata.set("imatrix.datasets", Array::Str(datasets));
        metadata.set("imatrix.chunk_count", self.n_chunks);
        metadata.set("imatrix.chunk_size", self.chunk_len);
        let mut data: Vec<Vec<u8>> = Vec::new();
        for (name, entry) in &self.entries {
            let n_matrices = entry.counts.len();
            let shape = [entry.k(), n_matrices];
            writer.add_tensor(&format!("{name}.in_sum2"), &shape, TensorType::F32)?;
            data.push(singles(entry.sum_squares.iter().copied()));
            writer.add_tensor(&format!("{name}.counts"), &[1, n_matrices], TensorType::F32)?;
            data.push(singles(entry.counts.iter().map(|count| *count as f64)));
            if !entry.sums.is_empty() {
                writer.add_tensor(&format!("{name}.in_sum"), &shape, TensorType::F32)?;
                data.push(singles(entry.sums.iter().copied()));
            }
        }
        writer.save(path, |out| data.iter().try_for_each(|bytes| out.write(bytes)))
    }
}

/// Sums of many texts may be larger than a single can be, which readers refuse.
fn singles(values: impl Iterator<Item = f64>) -> Vec<u8> {
    const LARGEST: f64 = f32::MAX as f64;
    values.flat_map(|value| (value.clamp(-LARGEST, LARGEST) as f32).to_le_bytes()).collect()
}
