use std::path::{Path, PathBuf};

use bise_models::gguf::{GgufFile, Metadata};
use bise_models::{GgufAdapter, LowRank, MistralConfig};

use super::error::AdapterFileError;
use super::load::folder_of;
use super::peft::{PeftAdapter, PeftConfig};
use super::target::Target;
use crate::convert::Dtype;

/// An adapter that was read from a file, for a model of which the configuration is known.
#[derive(Debug)]
#[non_exhaustive]
pub struct AdapterFile {
    /// What kind of file it was, and what it says besides.
    pub format: AdapterFormat,
    /// Its matrices, in order of what they are beside.
    pub parts: Vec<(Target, LowRank)>,
    /// What the user should know, one line each.
    pub notes: Vec<String>,
    /// Its files.
    pub paths: Vec<PathBuf>,
}

/// The kind of a file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AdapterFormat {
    /// A folder of PEFT: its configuration and the type of its first tensor.
    Peft(Box<PeftConfig>, Dtype),
    /// A GGUF file and its metadata.
    Gguf(Metadata),
}

impl AdapterFile {
    /// Reads the adapter at `path`, a GGUF file or a folder of PEFT, for a model of the configuration `base`.
    ///
    /// # Errors
    /// For files that are missing or damaged, adapters of a kind that is not supported, and those that do not fit the model.
    pub fn open(path: &Path, base: &MistralConfig) -> Result<AdapterFile, AdapterFileError> {
        if let Some(folder) = folder_of(path)? {
            let PeftAdapter { config, parts, dtype, notes, paths } = PeftAdapter::open(folder, base)?;
            let format = AdapterFormat::Peft(Box::new(config), dtype);
            return Ok(AdapterFile { format, parts, notes, paths });
        }
        let file = GgufFile::open(path)?;
        let read = GgufAdapter::read(&file, base)?;
        let parts = read.embedding.map(|part| (Target::Embedding, part)).into_iter();
        let parts: Vec<_> =
            parts.chain(read.parts.into_iter().map(|(site, part)| (site.into(), part))).collect();
        for (target, part) in &parts {
            if let Some(value) = part.a.iter().chain(&part.b).find(|value| !value.is_finite()) {
                return Err(AdapterFileError::Invalid {
                    path: path.to_owned(),
                    what: format!("tensors of '{target}.weight'"),
                    found: value.to_string(),
                    expected: "finite numbers".into(),
                });
            }
        }
        if parts.is_empty() {
            return Err(AdapterFileError::Invalid {
                path: path.to_owned(),
                what: "tensors".into(),
                found: "none".into(),
                expected: "'NAME.lora_a' and 'NAME.lora_b' for some of the model's matrices".into(),
            });
        }
        file.check_unchanged()?;
        Ok(AdapterFile {
            format: AdapterFormat::Gguf(file.metadata().clone()),
            parts,
            notes: file.warnings().iter().map(ToString::to_string).collect(),
            paths: file.paths().map(Path::to_owned).collect(),
        })
    }
}

/// The configuration of the model at `path`: a GGUF file, or the folder of a checkpoint, of which `config.json` or `params.json` is enough.
///
/// # Errors
/// Where there is none of these, or the model cannot be run.
pub fn base_config(path: &Path) -> Result<MistralConfig, AdapterFileError> {
    let is_config = path.file_name().is_some_and(|name| name == "config.json" || name == "params.json");
    match (path.is_dir(), is_config) {
        (true, _) => Ok(crate::convert::configuration(path)?),
        (false, true) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            Ok(crate::convert::configuration(folder.unwrap_or(Path::new(".")))?)
        }
        (false, false) => Ok(MistralConfig::from_metadata(GgufFile::open(path)?.metadata())?),
    }
}
