//! Folders as PEFT reads them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use bise_kernels::Format;
use bise_models::atomic_file::{AtomicFile, commit_all};
use bise_models::{LowRank, MistralConfig, Site};
use serde_json::{Map, Value, json};

use super::config::{CONFIG_NAME, PeftConfig, Scales};
use super::name::{module_of, tensor_names};
use crate::adapter::encode::encode;
use crate::adapter::error::AdapterFileError;
use crate::adapter::target::Target;
use crate::convert::checkpoint::Dtype;
use crate::convert::checkpoint::names;
use crate::convert::tensors::Halves;

/// The file with the tensors.
const WEIGHTS_NAME: &str = "adapter_model.safetensors";

/// How to write a folder.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PeftWriteOptions {
    /// The type of the tensors: F32, F16 or BF16.
    pub dtype: Dtype,
    /// Replace an adapter that is there.
    pub force: bool,
}

impl Default for PeftWriteOptions {
    fn default() -> PeftWriteOptions {
        PeftWriteOptions { dtype: Dtype::F32, force: false }
    }
}

impl PeftConfig {
    /// Writes `adapter_config.json` and `adapter_model.safetensors` into `folder`, which is made if there is none. Both appear when both are
    /// whole and on the disk.
    ///
    /// `base` is the configuration of the model that the `parts` are for. Their rows of B are in the order of GGUF files.
    ///
    /// # Errors
    /// Where a part does not fit the model, or has another rank or scale than the configuration says; where an adapter is in the way (unless
    /// `force` allows to replace it); where a number does not fit the type; and where the disk does not take it.
    pub fn write<'a, T: Into<Target>>(
        &self,
        folder: &Path,
        base: &MistralConfig,
        parts: impl IntoIterator<Item = (T, &'a LowRank)>,
        options: &PeftWriteOptions,
    ) -> Result<(), AdapterFileError> {
        let mut parts: Vec<(Target, &LowRank)> =
            parts.into_iter().map(|(at, part)| (at.into(), part)).collect();
        parts.sort_by_key(|(target, _)| *target);
        self.check(base, &parts)?;
        let paths = [folder.join(CONFIG_NAME), folder.join(WEIGHTS_NAME)];
        check_free(folder, &paths, options.force)?;
        let failed = |path: &Path, action| {
            let path = path.to_owned();
            move |error| AdapterFileError::File { path, action, error }
        };
        fs::create_dir_all(folder).map_err(failed(folder, "make the folder"))?;
        let mut files = Vec::new();
        for path in &paths {
            let file = if options.force { AtomicFile::create(path) } else { AtomicFile::create_new(path) };
            files.push(file.map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => AdapterFileError::Exists { path: path.clone() },
                _ => failed(path, "create the file")(error),
            })?);
        }
        let targets: Vec<Target> = parts.iter().map(|(target, _)| *target).collect();
        let config = serde_json::to_string_pretty(&self.to_json(&modules(&targets, base), None));
        let config = config.expect("texts and finite numbers");
        files[0].write_all(config.as_bytes()).map_err(failed(&paths[0], "write the file"))?;
        let mut out = BufWriter::with_capacity(1 << 20, &mut files[1]);
        write_tensors(&mut out, base, &parts, options.dtype)?
            .and_then(|()| out.flush())
            .map_err(failed(&paths[1], "write the file"))?;
        drop(out);
        commit_all(files).map_err(|(i, error)| failed(&paths[i], "put the file in place")(error))
    }

    /// Checks that parts fit the model and this configuration.
    fn check(&self, base: &MistralConfig, parts: &[(Target, &LowRank)]) -> Result<(), AdapterFileError> {
        let scales = Scales::of(self).map_err(|(text, why)| AdapterFileError::Part {
            place: "modules".into(),
            found: format!("the pattern '{text}'"),
            expected: format!("a regular expression ({why})"),
        });
        let mut scales = scales?;
        for (i, &(target, part)) in parts.iter().enumerate() {
            let wrong = |found: String, expected: String| {
                Err(AdapterFileError::Part { place: format!("{target}.weight"), found, expected })
            };
            let Some([n_rows, k]) = target.shape(base) else {
                return wrong("it".into(), "a matrix that the model has".into());
            };
            if i > 0 && parts[i - 1].0 == target {
                return wrong("it twice".into(), "each matrix once".into());
            }
            let (rank, scale) = scales.of_module(&module_of(target));
            if (part.rank, part.scale) != (rank, scale) {
                let found = format!("rank {} and scale {}", part.rank, part.scale);
                return wrong(found, format!("rank {rank} and scale {scale}, as the configuration says"));
            }
            if (part.a.len(), part.b.len()) != (rank * k, n_rows * rank) {
                let found = format!("{} numbers of A and {} of B", part.a.len(), part.b.len());
                return wrong(found, format!("[{rank}, {k}] and [{n_rows}, {rank}]"));
            }
        }
        match parts {
            [] => Err(AdapterFileError::Part {
                place: "any matrix".into(),
                found: "none".into(),
                expected: "one or more".into(),
            }),
            _ => Ok(()),
        }
    }
}

