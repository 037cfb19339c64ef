//! The adapters (LoRA) of a model: those it is opened with, and those that clients load later.

use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bise_models::gguf::GgufFile;
use serde_json::{Value, json};

use crate::adapter::{Adapter, AdapterFileError, Adapters};
use crate::server::error::ApiError;
use crate::server::options::{AdapterOptions, BoxError};
use crate::{Engine, Error};

/// The adapters of a model, by their numbers. A number is never given twice, so that it never comes to mean another adapter.
///
/// They are known as long as the server runs, and take memory only while the model does. A request that has begun keeps its own, whatever
/// becomes of them here.
pub struct ModelAdapters {
    list: RwLock<List>,
    /// Where clients may load others from.
    folder: Option<PathBuf>,
    /// Whether they act on no request until one says so.
    wait: bool,
    /// Held while one is loaded: two at a time would need the memory of both to find that there is room for one.
    loading: Mutex<()>,
}

struct List {
    all: Vec<Known>,
    next_id: usize,
    /// The names of the model, which no adapter may have.
    of_model: Vec<String>,
}

/// An adapter that can be asked for.
struct Known {
    id: usize,
    name: String,
    path: PathBuf,
    /// The path as it was given.
    shown: String,
    /// The scale it was loaded with.
    own_scale: f32,
    /// The scale where a request says nothing.
    scale: f32,
    /// Whether the model is of no use without it: the command line names it.
    is_required: bool,
    /// `None` while the model is not in memory.
    loaded: Option<Loaded>,
}

/// An adapter in memory.
#[derive(Clone)]
struct Loaded {
    adapter: Arc<Adapter>,
    /// What its file says that it is for.
    task_name: String,
    /// What its file says that prompts begin with.
    prompt_prefix: String,
}

impl ModelAdapters {
    /// Those that a model is opened with; none is read yet. `of_model` are the model's names.
    pub fn new(options: &AdapterOptions, of_model: &[String]) -> ModelAdapters {
        let mut list = List { all: Vec::new(), next_id: 0, of_model: of_model.to_vec() };
        for (path, scale) in &options.files {
            let (name, shown) = (list.free_name(&stem(path)), path.display().to_string());
            list.add(name, path.clone(), shown, *scale, options.wait).is_required = true;
        }
        ModelAdapters {
            list: RwLock::new(list),
            folder: options.folder.clone(),
            wait: options.wait,
            loading: Mutex::default(),
        }
    }

    /// Reads those that are not in memory. One that a client has loaded, and whose file is gone, is forgotten.
    ///
    /// # Errors
    /// A file of the command line, or the memory for it.
    pub fn open(&self, engine: &Engine) -> Result<(), BoxError> {
        let _alone = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<(usize, PathBuf, bool)> = {
            let list = self.read();
            let missing = list.all.iter().filter(|known| known.loaded.is_none());
            missing.map(|known| (known.id, known.path.clone(), known.is_required)).collect()
        };
        for (id, path, is_required) in missing {
            // The folder of clients may have changed since.
            let folder = self.folder.as_deref().filter(|_| !is_required);
            let read = match folder.is_none_or(|folder| stays_inside(folder, &path)) {
                true => read(engine, &path).map_err(BoxError::from),
                false => Err("its files are gone, or lie outside of --lora-dir".into()),
            };
            match read {
                Ok(loaded) => {
                    self.write().by_id(id).into_iter().for_each(|known| known.loaded = Some(loaded.clone()));
                }
                Err(error) if is_required => return Err(error),
                Err(error) => {
                    tracing::warn!("adapter {id} is unloaded: {error}");
                    self.write().all.retain(|known| known.id != id);
                }
            }
        }
        Ok(())
    }

    /// Gives their memory back. They stay known.
    pub fn close(&self) {
        self.write().all.iter_mut().for_each(|known| known.loaded = None);
    }

