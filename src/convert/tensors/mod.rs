//! The tensors of the new file, and where their rows come from.

mod dropped;
mod halves;
mod layer;
mod packed;
mod rope;
mod rows;
mod stored;
mod tensor;

use std::collections::HashSet;

use bise_kernels::Format;

use super::checkpoint::Checkpoint;
use super::config::{ModelConfig, Scaling};
use super::error::ConvertError;
use super::keep::Keep;
use super::layout::Layout;
use super::quantization::Quantization;
use dropped::Dropped;
use layer::{EMBEDDING, LAYER, Module, OUTPUT, OUTPUT_NORM};
use packed::PackedLayers;
use stored::{Names, stored_matrix, stored_vector};

pub(crate) use halves::Halves;
pub use tensor::{Piece, Tensor};

/// The tensors of the new file and what was left out of it.
pub struct Tensors<'a> {
    /// In the order of the model.
    pub tensors: Vec<Tensor<'a>>,
    /// What the user should know, one line each.
    pub notes: Vec<String>,
}

/// Finds the tensors of the model that `config` describes.
///
/// # Errors
/// Where one is missing, of another shape or of a type that weights do not have, and where there is one that nothing is known about.
pub(super) fn collect<'a>(
    checkpoint: &'a Checkpoint,
    config: &ModelConfig,
    quantization: &Quantization,
    keep: Keep,
) -> Result<Tensors<'a>, ConvertError> {
    let (names, used, not_kept) = (Names::of(checkpoint, &config.assumed), HashSet::new(), Vec::new());
    let mut collector =
        Collector { checkpoint, quantization, keep, names, used, n_without_scale: 0, not_kept };
    let mut tensors = Vec::new();
    let layout = checkpoint.layout;
    let (d, q, kv) = (config.n_embd, config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim);
    tensors.push(collector.matrix("token_embd.weight", EMBEDDING.name(layout), config.n_vocab, d, None)?);
    for i in 0..config.n_layers {
        let from = |module: &Module| format!("{}{i}.{}", Module::layers(layout), module.name(layout));
        let to = |module: &Module| format!("blk.{i}.{}.weight", module.gguf);
        let halves = |n_heads: usize| config.rotates_halves(layout).then_some(n_heads);
        tensors.push(collector.vector(&to(&LAYER.attn_norm), &from(&LAYER.attn_norm), d)?);
        for (module, n_rows, k, heads) in [
            (&LAYER.attn_q, q, d, halves(config.n_heads)),
            (&LAYER.attn_k, kv, d, halves(config.n_kv_heads)),
            (&LAYER.attn_v, kv, d, None),
            (&LAYER.attn_output, d, q, None),
        ] {
            tensors.push(collector.matrix(&to(module), &from(module), n_rows, k, heads)?);
        }
        tensors.push(collector.vector(&to(&LAYER.ffn_norm), &from(&LAYER.ffn_norm), d)?);
        let ff = config.n_ff;
        let Some((n_experts, _)) = config.experts else {
            for (module, n_rows, k) in
                [(&LAYER.ffn_gate, ff, d), (&LAYER.ffn_up, ff, d), (&LAYER.ffn_down, d, ff)]
            {
                tensors.push(collector.matrix(&to(module), &from(module), n_rows, k, None)?);
            }
            continue;
        };
        let router = collector.matrix(&to(&LAYER.router), &from(&LAYER.router), n_experts, d, None)?;
        tensors.push(router.in_singles());
        for (gguf, part, n_rows, k) in
            [("ffn_gate_exps", "w1", ff, d), ("ffn_down_exps", "w2", d, ff), ("ffn_up_exps", "w3", ff, d)]
        {
            let name =
                |e: usize| format!("{}{i}.block_sparse_moe.experts.{e}.{part}", Module::layers(layout));
            let modules: Vec<_> = (0..n_experts).map(name).collect();
            let format = collector.kept_format(&modules)?;
            let experts: Result<Vec<_>, _> =
                modules.iter().map(|module| collector.piece(module, [n_rows, k], None, format)).collect();
            tensors.push(Tensor::stack(format!("blk.{i}.{gguf}.weight"), [k, n_rows], experts?));
        }
    }
    tensors.push(collector.vector("output_norm.weight", OUTPUT_NORM.name(layout), d)?);
    let output = OUTPUT.name(layout);
    if collector.has(output) {
        tensors.push(collector.matrix("output.weight", output, config.n_vocab, d, None)?);
    } else if config.tied == Some(false) {
        let key = match layout {
            Layout::HuggingFace => "tie_word_embeddings",
            Layout::Mistral => "tied_embeddings",
        };
        let expected = format!(
            "it, because the embedding does not serve as the output: {} does not say '{key}': true",
            layout.config_name()
        );
        return Err(checkpoint.tensor_error(&format!("{output}.weight"), "no such tensor", expected));
    }
    if let Scaling::Llama3 { factor, low, high, original_ctx } = config.scaling {
        let divisors = rope::divisors(config.rope_base, config.head_dim, factor, low, high, original_ctx);
        tensors.push(Tensor::singles("rope_freqs.weight", divisors));
    }
    let mut notes = collector.left_out()?;
    if collector.n_without_scale > 0 {
        notes.push(format!(
            "{} matrices of F8 have no scale, and {} says nothing of it: their weights are taken as they are",
            collector.n_without_scale,
            layout.config_name()
        ));
    }
    match collector.not_kept.as_slice() {
        [] => {}
        [one] => notes.push(one.clone()),
        [first, others @ ..] => notes.push(format!("{first} (and {} more tensors likewise)", others.len())),
    }
    Ok(Tensors { tensors, notes })
}

