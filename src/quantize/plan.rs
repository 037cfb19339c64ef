//! What becomes of each tensor.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bise_models::ARCHITECTURES;
use bise_models::gguf::{Metadata, TensorType, Value};

use super::error::QuantizeError;
use super::file_type::FileType;
use super::gguf_source::Expert;
use super::importance::{Importance, usable};
use super::mix::{Mix, ModelShape, Role, fallback, is_quantized, layer};
use super::notes::Notes;
use super::patterns::Patterns;
use super::prune::Kept;
use super::source::{Source, SourceTensor};

/// How to quantize; `QuantizeOptions::new` is what llama-quantize does without flags.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuantizeOptions {
    /// The mix.
    pub file_type: FileType,
    /// Every tensor gets the mix's base type.
    pub pure: bool,
    /// Tensors that are quantized already may be quantized again.
    pub allow_requantize: bool,
    /// `output.weight` stays as it is.
    pub leave_output_tensor: bool,
    /// The type of `output.weight` (and of the token embedding, where that is used in its place).
    pub output_tensor_type: Option<TensorType>,
    /// The type of the token embedding.
    pub token_embedding_type: Option<TensorType>,
    /// Types of tensors whose name an expression matches; the first that does counts.
    pub tensor_types: Vec<(String, TensorType)>,
    /// Layers to leave out.
    pub prune_layers: Vec<usize>,
    /// Metadata to set.
    pub overrides: Vec<(String, Value)>,
    /// Write as many files as the source has.
    pub keep_split: bool,
    /// What errors cost.
    pub importance: Option<Importance>,
    /// Types are those of a model with an importance matrix: it will be [calibrated](super::Calibration).
    pub is_calibrated: bool,
}

impl QuantizeOptions {
    /// The mix and nothing else.
    pub fn new(file_type: FileType) -> QuantizeOptions {
        QuantizeOptions {
            file_type,
            pure: false,
            allow_requantize: false,
            leave_output_tensor: false,
            output_tensor_type: None,
            token_embedding_type: None,
            tensor_types: Vec::new(),
            prune_layers: Vec::new(),
            overrides: Vec::new(),
            keep_split: false,
            importance: None,
            is_calibrated: false,
        }
    }

    /// A line about the flags that ask for types, where every tensor keeps its own.
    fn without_effect_on_copies(&self) -> Option<String> {
        let given = [
            (self.pure, "--pure"),
            (self.leave_output_tensor, "--leave-output-tensor"),
            (self.output_tensor_type.is_some(), "--output-tensor-type"),
            (self.token_embedding_type.is_some(), "--token-embedding-type"),
            (!self.tensor_types.is_empty(), "--tensor-type"),
            (self.importance.is_some(), "--imatrix"),
            (self.is_calibrated, "--calibrate"),
        ];
        let given: Vec<&str> =
            given.into_iter().filter_map(|(is_given, flag)| is_given.then_some(flag)).collect();
        let verb = if given.len() == 1 { "has" } else { "have" };
        (!given.is_empty()).then(|| format!("{} {verb} no effect: COPY keeps every type", given.join(", ")))
    }
}

/// A tensor of the source and what it becomes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlannedTensor {
    /// Its name in the new file: another one where layers before it are left out.
    pub name: String,
    /// The tensor of the source.
    pub source: SourceTensor,
    /// The type it gets.
    pub tensor_type: TensorType,
    /// The type that the mix wanted, where rows do not divide into its blocks.
    pub instead_of: Option<TensorType>,
    /// What errors of each column cost, `[n_experts · k]`.
    pub importance: Option<Arc<[f32]>>,
}

impl PlannedTensor {
    /// Bytes it takes in the new file.
    pub fn n_bytes(&self) -> usize {
        self.tensor_type.bytes_for(self.source.n_elements()).expect("it was asked before")
    }

