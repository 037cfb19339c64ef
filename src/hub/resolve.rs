//! From a name to a file on this machine.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::converted::{Checkpoint, Converted};
use super::digest::Sha256;
use super::download;
use super::error::HubError;
use super::http::Client;
use super::hugging_face::cache::{self, Cache, CachedModel};
use super::hugging_face::{self, Selection, choice};
use super::model::{Extras, LocalModel, Place};
use super::ollama::manifest::{Kind, Manifest};
use super::ollama::name::ModelName;
use super::ollama::registry;
use super::ollama::store::Store;
use super::progress::{Progress, Watch};
use super::reference::Reference;
use super::settings::Settings;
use super::table::Known;

/// Finds and downloads models.
#[derive(Debug)]
pub struct Hub {
    client: Client,
    own: Store,
    ollama: Vec<Store>,
}

impl Hub {
    /// A hub; it connects to nothing before something is to be downloaded.
    pub fn new(settings: Settings) -> Self {
        let own = Store::own(&settings.models);
        let others = settings.ollama.iter().filter(|folder| **folder != settings.models);
        let ollama = others.map(|folder| Store::ollama(folder)).collect();
        Self { own, ollama, client: Client::new(settings) }
    }

    /// What it goes by.
    pub fn settings(&self) -> &Settings {
        self.client.settings()
    }

    /// Looks for a model on this machine. A name is looked for among our own models, then in the table of names (whose files
    /// lie in the cache of `huggingface_hub`), then in Ollama's store.
    ///
    /// # Errors
    /// A store that makes no sense; a file that is not there.
    pub fn find(&self, reference: &Reference) -> Result<Option<LocalModel>, HubError> {
        match reference {
            Reference::Builtin => Ok(Some(builtin())),
            Reference::File(path) => match Checkpoint::at(path) {
                Some(checkpoint) => self.converted().find(&checkpoint),
                None => file(path, Place::File).map(Some),
            },
            Reference::Url(url) => {
                let to = download::path_of_url(url, &self.url_folder())?;
                if to.is_file() { file(&to, Place::Url).map(Some) } else { Ok(None) }
            }
            Reference::HuggingFace(selection) => match self.find_cached(selection) {
                Some(model) => Ok(Some(model)),
                None => {
                    let checkpoint = self.cached_checkpoint(selection);
                    checkpoint.map_or(Ok(None), |checkpoint| self.converted().find(&checkpoint))
                }
            },
            Reference::Name(name) => {
                if let Some(model) = self.own.model(name)? {
                    return Ok(Some(model));
                }
                let known = Known::find(name).and_then(|known| {
                    self.find_cached(&known.selection())
                        .map(|model| LocalModel { name: name.to_string(), ..model })
                });
                if known.is_some() {
                    return Ok(known);
                }
                for store in &self.ollama {
                    if let Some(model) = store.model(name)? {
                        return Ok(Some(model));
                    }
                }
                Ok(None)
            }
        }
    }

    fn find_cached(&self, selection: &Selection) -> Option<LocalModel> {
        let cache = Cache::new(&self.settings().hf_cache, &selection.repository);
        cache.find(selection).map(|model| cached(&model))
    }

    /// The checkpoint that is selected, if the cache has its repository.
    fn cached_checkpoint(&self, selection: &Selection) -> Option<Checkpoint> {
        let cache = Cache::new(&self.settings().hf_cache, &selection.repository);
        let folder = cache.snapshot(&cache.commit(selection.revision())?);
        let is_there = selection.file.is_none() && super::is_checkpoint(&folder);
        is_there.then(|| checkpoint_of(selection, folder))
    }

    fn converted(&self) -> Converted {
        Converted::new(&self.settings().models)
    }

    /// Downloads a model, or brings it up to date where its source has a newer one. A checkpoint is made into a GGUF file.
    ///
    /// # Errors
    /// The network, the source, the disk, or a wrong digest.
    pub fn pull(&self, reference: &Reference, watch: &mut Watch<'_>) -> Result<LocalModel, HubError> {
        let missing = || HubError::NotFound { name: reference.to_string(), advice: String::new() };
        match reference {
            Reference::File(path) if let Some(checkpoint) = Checkpoint::at(path) => {
                return self.converted().get(&checkpoint, watch);
            }
            Reference::Builtin | Reference::File(_) => return self.find(reference)?.ok_or_else(missing),
            Reference::Url(url) => {
                let path = download::download_url(&self.client, url, &self.url_folder(), watch)?;
                return file(&path, Place::Url);
            }
            Reference::HuggingFace(selection) => {
                let path = hugging_face::pull(&self.client, selection, watch)?;
                if path.is_dir() {
                    return self.converted().get(&checkpoint_of(selection, path), watch);
                }
            }
            Reference::Name(name) => match Known::find(name) {
                Some(known) => {
                    hugging_face::pull(&self.client, &known.selection(), watch)?;
                    // One of our own under the same name would hide it.
                    let pulled = self.find_cached(&known.selection()).ok_or_else(missing)?;
                    return Ok(LocalModel { name: name.to_string(), ..pulled });
                }
                None => registry::pull(&self.client, name, &self.own, watch)?,
            },
        }
        self.find(reference)?.ok_or_else(missing)
    }

