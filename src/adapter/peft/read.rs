//! Adapters in folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bise_models::printable::printable;
use bise_models::{LowRank, MistralConfig};

use super::config::{CONFIG_NAME, PeftConfig, Scales};
use super::experts;
use super::folder::{Folder, Modules};
use super::name::Place;
use super::tensor::Tensor;
use crate::adapter::error::AdapterFileError;
use crate::adapter::target::Target;
use crate::convert::checkpoint::Dtype;
use crate::convert::tensors::Halves;

/// An adapter as PEFT saves it.
#[derive(Debug)]
#[non_exhaustive]
pub struct PeftAdapter {
    /// Its numbers.
    pub config: PeftConfig,
    /// Its matrices, in order of what they are beside. Rows of B are in the order of GGUF files.
    pub parts: Vec<(Target, LowRank)>,
    /// The type of the first tensor.
    pub dtype: Dtype,
    /// What the user should know, one line each.
    pub notes: Vec<String>,
    /// Its files.
    pub paths: Vec<PathBuf>,
}

impl PeftAdapter {
    /// Reads the adapter in `folder`, which is for a model of the configuration `base`.
    ///
    /// # Errors
    /// For files that are missing, damaged or half-written; a configuration that is not supported; tensors that do not fit the model, have
    /// another rank than the configuration says, are alone without their counterpart or are no part of a LoRA.
    pub fn open(folder: &Path, base: &MistralConfig) -> Result<PeftAdapter, AdapterFileError> {
        PeftAdapter::open_within(folder, base, |_| Ok(()))
    }

    /// As [`PeftAdapter::open`]. Before any number is read, `reserve` is told how many bytes it takes at most to read it and to lay it out
    /// for a model, and may refuse.
    pub(in crate::adapter) fn open_within<E: From<AdapterFileError>>(
        folder: &Path,
        base: &MistralConfig,
        reserve: impl FnOnce(usize) -> Result<(), E>,
    ) -> Result<PeftAdapter, E> {
        let folder = Folder::open(folder)?;
        check_parameters(&folder.config, &folder.config_path, base)?;
        let modules = folder.modules()?;
        modules.check_experts(base.experts.map_or(1, |experts| experts.n_experts))?;
        reserve(modules.loading_bytes())?;
        Ok(PeftAdapter::read(&folder, &modules, base)?)
    }

    /// The most bytes that the adapter in `folder` takes when it is laid out for a model. No number is read.
    pub(in crate::adapter) fn kept_bytes(folder: &Path) -> Result<usize, AdapterFileError> {
        Ok(Folder::open(folder)?.modules()?.kept_bytes())
    }

    fn read(
        folder: &Folder,
        modules: &Modules<'_>,
        base: &MistralConfig,
    ) -> Result<PeftAdapter, AdapterFileError> {
        modules.of_base.iter().try_for_each(|tensor| tensor.check_base(base))?;
        let mut notes = modules.notes();
        let dtype = modules.pairs.values().next().map_or(Dtype::F32, |[a, _]| a.tensor.dtype);
        let mut reader = Reader { base, scales: folder.scales()?, parts: BTreeMap::new() };
        for (module, [a, b]) in &modules.pairs {
            reader.add(module, a, b)?;
        }
        folder.check_unchanged()?;
        notes.extend(reader.scales.unused());
        let notes = folder.named(notes);
        let parts = reader.parts.into_iter().collect();
        let paths = folder.paths();
        Ok(PeftAdapter { config: folder.config.clone(), parts, dtype, notes, paths })
    }
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
    fn add(&mut self, module: &str, a: &Tensor<'_>, b: &Tensor<'_>) -> Result<(), AdapterFileError> {
        match Place::of(module, self.base) {
            Some(Place::One(target)) => self.add_one(module, target, a, b),
            Some(Place::Experts(layer)) => self.add_experts(module, layer, a, b),
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
            let mut paired = b.zeros(b_values.len())?;
            Halves::new(n_rows / head_len, head_len).pair(&b_values, rank, &mut paired);
            b_values = paired;
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
        for (target, part) in fused.parts(a, b, scale)? {
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