    /// Whether its bytes are those of the source.
    pub fn is_copied(&self) -> bool {
        self.tensor_type == self.source.tensor_type
    }
}

/// What becomes of a file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The tensors in the order in which they are written, and the file each goes to.
    pub tensors: Vec<PlannedTensor>,
    /// The metadata of the (first) new file.
    pub metadata: Metadata,
    /// Files to write.
    pub n_parts: usize,
    /// What the user should know, one line each.
    pub notes: Vec<String>,
}

/// The version of the formats of blocks that llama.cpp writes into files.
const QUANTIZATION_VERSION: u32 = 2;

/// The most layers that a model can have here. Real ones have some hundreds at most.
const MAX_LAYERS: usize = 1 << 20;

/// Why flags about the output say nothing to some models.
const NO_OUTPUT: &str = "there is no output.weight: token_embd.weight is used in its place";

impl Plan {
    /// Decides on every tensor of `source`.
    ///
    /// # Errors
    /// Where the model is of another family, or a tensor cannot become what it should.
    pub fn new(source: &dyn Source, options: &QuantizeOptions) -> Result<Plan, QuantizeError> {
        let shape = model_shape(source.metadata())?;
        let kept = Kept::new(shape.n_layers, &options.prune_layers)?;
        let mut tensors = Vec::new();
        let sources = source.tensors();
        let missing = check_layers(&sources, shape.n_layers)?;
        for source in sources {
            if let Some(name) = kept.rename(&source.name) {
                let tensor_type = source.tensor_type;
                tensors.push(PlannedTensor { name, source, tensor_type, instead_of: None, importance: None });
            }
        }
        let n_parts = if options.keep_split { source.n_parts() } else { 1 };
        if n_parts == 1 {
            tensors.sort_by(|a, b| (layer(&a.name), &a.name).cmp(&(layer(&b.name), &b.name)));
        }
        let mut plan = Plan { tensors, metadata: Metadata::new("new file"), n_parts, notes: Vec::new() };
        plan.notes.extend(missing);
        plan.choose_types(options, shape)?;
        plan.weigh(options)?;
        for tensor in &plan.tensors {
            check_possible(tensor, options)?;
        }
        plan.set_metadata(source.metadata(), options, &kept)?;
        Ok(plan)
    }

