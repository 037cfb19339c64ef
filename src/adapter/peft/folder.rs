//! The files of a folder, and which tensors belong together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bise_models::LowRank;
use bise_models::gguf::WholeFile;
use bise_models::printable::{Printable, printable};
use indexmap::IndexMap;

use super::config::{CONFIG_NAME, PeftConfig, Scales};
use super::name::{Half, Name, Other, Place};
use super::selection::{Selection, Unexpected};
use super::tensor::Tensor;
use crate::adapter::error::{AdapterFileError, pickled};
use crate::convert::checkpoint::{Found, StoredTensor, names, numbered_files, read_tensors};
use crate::convert::json_file;

/// How the files with the tensors begin.
const WEIGHTS: &str = "adapter_model";

/// A folder with an adapter.
pub(super) struct Folder {
    pub config: PeftConfig,
    pub config_path: PathBuf,
    selection: Selection,
    files: Vec<WholeFile>,
    tensors: IndexMap<String, StoredTensor>,
}

/// The tensors of a folder by what they are.
pub(super) struct Modules<'a> {
    /// A and B of each module, by its name as in `model.layers.0.self_attn.q_proj`.
    pub pairs: BTreeMap<&'a str, [Tensor<'a>; 2]>,
    /// Matrices of the base model that were saved as well.
    pub of_base: Vec<Tensor<'a>>,
    /// Tensors of encoders of images and sound.
    pub n_of_encoders: usize,
    /// What the user should know about the modules, one line each.
    notes: Vec<String>,
}

/// Whether a module is that of fused experts, whose matrices A and B are those of all of them.
fn is_fused(module: &str) -> bool {
    module.trim_end_matches(".base_layer").ends_with("experts")
}

impl Folder {
    /// Opens the files in `folder`.
    ///
    /// # Errors
    /// For files that are missing, damaged or half-written, and a configuration that is not supported.
    pub fn open(folder: &Path) -> Result<Folder, AdapterFileError> {
        let config_path = folder.join(CONFIG_NAME);
        let object = json_file::object(&config_path)?;
        let (config, selection) = (PeftConfig::of(&config_path, &object)?, Selection::of(&object));
        let (files, tensors) = read_tensors(&weight_files(folder)?)?;
        Ok(Folder { config, config_path, selection, files, tensors })
    }

    /// The files.
    pub fn paths(&self) -> Vec<PathBuf> {
        let weights = self.files.iter().map(|file| file.path().to_owned());
        weights.chain([self.config_path.clone()]).collect()
    }

    /// Notes with the folder's name before each.
    pub fn named(&self, notes: Vec<String>) -> Vec<String> {
        let folder = self.config_path.parent().unwrap_or(&self.config_path).display();
        notes.into_iter().map(|note| format!("{}: {note}", Printable(&folder))).collect()
    }

    /// # Errors
    /// Where a file has changed since it was opened.
    pub fn check_unchanged(&self) -> Result<(), AdapterFileError> {
        Ok(self.files.iter().try_for_each(WholeFile::check_unchanged)?)
    }

