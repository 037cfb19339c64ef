//! Adapters in GGUF files, as llama.cpp's `convert_lora_to_gguf.py` writes them and its `--lora` reads them.

use std::collections::BTreeMap;

use bise_kernels::{Format, dequantize_row};

use super::error::AdapterError;
use super::low_rank::LowRank;
use super::tensor_name::Base;
use crate::config::MistralConfig;
use crate::gguf::{GgufError, GgufFile, Metadata, TensorInfo, TensorType, Value};
use crate::site::{Projection, Site};

/// The scale of all parts is this number over their rank, or 1 where it is 0 or missing.
const ALPHA: &str = "adapter.lora.alpha";
/// Tokens from which on an adapter acts (activated LoRA).
const INVOCATION_TOKENS: &str = "adapter.alora.invocation_tokens";
/// Keys of adapters that say nothing about the arithmetic.
const DESCRIPTIVE: [&str; 2] = ["adapter.lora.task_name", "adapter.lora.prompt_prefix"];

/// The two tensors of a part.
#[derive(Default)]
struct Halves<'a> {
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
        let GgufAdapterTensors { alpha, pairs } = GgufAdapterTensors::of(file)?;
        let meta = file.metadata();
        require(meta, "general.architecture", &config.arch, "that of the model it is used with")?;
        let (mut parts, mut embedding) = (Vec::new(), None);
        for (base, pair) in pairs {
            match base {
                EMBEDDING => embedding = Some(embedding_part(file, config, pair, alpha)?),
                base => add_parts(file, config, base, pair, alpha, &mut parts)?,
            }
        }
        parts.sort_by_key(|(site, _): &(Site, LowRank)| *site);
        Ok(GgufAdapter { alpha, parts, embedding })
    }
}

/// What the GGUF file of an adapter says that it holds: checked as far as that goes without a model, and none of the numbers is read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GgufAdapterTensors<'a> {
    /// `adapter.lora.alpha`; 0 where the file has none.
    pub alpha: f32,
    /// A and B by the name of the matrix that they belong to, in order of the names.
    pub pairs: Vec<(&'a str, [&'a TensorInfo; 2])>,
}

impl<'a> GgufAdapterTensors<'a> {
    /// Looks at `file`.
    ///
    /// # Errors
    /// For a file that is no adapter or has nothing in it; for a tensor without its counterpart, of another rank or a type that cannot be
    /// read; and for adapters of a kind that is not supported.
    pub fn of(file: &'a GgufFile) -> Result<GgufAdapterTensors<'a>, AdapterError> {
        let alpha = check_metadata(file)?;
        let mut halves: BTreeMap<&str, Halves<'_>> = BTreeMap::new();
        for info in file.tensors() {
            if let Some(base) = info.name.strip_suffix(".lora_a") {
                halves.entry(base).or_default().a = Some(info);
            } else if let Some(base) = info.name.strip_suffix(".lora_b") {
                halves.entry(base).or_default().b = Some(info);
            } else {
                let found = "a tensor that is no low-rank part";
                let expected = "names that end in '.lora_a' or '.lora_b': others are not supported";
                return Err(file.tensor_error(info, found, expected).into());
            }
        }
        let mut pairs = Vec::with_capacity(halves.len());
        for (base, pair) in halves {
            let (a, b) = match pair {
                Halves { a: Some(a), b: Some(b) } => (a, b),
                Halves { a: Some(one), .. } | Halves { b: Some(one), .. } => {
                    let other = if one.name.ends_with(".lora_a") { "lora_b" } else { "lora_a" };
                    let expected = format!("'{base}.{other}' beside it");
                    return Err(file.tensor_error(one, "it alone", expected).into());
                }
                Halves { a: None, b: None } => unreachable!("made for one of them"),
            };
            if base != EMBEDDING && Base::from_name(base).is_none() {
                let expected =
                    "adapters of the model's projections: those of other tensors are not supported";
                return Err(file.tensor_error(a, format!("an adapter of '{base}'"), expected).into());
            }
            // Rows of the embedding's A are looked up: it lies with one for each token.
            let rank = if base == EMBEDDING { a.shape[0] } else { size(a, 1) };
            if b.shape[0] != rank {
                let found = format!("shape {:?}", b.shape);
                let expected =
                    format!("the rank {rank} of '{}', whose shape is {:?}, first", a.name, a.shape);
                return Err(file.tensor_error(b, found, expected).into());
            }
            let (k, n_rows) =
                if base == EMBEDDING { (size(a, 1), size(b, 1)) } else { (a.shape[0], size(b, 1)) };
            let most = LowRank::max_rank(n_rows, k);
            if rank > most {
                let found = format!("the rank {rank} in its shape {:?}", a.shape);
                let expected = format!("{most} at most beside a matrix of {n_rows} rows and {k} columns");
                return Err(file.tensor_error(a, found, expected).into());
            }
            format_of(file, a)?;
            format_of(file, b)?;
            pairs.push((base, [a, b]));
        }
        if pairs.is_empty() {
            return Err(AdapterError::Empty { adapter: file.name().into() });
        }
        Ok(GgufAdapterTensors { alpha, pairs })
    }

    /// The most bytes that are taken at a time while it is read and laid out for a model.
    #[must_use]
    pub fn loading_bytes(&self) -> usize {
        LowRank::loading_bytes(self.sizes())
    }

    /// The bytes that it takes in the end, at most.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        LowRank::kept_bytes(self.sizes())
    }

