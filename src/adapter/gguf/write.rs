//! GGUF files as llama.cpp's `--lora` reads them.

use std::path::Path;

use bise_kernels::Format;
use bise_models::gguf::{Array, GgufWriter, TensorType, WriteError};
use bise_models::{LowRank, MistralConfig, Projection, Site};

use super::fold::{Folded, pad};
use crate::adapter::encode::encode;
use crate::adapter::error::AdapterFileError;
use crate::adapter::target::Target;

/// How to write a file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GgufWriteOptions {
    /// The type of the tensors: F32, F16, BF16 or Q8_0, which rows that are no whole blocks get F16 for.
    pub tensor_type: TensorType,
    /// What the adapter is called (`general.name`).
    pub name: Option<String>,
    /// The model it was trained for (`general.base_model.0.*`): a name, or `owner/name` on the Hugging Face Hub.
    pub base_model: Option<String>,
    /// Replace a file that is there.
    pub force: bool,
}

impl Default for GgufWriteOptions {
    fn default() -> GgufWriteOptions {
        GgufWriteOptions { tensor_type: TensorType::F32, name: None, base_model: None, force: false }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct GgufWritten {
    /// `adapter.lora.alpha`.
    pub alpha: f32,
    /// Parts whose B was multiplied, because they are not scaled by `alpha / rank`.
    pub n_folded: usize,
    /// Bytes of the tensors.
    pub n_bytes: u64,
}

/// The version of the formats of blocks, as llama.cpp writes it.
const QUANTIZATION_VERSION: u32 = 2;

/// A tensor of the new file.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    tensor_type: TensorType,
    bytes: Vec<u8>,
}

/// Writes an adapter for a model of the configuration `base` to `path`. The file appears when it is whole and on the disk.
///
/// Parts of experts are stacked; an expert without one gets zeros. The file has one alpha: parts that are scaled by something else than
/// `alpha / rank` have the ratio in B.
///
/// # Errors
/// Where a part does not fit the model, a file is in the way (unless `force` allows to replace it), a number does not fit the type, or the disk
/// does not take it.
pub fn write<'a, T: Into<Target>>(
    path: &Path,
    base: &MistralConfig,
    parts: impl IntoIterator<Item = (T, &'a LowRank)>,
    options: &GgufWriteOptions,
) -> Result<GgufWritten, AdapterFileError> {
    let mut parts: Vec<(Target, &LowRank)> = parts.into_iter().map(|(at, part)| (at.into(), part)).collect();
    parts.sort_by_key(|(target, _)| *target);
    check(base, &parts)?;
    if !options.force && std::fs::metadata(path).is_ok_and(|found| found.is_file()) {
        return Err(AdapterFileError::Exists { path: path.to_owned() });
    }
    let ranks = parts.iter().map(|(target, part)| (rank_of(&parts, *target), part.scale));
    let folded = Folded::of(ranks);
    let tensors = tensors(base, &parts, &folded, options.tensor_type)?;
    let failed = |error| AdapterFileError::Write { path: path.to_owned(), error };
    let mut writer = GgufWriter::new();
    set_keys(&mut writer, base, folded.alpha, options);
    for tensor in &tensors {
        writer.add_tensor(&tensor.name, &tensor.shape, tensor.tensor_type).map_err(failed)?;
    }
    let saved: Result<(), WriteError> =
        writer.save(path, |out| tensors.iter().try_for_each(|tensor| out.write(&tensor.bytes)));
    saved.map_err(|error| match error {
        WriteError::File { path, action, error } => AdapterFileError::File { path, action, error },
        error => failed(error),
    })?;
    Ok(GgufWritten {
        alpha: folded.alpha,
        n_folded: folded.factors.iter().filter(|factor| **factor != 1.0).count(),
        n_bytes: tensors.iter().map(|tensor| tensor.bytes.len() as u64).sum(),
    })
}

fn check(base: &MistralConfig, parts: &[(Target, &LowRank)]) -> Result<(), AdapterFileError> {
    if parts.is_empty() {
        let (found, expected) = ("none".into(), "one or more".into());
        return Err(AdapterFileError::Part { place: "any matrix".into(), found, expected });
    }
    for (i, &(target, part)) in parts.iter().enumerate() {
        let wrong = |found: String, expected: &str| {
            Err(AdapterFileError::Part {
                place: format!("{target}.weight"),
                found,
                expected: expected.to_owned(),
            })
        };
        let Some([n_rows, k]) = target.shape(base) else {
            return wrong("it".into(), "a matrix that the model has");
        };
        if i > 0 && parts[i - 1].0 == target {
            return wrong("it twice".into(), "each matrix once");
        }
        let rank = part.rank;
        if rank == 0 || (part.a.len(), part.b.len()) != (rank * k, n_rows * rank) || !part.scale.is_finite() {
            let found = format!(
                "rank {rank}, scale {}, {} numbers of A and {} of B",
                part.scale,
                part.a.len(),
                part.b.len()
            );
            return wrong(found, &format!("a finite scale, and [rank, {k}] and [{n_rows}, rank]"));
        }
    }
    Ok(())
}

/// The matrix and layer of an expert.
fn stack_of(target: Target) -> Option<(usize, Projection)> {
    match target {
        Target::Matrix(Site { layer, projection, expert: Some(_) }) => Some((layer, projection)),
        _ => None,
    }
}

/// The rank in the file: that of the largest expert, where experts are stacked.
fn rank_of(parts: &[(Target, &LowRank)], target: Target) -> usize {
    let is_beside = |other: Target| {
        other == target || stack_of(target).is_some_and(|stack| stack_of(other) == Some(stack))
    };
    let ranks = parts.iter().filter(|(other, _)| is_beside(*other)).map(|(_, part)| part.rank);
    ranks.max().unwrap_or(1)
}

fn tensors(
    base: &MistralConfig,
    parts: &[(Target, &LowRank)],
    folded: &Folded,
    tensor_type: TensorType,
) -> Result<Vec<Tensor>, AdapterFileError> {
    let mut tensors: Vec<Tensor> = Vec::new();
    let mut stacked = Vec::new();
    for (&(target, part), &factor) in parts.iter().zip(&folded.factors) {
        let [n_rows, k] = target.shape(base).expect("it was checked");
        let scaled = |b: &[f32]| -> Vec<f32> {
            if factor == 1.0 { b.to_vec() } else { b.iter().map(|b| b * factor).collect() }
        };
        let rank = part.rank;
        if target == Target::Embedding {
            // Rows of A are looked up: they are transposed.
            let a: Vec<f32> =
                (0..k).flat_map(|token| (0..rank).map(move |r| part.a[r * k + token])).collect();
            tensors.push(Tensor::new("token_embd.weight.lora_a", &[rank, k], &a, tensor_type)?);
            tensors.push(Tensor::new(
                "token_embd.weight.lora_b",
                &[rank, n_rows],
                &scaled(&part.b),
                tensor_type,
            )?);
            continue;
        }
        let Some(stack) = stack_of(target) else {
            tensors.push(Tensor::new(&format!("{target}.weight.lora_a"), &[k, rank], &part.a, tensor_type)?);
            tensors.push(Tensor::new(
                &format!("{target}.weight.lora_b"),
                &[rank, n_rows],
                &scaled(&part.b),
                tensor_type,
            )?);
            continue;
        };
        if stacked.contains(&stack) {
            continue;
        }
        stacked.push(stack);
        let n_experts = base.experts.map_or(0, |experts| experts.n_experts);
        let rank = rank_of(parts, target);
        let (mut all_a, mut all_b) = (vec![0.0; n_experts * rank * k], vec![0.0; n_experts * n_rows * rank]);
        for (&(target, part), &factor) in parts.iter().zip(&folded.factors) {
            let Target::Matrix(Site { expert: Some(e), .. }) = target else { continue };
            if stack_of(target) == Some(stack) {
                let (a, b) = pad(part, rank);
                all_a[e * rank * k..][..rank * k].copy_from_slice(&a);
                for (to, b) in all_b[e * n_rows * rank..].iter_mut().zip(b) {
                    *to = if factor == 1.0 { b } else { b * factor };
                }
            }
        }
        let site = Site { layer: stack.0, projection: stack.1, expert: None };
        let name = format!("{site}_exps.weight");
        tensors.push(Tensor::new(&format!("{name}.lora_a"), &[k, rank, n_experts], &all_a, tensor_type)?);
        tensors.push(Tensor::new(
            &format!("{name}.lora_b"),
            &[rank, n_rows, n_experts],
            &all_b,
            tensor_type,
        )?);
    }
    Ok(tensors)
}

impl Tensor {
    fn new(
        name: &str,
        shape: &[usize],
        values: &[f32],
        tensor_type: TensorType,
    ) -> Result<Tensor, AdapterFileError> {
        let is_whole = shape[0].is_multiple_of(tensor_type.block_len());
        let tensor_type = if is_whole { tensor_type } else { TensorType::F16 };
        let format: Format = tensor_type.format().ok_or_else(|| AdapterFileError::Part {
            place: name.to_owned(),
            found: format!("type {tensor_type}"),
            expected: "F32, F16, BF16 or Q8_0".into(),
        })?;
        let bytes = encode(format, shape[0], values).map_err(|error| error.of(name))?;
        Ok(Tensor { name: name.to_owned(), shape: shape.to_vec(), tensor_type, bytes })
    }
}

fn set_keys(writer: &mut GgufWriter, base: &MistralConfig, alpha: f32, options: &GgufWriteOptions) {
    let to = writer.metadata_mut();
    to.set("general.architecture", base.arch.as_str());
    to.set("general.type", "adapter");
    to.set("adapter.type", "lora");
    if let Some(name) = &options.name {
        to.set("general.name", name.as_str());
    }
    if let Some(model) = &options.base_model {
        to.set("general.base_model.count", 1_u32);
        let (owner, name) = match model.split_once('/') {
            Some((owner, name)) if !owner.is_empty() && !name.contains('/') && !owner.starts_with('.') => {
                (Some(owner), name)
            }
            _ => (None, model.trim_end_matches('/').rsplit('/').next().unwrap_or(model)),
        };
        to.set("general.base_model.0.name", name.replace(['-', '_'], " ").as_str());
        if let Some(owner) = owner {
            to.set("general.base_model.0.organization", owner);
            to.set("general.base_model.0.repo_url", format!("https://huggingface.co/{model}").as_str());
        }
    }
    to.set("general.tags", Array::Str(["lora"].into_iter().collect()));
    to.set("adapter.lora.alpha", alpha);
    to.set("general.quantization_version", QUANTIZATION_VERSION);
}
