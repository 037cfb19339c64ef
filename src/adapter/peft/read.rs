//! Adapters in folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bise_models::gguf::WholeFile;
use bise_models::printable::printable;
use bise_models::{LowRank, MistralConfig};

use super::config::{CONFIG_NAME, PeftConfig, Scales};
use super::experts;
use super::name::{Half, Name, Other, Place};
use super::tensor::Tensor;
use crate::adapter::error::{AdapterFileError, pickled};
use crate::adapter::target::Target;
use crate::convert::Halves;
use crate::convert::checkpoint::{StoredTensor, names, numbered_files, read_tensors};

/// How the files with the tensors begin.
const WEIGHTS: &str = "adapter_model";

/// An adapter as PEFT saves it.
#[derive(Debug)]
#[non_exhaustive]
pub struct PeftAdapter {
    /// Its numbers.
    pub config: PeftConfig,
    /// Its matrices, in order of what they are beside. Rows of B are in the order of GGUF files.
    pub parts: Vec<(Target, LowRank)>,
    /// What the user should know, one line each.
    pub notes: Vec<String>,
    /// Its files.
    pub paths: Vec<PathBuf>,
}

/// The two tensors of a module.
#[derive(Default)]
struct Module<'a> {
    a: Option<(&'a str, &'a StoredTensor)>,
    b: Option<(&'a str, &'a StoredTensor)>,
}

impl PeftAdapter {
    /// Reads the adapter in `folder`, which is for a model of the configuration `base`.
    ///
    /// # Errors
    /// For files that are missing, damaged or half-written; a configuration that is not supported; tensors that do not fit the model, have
    /// another rank than the configuration says, are alone without their counterpart or are no part of a LoRA.
    pub fn open(folder: &Path, base: &MistralConfig) -> Result<PeftAdapter, AdapterFileError> {
        let config = PeftConfig::open(folder)?;
        let config_path = folder.join(CONFIG_NAME);
        check_parameters(&config, &config_path, base)?;
        let (files, tensors) = read_tensors(&weight_files(folder)?)?;
        let file_of = |tensor: &StoredTensor| files[tensor.file].path().to_owned();
        let mut reader = Reader { base, scales: scales(&config, &config_path)?, parts: BTreeMap::new() };
        let (mut modules, mut notes) = (BTreeMap::<&str, Module<'_>>::new(), Vec::new());
        let (mut n_of_encoders, mut n_of_base, mut adapter) = (0, 0, None::<&str>);
        for (name, tensor) in &tensors {
            let at = Tensor { path: file_of(tensor), name, tensor };
            let named = match Name::of(name) {
                Ok(named) => named,
                Err(Other::Base) => {
                    at.check_base(base)?;
                    n_of_base += 1;
                    continue;
                }
                Err(Other::Refused(what, reason)) => return Err(at.unsupported(what, reason)),
            };
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
            let module = modules.entry(named.module).or_default();
            let half = match named.half {
                Half::A => &mut module.a,
                Half::B => &mut module.b,
            };
            if let Some((other, _)) = half.replace((name, tensor)) {
                let found = format!("it beside '{}'", printable(other.as_bytes()));
                return Err(at.wrong(found, "one tensor of each kind for a module"));
            }
        }
        if n_of_base > 0 {
            notes.push(format!(
                "left out: matrices of the base model that were saved as well ({n_of_base} tensors)"
            ));
        }
        if n_of_encoders > 0 {
            let line = "left out: encoders of images and sound, which `bise` does not run";
            notes.push(format!("{line} ({n_of_encoders} tensors)"));
        }
        for (name, module) in modules {
            let at = |(name, tensor)| Tensor { path: file_of(tensor), name, tensor };
            match module {
                Module { a: Some(a), b: Some(b) } => reader.add(name, at(a), at(b))?,
                Module { a: Some(one), .. } | Module { b: Some(one), .. } => {
                    return Err(at(one).wrong("it alone".into(), "A and B of a module"));
                }
                Module { a: None, b: None } => unreachable!("made for one of them"),
            }
        }
        if reader.parts.is_empty() {
            return Err(AdapterFileError::Invalid {
                path: files.first().map_or_else(|| folder.to_owned(), |file| file.path().to_owned()),
                what: "tensors".into(),
                found: "none of an adapter".into(),
                expected: "'….lora_A.weight' and '….lora_B.weight' of some modules".into(),
            });
        }
        files.iter().try_for_each(WholeFile::check_unchanged)?;
        notes.extend(reader.scales.unused());
        let parts = reader.parts.into_iter().collect();
        let paths = files.iter().map(|file| file.path().to_owned()).chain([config_path]).collect();
        Ok(PeftAdapter { config, parts, notes, paths })
    }
}

/// The files with the tensors in `folder`.
fn weight_files(folder: &Path) -> Result<crate::convert::checkpoint::Found, AdapterFileError> {
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

fn scales<'a>(config: &'a PeftConfig, path: &Path) -> Result<Scales<'a>, AdapterFileError> {
    Scales::of(config).map_err(|(text, why)| AdapterFileError::Invalid {
        path: path.to_owned(),
        what: format!("pattern '{}'", printable(text.as_bytes())),
        found: why,
        expected: "a regular expression".into(),
    })
}