    /// Reads one more, from the folder that clients may load from. Takes as long as the disk does. Returns it as lists have it.
    ///
    /// # Errors
    /// 501 without such a folder; 400 for a path that leads elsewhere, also by links, a name that is taken or cannot be asked for, and what
    /// is no adapter for this model; 503 where there is no memory for it.
    pub fn load(
        &self,
        engine: &Engine,
        path: &str,
        name: Option<&str>,
        scale: f32,
    ) -> Result<Value, ApiError> {
        let folder = self.folder.as_deref().ok_or_else(|| {
            ApiError::not_supported(
                "the server was started without --lora-dir, the folder to load adapters from",
            )
        })?;
        let inside = inside(path).ok_or_else(|| {
            ApiError::field(
                "path",
                format_args!("{path:?}"),
                "a file or folder in that of --lora-dir, without '..'",
            )
        })?;
        let taken = |name: &str| ApiError::field("name", format_args!("{name:?}"), "one that is not taken");
        if let Some(name) = name.filter(|name| !is_a_name(name)) {
            let expected = "a name without '/', '\\', control characters and ':latest'";
            return Err(ApiError::field("name", format_args!("{name:?}"), expected));
        }
        if let Some(name) = name.filter(|name| self.read().is_taken(name)) {
            return Err(taken(name));
        }
        let _alone = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let full = folder.join(inside);
        let wrong = |expected: &str| ApiError::field("path", format_args!("{path:?}"), expected);
        if !stays_inside(folder, &full) {
            return Err(wrong("a file or folder in that of --lora-dir, whose links stay in there too"));
        }
        let loaded = read(engine, &full).map_err(|error| match error {
            Error::Adapter(error) => match *error {
                // The message has the beginning of the file, which may be any text.
                AdapterFileError::Gguf(error) if !begins_as_gguf(&full) => {
                    tracing::warn!("/lora-adapters/load: {error}");
                    wrong("a GGUF file, or a folder of PEFT")
                }
                // Clients know the folder's files by their paths in it.
                error => {
                    let message = error.to_string().replace(&full.display().to_string(), path);
                    ApiError::invalid(format!("path: {message}")).with("param", "path")
                }
            },
            other => ApiError::from(&other),
        })?;
        let mut list = self.write();
        let name = match name {
            Some(name) if list.is_taken(name) => return Err(taken(name)),
            Some(name) => name.to_owned(),
            None => {
                let stem = stem(inside);
                list.free_name(if is_a_name(&stem) { &stem } else { "adapter" })
            }
        };
        let known = list.add(name, full, path.to_owned(), scale, self.wait);
        known.loaded = Some(loaded);
        tracing::info!(id = known.id, name = known.name, "adapter loaded");
        Ok(known.to_json())
    }

    /// Forgets one. What uses it goes on with it, and its memory comes back after.
    ///
    /// # Errors
    /// There is none with this number.
    pub fn unload(&self, id: i64) -> Result<(), ApiError> {
        let mut list = self.write();
        let i = list.position(id).ok_or_else(|| unknown("id", id))?;
        let known = list.all.remove(i);
        tracing::info!(id, name = known.name, "adapter unloaded");
        Ok(())
    }

    /// Sets the scales for requests that say nothing; what is not in `scales` gets 0, as with llama-server. Requests that were taken before
    /// keep theirs.
    ///
    /// # Errors
    /// There is none with one of the numbers: nothing is changed then.
    pub fn rescale(&self, scales: &[(i64, f32)]) -> Result<(), ApiError> {
        let mut list = self.write();
        let places = list.places("", scales)?;
        list.all.iter_mut().for_each(|known| known.scale = 0.0);
        for (i, scale) in places {
            list.all[i].scale = scale;
        }
        Ok(())
    }

    /// All of them, as `/lora-adapters` lists them.
    pub fn to_json(&self) -> Vec<Value> {
        self.read().all.iter().map(Known::to_json).collect()
    }

    /// Their names, and where they are from.
    pub fn names(&self) -> Vec<(String, String)> {
        self.read().all.iter().map(|known| (known.name.clone(), known.shown.clone())).collect()
    }

