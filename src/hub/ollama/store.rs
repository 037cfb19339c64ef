//! Models in a folder, in Ollama's layout: `manifests/HOST/NAMESPACE/MODEL/TAG` and `blobs/sha256-DIGEST`.

use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bise_models::atomic_file::AtomicFile;
use serde_json::Value;

use super::manifest::{Kind, Layer, Manifest};
use super::name::ModelName;
use crate::hub::digest::Sha256;
use crate::hub::error::HubError;
use crate::hub::model::{Extras, LocalModel, Place};

/// Texts of a model are never longer.
const MAX_TEXT: u64 = 4 << 20;

/// A folder of models.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    place: Place,
}

impl Store {
    /// A store of our own.
    pub fn own(root: &Path) -> Self {
        Self { root: root.into(), place: Place::Own }
    }

    /// One of Ollama's, which is only read.
    pub fn ollama(root: &Path) -> Self {
        Self { root: root.into(), place: Place::Ollama }
    }

    fn manifest_path(&self, name: &ModelName) -> PathBuf {
        self.root.join("manifests").join(name.path())
    }

    /// Where a blob lies, or is to lie.
    pub fn blob(&self, digest: &Sha256) -> PathBuf {
        let blobs = self.root.join("blobs");
        // As older versions of Ollama wrote it.
        let old = blobs.join(format!("sha256:{digest}"));
        if self.place == Place::Ollama && old.is_file() {
            old
        } else {
            blobs.join(format!("sha256-{digest}"))
        }
    }