    fn sizes(&self) -> impl Iterator<Item = (usize, usize, bool)> {
        let in_16_bits = |info: &TensorInfo| matches!(info.tensor_type, TensorType::F16 | TensorType::BF16);
        self.pairs.iter().map(move |(_, [a, b])| {
            let n = a.n_elements().saturating_add(b.n_elements());
            // Each matrix of a stack is filled up.
            let rank = b.shape[0].saturating_mul(size(b, 2));
            (n, rank, in_16_bits(a) && in_16_bits(b))
        })
    }
}

/// A size, or 1 where it is left out at the end.
fn size(info: &TensorInfo, i: usize) -> usize {
    info.shape.get(i).copied().unwrap_or(1)
}

/// Checks the text at a key.
fn require(meta: &Metadata, key: &str, expected: &str, why: &str) -> Result<(), GgufError> {
    let found = match meta.str(key)? {
        Some(text) if text == expected => return Ok(()),
        Some(text) => format!("'{text}'"),
        None => "nothing".to_owned(),
    };
    Err(meta.error(key, found, format!("'{expected}': {why}")))
}

/// Checks what the file says of itself; returns its alpha.
fn check_metadata(file: &GgufFile) -> Result<f32, GgufError> {
    let meta = file.metadata();
    require(meta, "general.type", "adapter", "a LoRA adapter beside the model, not a model")?;
    require(meta, "adapter.type", "lora", "other adapters are not supported")?;
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
        None => unreachable!("checked with the names"),
    };
    let Some([n_rows, k]) = first.shape(config) else {
        let found = format!("an adapter of '{base}'");
        return Err(file
            .tensor_error(a, found, "a tensor that the model has: is it for another model?")
            .into());
    };
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
    let (all_a, all_b) = (floats(file, a)?, floats(file, b)?);
    let scale = scale(alpha, rank);
    if n == 1 {
        parts.push((first, LowRank { rank, scale, a: all_a, b: all_b }));
        return Ok(());
    }
    let of = |info: &TensorInfo, all: &[f32], e: usize, n: usize| {
        let mut own = with_capacity(file, info, n)?;
        own.extend_from_slice(&all[e * n..][..n]);
        Ok::<_, AdapterError>(own)
    };
    for e in 0..n {
        let (a, b) = (of(a, &all_a, e, rank * k)?, of(b, &all_b, e, n_rows * rank)?);
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
    let mut transposed = with_capacity(file, a, rows.len())?;
    transposed.extend((0..rank).flat_map(|r| rows.iter().skip(r).step_by(rank).copied()));
    let a = transposed;
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

/// Room for `n` numbers of a tensor.
fn with_capacity(file: &GgufFile, info: &TensorInfo, n: usize) -> Result<Vec<f32>, AdapterError> {
    let mut values = Vec::new();
    match values.try_reserve_exact(n) {
        Ok(()) => Ok(values),
        Err(_) => Err(AdapterError::out_of_memory(file.name(), &info.name, n)),
    }
}

/// The format of a tensor's numbers.
fn format_of(file: &GgufFile, info: &TensorInfo) -> Result<Format, AdapterError> {
    info.tensor_type.format().ok_or_else(|| {
        let supported = Format::ALL.map(Format::name).join(", ");
        let found = format!("type {}", info.tensor_type);
        file.tensor_error(info, found, format!("one of {supported}")).into()
    })
}

/// The numbers of a tensor.
fn floats(file: &GgufFile, info: &TensorInfo) -> Result<Vec<f32>, AdapterError> {
    let format = format_of(file, info)?;
    let (n, width) = (info.n_elements(), info.shape[0]);
    let mut values = with_capacity(file, info, n)?;
    values.resize(n, 0.0);
    let bytes = file.bytes(info);
    let row_bytes = bytes.len() / info.n_rows();
    for (row, values) in bytes.chunks(row_bytes).zip(values.chunks_mut(width)) {
        dequantize_row(format, row, values);
    }
    Ok(values)
}