    /// Downloads the GGUF file of a URL to `to`, unless that is there.
    ///
    /// # Errors
    /// The network, the server or the disk.
    pub fn pull_url_to(&self, url: &str, to: &Path, watch: &mut Watch<'_>) -> Result<(), HubError> {
        download::download_url_to(&self.client, url, to, watch)
    }

    /// The model, from this machine if it is here, else from its source.
    ///
    /// # Errors
    /// As [`Hub::find`] and [`Hub::pull`].
    pub fn get(&self, reference: &Reference, watch: &mut Watch<'_>) -> Result<LocalModel, HubError> {
        match self.here(reference, watch)? {
            Some(model) => Ok(model),
            None => self.pull(reference, watch),
        }
    }

    /// The model as its source has it now; from this machine if the source cannot be asked.
    ///
    /// # Errors
    /// As [`Hub::pull`], if it is not on this machine either.
    pub fn get_newest(&self, reference: &Reference, watch: &mut Watch<'_>) -> Result<LocalModel, HubError> {
        match self.pull(reference, watch) {
            Err(error) if error.is_network() => match self.here(reference, watch)? {
                Some(model) => {
                    if !matches!(error, HubError::Offline { .. }) {
                        let text = format!("{error}; the model that is on this machine is used");
                        let _ = watch(Progress::Note { text: &text });
                    }
                    Ok(model)
                }
                None => Err(error),
            },
            result => result,
        }
    }

    /// The model from this machine; a checkpoint is made into a GGUF file if it was not yet.
    fn here(&self, reference: &Reference, watch: &mut Watch<'_>) -> Result<Option<LocalModel>, HubError> {
        if let Some(model) = self.find(reference)? {
            return Ok(Some(model));
        }
        match reference {
            Reference::HuggingFace(selection) => {
                let checkpoint = self.cached_checkpoint(selection);
                checkpoint.map(|checkpoint| self.converted().get(&checkpoint, watch)).transpose()
            }
            _ => Ok(None),
        }
    }

    fn url_folder(&self) -> PathBuf {
        self.settings().models.join("urls")
    }

    /// Every model on this machine, but for files that lie elsewhere: our own, the cache's, Ollama's. Stores that make no sense
    /// are left out.
    pub fn list(&self) -> Vec<LocalModel> {
        let mut models = Vec::new();
        for store in std::iter::once(&self.own).chain(&self.ollama) {
            for name in store.names() {
                let known = |model: &LocalModel| model.name == name.to_string();
                if !models.iter().any(known) {
                    models.extend(store.model(&name).ok().flatten());
                }
            }
        }
        for cache in cache::repositories(&self.settings().hf_cache) {
            models.extend(cache.models().iter().map(cached));
        }
        models.extend(self.converted().list());
        let urls = fs::read_dir(self.url_folder()).into_iter().flatten().flatten().map(|entry| entry.path());
        models.extend(
            urls.filter(|path| path.extension().is_some_and(|e| e == "gguf"))
                .filter_map(|path| file(&path, Place::Url).ok()),
        );
        models
    }

    /// Removes a model: its name and what nothing else needs.
    ///
    /// # Errors
    /// There is no such model, or it is not ours to remove; the disk.
    pub fn remove(&self, reference: &Reference) -> Result<(), HubError> {
        if let Reference::Name(name) = reference
            && self.own.remove(name)?
        {
            return Ok(());
        }
        let missing =
            || HubError::NotFound { name: reference.to_string(), advice: " on this machine".into() };
        let model = self.find(reference)?.ok_or_else(missing)?;
        let refuse = |why: &str| Err(HubError::Unsupported { name: reference.to_string(), why: why.into() });
        match model.place {
            Place::Builtin => refuse("it is a part of the program"),
            Place::File => refuse("it is a file of yours; remove it yourself"),
            Place::Ollama => refuse("it belongs to Ollama; `ollama rm` removes it"),
            Place::Converted => self.converted().remove(&model),
            Place::Url => fs::remove_file(&model.path).map_err(|error| HubError::io(&model.path, error)),
            Place::HuggingFace | Place::Own => {
                let selection = match reference {
                    Reference::HuggingFace(selection) => selection.clone(),
                    Reference::Name(name) => Known::find(name).ok_or_else(missing)?.selection(),
                    _ => return Err(missing()),
                };
                let cache = Cache::new(&self.settings().hf_cache, &selection.repository);
                let found = cache.find(&selection).ok_or_else(missing)?;
                let folder = found.path.to_string_lossy().len() - found.file.len();
                found
                    .files
                    .iter()
                    .try_for_each(|file| cache.remove(&file.to_string_lossy()[folder..].replace('\\', "/")))
            }
        }
    }

