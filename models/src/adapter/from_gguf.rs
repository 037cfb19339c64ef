//! Adapters in GGUF files, as llama.cpp's `convert_lora_to_gguf.py` writes them and its `--lora` reads them.

use std::collections::BTreeMap;

use bise_kernels::dequantize_row;

use super::error::AdapterError;
use super::low_rank::LowRank;
use super::tensor_name::Base;
use crate::config::MistralConfig;
use crate::gguf::{GgufError, GgufFile, TensorInfo, Value};
use crate::site::{Projection, Site};

/// The scale of all parts is this number over their rank, or 1 where it is 0 or missing.
const ALPHA: &str = "adapter.lora.alpha";
/// Tokens from which on an adapter acts (activated LoRA).
const INVOCATION_TOKENS: &str = "adapter.alora.invocation_tokens";
/// Keys of adapters that say nothing about the arithmetic.
const DESCRIPTIVE: [&str; 2] = ["adapter.lora.task_name", "adapter.lora.prompt_prefix"];

/// The two tensors of a part.
#[derive(Default)]
struct Pair<'a> {
    a: Option<&'a TensorInfo>,
    b: Option<&'a TensorInfo>,
}

/// The name of the token embedding.
pub(super) const EMBEDDING: &str = "token_embd.weight";

/// What the GGUF file of an adapter holds, before it is put beside a model.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GgufAdapter {
    /// `adapter.lora.alpha`; 0 where the file has none.
    pub alpha: f32,
    /// The parts of matrices, one for each expert, in order of their sites.
    pub parts: Vec<(Site, LowRank)>,
    /// That of the token embedding: its A is `[rank, n_vocab]` and its B `[n_embd, rank]`.
    pub embedding: Option<LowRank>,
}

impl GgufAdapter {
    /// Reads the adapter in `file`, for a model of the configuration `config`.
    ///
    /// # Errors
    /// As [`Adapter::from_gguf`](super::Adapter::from_gguf), except that an adapter of the embedding is read.
    pub fn read(file: &GgufFile, config: &MistralConfig) -> Result<GgufAdapter, AdapterError> {
        let alpha = check_metadata(file, config)?;
        let mut pairs: BTreeMap<&str, Pair<'_>> = BTreeMap::new();
        for info in file.tensors() {
            if let Some(base) = info.name.strip_suffix(".lora_a") {
                pairs.entry(base).or_default().a = Some(info);
            } else if let Some(base) = info.name.strip_suffix(".lora_b") {
                pairs.entry(base).or_default().b = Some(info);
            } else {
                let found = "a tensor that is no low-rank part";
                let expected = "names that end in '.lora_a' or '.lora_b': others are not supported";
                return Err(file.tensor_error(info, found, expected).into());
            }
        }
        let (mut parts, mut embedding) = (Vec::new(), None);
        for (base, pair) in pairs {
            let (a, b) = match pair {
                Pair { a: Some(a), b: Some(b) } => (a, b),
                Pair { a: Some(one), .. } | Pair { b: Some(one), .. } => {
                    let other = if one.name.ends_with(".lora_a") { "lora_b" } else { "lora_a" };
                    let expected = format!("'{base}.{other}' beside it");
                    return Err(file.tensor_error(one, "it alone", expected).into());
                }
                Pair { a: None, b: None } => unreachable!("made for one of them"),
            };
            match base {
                EMBEDDING => embedding = Some(embedding_part(file, config, [a, b], alpha)?),
                base => add_parts(file, config, base, [a, b], alpha, &mut parts)?,
            }
        }
        parts.sort_by_key(|(site, _): &(Site, LowRank)| *site);
        Ok(GgufAdapter { alpha, parts, embedding })
    }
}

/// Checks what the file says of itself; returns its alpha.
fn check_metadata(file: &GgufFile, config: &MistralConfig) -> Result<f32, GgufError> {
    let meta = file.metadata();
    let require = |key: &str, expected: &str, why: &str| {
        let found = match meta.str(key)? {
            Some(text) if text == expected => return Ok(()),
            Some(text) => format!("'{text}'"),
            None => "nothing".to_owned(),
        };
        Err(meta.error(key, found, format!("'{expected}': {why}")))
    };
    require("general.type", "adapter", "a LoRA adapter beside the model, not a model")?;
    require("adapter.type", "lora", "other adapters are not supported")?;
    require("general.architecture", &config.arch, "that of the model it is used with")?;
    let is_empty = |value: &Value| matches!(value, Value::Array(array) if array.is_empty());
    if let Some(tokens) = meta.get(INVOCATION_TOKENS).filter(|value| !is_empty(value)) {
        let expected = "no such key: adapters that act from some token on (aLoRA) are not supported";
        return Err(meta.error(INVOCATION_TOKENS, tokens.describe(), expected));
    }
    let known =
        |key: &str| ["adapter.type", ALPHA, INVOCATION_TOKENS].contains(&key) || DESCRIPTIVE.contains(&key);
    if let Some((key, value)) = meta.iter().find(|(key, _)| key.starts_with("adapter.") && !known(key)) {
        let expected = "no such key: it may change the arithmetic, and is not supported";
        return Err(meta.error(key, value.describe(), expected));
    }
    let alpha = meta.f32(ALPHA)?.unwrap_or(0.0);
    if !alpha.is_finite() {
        return Err(meta.error(ALPHA, alpha.to_string(), "a finite number"));
    }
    Ok(alpha)
}

