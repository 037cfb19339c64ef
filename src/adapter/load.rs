use std::path::Path;

use bise_models::gguf::{GgufFile, OpenOptions};
use bise_models::{Adapter, GgufAdapterTensors, Mistral};

use super::error::{AdapterFileError, pickled};
#[cfg(feature = "convert")]
use super::{peft, target::Target};

/// The adapter at `path`, for `model`: a GGUF file, or a folder of PEFT (or one of the two files in it).
///
/// # Errors
/// For files that are missing or damaged, adapters of a kind that is not supported, and those that do not fit the model. A build without the
/// feature `convert` reads GGUF files alone.
pub fn load(path: &Path, model: &Mistral) -> Result<Adapter, AdapterFileError> {
    load_within(path, model, |_| Ok(()))
}

/// As [`load`]. Before any number is read, `reserve` is told how many bytes that will take at most, and may refuse.
pub(super) fn load_within<E: From<AdapterFileError>>(
    path: &Path,
    model: &Mistral,
    reserve: impl FnOnce(usize) -> Result<(), E>,
) -> Result<Adapter, E> {
    match folder_of(path)? {
        None => {
            let file = GgufFile::open(path).map_err(AdapterFileError::from)?;
            reserve(GgufAdapterTensors::of(&file).map_err(AdapterFileError::from)?.loading_bytes())?;
            Ok(Adapter::from_gguf(&file, model).map_err(AdapterFileError::from)?)
        }
        Some(folder) => from_folder(folder, path, model, reserve),
    }
}

/// The folder of PEFT that a path leads to; `None` where it leads to a GGUF file.
///
/// # Errors
/// Where it leads to the weights of another program.
pub fn folder_of(path: &Path) -> Result<Option<&Path>, AdapterFileError> {
    if path.is_dir() {
        return Ok(Some(path));
    }
    let ends = |end: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(end));
    if ["bin", "pt", "pth", "pkl"].into_iter().any(ends) && !begins_as_gguf(path) {
        return Err(pickled(path));
    }
    let parent = || path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match path.is_file() && (ends("safetensors") || ends("json")) && !begins_as_gguf(path) {
        true => Ok(Some(parent())),
        false => Ok(None),
    }
}

fn begins_as_gguf(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"GGUF"
}

#[cfg(feature = "convert")]
fn from_folder<E: From<AdapterFileError>>(
    folder: &Path,
    path: &Path,
    model: &Mistral,
    reserve: impl FnOnce(usize) -> Result<(), E>,
) -> Result<Adapter, E> {
    let read = peft::PeftAdapter::open_within(folder, model.config(), reserve)?;
    let mut parts = Vec::with_capacity(read.parts.len());
    for (target, part) in read.parts {
        match target {
            Target::Matrix(site) => parts.push((site, part)),
            Target::Embedding => {
                return Err(AdapterFileError::Unsupported {
                    path: path.to_owned(),
                    what: "an adapter of the token embedding (embed_tokens)".into(),
                    reason: "it cannot be used beside a model: `bise lora merge` makes a model of both"
                        .into(),
                }
                .into());
            }
        }
    }
    let mut adapter =
        Adapter::new(path.display().to_string(), model, parts).map_err(AdapterFileError::from)?;
    adapter.warn(read.notes);
    Ok(adapter)
}

/// About as many bytes as the adapter at `path` will take at most; 0 where it cannot be told. No number is read.
pub(crate) fn kept_bytes(path: &Path) -> usize {
    match folder_of(path) {
        // Why it cannot be read is told when it is.
        Err(_) => 0,
        #[cfg(feature = "convert")]
        Ok(Some(folder)) => peft::PeftAdapter::kept_bytes(folder).unwrap_or(0),
        #[cfg(not(feature = "convert"))]
        Ok(Some(_)) => 0,
        Ok(None) => {
            let file = GgufFile::open_as_stored(path, OpenOptions::default());
            file.ok().and_then(|file| Some(GgufAdapterTensors::of(&file).ok()?.kept_bytes())).unwrap_or(0)
        }
    }
}

#[cfg(not(feature = "convert"))]
fn from_folder<E: From<AdapterFileError>>(
    _: &Path,
    path: &Path,
    _: &Mistral,
    _: impl FnOnce(usize) -> Result<(), E>,
) -> Result<Adapter, E> {
    Err(AdapterFileError::Unsupported {
        path: path.to_owned(),
        what: "an adapter of PEFT".into(),
        reason: "this program was built without the feature `convert` and reads GGUF files alone: `bise lora convert` of a full build makes one of it"
            .into(),
    }
    .into())
}