impl From<Site> for Target {
    fn from(site: Site) -> Target {
        Target::Matrix(site)
    }
}

/// Errs where files of an adapter are in the way. Shards of an old one would be read beside the new file: they are never left.
fn check_free(folder: &Path, paths: &[PathBuf], force: bool) -> Result<(), AdapterFileError> {
    if !folder.exists() {
        return Ok(());
    }
    if let Some(path) = paths.iter().find(|path| path.exists()).filter(|_| !force) {
        return Err(AdapterFileError::Exists { path: path.clone() });
    }
    let is_other = |name: &&String| {
        name.starts_with("adapter_model")
            && *name != WEIGHTS_NAME
            && (name.contains(".safetensors") || name.ends_with(".bin"))
    };
    match names(folder)?.iter().find(is_other) {
        None => Ok(()),
        Some(name) => Err(AdapterFileError::Invalid {
            path: folder.join(name),
            what: "the folder".into(),
            found: "a file of another adapter".into(),
            expected: format!("none beside {WEIGHTS_NAME}: remove it, or take another folder"),
        }),
    }
}

/// `target_modules`: last parts of names where all layers have the same modules, else whole names.
fn modules(targets: &[Target], base: &MistralConfig) -> Vec<String> {
    let is_of_layer = |target: &&Target| module_of(**target).starts_with("model.layers.");
    let leaf = |target: &Target| module_of(*target).rsplit('.').next().unwrap_or_default().to_owned();
    let leaves: BTreeSet<String> = targets.iter().filter(is_of_layer).map(leaf).collect();
    let all = |leaf: &String| {
        let n_experts = base.experts.map_or(1, |experts| experts.n_experts);
        let each = if ["w1", "w2", "w3"].contains(&leaf.as_str()) { n_experts } else { 1 };
        let end = format!(".{leaf}");
        targets.iter().filter(|target| module_of(**target).ends_with(&end)).count() == each * base.n_layers
    };
    match leaves.iter().all(all) {
        false => targets.iter().map(|target| module_of(*target)).collect(),
        true => {
            let others = targets.iter().filter(|target| !is_of_layer(target)).map(leaf);
            leaves.iter().cloned().chain(others).collect()
        }
    }
}

/// Writes safetensors (<https://github.com/huggingface/safetensors#format>). The outer result is about the numbers.
fn write_tensors(
    out: &mut impl Write,
    base: &MistralConfig,
    parts: &[(Target, &LowRank)],
    dtype: Dtype,
) -> Result<io::Result<()>, AdapterFileError> {
    let format = match dtype {
        Dtype::F16 => Format::F16,
        Dtype::BF16 => Format::BF16,
        _ => Format::F32,
    };
    let mut tensors = Vec::with_capacity(2 * parts.len());
    for &(target, part) in parts {
        let [n_rows, k] = target.shape(base).expect("it was checked");
        let [a, b] = tensor_names(target);
        tensors.push((a, [part.rank, k], target, part, true));
        tensors.push((b, [n_rows, part.rank], target, part, false));
    }
    tensors.sort_by(|one, other| one.0.cmp(&other.0));
    let (mut header, mut offset) = (Map::new(), 0);
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    for (name, shape, ..) in &tensors {
        let end = offset + shape[0] * shape[1] * format.block_bytes();
        let dtype = format.name();
        header.insert(name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [offset, end] }));
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    if let Err(error) = out.write_all(&bytes) {
        return Ok(Err(error));
    }
    for (name, [_, width], target, part, is_a) in tensors {
        let unpaired;
        let values = match (is_a, target.rotated_head(base)) {
            (true, _) => &part.a,
            (false, None) => &part.b,
            (false, Some(head_len)) => {
                unpaired = Halves::new(part.b.len() / width / head_len, head_len).unpair(&part.b, width);
                &unpaired
            }
        };
        let bytes = encode(format, width, values).map_err(|error| error.of(&name))?;
        if let Err(error) = out.write_all(&bytes) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}