/// Looks up tensors, and keeps track of those that are used.
struct Collector<'a, 'q> {
    checkpoint: &'a Checkpoint,
    quantization: &'q Quantization,
    keep: Keep,
    names: Names<'a>,
    used: HashSet<&'a str>,
    n_without_scale: usize,
    /// Integers that could not be kept, one line a layer.
    not_kept: Vec<String>,
}

impl<'a> Collector<'a, '_> {
    /// The matrix `[n_rows, k]` of `module`. With `heads`, rows of that many heads come in halves and are put into pairs.
    fn matrix(
        &mut self,
        name: &str,
        module: &str,
        n_rows: usize,
        k: usize,
        heads: Option<usize>,
    ) -> Result<Tensor<'a>, ConvertError> {
        let format = self.kept_format(&[module.to_owned()])?;
        Ok(Tensor::matrix(name.to_owned(), [k, n_rows], self.piece(module, [n_rows, k], heads, format)?))
    }

    /// Layers that are quantized already.
    fn packed(&self) -> Option<PackedLayers<'_, 'a>> {
        let (checkpoint, names) = (self.checkpoint, &self.names);
        self.quantization.integers.as_ref().map(|scheme| PackedLayers { checkpoint, names, scheme })
    }

    fn has(&self, module: &str) -> bool {
        self.names.has(module) || self.packed().is_some_and(|layers| layers.has(module))
    }

    /// The blocks that `modules`, which become one tensor, are kept in.
    fn kept_format(&mut self, modules: &[String]) -> Result<Option<Format>, ConvertError> {
        let mut notes = Vec::new();
        let format =
            self.packed().map_or(Ok(None), |layers| layers.kept_format(modules, self.keep, &mut notes))?;
        self.not_kept.append(&mut notes);
        Ok(format)
    }

    fn piece(
        &mut self,
        module: &str,
        shape: [usize; 2],
        heads: Option<usize>,
        format: Option<Format>,
    ) -> Result<Piece<'a>, ConvertError> {
        let found = match self.packed() {
            Some(layers) if layers.has(module) => layers.matrix(module, shape, format)?,
            _ => stored_matrix(self.checkpoint, &self.names, self.quantization, module, shape)?,
        };
        self.n_without_scale += usize::from(found.lacks_scale);
        let piece = Piece::new(found.rows, heads.map(|n_heads| (n_heads, shape[0] / n_heads)));
        let piece = piece.from(found.used[0]);
        self.used.extend(found.used);
        Ok(piece)
    }

    fn vector(&mut self, name: &str, module: &str, n: usize) -> Result<Tensor<'a>, ConvertError> {
        let found = stored_vector(self.checkpoint, &self.names, module, n)?;
        let piece = Piece::new(found.rows, None).from(found.used[0]);
        self.used.extend(found.used);
        Ok(Tensor::vector(name.to_owned(), n, piece))
    }

    /// What is left out: parts for images and sound, and what serves other programs. Errs on a tensor that is none of these.
    fn left_out(&self) -> Result<Vec<String>, ConvertError> {
        let mut left_out: Vec<(Dropped, usize)> = Vec::new();
        for (name, tensor) in self.checkpoint.tensors().filter(|(name, _)| !self.used.contains(name)) {
            let Some(dropped) = Dropped::of(name) else {
                let found = format!("shape {:?} of {}", tensor.shape, tensor.dtype.name());
                let expected = match name.ends_with(".bias") {
                    true => {
                        "no such tensor: it is a bias, which would change the arithmetic, and layers are computed without"
                    }
                    false => "no such tensor: it would change the arithmetic, and nothing is known about it",
                };
                return Err(self.checkpoint.tensor_error(name, found, expected));
            };
            match left_out.iter_mut().find(|(other, _)| *other == dropped) {
                Some((_, n)) => *n += 1,
                None => left_out.push((dropped, 1)),
            }
        }
        Ok(left_out
            .iter()
            .filter_map(|(dropped, n)| Some(format!("left out: {} ({n} tensors)", dropped.what()?)))
            .collect())
    }
}
