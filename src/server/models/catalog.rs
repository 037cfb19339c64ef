//! The models that a router finds on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::hub::hugging_face::Selection;
use crate::hub::ollama::name::ModelName;
use crate::hub::{Hub, HubError, LocalModel, Place, Reference};
use crate::server::options::{BoxError, ModelOptions};

/// The name of the model inside the program.
const BUILTIN: &str = "builtin";

/// A model with options of its own, by its name in a file of presets.
#[derive(Clone, Debug)]
pub struct Preset {
    /// What it is called, or which model it is about.
    pub name: String,
    /// The model, where the name is none.
    pub reference: Option<Reference>,
    /// Other names.
    pub aliases: Vec<String>,
    /// Whether it is opened as soon as the server runs.
    pub load_on_startup: bool,
}

/// How a model is to be opened: `None` is without a preset.
pub type OptionsOf = Arc<dyn Fn(&Offer, Option<&Preset>) -> Result<ModelOptions, BoxError> + Send + Sync>;

/// Where a router looks for models: presets, a folder, the caches and stores of this machine, and the program itself.
#[derive(Clone)]
pub struct Catalog {
    /// The caches and stores.
    pub hub: Arc<Hub>,
    /// A folder of GGUF files (`--models-dir`).
    pub folder: Option<PathBuf>,
    /// Models with options of their own (`--models-preset`).
    pub presets: Vec<Preset>,
    /// How each is to be opened.
    pub options_of: OptionsOf,
}

/// A model that can be opened.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The name that lists and answers bear.
    pub name: String,
    /// Others that stand for it.
    pub aliases: Vec<String>,
    /// Its files.
    pub model: LocalModel,
    /// Its preset, as a place in [`Catalog::presets`].
    preset: Option<usize>,
}

impl Offer {
    fn new(name: impl Into<String>, model: LocalModel) -> Offer {
        Offer { name: name.into(), aliases: Vec::new(), model, preset: None }
    }

    /// Whether a client means this model. A tag `:latest` may be left out.
    pub fn is_called(&self, name: &str) -> bool {
        let short = |name: &str| name.strip_suffix(":latest").unwrap_or(name).to_owned();
        let asked = short(name);
        std::iter::once(&self.name).chain(&self.aliases).any(|name| short(name) == asked)
    }

    /// Whether it is still the same model, so that one in memory can stay.
    pub fn is_same(&self, other: &Offer) -> bool {
        let (a, b) = (&self.model, &other.model);
        let dated = a.digest.is_some() && a.digest == b.digest || a.modified == b.modified;
        self.name == other.name
            && dated
            && (&a.path, a.bytes, &a.extras) == (&b.path, b.bytes, &b.extras)
            && self.preset == other.preset
    }

    /// Where it comes from, in llama-server's words.
    pub fn source(&self) -> &'static str {
        match (self.preset, self.model.place) {
            (Some(_), _) => "preset",
            (None, Place::File) => "models_dir",
            (None, Place::Builtin) => "builtin",
            (None, _) => "cache",
        }
    }

    /// Whether it can be removed by its name.
    pub fn is_removable(&self) -> bool {
        self.preset.is_none()
            && matches!(self.model.place, Place::Own | Place::HuggingFace | Place::Url | Place::Converted)
    }
}

impl Catalog {
    /// Every model there is now; of two with one name, the first.
    pub fn list(&self) -> Vec<Offer> {
        let mut offers: Vec<Offer> = Vec::new();
        let own = self.presets.iter().enumerate().filter_map(|(i, preset)| self.of_preset(i, preset));
        let folder = self.folder.iter().flat_map(|folder| in_folder(folder));
        let hub = self.hub.list().into_iter().map(of_hub);
        let builtin = cfg!(feature = "builtin-model").then(|| {
            let model = self.hub.find(&Reference::Builtin).ok().flatten()?;
            Some(Offer::new(BUILTIN, model))
        });
        for mut offer in own.chain(folder).chain(hub).chain(builtin.flatten()) {
            if offers.iter().any(|known| known.is_called(&offer.name)) {
                continue;
            }
            offer.aliases.retain(|alias| !offers.iter().any(|known| known.is_called(alias)));
            if offer.preset.is_none() {
                let about = |preset: &Preset| preset.reference.is_none() && offer.is_called(&preset.name);
                offer.preset = self.presets.iter().position(about);
            }
            offers.push(offer);
        }
        offers
    }

    /// The model of this name, whether lists have it under that name or not. No path is a name.
    ///
    /// # Errors
    /// A store that makes no sense.
    pub fn find(&self, name: &str) -> Result<Option<Offer>, HubError> {
        let offers = self.list();
        if let Some(offer) = offers.iter().find(|offer| offer.is_called(name)) {
            return Ok(Some(offer.clone()));
        }
        for reference in references(name) {
            let Some(model) = self.hub.find(&reference)? else { continue };
            let listed =
                offers.into_iter().find(|offer| offer.model.path == model.path && !offer.is_special());
            return Ok(Some(listed.unwrap_or_else(|| Offer::new(name, model))));
        }
        Ok(None)
    }

    /// How a model is to be opened.
    ///
    /// # Errors
    /// Its preset or its Modelfile makes no sense.
    pub fn options(&self, offer: &Offer) -> Result<ModelOptions, BoxError> {
        (self.options_of)(offer, offer.preset.map(|i| &self.presets[i]))
    }