    /// The ranks and scales of modules.
    pub fn scales(&self) -> Result<Scales<'_>, AdapterFileError> {
        Scales::of(&self.config).map_err(|(text, why)| AdapterFileError::Invalid {
            path: self.config_path.clone(),
            what: format!("pattern '{}'", printable(text.as_bytes())),
            found: why,
            expected: "a regular expression".into(),
        })
    }

    /// Puts the tensors together.
    ///
    /// # Errors
    /// For a tensor that is no part of a LoRA, or alone without its counterpart; for a module that the configuration leaves out, or a rank
    /// that is out of proportion; and where there is none at all.
    pub fn modules(&self) -> Result<Modules<'_>, AdapterFileError> {
        let mut halves: BTreeMap<&str, [Option<Tensor<'_>>; 2]> = BTreeMap::new();
        let (mut of_base, mut n_of_encoders, mut adapter) = (Vec::new(), 0, None::<&str>);
        let mut names = Vec::new();
        for (name, tensor) in &self.tensors {
            let at = Tensor { path: self.files[tensor.file].path(), name, tensor };
            let named = match Name::of(name) {
                Ok(named) => named,
                Err(Other::Base) => {
                    of_base.push(at);
                    continue;
                }
                Err(Other::Refused(what, reason)) => return Err(at.unsupported(what, reason)),
            };
            names.push(named.module.trim_end_matches(".base_layer"));
            if Place::is_encoder(named.module) {
                n_of_encoders += 1;
                continue;
            }
            if let (Some(one), Some(other)) = (adapter, named.adapter)
                && one != other
            {
                let found = format!("a tensor of the adapter '{}'", printable(other.as_bytes()));
                return Err(at.wrong(found, &format!("those of '{}' alone", printable(one.as_bytes()))));
            }
            adapter = adapter.or(named.adapter);
            let half = &mut halves.entry(named.module).or_default()[usize::from(named.half == Half::B)];
            if let Some(other) = half {
                let found = format!("it beside '{}'", printable(other.name.as_bytes()));
                return Err(at.wrong(found, "one tensor of each kind for a module"));
            }
            *half = Some(at);
        }
        let (mut selector, mut notes) = self.selection.compile();
        notes.extend(self.selection.unused(&names));
        let mut pairs = BTreeMap::new();
        for (module, halves) in halves {
            match halves {
                [Some(a), Some(b)] => {
                    if let Some(Unexpected { found, expected }) = selector.refuse(module) {
                        return Err(a.wrong(found, &expected));
                    }
                    if !is_fused(module) {
                        a.check_rank(&b, 1)?;
                    }
                    pairs.insert(module, [a, b]);
                }
                [Some(one), _] | [_, Some(one)] => {
                    return Err(one.wrong("it alone".into(), "A and B of a module"));
                }
                [None, None] => unreachable!("made for one of them"),
            }
        }
        if pairs.is_empty() {
            return Err(AdapterFileError::Invalid {
                path: self
                    .files
                    .first()
                    .map_or_else(|| self.config_path.clone(), |file| file.path().to_owned()),
                what: "tensors".into(),
                found: "none of an adapter of the language model".into(),
                expected: "'….lora_A.weight' and '….lora_B.weight' of some modules".into(),
            });
        }
        Ok(Modules { pairs, of_base, n_of_encoders, notes })
    }
}

impl Modules<'_> {
    /// The most bytes that are taken at a time while they are read and laid out for a model.
    pub fn loading_bytes(&self) -> usize {
        LowRank::loading_bytes(self.sizes())
    }

    /// The bytes that they take in the end, at most.
    pub fn kept_bytes(&self) -> usize {
        LowRank::kept_bytes(self.sizes())
    }

    /// Checks the ranks of fused experts, of which there are `n`.
    ///
    /// # Errors
    /// A rank that is out of proportion.
    pub fn check_experts(&self, n: usize) -> Result<(), AdapterFileError> {
        let mut fused = self.pairs.iter().filter(|(module, _)| is_fused(module));
        fused.try_for_each(|(_, [a, b])| a.check_rank(b, n))
    }

    fn sizes(&self) -> impl Iterator<Item = (usize, usize, bool)> {
        self.pairs.iter().map(|(module, [a, b])| {
            // Of fused experts, two matrices have the same A.
            let n_a = a.n_numbers().saturating_mul(if is_fused(module) { 2 } else { 1 });
            let n = n_a.saturating_add(b.n_numbers());
            // Of fused experts, that of all.
            let rank = b.tensor.shape.last().copied().unwrap_or(1);
            let in_16_bits = [a, b].into_iter().all(|half| half.tensor.dtype.n_bytes() == 2);
            (n, rank.saturating_mul(2), in_16_bits)
        })
    }

    /// What is left out, one line each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        if !self.of_base.is_empty() {
            let n = self.of_base.len();
            notes.push(format!("left out: matrices of the base model that were saved as well ({n} tensors)"));
        }
        if self.n_of_encoders > 0 {
            let line = "left out: encoders of images and sound, which `bise` does not run";
            notes.push(format!("{line} ({} tensors)", self.n_of_encoders));
        }
        notes
    }
}

/// The files with the tensors in `folder`.
fn weight_files(folder: &Path) -> Result<Found, AdapterFileError> {
    let names = names(folder)?;
    if let Some(found) = numbered_files(folder, &names, WEIGHTS)? {
        return Ok(found);
    }
    let pickle = names.iter().find(|name| name.starts_with(WEIGHTS) && name.ends_with(".bin"));
    if let Some(name) = pickle {
        return Err(pickled(&folder.join(name)));
    }
    Err(AdapterFileError::Invalid {
        path: folder.to_owned(),
        what: "adapter".into(),
        found: format!("no {WEIGHTS}.safetensors"),
        expected: format!("it beside {CONFIG_NAME}"),
    })
}