    /// The manifest of a model, and its digest, if the store has it.
    ///
    /// # Errors
    /// A manifest that cannot be read or makes no sense.
    pub fn manifest(&self, name: &ModelName) -> Result<Option<(Manifest, Sha256)>, HubError> {
        let path = self.manifest_path(name);
        let text = match read_text(&path) {
            // What one may not read is not there.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::NotADirectory
                        | io::ErrorKind::PermissionDenied
                        | io::ErrorKind::IsADirectory
                ) =>
            {
                return Ok(None);
            }
            result => result.map_err(|error| HubError::io(&path, error))?,
        };
        let manifest = Manifest::parse(&text).map_err(|why| HubError::Corrupt { path, why })?;
        Ok(Some((manifest, Sha256::of(text.as_bytes()))))
    }

    /// A model, if the store has it with all its blobs.
    ///
    /// # Errors
    /// A manifest that makes no sense, a text that cannot be read, or a model that needs what bise does not do.
    pub fn model(&self, name: &ModelName) -> Result<Option<LocalModel>, HubError> {
        let Some((manifest, digest)) = self.manifest(name)? else { return Ok(None) };
        let Some(weights) = manifest.of_kind(Kind::Model).next() else {
            let why = "found no layer with weights in GGUF, expected one".into();
            return Err(HubError::Corrupt { path: self.manifest_path(name), why });
        };
        let path = self.blob(&weights.digest);
        if !fs::metadata(&path).is_ok_and(|found| found.len() == weights.size) {
            return Ok(None);
        }
        let text = |kind| match manifest.of_kind(kind).next() {
            Some(layer) => self.text(layer).map(Some),
            None => Ok(None),
        };
        let json = |kind| -> Result<Value, HubError> {
            let Some(layer) = manifest.of_kind(kind).next() else { return Ok(Value::Null) };
            serde_json::from_str(&self.text(layer)?).map_err(|error| HubError::Corrupt {
                path: self.blob(&layer.digest),
                why: format!("found no JSON: {error}"),
            })
        };
        let message = |value: &Value| {
            Some((value["role"].as_str()?.to_string(), value["content"].as_str()?.to_string()))
        };
        let extras = Extras {
            system: text(Kind::System)?,
            template: text(Kind::Template)?,
            licenses: manifest
                .of_kind(Kind::License)
                .map(|layer| self.text(layer))
                .collect::<Result<_, _>>()?,
            params: json(Kind::Params)?.as_object().cloned().unwrap_or_default(),
            messages: json(Kind::Messages)?.as_array().into_iter().flatten().filter_map(message).collect(),
            adapters: manifest.of_kind(Kind::Adapter).map(|layer| self.blob(&layer.digest)).collect(),
        };
        Ok(Some(LocalModel {
            name: name.to_string(),
            files: vec![path.clone()],
            path,
            bytes: manifest.blobs().map(|layer| layer.size).sum(),
            digest: Some(digest),
            weights: Some(weights.digest),
            modified: fs::metadata(self.manifest_path(name)).and_then(|m| m.modified()).ok(),
            place: self.place,
            extras,
        }))
    }

    fn text(&self, layer: &Layer) -> Result<String, HubError> {
        let path = self.blob(&layer.digest);
        read_text(&path).map_err(|error| HubError::io(&path, error))
    }

    /// Every model there is, by name.
    pub fn names(&self) -> Vec<ModelName> {
        let mut names = Vec::new();
        let below = |folder: &Path| -> Vec<(PathBuf, String)> {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.filter_map(|entry| Some((entry.path(), entry.file_name().into_string().ok()?))).collect()
        };
        for (path, host) in below(&self.root.join("manifests")) {
            for (path, namespace) in below(&path) {
                for (path, model) in below(&path) {
                    for (path, tag) in below(&path) {
                        let name = ModelName::parse(&format!("{host}/{namespace}/{model}:{tag}"));
                        names.extend(name.ok().filter(|_| path.is_file()));
                    }
                }
            }
        }
        names.sort();
        names
    }

    /// Puts bytes into the store.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn add_bytes(&self, kind: Kind, bytes: &[u8]) -> Result<Layer, HubError> {
        let digest = Sha256::of(bytes);
        self.add_blob(digest, bytes)?;
        Ok(Layer::new(kind, digest, bytes.len() as u64))
    }

    /// Puts a description of a model into the store: what [`Manifest::new`] wants.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn add_config(&self, config: &Value) -> Result<(Sha256, u64), HubError> {
        let text = config.to_string();
        let digest = Sha256::of(text.as_bytes());
        self.add_blob(digest, text.as_bytes())?;
        Ok((digest, text.len() as u64))
    }

    fn add_blob(&self, digest: Sha256, bytes: &[u8]) -> Result<(), HubError> {
        let path = self.blob(&digest);
        if path.is_file() {
            return Ok(());
        }
        write_whole(&path, bytes)
    }

    /// Puts a file of weights into the store: by a second name for the same file where the file system has that, else by a
    /// copy. `digest` is its SHA-256, if that is known; `progress` is told how much of it has been computed.
    ///
    /// # Errors
    /// If the file cannot be read, or the disk refuses.
    pub fn add_file(
        &self,
        kind: Kind,
        file: &Path,
        digest: Option<Sha256>,
        progress: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Layer, HubError> {
        let file = fs::canonicalize(file).map_err(|error| HubError::io(file, error))?;
        let size = fs::metadata(&file).map_err(|error| HubError::io(&file, error))?.len();
        let digest = match digest {
            Some(digest) => digest,
            None => Sha256::of_file(&file, progress)
                .map_err(|error| HubError::io(&file, error))?
                .ok_or(HubError::Cancelled)?,
        };
        let layer = Layer::new(kind, digest, size);
        let blob = self.blob(&digest);
        if fs::metadata(&blob).is_ok_and(|found| found.len() == size) {
            return Ok(layer);
        }
        if let Some(folder) = blob.parent() {
            fs::create_dir_all(folder).map_err(|error| HubError::io(folder, error))?;
        }
        if fs::hard_link(&file, &blob).is_ok() {
            return Ok(layer);
        }
        let mut from = fs::File::open(&file).map_err(|error| HubError::io(&file, error))?;
        AtomicFile::create(&blob)
            .and_then(|mut to| io::copy(&mut from, &mut to).and_then(|_| to.commit()))
            .map_err(|error| HubError::io(&blob, error))?;
        Ok(layer)
    }

    /// Gives a model its name. The blobs are there already.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn set_manifest(&self, name: &ModelName, text: &str) -> Result<(), HubError> {
        write_whole(&self.manifest_path(name), text.as_bytes())
    }

    /// Removes a name, and the blobs that no other name needs. False if there is no such name.
    ///
    /// # Errors
    /// A manifest that makes no sense; the disk.
    pub fn remove(&self, name: &ModelName) -> Result<bool, HubError> {
        let path = self.manifest_path(name);
        let Some((manifest, _)) = self.manifest(name)? else { return Ok(false) };
        fs::remove_file(&path).map_err(|error| HubError::io(&path, error))?;
        // The folders go with the last name in them.
        for folder in path.ancestors().skip(1).take(3) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        let mut others = Vec::new();
        for other in self.names() {
            if let Some((manifest, _)) = self.manifest(&other)? {
                others.extend(manifest.blobs().map(|layer| layer.digest).collect::<Vec<_>>());
            }
        }
        for layer in manifest.blobs().filter(|layer| !others.contains(&layer.digest)) {
            let blob = self.blob(&layer.digest);
            match fs::remove_file(&blob) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(HubError::io(&blob, error));
                }
                _ => {}
            }
        }
        Ok(true)
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), HubError> {
    let result = match path.parent() {
        Some(folder) => fs::create_dir_all(folder),
        None => Ok(()),
    };
    result
        .and_then(|()| AtomicFile::create(path))
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.commit()))
        .map_err(|error| HubError::io(path, error))
}

fn read_text(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_TEXT).read_to_string(&mut text)?;
    Ok(text)
}