/// Reads the part of matrix `base`, or those of all its experts.
fn add_parts(
    file: &GgufFile,
    config: &MistralConfig,
    base: &str,
    [a, b]: [&TensorInfo; 2],
    alpha: f32,
    parts: &mut Vec<(Site, LowRank)>,
) -> Result<(), AdapterError> {
    let n_experts = config.experts.map_or(0, |experts| experts.n_experts);
    let (first, n) = match Base::from_name(base) {
        Some(Base::One(site)) if site.projection == Projection::Output => {
            (Site { layer: config.n_layers, ..site }, 1)
        }
        Some(Base::One(site)) => (site, 1),
        Some(Base::Experts(site)) => (site, n_experts),
        None => {
            let expected = "adapters of the model's projections: those of other tensors are not supported";
            return Err(file.tensor_error(a, format!("an adapter of '{base}'"), expected).into());
        }
    };
    let Some([n_rows, k]) = first.shape(config) else {
        let found = format!("an adapter of '{base}'");
        return Err(file
            .tensor_error(a, found, "a tensor that the model has: is it for another model?")
            .into());
    };
    // Sizes of 1 at the end may be left out.
    let size = |info: &TensorInfo, i: usize| info.shape.get(i).copied().unwrap_or(1);
    let rank = size(a, 1);
    let wrong = |info: &TensorInfo, expected: String| {
        AdapterError::from(file.tensor_error(info, format!("shape {:?}", info.shape), expected))
    };
    let shape = |sizes: [usize; 2]| match n_of_stack(Base::from_name(base), n) {
        Some(n) => format!("[{}, {}, {n}]", sizes[0], sizes[1]),
        None => format!("{sizes:?}"),
    };
    let fits = |info: &TensorInfo, sizes: [usize; 2]| {
        [size(info, 0), size(info, 1)] == sizes && size(info, 2) == n && size(info, 3) == 1
    };
    if !fits(a, [k, rank]) {
        let expected = format!("{}: {k} columns as the model's '{base}' has", shape([k, rank]));
        return Err(wrong(a, expected));
    }
    if !fits(b, [rank, n_rows]) {
        let expected = format!(
            "{}: the rank {rank} of '{}', and {n_rows} rows as the model's '{base}' has",
            shape([rank, n_rows]),
            a.name
        );
        return Err(wrong(b, expected));
    }
    let (mut all_a, mut all_b) = (floats(file, a)?, floats(file, b)?);
    let scale = scale(alpha, rank);
    if n == 1 {
        parts.push((first, LowRank { rank, scale, a: all_a, b: all_b }));
        return Ok(());
    }
    // From the last one on, so that each is cut off the end.
    for e in (0..n).rev() {
        let (a, b) = (all_a.split_off(e * rank * k), all_b.split_off(e * n_rows * rank));
        parts.push((Site { expert: Some(e), ..first }, LowRank { rank, scale, a, b }));
    }
    Ok(())
}

/// Reads the part of the token embedding, whose A lies with a row for each token.
fn embedding_part(
    file: &GgufFile,
    config: &MistralConfig,
    [a, b]: [&TensorInfo; 2],
    alpha: f32,
) -> Result<LowRank, AdapterError> {
    let (n_vocab, rank) = (config.n_vocab, a.shape[0]);
    for (info, rows) in [(a, n_vocab), (b, config.n_embd)] {
        let n_rows = info.shape.get(1).copied().unwrap_or(1);
        if info.shape.len() > 2 || [info.shape[0], n_rows] != [rank, rows] {
            let expected = format!("[{rank}, {rows}], as the model's '{EMBEDDING}' has it");
            return Err(file.tensor_error(info, format!("shape {:?}", info.shape), expected).into());
        }
    }
    let (rows, b) = (floats(file, a)?, floats(file, b)?);
    let a = (0..rank).flat_map(|r| rows.iter().skip(r).step_by(rank).copied()).collect();
    Ok(LowRank { rank, scale: scale(alpha, rank), a, b })
}

/// What a product is multiplied by.
fn scale(alpha: f32, rank: usize) -> f32 {
    if alpha == 0.0 { 1.0 } else { alpha / rank as f32 }
}

/// How many matrices a tensor stacks, if it stacks any.
fn n_of_stack(base: Option<Base>, n: usize) -> Option<usize> {
    matches!(base, Some(Base::Experts(_))).then_some(n)
}

/// The numbers of a tensor.
fn floats(file: &GgufFile, info: &TensorInfo) -> Result<Vec<f32>, AdapterError> {
    let Some(format) = info.tensor_type.format() else {
        let supported = bise_kernels::Format::ALL.map(bise_kernels::Format::name).join(", ");
        let found = format!("type {}", info.tensor_type);
        return Err(file.tensor_error(info, found, format!("one of {supported}")).into());
    };
    let (n, width) = (info.n_elements(), info.shape[0]);
    let mut values = Vec::new();
    values.try_reserve_exact(n).map_err(|_| AdapterError::OutOfMemory {
        adapter: file.name().into(),
        tensor: crate::printable::printable(info.name.as_bytes()),
        n_bytes: 4 * n as u64,
    })?;
    values.resize(n, 0.0);
    let bytes = file.bytes(info);
    let row_bytes = bytes.len() / info.n_rows();
    for (row, values) in bytes.chunks(row_bytes).zip(values.chunks_mut(width)) {
        dequantize_row(format, row, values);
    }
    Ok(values)
}
