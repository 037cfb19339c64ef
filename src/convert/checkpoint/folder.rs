//! Which files of a folder belong to a checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bise_models::printable::printable;
use serde_json::Value;

use crate::convert::error::ConvertError;
use crate::convert::json_file;
use crate::convert::layout::Layout;

impl Layout {
    /// That of the checkpoint in `folder`.
    pub(super) fn of(folder: &Path, mistral_format: bool) -> Result<Layout, ConvertError> {
        let names = names(folder)?;
        let has = |name: &str| names.contains(name);
        let has_weights = |layout: Layout| names.iter().any(|name| layout.is_weights(name));
        let hugging_face = has(Layout::HuggingFace.config_name());
        let mistral = has(Layout::Mistral.config_name());
        if mistral_format && !mistral {
            return Err(nothing(folder, &names, "no params.json", "Mistral's own layout (--mistral-format)"));
        }
        match (hugging_face, mistral) {
            _ if mistral_format => Ok(Layout::Mistral),
            (true, true) if !has_weights(Layout::HuggingFace) && has_weights(Layout::Mistral) => {
                Ok(Layout::Mistral)
            }
            (true, _) => Ok(Layout::HuggingFace),
            (false, true) => Ok(Layout::Mistral),
            (false, false) => Err(nothing(
                folder,
                &names,
                "neither config.json nor params.json",
                "a folder with a checkpoint of Hugging Face or Mistral",
            )),
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Layout::HuggingFace => "model",
            Layout::Mistral => "consolidated",
        }
    }

    fn is_weights(self, name: &str) -> bool {
        name.starts_with(self.prefix()) && name.ends_with(".safetensors")
    }
}

/// The names of the files in `folder`; those that are no text cannot be ours.
pub(crate) fn names(folder: &Path) -> Result<BTreeSet<String>, ConvertError> {
    let failed = |action| move |error| ConvertError::File { path: folder.to_owned(), action, error };
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(failed("list the folder"))? {
        let entry = entry.map_err(failed("list the folder"))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.insert(name);
        }
    }
    Ok(names)
}

/// The error for a file where a folder is expected.
pub(super) fn not_a_folder(path: &Path) -> ConvertError {
    if path.extension().is_some_and(|extension| extension == "gguf") {
        return ConvertError::Unsupported {
            path: path.to_owned(),
            what: "a model that is GGUF already".into(),
            reason: "`bise quantize` gives it other types, and as COPY stacks the experts of an old one"
                .into(),
        };
    }
    ConvertError::Invalid {
        path: path.to_owned(),
        what: "checkpoint".into(),
        found: "a file".into(),
        expected: "the folder that it is in".into(),
    }
}

/// An error that names what is there in place of a checkpoint.
fn nothing(folder: &Path, names: &BTreeSet<String>, found: &str, expected: &str) -> ConvertError {
    let ends = |ends: &[&str]| names.iter().find(|name| ends.iter().any(|end| name.ends_with(end)));
    if names.contains("adapter_config.json") {
        return ConvertError::Unsupported {
            path: folder.join("adapter_config.json"),
            what: "an adapter (LoRA) without its model".into(),
            reason: "`bise lora convert` makes a GGUF file of it, and `bise lora merge` a model of both"
                .into(),
        };
    }
    if let Some(name) = ends(&[".gguf"]) {
        return ConvertError::Unsupported {
            path: folder.join(name),
            what: "a folder with a model that is GGUF already".into(),
            reason: "run it as it is, or give it to `bise quantize`".into(),
        };
    }
    ConvertError::Invalid {
        path: folder.to_owned(),
        what: "checkpoint".into(),
        found: found.into(),
        expected: expected.into(),
    }
}

/// The files with weights, and what an index says about them.
pub(crate) struct Found {
    /// In the order of their names.
    pub paths: Vec<PathBuf>,
    index: Option<(PathBuf, BTreeMap<String, String>)>,
}

/// The files with the weights of the checkpoint in `folder`.
pub(super) fn weight_files(folder: &Path, layout: Layout) -> Result<Found, ConvertError> {
    let names = names(folder)?;
    numbered_files(folder, &names, layout.prefix())?.ok_or_else(|| no_safetensors(folder, &names, layout))
}