    /// Whether one has this name.
    pub fn has(&self, name: &str) -> bool {
        self.read().named(name).is_some()
    }

    /// Those that act where a request says nothing.
    pub fn global(&self) -> Adapters {
        Adapters::new(self.read().all.iter().filter_map(|known| known.scaled(known.scale)))
    }

    /// Those with the scales that a request gives in `field`, and no others.
    ///
    /// # Errors
    /// There is none with one of the numbers.
    pub fn scaled(&self, field: &str, scales: &[(i64, f32)]) -> Result<Adapters, ApiError> {
        let list = self.read();
        // In the order of the list, whatever that of the request is: the sum is the same to the bit.
        let mut places = list.places(field, scales)?;
        places.sort_by_key(|(i, _)| *i);
        Ok(Adapters::new(places.into_iter().filter_map(|(i, scale)| list.all[i].scaled(scale))))
    }

    /// The one with this name, with the scale it was loaded with.
    pub fn named(&self, name: &str) -> Option<Adapters> {
        let list = self.read();
        let known = list.named(name)?;
        Some(Adapters::new(known.scaled(known.own_scale)))
    }

    fn read(&self) -> RwLockReadGuard<'_, List> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, List> {
        self.list.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn add(&mut self, name: String, path: PathBuf, shown: String, own_scale: f32, waits: bool) -> &mut Known {
        let (id, scale) = (self.next_id, if waits { 0.0 } else { own_scale });
        self.next_id += 1;
        self.all.push(Known { id, name, path, shown, own_scale, scale, is_required: false, loaded: None });
        self.all.last_mut().expect("just added")
    }

    fn by_id(&mut self, id: usize) -> Option<&mut Known> {
        self.all.iter_mut().find(|known| known.id == id)
    }

    fn position(&self, id: i64) -> Option<usize> {
        self.all.iter().position(|known| usize::try_from(id) == Ok(known.id))
    }

    /// Places and scales; of two scales for one adapter the last counts.
    fn places(&self, field: &str, scales: &[(i64, f32)]) -> Result<Vec<(usize, f32)>, ApiError> {
        let mut places: Vec<(usize, f32)> = Vec::with_capacity(scales.len());
        for (i, (id, scale)) in scales.iter().enumerate() {
            let place = self.position(*id).ok_or_else(|| unknown(&format!("{field}[{i}].id"), *id))?;
            places.retain(|(other, _)| *other != place);
            places.push((place, *scale));
        }
        Ok(places)
    }

    fn named(&self, name: &str) -> Option<&Known> {
        self.all.iter().find(|known| short(&known.name) == short(name))
    }

    fn is_taken(&self, name: &str) -> bool {
        self.named(name).is_some() || self.of_model.iter().any(|other| short(other) == short(name))
    }

    /// `wanted`, or that with a number behind it where it is taken.
    fn free_name(&self, wanted: &str) -> String {
        let mut names = std::iter::once(wanted.to_owned()).chain((2..).map(|n| format!("{wanted}-{n}")));
        names.find(|name| !self.is_taken(name)).expect("there is no end of numbers")
    }
}

impl Known {
    /// As llama-server lists it, and its name.
    fn to_json(&self) -> Value {
        let (task_name, prompt_prefix) = match &self.loaded {
            Some(loaded) => (loaded.task_name.as_str(), loaded.prompt_prefix.as_str()),
            None => ("", ""),
        };
        json!({
            "id": self.id,
            "path": self.shown,
            "scale": self.scale,
            "task_name": task_name,
            "prompt_prefix": prompt_prefix,
            "name": self.name,
        })
    }

    /// The adapter with a scale. It is there as long as the model is.
    fn scaled(&self, scale: f32) -> Option<(Arc<Adapter>, f32)> {
        Some((Arc::clone(&self.loaded.as_ref()?.adapter), scale))
    }
}