    fn of_preset(&self, i: usize, preset: &Preset) -> Option<Offer> {
        let reference = preset.reference.as_ref()?;
        match self.hub.find(reference) {
            Ok(Some(model)) => Some(Offer {
                aliases: preset.aliases.clone(),
                preset: Some(i),
                ..Offer::new(preset.name.as_str(), model)
            }),
            Ok(None) => {
                tracing::warn!(
                    "preset {}: {reference} is not on this machine (bise pull fetches it)",
                    preset.name
                );
                None
            }
            Err(error) => {
                tracing::warn!("preset {}: {error}", preset.name);
                None
            }
        }
    }
}

impl Offer {
    /// Whether it is opened otherwise than others with the same file.
    fn is_special(&self) -> bool {
        self.preset.is_some() || self.model.extras.system.is_some() || !self.model.extras.params.is_empty()
    }
}

/// What a name may stand for: never a file, and never what would have to be asked elsewhere.
pub fn references(name: &str) -> Vec<Reference> {
    let of_hub = ["hf.co/", "huggingface.co/"].iter().any(|host| name.starts_with(host));
    if of_hub {
        return Reference::parse(name).ok().into_iter().collect();
    }
    if name.contains("://") {
        return Vec::new();
    }
    let named = ModelName::parse(name).ok().map(Reference::Name);
    // As llama-server has the models of its cache.
    let selected = name.contains('/').then(|| Selection::parse(name).ok().map(Reference::HuggingFace));
    named.into_iter().chain(selected.flatten()).collect()
}

fn of_hub(model: LocalModel) -> Offer {
    let short = model.name.strip_prefix("hf.co/").map(str::to_owned);
    let name = match model.place {
        // Where it lies is nobody's business.
        Place::Url => stem(&model.path),
        Place::Converted if !model.name.starts_with("hf.co/") => stem(&model.path),
        _ => model.name.clone(),
    };
    Offer { aliases: short.into_iter().collect(), ..Offer::new(name, model) }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The models of a folder: a GGUF file is one, and so is a folder with one, which may be split.
fn in_folder(folder: &Path) -> Vec<Offer> {
    let mut offers = Vec::new();
    for path in entries(folder) {
        let is_folder = path.is_dir();
        let files = if is_folder { entries(&path) } else { vec![path.clone()] };
        let files: Vec<PathBuf> = files.into_iter().filter(|file| is_model(file)).collect();
        let Some(first) = files.iter().find(|file| !is_later_part(file)).cloned() else { continue };
        let name = if is_folder { folder_name(&path) } else { stem(&first) };
        let parts: Vec<PathBuf> = if is_folder && is_part(&first) { files } else { vec![first.clone()] };
        let bytes = parts.iter().filter_map(|part| fs::metadata(part).ok()).map(|found| found.len()).sum();
        let model = LocalModel {
            name: name.clone(),
            modified: fs::metadata(&first).and_then(|found| found.modified()).ok(),
            path: first.clone(),
            files: parts,
            bytes,
            digest: None,
            weights: None,
            place: Place::File,
            extras: crate::hub::Extras::default(),
        };
        let aliases = if is_folder { Vec::new() } else { vec![format!("{name}.gguf")] };
        offers.push(Offer { aliases, ..Offer::new(name, model) });
    }
    offers
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn folder_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_model(path: &Path) -> bool {
    let name = folder_name(path);
    path.is_file() && name.ends_with(".gguf") && !name.starts_with("mmproj") && !name.starts_with('.')
}

/// `…-00001-of-00003.gguf`: the number of the part.
fn part(path: &Path) -> Option<u32> {
    let stem = stem(path);
    let (start, count) = stem.rsplit_once("-of-")?;
    let number = start.rsplit_once('-')?.1;
    (count.parse::<u32>().is_ok() && number.len() == 5).then(|| number.parse().ok()).flatten()
}

fn is_part(path: &Path) -> bool {
    part(path).is_some()
}

fn is_later_part(path: &Path) -> bool {
    part(path).is_some_and(|part| part > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_paths() {
        for name in [
            "/etc/passwd",
            "../m",
            "./m.gguf",
            "a/../b",
            "file:///etc/passwd",
            "https://x/m.gguf",
            "",
            "a\\b",
            "~/m",
        ] {
            assert_eq!(references(name), [], "{name}");
        }
        assert_eq!(references("mistral").len(), 1);
        assert_eq!(references("user/repo:Q4_K_M").len(), 2);
        assert!(matches!(references("hf.co/user/repo:q8_0")[..], [Reference::HuggingFace(_)]));
        assert_eq!(references("hf.co/a/b/resolve/main/../../x"), []);
    }

    #[test]
    fn folders_hold_files_and_folders_of_parts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"GGUF").unwrap();
        };
        for name in [
            "one.Q4_K_M.gguf",
            "notes.txt",
            "mmproj-one.gguf",
            "seen/seen-Q8_0.gguf",
            "seen/mmproj-F16.gguf",
            "split/x-00002-of-00002.gguf",
            "split/x-00001-of-00002.gguf",
            "loose-00002-of-00002.gguf",
            "empty/readme.md",
        ] {
            write(name);
        }
        let offers = in_folder(folder.path());
        let names: Vec<(&str, usize)> =
            offers.iter().map(|o| (o.name.as_str(), o.model.files.len())).collect();
        assert_eq!(names, [("one.Q4_K_M", 1), ("seen", 1), ("split", 2)]);
        assert!(offers[2].model.path.ends_with("x-00001-of-00002.gguf"));
        assert_eq!(offers[2].model.bytes, 8);
        assert!(offers[0].is_called("one.Q4_K_M") && offers[0].is_called("one.Q4_K_M.gguf"));
        assert!(offers[0].is_called("one.Q4_K_M:latest") && !offers[0].is_called("one"));
        assert!(in_folder(Path::new("/nowhere/at/all")).is_empty());
    }
}