    /// Bytes of all tensors of the new file.
    pub fn n_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.n_bytes() as u64).sum()
    }

    /// Bytes of the same tensors in the source.
    pub fn source_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.source.n_bytes() as u64).sum()
    }

    /// Weights of all tensors.
    pub fn n_weights(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.source.n_elements() as u64).sum()
    }

    /// Bits that a weight takes in the new file, on average.
    pub fn bits_a_weight(&self) -> f64 {
        self.n_bytes() as f64 * 8.0 / self.n_weights().max(1) as f64
    }

    fn choose_types(&mut self, options: &QuantizeOptions, shape: ModelShape) -> Result<(), QuantizeError> {
        let mut patterns = Patterns::new(&options.tensor_types)?;
        let Some(base) = options.file_type.base() else {
            self.notes.extend(options.without_effect_on_copies());
            return Ok(());
        };
        let has_importance = options.importance.is_some() || options.is_calibrated;
        let mut mix = Mix::new(options.file_type, shape, has_importance);
        mix.is_tied = !self.has(Role::Output);
        mix.output_type = options.output_tensor_type;
        mix.n_values = self.tensors.iter().filter(|tensor| Role::of(&tensor.name).is_values()).count();
        let is_mixed = !options.pure && base.block_len() > 1;
        let mut notes = Notes::default();
        for tensor in &mut self.tensors {
            let role = Role::of(&tensor.name);
            if tensor.source.keeps_type
                || !is_quantized(&tensor.name, &tensor.source.shape)
                || role == Role::Output && options.leave_output_tensor
            {
                continue;
            }
            let k = tensor.source.shape[0];
            let asked = match role {
                Role::TokenEmbedding => options.token_embedding_type,
                Role::Output => options.output_tensor_type,
                _ => None,
            };
            let wanted = match asked.or_else(|| patterns.find(&tensor.name)) {
                Some(asked) => asked,
                None if !is_mixed => base,
                None => mix.choose(&tensor.name, k, base),
            };
            tensor.tensor_type = fallback(wanted, k);
            if tensor.tensor_type != wanted {
                tensor.instead_of = Some(wanted);
                let given = tensor.tensor_type;
                notes.add(
                    &tensor.name,
                    format!("rows of {k} are no whole blocks of {wanted}: {given} instead"),
                );
            }
        }
        self.notes.extend(notes.lines());
        let names: Vec<&str> = self.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        self.notes.extend(patterns.notes(&names));
        self.note_flags_without_effect(options, is_mixed);
        Ok(())
    }

    fn has(&self, role: Role) -> bool {
        self.tensors.iter().any(|tensor| Role::of(&tensor.name) == role)
    }

    /// Flags that ask for what is not there.
    fn note_flags_without_effect(&mut self, options: &QuantizeOptions, is_mixed: bool) {
        let is_tied = !self.has(Role::Output);
        if options.leave_output_tensor && is_tied {
            self.notes.push(format!("--leave-output-tensor has no effect: {NO_OUTPUT}"));
        }
        if options.output_tensor_type.is_some() {
            if options.leave_output_tensor {
                self.notes.push("--output-tensor-type has no effect beside --leave-output-tensor".into());
            } else if is_tied && options.token_embedding_type.is_some() {
                self.notes.push(format!(
                    "--output-tensor-type has no effect: {NO_OUTPUT}, whose type --token-embedding-type gives"
                ));
            } else if is_tied && !is_mixed {
                let file_type = options.file_type;
                self.notes.push(format!(
                    "--output-tensor-type has no effect: {NO_OUTPUT}, to which it does not apply in {file_type} files and with --pure: \
                     --token-embedding-type does"
                ));
            }
        }
        if options.token_embedding_type.is_some() && !self.has(Role::TokenEmbedding) {
            self.notes.push("--token-embedding-type has no effect: there is no token_embd.weight".into());
        }
    }

    fn weigh(&mut self, options: &QuantizeOptions) -> Result<(), QuantizeError> {
        let Some(importance) = options.importance.as_ref().filter(|_| options.file_type != FileType::Copy)
        else {
            return Ok(());
        };
        let file = &importance.file;
        let mut unknown = Notes::default();
        for tensor in
            self.tensors.iter_mut().filter(|tensor| !tensor.is_copied() && tensor.tensor_type.block_len() > 1)
        {
            let is_embedding = Role::of(&tensor.name) == Role::TokenEmbedding;
            let name = &tensor.source.name;
            let (k, n_matrices) = (tensor.source.shape[0], tensor.source.n_matrices());
            let wrong = |found: String, expected: String| QuantizeError::Tensor {
                tensor: name.clone(),
                found: format!("{found} in {file}"),
                expected,
            };
            match importance.columns.get(name) {
                Some(columns) if columns.len() == k * n_matrices => {
                    let usable = usable(columns, k).map_err(|i| {
                        let found = format!("{} as the importance of column {}", columns[i], i % k);
                        wrong(found, "finite numbers that are not negative".into())
                    })?;
                    if usable.n_zero > 0 {
                        let of = match usable.n_zero {
                            _ if n_matrices == 1 => String::new(),
                            1 => " of one expert".into(),
                            n => format!(" of {n} experts"),
                        };
                        self.notes.push(format!(
                            "tensor '{name}': all importance{of} in {file} is zero: each column counts alike"
                        ));
                    }
                    tensor.importance = Some(usable.columns.into());
                }
                // A token embedding that is an output as well is looked up by rows, too.
                Some(_) if is_embedding => {}
                Some(columns) => {
                    let expected = format!("{}, an importance matrix of this model", k * n_matrices);
                    return Err(wrong(format!("importance of {} columns", columns.len()), expected));
                }
                None if is_embedding || Role::of(&tensor.name) == Role::Output => {}
                None => unknown.add(name, format!("no importance in {file}")),
            }
        }
        if !self.uses_importance() {
            self.notes
                .push(format!("--imatrix has no effect: no tensor is quantized by what {file} knows of it"));
        } else {
            self.notes.extend(unknown.lines());
        }
        Ok(())
    }

    fn uses_importance(&self) -> bool {
        self.tensors.iter().any(|tensor| tensor.importance.is_some())
    }

    fn set_metadata(
        &mut self,
        from: &Metadata,
        options: &QuantizeOptions,
        kept: &Kept,
    ) -> Result<(), QuantizeError> {
        let uses_importance = self.uses_importance();
        let to = &mut self.metadata;
        let arch = from.require::<&str>("general.architecture")?;
        for (key, value) in from.iter().filter(|(key, _)| !key.starts_with("split.")) {
            let is_of_model = key.strip_prefix(arch).is_some_and(|rest| rest.starts_with('.'));
            let shortened = match value {
                Value::Array(array) if is_of_model => kept.shorten(array).map(Value::Array),
                _ => None,
            };
            to.set(key, shortened.unwrap_or_else(|| value.clone()));
        }
        to.set("general.quantization_version", QUANTIZATION_VERSION);
        if let Some(id) = options.file_type.id() {
            to.set("general.file_type", id);
        }
        if !options.prune_layers.is_empty() {
            to.set(&format!("{arch}.block_count"), u32::try_from(kept.n_layers()).unwrap_or(u32::MAX));
        }
        for (key, value) in &options.overrides {
            to.set(key, narrowed(value));
        }
        if let Some(importance) = options.importance.as_ref().filter(|_| uses_importance) {
            to.set("quantize.imatrix.file", importance.file.as_str());
            if let Some(dataset) = &importance.dataset {
                to.set("quantize.imatrix.dataset", dataset.as_str());
            }
            to.set(
                "quantize.imatrix.entries_count",
                u32::try_from(importance.columns.len()).unwrap_or(u32::MAX),
            );
            if importance.n_chunks > 0 {
                to.set("quantize.imatrix.chunks_count", importance.n_chunks);
            }
        }
        Ok(())
    }
}