fn read(engine: &Engine, path: &Path) -> Result<Loaded, Error> {
    let adapter = engine.load_adapter(path)?;
    adapter.warnings().iter().for_each(|warning| tracing::warn!("adapter {warning}"));
    // A folder of PEFT has no place for these.
    let file = if path.is_file() { GgufFile::open(path).ok() } else { None };
    let text = |key: &str| {
        let text = file.as_ref().and_then(|file| file.metadata().str(key).ok().flatten());
        text.unwrap_or_default().to_owned()
    };
    Ok(Loaded {
        task_name: text("adapter.lora.task_name"),
        prompt_prefix: text("adapter.lora.prompt_prefix"),
        adapter,
    })
}

fn unknown(field: &str, id: i64) -> ApiError {
    ApiError::field(field, id, "the id of an adapter (/lora-adapters lists them)")
}

/// The name of a file without its ending, or of a folder.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with("sha256-") {
        // A blob of Ollama's.
        return "adapter".to_owned();
    }
    let is_gguf = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    let name = if is_gguf { path.file_stem() } else { path.file_name() };
    name.map_or_else(|| "adapter".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// A name without the tag that may be left out.
fn short(name: &str) -> &str {
    name.strip_suffix(":latest").unwrap_or(name)
}

/// Whether an adapter can be asked for by this name, in every place where models are named.
fn is_a_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\\']) && !name.contains(char::is_control) && short(name) == name
}

fn begins_as_gguf(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"GGUF"
}

/// Whether what is at `path`, and all files that are read with it, lie in `folder` where links are followed. Links within the folder are
/// fine: caches of the Hugging Face Hub have `snapshots/…/adapter_model.safetensors` lead to `blobs`.
fn stays_inside(folder: &Path, path: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let stays = |path: &Path| path.canonicalize().is_ok_and(|real| real.starts_with(&folder));
    if !stays(path) {
        return false;
    }
    // The files of PEFT, and the parts of a GGUF file.
    let among = if path.is_dir() { Some(path) } else { path.parent() };
    let Some(Ok(files)) = among.map(std::fs::read_dir) else { return false };
    let is_read = |name: &str| name.starts_with("adapter_") || name.contains("-of-");
    files.into_iter().all(|file| match file {
        Ok(file) => !is_read(&file.file_name().to_string_lossy()) || stays(&file.path()),
        Err(_) => false,
    })
}