/// The files `PREFIX*.safetensors` among the `names` in `folder`: those that an index names, or all; `None` where there are none.
///
/// # Errors
/// Where some are missing, or the index is broken.
pub(crate) fn numbered_files(
    folder: &Path,
    names: &BTreeSet<String>,
    prefix: &str,
) -> Result<Option<Found>, ConvertError> {
    let index_path = folder.join(format!("{prefix}.safetensors.index.json"));
    let is_part = |name: &&str| name.starts_with(prefix) && name.ends_with(".safetensors");
    let parts: Vec<&str> = names.iter().map(String::as_str).filter(is_part).collect();
    if names.contains(&format!("{prefix}.safetensors.index.json")) {
        let index = read_index(&index_path)?;
        let files: BTreeSet<&str> = index.values().map(String::as_str).collect();
        let missing: Vec<&str> = files.iter().copied().filter(|file| !names.contains(*file)).collect();
        if !missing.is_empty() {
            return Err(ConvertError::Invalid {
                path: index_path,
                what: "files with weights".into(),
                found: format!("no {} in the folder", printable(missing.join(", ").as_bytes())),
                expected: format!("all {} that it names: download the rest", files.len()),
            });
        }
        if !files.is_empty() {
            let paths = files.iter().map(|file| folder.join(file)).collect();
            return Ok(Some(Found { paths, index: Some((index_path, index)) }));
        }
    }
    if parts.is_empty() {
        return Ok(None);
    }
    // A file without a number beside numbered ones is another version of the model; the doubled tensors tell.
    let numbered: Vec<(usize, usize)> = parts.iter().filter_map(|name| number(name)).collect();
    if let Some(&(_, count)) = numbered.first() {
        let missing = (1..=count).find(|i| !numbered.contains(&(*i, count)));
        if let Some(missing) = missing.filter(|_| count <= 100_000) {
            return Err(ConvertError::Invalid {
                path: folder.to_owned(),
                what: "files with weights".into(),
                found: format!("no {prefix}-{missing:05}-of-{count:05}.safetensors"),
                expected: format!("all {count}: download the rest"),
            });
        }
    }
    Ok(Some(Found { paths: parts.iter().map(|name| folder.join(name)).collect(), index: None }))
}

/// The numbers in `…-00001-of-00003.safetensors`.
fn number(name: &str) -> Option<(usize, usize)> {
    let (rest, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (_, no) = rest.rsplit_once('-')?;
    Some((no.parse().ok()?, count.parse().ok()?))
}

fn no_safetensors(folder: &Path, names: &BTreeSet<String>, layout: Layout) -> ConvertError {
    let is_pickle = |name: &&String| {
        [".bin", ".pth", ".pt"].iter().any(|end| name.ends_with(end))
            && ["pytorch_model", "consolidated", "model"].iter().any(|start| name.starts_with(start))
    };
    if let Some(name) = names.iter().find(is_pickle) {
        return ConvertError::Unsupported {
            path: folder.join(name),
            what: "a PyTorch checkpoint".into(),
            reason: "it is a Python pickle, which runs code when it is read: download the safetensors of the same model, or make them with \
                     transformers' `save_pretrained`"
                .into(),
        };
    }
    let expected = format!("{}*.safetensors beside {}", layout.prefix(), layout.config_name());
    nothing(folder, names, "no safetensors", &expected)
}

/// Which tensor is in which file.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>, ConvertError> {
    let invalid = |what: &str, found: String, expected: &str| ConvertError::Invalid {
        path: path.to_owned(),
        what: what.to_owned(),
        found,
        expected: expected.into(),
    };
    let index = json_file::object(path)?;
    let Some(Value::Object(map)) = index.get("weight_map") else {
        return Err(invalid("'weight_map'", "no object".into(), "the file of each tensor"));
    };
    let mut files = BTreeMap::new();
    for (tensor, file) in map {
        // A name that leads out of the folder is none of its files.
        let name =
            file.as_str().filter(|name| !name.contains(['/', '\\', '\0']) && name.ends_with(".safetensors"));
        let Some(name) = name else {
            let what = format!("tensor '{}'", printable(tensor.as_bytes()));
            return Err(invalid(
                &what,
                printable(file.to_string().as_bytes()),
                "the name of a safetensors file",
            ));
        };
        files.insert(tensor.clone(), name.to_owned());
    }
    Ok(files)
}

impl Found {
    /// Checks that the files have the tensors that the index names, and no others.
    pub fn check_index<'a>(
        &self,
        has: impl Fn(&str) -> bool,
        all: impl Iterator<Item = &'a str>,
    ) -> Result<(), ConvertError> {
        let Some((path, index)) = &self.index else { return Ok(()) };
        let invalid = |what: &str, found: String, expected: String| {
            let what = format!("tensor '{}'", printable(what.as_bytes()));
            ConvertError::Invalid { path: path.clone(), what, found, expected }
        };
        if let Some((tensor, file)) = index.iter().find(|(tensor, _)| !has(tensor)) {
            let n_missing = index.keys().filter(|tensor| !has(tensor)).count();
            let found = format!("no such tensor in the files ({n_missing} missing in all)");
            return Err(invalid(tensor, found, format!("it in {file}: download that again")));
        }
        let mut all = all;
        match all.find(|tensor| !index.contains_key(*tensor)) {
            Some(tensor) => {
                let expected = "all tensors of the files: index and files are not of the same version";
                Err(invalid(tensor, "it in the files and not in the index".into(), expected.into()))
            }
            None => Ok(()),
        }
    }
}