/// The path of part `part` (from 0) of `n_parts`, for a model that is to be at `path`.
pub(super) fn part_path(path: &Path, part: usize, n_parts: usize) -> std::path::PathBuf {
    if n_parts == 1 {
        return path.to_owned();
    }
    let is_named_so = path.extension().is_some_and(|extension| extension == "gguf");
    let stem = if is_named_so { path.file_stem() } else { path.file_name() };
    let mut name = stem.unwrap_or_default().to_owned();
    name.push(format!("-{:05}-of-{n_parts:05}.gguf", part + 1));
    path.with_file_name(name)
}

/// Refuses tensors of layers that the model does not count, which would be left out, and of experts that cannot be stacked. Says so where a layer has no tensors.
fn check_layers(tensors: &[SourceTensor], n_layers: usize) -> Result<Option<String>, QuantizeError> {
    let mut found = BTreeSet::new();
    for tensor in tensors {
        if let Some(expert) = Expert::of(&tensor.name) {
            return Err(QuantizeError::Tensor {
                tensor: tensor.name.clone(),
                found: format!("expert {} of some that do not make a stack", expert.index),
                expected: "as many as 'expert_count' says, from 0 on, of one shape and type".into(),
            });
        }
        let Some(layer) = layer(&tensor.name) else { continue };
        if layer >= n_layers {
            return Err(QuantizeError::Tensor {
                tensor: tensor.name.clone(),
                found: format!("a tensor of layer {layer}"),
                expected: format!(
                    "layers 0 to {}, since the 'block_count' of the model is {n_layers}",
                    n_layers - 1
                ),
            });
        }
        found.insert(layer);
    }
    let missing = (0..n_layers).find(|layer| !found.contains(layer));
    Ok(missing.map(|layer| {
        format!("found no tensor of layer {layer}, expected some of all {n_layers} layers that 'block_count' says there are")
    }))
}

