//! From tensor names to matrices that borrow the file. Nothing is copied but norms stored in 16 bits.

use std::collections::{BTreeMap, HashSet};

use bise_kernels::ops::LeF32;
use bise_kernels::{Format, QuantMatrix};
use half::{bf16, f16};

use crate::config::MistralConfig;
use crate::extras::{Extra, LeftOut};
use crate::gguf::{GgufError, GgufFile, TensorBytes, TensorInfo, TensorType};
use crate::printable::printable;
use crate::site::{Projection, Site};

/// The fewest tensors that a layer has.
const MIN_LAYER_TENSORS: usize = 9;

/// A weight matrix `[n_rows, k]` of the file.
#[derive(Clone, Debug)]
pub struct Matrix {
    bytes: TensorBytes,
    format: Format,
    n_rows: usize,
    k: usize,
}

impl Matrix {
    /// A view of the matrix for the kernels.
    pub fn view(&self) -> QuantMatrix<'_> {
        QuantMatrix::new(&self.bytes, self.format, self.n_rows, self.k).expect("checked when it was loaded")
    }

    /// Its bytes in the file.
    pub fn bytes(&self) -> &TensorBytes {
        &self.bytes
    }

    /// The format its weights are stored in.
    pub fn format(&self) -> Format {
        self.format
    }
}

/// The weight of an RMSNorm.
#[derive(Clone, Debug)]
pub enum Norm {
    /// F32, used in place in the file.
    Mapped(TensorBytes),
    /// Widened from 16 bits.
    Widened(Box<[u8]>),
}

impl Norm {
    /// The weights, one per channel.
    pub fn view(&self) -> LeF32<'_> {
        let bytes: &[u8] = match self {
            Norm::Mapped(bytes) => bytes,
            Norm::Widened(bytes) => bytes,
        };
        LeF32::new(bytes).expect("4 bytes a weight")
    }
}

/// The matrices of a SwiGLU feed-forward.
#[derive(Clone, Debug)]
pub struct FeedForward {
    /// `[n_ff, n_embd]`
    pub gate: Matrix,
    /// `[n_ff, n_embd]`
    pub up: Matrix,
    /// `[n_embd, n_ff]`
    pub down: Matrix,
}

/// A layer's feed-forward, dense or sparse.
#[derive(Clone, Debug)]
pub enum FeedForwards {
    /// One for all tokens.
    Dense(FeedForward),
    /// Mixtral's: a router picks some of many experts for each token.
    Experts {
        /// `[n_experts, n_embd]`
        router: Matrix,
        /// One feed-forward per expert.
        experts: Vec<FeedForward>,
    },
}

/// One transformer layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Before attention, `[n_embd]`.
    pub attn_norm: Norm,
    /// `[n_heads · head_dim, n_embd]`
    pub attn_q: Matrix,
    /// `[n_kv_heads · head_dim, n_embd]`
    pub attn_k: Matrix,
    /// `[n_kv_heads · head_dim, n_embd]`
    pub attn_v: Matrix,
    /// `[n_embd, n_heads · head_dim]`
    pub attn_output: Matrix,
    /// Before the feed-forward, `[n_embd]`.
    pub ffn_norm: Norm,
    /// The feed-forward.
    pub ffn: FeedForwards,
}

/// All weights of a model.
#[derive(Clone, Debug)]
pub struct Weights {
    /// `[n_vocab, n_embd]`
    pub token_embd: Matrix,
    /// The layers, first to last.
    pub layers: Vec<Layer>,
    /// `[n_embd]`
    pub output_norm: Norm,
    /// `[n_vocab, n_embd]`; the embedding if they are tied.
    pub output: Matrix,
    /// Divisors of the rotary frequencies, `[rope.n_dims / 2]`, as Llama 3 has them.
    pub rope_freqs: Option<Vec<f32>>,
    n_bytes: usize,
    left_out: LeftOut,
}