    /// Gives a model that is on this machine another name, with other `extras` if there are any.
    ///
    /// # Errors
    /// A model that cannot be stored, the disk, or `watch`.
    pub fn store(
        &self,
        model: &LocalModel,
        extras: &Extras,
        name: &ModelName,
        watch: &mut Watch<'_>,
    ) -> Result<(), HubError> {
        let refuse = |why: String| HubError::Unsupported { name: model.name.clone(), why };
        if model.place == Place::Builtin {
            return Err(refuse("the built-in model has one name, builtin".into()));
        }
        if model.files.len() > 1 {
            return Err(refuse(format!(
                "it consists of {} files, and a model with a name of its own has one",
                model.files.len()
            )));
        }
        if let Some(folder) = extras.adapters.iter().find(|path| path.is_dir()) {
            let folder = folder.display();
            return Err(refuse(format!(
                "{folder} is an adapter of PEFT: `bise lora convert` makes a GGUF file of it"
            )));
        }
        let total = model.bytes;
        let file = model.name.as_str();
        let weights = self.own.add_file(Kind::Model, &model.path, model.weights, |done| {
            watch(Progress::Checking { file, done, total })
        })?;
        let digest = weights.digest;
        let mut layers = vec![weights];
        for adapter in &extras.adapters {
            layers.push(self.own.add_file(Kind::Adapter, adapter, None, |done| {
                watch(Progress::Checking { file, done, total })
            })?);
        }
        let texts = [(Kind::Template, &extras.template), (Kind::System, &extras.system)];
        for (kind, text) in texts.into_iter().filter_map(|(kind, text)| Some((kind, text.as_ref()?))) {
            layers.push(self.own.add_bytes(kind, text.as_bytes())?);
        }
        for license in &extras.licenses {
            layers.push(self.own.add_bytes(Kind::License, license.as_bytes())?);
        }
        if !extras.params.is_empty() {
            let text = serde_json::Value::Object(extras.params.clone()).to_string();
            layers.push(self.own.add_bytes(Kind::Params, text.as_bytes())?);
        }
        if !extras.messages.is_empty() {
            let messages: Vec<_> = extras
                .messages
                .iter()
                .map(|(role, content)| json!({ "role": role, "content": content }))
                .collect();
            layers.push(self.own.add_bytes(Kind::Messages, json!(messages).to_string().as_bytes())?);
        }
        let config = json!({
            "model_format": "gguf",
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        });
        let config = self.own.add_config(&config)?;
        self.own.set_manifest(name, &Manifest::new(config, layers).text())
    }

    /// Our own store, where models with names of the user's lie.
    pub fn own_store(&self) -> &Store {
        &self.own
    }
}

/// A checkpoint in the cache as the selection asks for it.
fn checkpoint_of(selection: &Selection, folder: PathBuf) -> Checkpoint {
    let name = format!("hf.co/{}", selection.repository);
    Checkpoint::new(folder, name, selection.quantization.as_deref())
}

fn builtin() -> LocalModel {
    LocalModel {
        name: "builtin".into(),
        path: PathBuf::new(),
        files: Vec::new(),
        bytes: 0,
        digest: None,
        weights: None,
        modified: None,
        place: Place::Builtin,
        extras: Extras::default(),
    }
}

fn file(path: &Path, place: Place) -> Result<LocalModel, HubError> {
    let metadata = fs::metadata(path).map_err(|error| HubError::io(path, error))?;
    if metadata.is_dir() {
        return Err(HubError::Corrupt {
            path: path.into(),
            why: "found a folder with neither config.json nor params.json, expected a checkpoint or a GGUF file"
                .into(),
        });
    }
    Ok(LocalModel {
        name: path.display().to_string(),
        path: path.into(),
        files: vec![path.into()],
        bytes: metadata.len(),
        digest: None,
        weights: None,
        modified: metadata.modified().ok(),
        place,
        extras: Extras::default(),
    })
}

fn cached(model: &CachedModel) -> LocalModel {
    let known = Known::of_file(model.repository.as_str(), &model.file);
    let quantization = choice::quantization(&model.file);
    let name = match (known, quantization) {
        (Some(known), _) if known.names[0].contains(':') => known.names[0].to_string(),
        (Some(known), _) => format!("{}:latest", known.names[0]),
        (None, Some(quantization)) => format!("hf.co/{}:{quantization}", model.repository),
        (None, None) => format!("hf.co/{}/resolve/main/{}", model.repository, model.file),
    };
    // Large files are named by their digest.
    let digest =
        fs::canonicalize(&model.path).ok().and_then(|blob| Sha256::parse(blob.file_name()?.to_str()?));
    let bytes = model.files.iter().filter_map(|file| fs::metadata(file).ok()).map(|m| m.len()).sum();
    LocalModel {
        name,
        path: model.path.clone(),
        files: model.files.clone(),
        bytes,
        digest,
        weights: digest.filter(|_| model.files.len() == 1),
        modified: fs::metadata(&model.path).and_then(|m| m.modified()).ok(),
        place: Place::HuggingFace,
        extras: Extras {
            licenses: known.map(|known| known.license.to_string()).into_iter().collect(),
            ..Extras::default()
        },
    }
}