/// Integers of 32 bits, where they fit, and singles: what readers expect.
fn narrowed(value: &Value) -> Value {
    match value {
        Value::I64(n) => match (u32::try_from(*n), i32::try_from(*n)) {
            (Ok(n), _) => Value::U32(n),
            (_, Ok(n)) => Value::I32(n),
            _ => value.clone(),
        },
        Value::F64(x) => Value::F32(*x as f32),
        other => other.clone(),
    }
}

fn model_shape(meta: &Metadata) -> Result<ModelShape, QuantizeError> {
    let arch = meta.require::<&str>("general.architecture")?;
    if !ARCHITECTURES.contains(&arch) {
        let expected = format!("one of {}, whose tensors the mixes are made for", ARCHITECTURES.join(", "));
        return Err(meta.error("general.architecture", format!("'{arch}'"), expected).into());
    }
    let key = format!("{arch}.block_count");
    let n_layers: usize = meta.require(&key)?;
    if !(1..=MAX_LAYERS).contains(&n_layers) {
        return Err(meta.error(&key, n_layers.to_string(), format!("1 to {MAX_LAYERS} layers")).into());
    }
    // Some files have a number for each layer, which the rules of mixes do not care for: they go by the first.
    let heads = |key: &str| -> Result<Option<usize>, QuantizeError> {
        let key = format!("{arch}.attention.{key}");
        match meta.get(&key) {
            Some(Value::Array(_)) => {
                Ok(meta.i32_array(&key)?.and_then(|n| usize::try_from(*n.first()?).ok()))
            }
            _ => Ok(meta.get_as(&key)?),
        }
    };
    let n_heads = heads("head_count")?.unwrap_or(0);
    Ok(ModelShape {
        n_layers,
        n_heads,
        n_kv_heads: heads("head_count_kv")?.unwrap_or(n_heads),
        n_experts: meta.get_as(&format!("{arch}.expert_count"))?.unwrap_or(0),
        is_llama: arch == "llama",
    })
}

/// Refuses what could not be read, could not be written, or would be worth nothing.
fn check_possible(tensor: &PlannedTensor, options: &QuantizeOptions) -> Result<(), QuantizeError> {
    if tensor.is_copied() {
        return Ok(());
    }
    let (from, to) = (tensor.source.tensor_type, tensor.tensor_type);
    let name = || tensor.source.name.clone();
    if from.format().is_none() {
        let found = format!("type {from}, which is to become {to}");
        return Err(QuantizeError::Tensor {
            tensor: name(),
            found,
            expected: "a type that can be read".into(),
        });
    }
    if to.format().is_none() {
        let found = format!("{to} as the type to give it");
        return Err(QuantizeError::Tensor {
            tensor: name(),
            found,
            expected: "a type that can be written".into(),
        });
    }
    if from.block_len() > 1 && !options.allow_requantize {
        return Err(QuantizeError::Requantized { tensor: name(), from: from.name(), to: to.name() });
    }
    let is_exempt = matches!(Role::of(&tensor.name), Role::TokenEmbedding | Role::Output);
    let file_type = options.file_type;
    let is_weighed = tensor.importance.is_some() || options.is_calibrated;
    if to == TensorType::Q2_K && file_type == FileType::Q2_K_S && !is_exempt && !is_weighed {
        return Err(QuantizeError::NeedsImportance {
            tensor: name(),
            to: to.name(),
            file_type: file_type.name(),
        });
    }
    Ok(())
}