impl Weights {
    /// Finds all tensors of the model that `config` describes, and checks their shapes and types.
    ///
    /// # Errors
    /// For a file without tensors, a tensor that is missing, of another shape, or of a type without kernels, and for a tensor that would
    /// change the arithmetic and is not supported, such as a bias or one norm more. Whole parts beside the language model (a vision
    /// encoder, say) are left out: see [`Weights::left_out`].
    pub fn load(file: &GgufFile, config: &MistralConfig) -> Result<Weights, GgufError> {
        if file.tensors().len() == 0 {
            return Err(GgufError::NotAModel {
                file: file.name().into(),
                found: "a vocabulary without weights".into(),
                advice: "it serves `bise tokenize` only: give the whole model".into(),
            });
        }
        let mut loader = Loader { file, used: HashSet::new() };
        let (d, q, kv) = (config.n_embd, config.q_dim(), config.kv_dim());
        let token_embd = loader.matrix("token_embd.weight", config.n_vocab, d)?;
        let mut layers = Vec::with_capacity(config.n_layers.min(file.tensors().len() / MIN_LAYER_TENSORS));
        for i in 0..config.n_layers {
            let name = |part: &str| format!("blk.{i}.{part}.weight");
            layers.push(Layer {
                attn_norm: loader.norm(&name("attn_norm"), d)?,
                attn_q: loader.matrix(&name("attn_q"), q, d)?,
                attn_k: loader.matrix(&name("attn_k"), kv, d)?,
                attn_v: loader.matrix(&name("attn_v"), kv, d)?,
                attn_output: loader.matrix(&name("attn_output"), d, q)?,
                ffn_norm: loader.norm(&name("ffn_norm"), d)?,
                ffn: loader.feed_forwards(config, &name)?,
            });
        }
        let output_norm = loader.norm("output_norm.weight", d)?;
        let output = match file.tensor("output.weight") {
            Some(_) => loader.matrix("output.weight", config.n_vocab, d)?,
            None => token_embd.clone(),
        };
        let rope_freqs = match file.tensor("rope_freqs.weight") {
            Some(_) => Some(loader.rope_freqs("rope_freqs.weight", config.rope.n_dims / 2)?),
            None => None,
        };
        let left_out = loader.left_out(config)?;
        let n_bytes = file.tensors().filter(|t| loader.used.contains(&t.name)).map(|t| t.n_bytes).sum();
        Ok(Weights { token_embd, layers, output_norm, output, rope_freqs, n_bytes, left_out })
    }

    /// Bytes of the file's tensors that the model uses.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// A line that says which parts of the file are left out, if there are any: encoders of images and sound, heads that
    /// the logits do not depend on.
    pub fn left_out(&self) -> Option<String> {
        self.left_out.line()
    }

    /// The matrix at `site`, if the model has it.
    pub fn matrix(&self, site: Site) -> Option<&Matrix> {
        let Site { layer, projection, expert } = site;
        if projection == Projection::Output {
            return (layer == self.layers.len() && expert.is_none()).then_some(&self.output);
        }
        let layer = self.layers.get(layer)?;
        let ffn = match (&layer.ffn, expert) {
            (FeedForwards::Dense(ffn), None) => Some(ffn),
            (FeedForwards::Experts { experts, .. }, Some(e)) => Some(experts.get(e)?),
            _ => None,
        };
        match projection {
            Projection::FfnGate => ffn.map(|ffn| &ffn.gate),
            Projection::FfnUp => ffn.map(|ffn| &ffn.up),
            Projection::FfnDown => ffn.map(|ffn| &ffn.down),
            _ if expert.is_some() => None,
            Projection::AttnQ => Some(&layer.attn_q),
            Projection::AttnK => Some(&layer.attn_k),
            Projection::AttnV => Some(&layer.attn_v),
            Projection::AttnOutput => Some(&layer.attn_output),
            Projection::FfnGateInp => match &layer.ffn {
                FeedForwards::Experts { router, .. } => Some(router),
                FeedForwards::Dense(_) => None,
            },
            Projection::Output => unreachable!("returned above"),
        }
    }

    /// All matrices of the model. The embedding comes twice if it is the output too.
    pub fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let layers = self.layers.iter().flat_map(|l| {
            let ffn: Vec<&Matrix> = match &l.ffn {
                FeedForwards::Dense(f) => vec![&f.gate, &f.up, &f.down],
                FeedForwards::Experts { router, experts } => std::iter::once(router)
                    .chain(experts.iter().flat_map(|f| [&f.gate, &f.up, &f.down]))
                    .collect(),
            };
            [&l.attn_q, &l.attn_k, &l.attn_v, &l.attn_output].into_iter().chain(ffn)
        });
        [&self.token_embd, &self.output].into_iter().chain(layers)
    }
}