/// Parameters are adapted where modules are not: by transformers 5, the experts of Mixtral and their router.
fn check_parameters(config: &PeftConfig, path: &Path, base: &MistralConfig) -> Result<(), AdapterFileError> {
    let is_known = |name: &str| {
        let ends = |end: &str| name == end || name.ends_with(&format!(".{end}"));
        base.experts.is_some() && ["gate_up_proj", "down_proj", "gate.weight"].into_iter().any(ends)
    };
    match config.target_parameters.iter().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => Err(AdapterFileError::Unsupported {
            path: path.to_owned(),
            what: format!("\"target_parameters\": '{}'", printable(name.as_bytes())),
            reason: "the only parameters that are adapted are the experts of Mixtral (gate_up_proj, down_proj) and their router".into(),
        }),
    }
}

/// Puts modules where they belong.
struct Reader<'a> {
    base: &'a MistralConfig,
    scales: Scales<'a>,
    parts: BTreeMap<Target, LowRank>,
}

impl Reader<'_> {
    fn add(&mut self, module: &str, a: Tensor<'_>, b: Tensor<'_>) -> Result<(), AdapterFileError> {
        match Place::of(module, self.base) {
            Some(Place::One(target)) => self.add_one(module, target, &a, &b),
            Some(Place::Experts(layer)) => self.add_experts(module, layer, &a, &b),
            None => {
                let found = format!("an adapter of '{}'", printable(module.as_bytes()));
                Err(a.wrong(
                    found,
                    "one of a linear layer or the embedding of the base model: is it for another model?",
                ))
            }
        }
    }

    fn add_one(
        &mut self,
        module: &str,
        target: Target,
        a: &Tensor<'_>,
        b: &Tensor<'_>,
    ) -> Result<(), AdapterFileError> {
        let [n_rows, k] = target.shape(self.base).expect("the place was checked");
        let (rank, scale) = self.scales.of_module(module);
        let [a_rank, a_k] = a.sizes()?;
        let [b_rows, b_rank] = b.sizes()?;
        if a_k != k {
            let expected =
                format!("[{a_rank}, {k}], since the base model's '{target}.weight' has {k} columns");
            return Err(a.wrong(format!("shape [{a_rank}, {a_k}]"), &expected));
        }
        if b_rows != n_rows {
            let expected =
                format!("[{n_rows}, {b_rank}], since the base model's '{target}.weight' has {n_rows} rows");
            return Err(b.wrong(format!("shape [{b_rows}, {b_rank}]"), &expected));
        }
        for (tensor, found) in [(a, a_rank), (b, b_rank)] {
            if found != rank {
                return Err(tensor.wrong(format!("a rank of {found}"), &expected_rank(rank)));
            }
        }
        let (a, mut b_values) = (a.values()?, b.values()?);
        if let Some(head_len) = target.rotated_head(self.base) {
            b_values = Halves::new(n_rows / head_len, head_len).pair(&b_values, rank);
        }
        self.insert(b, target, LowRank { rank, scale, a, b: b_values })
    }

    /// The matrices of all experts, which transformers 5 has as two parameters of one module.
    fn add_experts(
        &mut self,
        module: &str,
        layer: usize,
        a: &Tensor<'_>,
        b: &Tensor<'_>,
    ) -> Result<(), AdapterFileError> {
        let fused = experts::Fused::of(self.base, layer, a, b)?;
        let module = module.trim_end_matches(".base_layer");
        let (rank, scale) = self.scales.of_module(&format!("{module}.{}", fused.parameter()));
        if fused.rank != rank {
            return Err(a.wrong(format!("a rank of {} for each expert", fused.rank), &expected_rank(rank)));
        }
        for (target, part) in fused.parts(a.values()?, b.values()?, scale) {
            self.insert(b, target, part)?;
        }
        Ok(())
    }

    fn insert(&mut self, b: &Tensor<'_>, target: Target, part: LowRank) -> Result<(), AdapterFileError> {
        match self.parts.insert(target, part) {
            None => Ok(()),
            Some(_) => Err(b.wrong(format!("a second adapter of '{target}.weight'"), "one")),
        }
    }
}

fn expected_rank(rank: usize) -> String {
    format!("{rank}, as \"r\" or \"rank_pattern\" of {CONFIG_NAME} says")
}
