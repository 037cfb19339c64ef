//! The files of a checkpoint: its configuration, and its tensors by name, mapped.

mod dtype;
mod folder;
mod header;

use std::path::{Path, PathBuf};

use bise_models::gguf::{TensorBytes, WholeFile};
use bise_models::printable::printable;
use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::error::ConvertError;
use super::json_file;
use super::layout::Layout;

pub use dtype::Dtype;
pub(crate) use folder::{Found, names, numbered_files};

/// A tensor as the checkpoint has it.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// Which of the files has it.
    pub file: usize,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Sizes, the slowest first: `[n_rows, row_len]` for a matrix. Empty for a single number.
    pub shape: Vec<usize>,
    /// Its bytes, little-endian.
    pub bytes: TensorBytes,
}

/// A folder with a configuration and safetensors.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder.
    pub folder: PathBuf,
    /// Whose names and configuration it has.
    pub layout: Layout,
    /// The configuration: `config.json` or `params.json`.
    pub config: Map<String, Value>,
    files: Vec<WholeFile>,
    tensors: IndexMap<String, StoredTensor>,
}

/// Files with weights, and the tensors in them by name.
type Tensors = (Vec<WholeFile>, IndexMap<String, StoredTensor>);

/// The tensors of some files: files in their order, and the tensors of a file in the order of their names.
pub(crate) fn read_tensors(found: &Found) -> Result<Tensors, ConvertError> {
    let (mut files, mut tensors) = (Vec::new(), IndexMap::<String, StoredTensor>::new());
    for path in &found.paths {
        let file = WholeFile::open(path)?;
        let mut described = header::read(&file)?;
        described.sort_by(|a, b| a.name.cmp(&b.name));
        for described in described {
            let stored = StoredTensor {
                file: files.len(),
                dtype: described.dtype,
                shape: described.shape,
                bytes: file.bytes().slice(described.range),
            };
            if let Some(other) = tensors.insert(described.name.clone(), stored) {
                let other: &WholeFile = files.get(other.file).unwrap_or(&file);
                return Err(ConvertError::Invalid {
                    path: path.clone(),
                    what: format!("tensor '{}'", printable(described.name.as_bytes())),
                    found: format!(
                        "it here and in {}",
                        printable(other.path().display().to_string().as_bytes())
                    ),
                    expected: "each tensor in one file: remove what belongs to another version of the model"
                        .into(),
                });
            }
        }
        files.push(file);
    }
    found.check_index(|name| tensors.contains_key(name), tensors.keys().map(String::as_str))?;
    Ok((files, tensors))
}

impl Checkpoint {
    /// Opens the checkpoint in `folder`. Where it is there in both layouts, that of Hugging Face is taken unless `mistral_format`.
    ///
    /// # Errors
    /// Where a file is missing, damaged, of a kind that cannot be converted, or has a tensor that another one has.
    pub fn open(folder: &Path, mistral_format: bool) -> Result<Checkpoint, ConvertError> {
        if folder.is_file() {
            return Err(folder::not_a_folder(folder));
        }
        let layout = Layout::of(folder, mistral_format)?;
        let config = json_file::object(&folder.join(layout.config_name()))?;
        let (files, tensors) = read_tensors(&folder::weight_files(folder, layout)?)?;
        Ok(Checkpoint { folder: folder.to_owned(), layout, config, files, tensors })
    }

    /// The configuration in `folder`, without any weights.
    pub(crate) fn without_weights(folder: &Path) -> Result<Checkpoint, ConvertError> {
        let layout = Layout::of(folder, false)?;
        let config = json_file::object(&folder.join(layout.config_name()))?;
        Ok(Checkpoint {
            folder: folder.to_owned(),
            layout,
            config,
            files: Vec::new(),
            tensors: IndexMap::new(),
        })
    }

    /// The path of the configuration.
    pub fn config_path(&self) -> PathBuf {
        self.folder.join(self.layout.config_name())
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name)
    }

    /// All tensors: files in the order of their names, and the tensors of a file in the order of theirs.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &StoredTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The files with the weights.
    pub fn weight_files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(WholeFile::path)
    }

    /// The file that has `tensor`.
    pub fn path_of(&self, tensor: &StoredTensor) -> &Path {
        self.files[tensor.file].path()
    }

    /// All files in the folder that a checkpoint consists of. None may be written to: configuration and tokenizer are as dear as the weights.
    pub fn paths(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let is_source = |path: &PathBuf| path.is_file() && path.extension().is_none_or(|end| end != "gguf");
        entries.map(|entry| entry.path()).filter(is_source).collect()
    }

    /// Checks that no file has changed since it was opened.
    ///
    /// # Errors
    /// Where one has.
    pub fn check_unchanged(&self) -> Result<(), ConvertError> {
        self.files.iter().try_for_each(|file| Ok(file.check_unchanged()?))
    }

    /// An error about the configuration.
    pub fn config_error(
        &self,
        key: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> ConvertError {
        ConvertError::Invalid {
            path: self.config_path(),
            what: format!("'{key}'"),
            found: found.into(),
            expected: expected.into(),
        }
    }

    /// An error about a tensor.
    pub fn tensor_error(
        &self,
        name: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> ConvertError {
        let path = self.tensor(name).map_or(self.folder.as_path(), |tensor| self.path_of(tensor));
        ConvertError::Invalid {
            path: path.to_owned(),
            what: format!("tensor '{}'", printable(name.as_bytes())),
            found: found.into(),
            expected: expected.into(),
        }
    }
}