/// Looks up tensors and keeps track of those that are used.
struct Loader<'a> {
    file: &'a GgufFile,
    used: HashSet<String>,
}

impl Loader<'_> {
    /// The tensor `name`, if it has the `shape` (GGUF's order: row length first).
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<&TensorInfo, GgufError> {
        let info = self.file.require_tensor(name)?;
        // Trailing ones say nothing: a vector may be written as [n] or [n, 1].
        let significant = |s: &[usize]| s.iter().rposition(|n| *n != 1).map_or(0, |last| last + 1);
        if info.shape[..significant(&info.shape)] != shape[..significant(shape)] {
            return Err(self.wrong(name, format!("shape {:?}", info.shape), format!("{shape:?}")));
        }
        self.used.insert(name.to_owned());
        Ok(info)
    }

    fn matrix(&mut self, name: &str, n_rows: usize, k: usize) -> Result<Matrix, GgufError> {
        let file = self.file;
        let info = self.tensor(name, &[k, n_rows])?;
        let (bytes, tensor_type) = (file.bytes(info), info.tensor_type);
        self.matrix_of(name, bytes, tensor_type, n_rows, k)
    }

    fn matrix_of(
        &self,
        name: &str,
        bytes: TensorBytes,
        tensor_type: TensorType,
        n_rows: usize,
        k: usize,
    ) -> Result<Matrix, GgufError> {
        let Some(format) = tensor_type.format() else {
            let supported = Format::ALL.map(Format::name).join(", ");
            return Err(self.wrong(
                name,
                format!("type {}", tensor_type.name()),
                format!("one of {supported}"),
            ));
        };
        match QuantMatrix::new(&bytes, format, n_rows, k) {
            Ok(_) => Ok(Matrix { bytes, format, n_rows, k }),
            Err(e) => Err(self.wrong(name, e.to_string(), "whole blocks")),
        }
    }

    fn feed_forwards(
        &mut self,
        config: &MistralConfig,
        name: &dyn Fn(&str) -> String,
    ) -> Result<FeedForwards, GgufError> {
        let (d, ff) = (config.n_embd, config.n_ff);
        let Some(experts) = config.experts else {
            return Ok(FeedForwards::Dense(FeedForward {
                gate: self.matrix(&name("ffn_gate"), ff, d)?,
                up: self.matrix(&name("ffn_up"), ff, d)?,
                down: self.matrix(&name("ffn_down"), d, ff)?,
            }));
        };
        let router = self.matrix(&name("ffn_gate_inp"), experts.n_experts, d)?;
        let gates = self.experts(&name("ffn_gate"), experts.n_experts, ff, d)?;
        let ups = self.experts(&name("ffn_up"), experts.n_experts, ff, d)?;
        let downs = self.experts(&name("ffn_down"), experts.n_experts, d, ff)?;
        let experts =
            gates.into_iter().zip(ups).zip(downs).map(|((gate, up), down)| FeedForward { gate, up, down });
        Ok(FeedForwards::Experts { router, experts: experts.collect() })
    }

    /// The experts' matrices, stacked in one tensor (`ffn_gate_exps`) or, in old files, one tensor each (`ffn_gate.3`).
    fn experts(&mut self, name: &str, n: usize, n_rows: usize, k: usize) -> Result<Vec<Matrix>, GgufError> {
        let file = self.file;
        let stem = name.strip_suffix(".weight").expect("names of weights end so");
        let stacked = format!("{stem}_exps.weight");
        if file.tensor(&stacked).is_none() && file.tensor(&format!("{stem}.0.weight")).is_some() {
            return (0..n).map(|e| self.matrix(&format!("{stem}.{e}.weight"), n_rows, k)).collect();
        }
        let info = self.tensor(&stacked, &[k, n_rows, n])?;
        let (all, tensor_type) = (file.bytes(info), info.tensor_type);
        let each = all.len() / n;
        (0..n)
            .map(|e| self.matrix_of(&stacked, all.slice(e * each..(e + 1) * each), tensor_type, n_rows, k))
            .collect()
    }

    fn norm(&mut self, name: &str, n: usize) -> Result<Norm, GgufError> {
        let file = self.file;
        let info = self.tensor(name, &[n])?;
        let bytes = file.bytes(info);
        if info.tensor_type == TensorType::F32 {
            return Ok(Norm::Mapped(bytes));
        }
        let mut widened = self.room_for(name, 4 * n)?;
        self.each_float(name, n, &mut |value| widened.extend_from_slice(&value.to_le_bytes()))?;
        Ok(Norm::Widened(widened.into_boxed_slice()))
    }

    fn floats(&mut self, name: &str, n: usize) -> Result<Vec<f32>, GgufError> {
        self.tensor(name, &[n])?;
        let mut floats = self.room_for(name, n)?;
        self.each_float(name, n, &mut |value| floats.push(value))?;
        Ok(floats)
    }

    /// Calls `each` with the `n` numbers of a plain tensor, in order.
    fn each_float(&mut self, name: &str, n: usize, each: &mut dyn FnMut(f32)) -> Result<(), GgufError> {
        let file = self.file;
        let info = self.tensor(name, &[n])?;
        let (bytes, tensor_type) = (file.bytes(info), info.tensor_type);
        let halves = || bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
        match tensor_type {
            TensorType::F32 => {
                bytes.chunks_exact(4).for_each(|b| each(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
            }
            TensorType::F16 => halves().for_each(|b| each(f16::from_le_bytes(b).to_f32())),
            TensorType::BF16 => halves().for_each(|b| each(bf16::from_le_bytes(b).to_f32())),
            other => return Err(self.wrong(name, format!("type {}", other.name()), "F32, F16 or BF16")),
        }
        Ok(())
    }

    fn room_for<T>(&self, name: &str, n: usize) -> Result<Vec<T>, GgufError> {
        let mut values = Vec::new();
        values.try_reserve_exact(n).map_err(|_| GgufError::OutOfMemory {
            file: self.file.name().into(),
            what: format!("tensor '{}'", printable(name.as_bytes())),
            n_bytes: n.saturating_mul(size_of::<T>()) as u64,
        })?;
        Ok(values)
    }

    /// Divisors of the rotary frequencies. They slow rotations down; nothing real is far from 1 to 100.
    fn rope_freqs(&mut self, name: &str, n: usize) -> Result<Vec<f32>, GgufError> {
        let values = self.floats(name, n)?;
        match values.iter().find(|v| !(v.is_finite() && **v >= 1e-3)) {
            Some(v) => Err(self.wrong(name, v.to_string(), "numbers of 0.001 or more")),
            None => Ok(values),
        }
    }

    /// The parts of the file that are not used. Errs on a tensor that belongs to none: it would change the arithmetic.
    fn left_out(&self, config: &MistralConfig) -> Result<LeftOut, GgufError> {
        // Rotary frequencies that early converters wrote beside the base they follow from.
        let implied = |name: &str| name.ends_with(".attn_rot_embd.weight");
        let mut left_out = LeftOut::default();
        // Blocks for multi-token prediction, and whether they have a tensor that only such blocks have.
        let mut predicting = BTreeMap::new();
        for tensor in self.file.tensors().filter(|t| !self.used.contains(&t.name) && !implied(&t.name)) {
            let Some(extra) = Extra::of_tensor(&tensor.name, config.n_layers, config.n_predict_layers) else {
                let expected = "no such tensor: it would change the arithmetic, and is not supported";
                return Err(self.file.tensor_error(tensor, format!("shape {:?}", tensor.shape), expected));
            };
            if extra == Extra::Prediction
                && let Some(block) = tensor.name.strip_prefix("blk.").and_then(|rest| rest.split('.').next())
            {
                *predicting.entry(block).or_insert(false) |= tensor.name.contains(".nextn.");
            }
            left_out.add(extra, tensor);
        }
        // A layer of the model itself must not be taken for one of these.
        if let Some((block, _)) = predicting.iter().find(|(_, is_one)| !**is_one) {
            let expected = "one in each block that 'nextn_predict_layers' counts";
            return Err(self.wrong(&format!("blk.{block}.nextn.*"), "no such tensor", expected));
        }
        Ok(left_out)
    }

    fn wrong(&self, tensor: &str, found: impl Into<String>, expected: impl Into<String>) -> GgufError {
        match self.file.tensor(tensor) {
            Some(info) => self.file.tensor_error(info, found, expected),
            None => GgufError::Tensor {
                file: self.file.name().into(),
                tensor: tensor.into(),
                found: found.into(),
                expected: expected.into(),
            },
        }
    }
}