/// A path that stays inside the folder that it is looked for in, as far as its text says: see [`stays_inside`] for links.
fn inside(path: &str) -> Option<&Path> {
    let parts = Path::new(path).components();
    let stays = !path.is_empty() && !path.contains(['\\', '\0']);
    (stays && parts.into_iter().all(|part| matches!(part, Component::Normal(_)))).then_some(Path::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_do_not_leave_the_folder() {
        for path in ["a.gguf", "folder/a.gguf", "folder", "..a", "a..b/c"] {
            assert_eq!(inside(path), Some(Path::new(path)));
        }
        for path in ["", "/etc/passwd", "../a.gguf", "a/../../b", "..", "./a", "c:\\a", "a\0b"] {
            assert_eq!(inside(path), None, "{path}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn links_do_not_leave_the_folder() {
        use std::os::unix::fs::symlink;
        let all = tempfile::tempdir().unwrap();
        let folder = all.path().join("adapters");
        let snapshot = folder.join("hub/snapshots/0");
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(folder.join("hub/blobs")).unwrap();
        for file in ["adapters/a.gguf", "adapters/hub/blobs/0123", "secret"] {
            std::fs::write(all.path().join(file), "x").unwrap();
        }
        symlink("a.gguf", folder.join("link.gguf")).unwrap();
        symlink("../../blobs/0123", snapshot.join("adapter_config.json")).unwrap();
        symlink("../../adapters", folder.join("hub/again")).unwrap();
        let stays = |path: &str| stays_inside(&folder, &folder.join(path));
        assert!(stays("a.gguf") && stays("link.gguf") && stays("hub/snapshots/0") && stays("hub/again"));
        assert!(!stays("missing.gguf"));
        symlink("../secret", folder.join("out.gguf")).unwrap();
        symlink(all.path(), folder.join("outer")).unwrap();
        symlink("../../../../secret", snapshot.join("adapter_model.safetensors")).unwrap();
        assert!(!stays("out.gguf") && !stays("outer") && !stays("outer/secret"));
        assert!(!stays("hub/snapshots/0") && !stays("hub/snapshots/0/adapter_config.json"));
        // What lies beside an adapter and is not read with it does no harm.
        assert!(stays("a.gguf"));
        // A folder that is itself behind a link.
        symlink(&folder, all.path().join("door")).unwrap();
        let door = all.path().join("door");
        assert!(stays_inside(&door, &door.join("a.gguf")) && !stays_inside(&door, &door.join("out.gguf")));
    }

    #[test]
    fn names_can_be_asked_for() {
        for name in ["a", "legal-2", "checkpoint-3.5", "ä b", "a:7b"] {
            assert!(is_a_name(name), "{name}");
        }
        for name in ["", "a/b", "a\\b", "a\nb", "a\u{7}", "a:latest", ":latest"] {
            assert!(!is_a_name(name), "{name:?}");
        }
        let adapters = ModelAdapters::new(&AdapterOptions::default(), &["tiny:latest".to_owned()]);
        assert!(adapters.read().is_taken("tiny") && adapters.read().is_taken("tiny:latest"));
        assert!(!adapters.read().is_taken("tin"));
    }

    #[test]
    fn names_are_those_of_files_and_no_two_are_the_same() {
        let files = ["x/story.gguf", "y/story.GGUF", "z/checkpoint-3.5", "mistral.gguf", "blobs/sha256-0123"];
        let options = AdapterOptions {
            files: files.iter().map(|path| (path.into(), 1.0)).collect(),
            ..AdapterOptions::default()
        };
        let adapters = ModelAdapters::new(&options, &["mistral".to_owned()]);
        let names: Vec<String> = adapters.names().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["story", "story-2", "checkpoint-3.5", "mistral-2", "adapter"]);
        assert!(adapters.has("story:latest") && !adapters.has("mistral"));
    }

    #[test]
    fn numbers_are_not_given_twice_and_what_is_not_scaled_is_off() {
        let files = ["a", "b", "c"].map(|path| (path.into(), 0.5)).to_vec();
        let adapters = ModelAdapters::new(&AdapterOptions { files, ..AdapterOptions::default() }, &[]);
        let scales = |adapters: &ModelAdapters| {
            let list = adapters.to_json();
            list.iter()
                .map(|one| (one["id"].as_u64().unwrap(), one["scale"].as_f64().unwrap()))
                .collect::<Vec<_>>()
        };
        assert_eq!(scales(&adapters), [(0, 0.5), (1, 0.5), (2, 0.5)]);
        adapters.rescale(&[(2, -2.0), (0, 3.0), (0, 1.0)]).unwrap();
        assert_eq!(scales(&adapters), [(0, 1.0), (1, 0.0), (2, -2.0)]);
        assert_eq!(adapters.rescale(&[(1, 1.0), (7, 1.0)]).unwrap_err().fields["param"], "[1].id");
        assert_eq!(scales(&adapters), [(0, 1.0), (1, 0.0), (2, -2.0)]);
        adapters.unload(2).unwrap();
        assert!(adapters.unload(2).is_err() && adapters.unload(-1).is_err());
        let mut list = adapters.write();
        assert_eq!(list.add("d".to_owned(), "d".into(), "d".to_owned(), 1.0, false).id, 3);
    }

    #[test]
    fn adapters_may_wait_for_a_scale() {
        let files = vec![("a".into(), 0.5)];
        let options = AdapterOptions { files, wait: true, folder: None };
        assert_eq!(ModelAdapters::new(&options, &[]).to_json()[0]["scale"], 0.0);
    }
}
