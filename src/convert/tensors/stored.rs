//! Weights as a checkpoint stores them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use bise_models::gguf::{TensorBytes, TensorType};
use bise_models::printable::printable;

use super::dropped::Dropped;
use super::rows::Rows;
use crate::convert::checkpoint::{Checkpoint, Dtype, StoredTensor};
use crate::convert::error::ConvertError;
use crate::convert::quantization::Quantization;

/// The tensors of the language model, by the names that they have in a checkpoint without encoders.
pub(super) struct Names<'a> {
    tensors: HashMap<Cow<'a, str>, (&'a str, &'a StoredTensor)>,
    /// What sizes are from, as in `as config.json says`.
    pub because: String,
}

impl<'a> Names<'a> {
    /// `assumed` are the keys of sizes that the configuration does not have.
    pub fn of(checkpoint: &'a Checkpoint, assumed: &[&str]) -> Names<'a> {
        let mut names = HashMap::new();
        for (name, tensor) in checkpoint.tensors() {
            if Dropped::of(name).is_none() {
                // With encoders beside it, the model is in a model.
                let plain = match name.contains("language_model.") {
                    true => Cow::Owned(name.replace("language_model.", "")),
                    false => Cow::Borrowed(name),
                };
                names.entry(plain).or_insert((name, tensor));
            }
        }
        let mut because = format!("as {} says", checkpoint.layout.config_name());
        if !assumed.is_empty() {
            let keys: Vec<_> = assumed.iter().map(|key| format!("'{key}'")).collect();
            because =
                format!("{because}, which lacks {}: transformers' defaults were taken", keys.join(", "));
        }
        Names { tensors: names, because }
    }

    /// Whether there are weights of `module`.
    pub fn has(&self, module: &str) -> bool {
        self.get(module, "weight").is_some()
    }

    pub fn get(&self, module: &str, part: &str) -> Option<(&'a str, &'a StoredTensor)> {
        self.named(&format!("{module}.{part}"))
    }

    /// The tensor of that name, and how the checkpoint calls it.
    pub fn named(&self, name: &str) -> Option<(&'a str, &'a StoredTensor)> {
        self.tensors.get(name).copied()
    }
}

/// Rows of weights and the tensors that they are made of.
pub(super) struct Found<'a> {
    pub rows: Box<dyn Rows + 'a>,
    pub used: Vec<&'a str>,
    /// Weights of 8 bits without a scale.
    pub lacks_scale: bool,
}

/// The weights of `module`, a matrix of the `shape` `[n_rows, k]`.
pub(super) fn stored_matrix<'a>(
    checkpoint: &'a Checkpoint,
    names: &Names<'a>,
    quantization: &Quantization,
    module: &str,
    shape: [usize; 2],
) -> Result<Found<'a>, ConvertError> {
    let (name, tensor) = weight(checkpoint, names, module, &shape)?;
    let mut used = vec![name];
    let scale = ["weight_scale_inv", "weight_scale", "qscale_weight"];
    let scale = match scale.iter().find_map(|part| names.get(module, part)) {
        None => None,
        Some((scale_name, scale)) => {
            used.push(scale_name);
            Some(Scale::new(checkpoint, scale_name, scale, shape, quantization.block)?)
        }
    };
    if !tensor.dtype.is_float() && (scale.is_none() || tensor.dtype != Dtype::I8) {
        let expected = "floating-point weights, or I8 with a scale";
        return Err(checkpoint.tensor_error(name, tensor.dtype.name(), expected));
    }
    let lacks_scale = scale.is_none() && matches!(tensor.dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2);
    if let (true, Some(part)) = (lacks_scale, quantization.scale) {
        let missing = format!("{}.{part}", name.strip_suffix(".weight").unwrap_or(name));
        let found =
            format!("no such tensor beside '{}' of {}", printable(name.as_bytes()), tensor.dtype.name());
        return Err(checkpoint.tensor_error(&missing, found, "the scale of its weights"));
    }
    let rows = Stored { bytes: tensor.bytes.clone(), dtype: tensor.dtype, k: shape[1], scale };
    Ok(Found { rows: Box::new(rows), used, lacks_scale })
}

/// The weights of `module`, a vector.
pub(super) fn stored_vector<'a>(
    checkpoint: &'a Checkpoint,
    names: &Names<'a>,
    module: &str,
    n: usize,
) -> Result<Found<'a>, ConvertError> {
    let (name, tensor) = weight(checkpoint, names, module, &[n])?;
    if !tensor.dtype.is_float() {
        return Err(checkpoint.tensor_error(name, tensor.dtype.name(), "floating-point weights"));
    }
    let rows = Stored { bytes: tensor.bytes.clone(), dtype: tensor.dtype, k: n, scale: None };
    Ok(Found { rows: Box::new(rows), used: vec![name], lacks_scale: false })
}

fn weight<'a>(
    checkpoint: &Checkpoint,
    names: &Names<'a>,
    module: &str,
    shape: &[usize],
) -> Result<(&'a str, &'a StoredTensor), ConvertError> {
    let because = &names.because;
    let Some((name, tensor)) = names.get(module, "weight") else {
        if let Some((name, _)) = names.get(module, "qweight").or(names.get(module, "weight_packed")) {
            let expected = format!("how '{}' is quantized", printable(name.as_bytes()));
            return Err(checkpoint.config_error("quantization_config", "no such key", expected));
        }
        let expected = format!("it with the shape {shape:?}, {because}");
        return Err(checkpoint.tensor_error(&format!("{module}.weight"), "no such tensor", expected));
    };
    if tensor.shape != shape {
        let (found, expected) = (format!("shape {:?}", tensor.shape), format!("{shape:?}, {because}"));
        return Err(checkpoint.tensor_error(name, found, expected));
    }
    Ok((name, tensor))
}

/// A matrix as it is stored, and what its weights are multiplied by.
struct Stored {
    bytes: TensorBytes,
    dtype: Dtype,
    k: usize,
    scale: Option<Scale>,
}

impl Stored {
    fn range(&self, rows: &Range<usize>) -> Range<usize> {
        let row_bytes = self.k * self.dtype.n_bytes();
        rows.start * row_bytes..rows.end * row_bytes
    }

    /// The type that stays as it is stored; `None` where weights are made singles.
    fn kept(&self) -> Option<TensorType> {
        match (self.dtype, &self.scale) {
            (Dtype::F32, None) => Some(TensorType::F32),
            (Dtype::F16, None) => Some(TensorType::F16),
            (Dtype::BF16, None) => Some(TensorType::BF16),
            _ => None,
        }
    }
}

impl Rows for Stored {
    fn tensor_type(&self) -> TensorType {
        self.kept().unwrap_or(TensorType::F32)
    }

    fn read(&self, rows: Range<usize>) -> Cow<'_, [u8]> {
        let bytes = &self.bytes[self.range(&rows)];
        if self.kept().is_some() {
            return Cow::Borrowed(bytes);
        }
        let mut x = vec![0.0; rows.len() * self.k];
        self.dtype.to_f32(bytes, &mut x);
        if let Some(scale) = &self.scale {
            for (row, x) in rows.zip(x.chunks_exact_mut(self.k)) {
                scale.apply(row, x);
            }
        }
        Cow::Owned(x.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn places(&self, rows: Range<usize>) -> Vec<TensorBytes> {
        vec![self.bytes.slice(self.range(&rows))]
    }
}

/// What weights are multiplied by.
enum Scale {
    /// All by the same.
    One(f32),
    /// Each row by its own.
    Rows(Vec<f32>),
    /// Each block of `size` by its own; `columns` blocks beside each other.
    Blocks { size: [usize; 2], columns: usize, scales: Vec<f32> },
}

impl Scale {
    /// The scales in `tensor`, for a matrix of the `shape`.
    fn new(
        checkpoint: &Checkpoint,
        name: &str,
        tensor: &StoredTensor,
        shape: [usize; 2],
        block: Option<[usize; 2]>,
    ) -> Result<Scale, ConvertError> {
        if !tensor.dtype.is_float() {
            return Err(checkpoint.tensor_error(name, tensor.dtype.name(), "floating-point scales"));
        }
        let n: usize = tensor.shape.iter().product();
        let values = || {
            let mut values = vec![0.0; n];
            tensor.dtype.to_f32(&tensor.bytes, &mut values);
            values
        };
        if let Some((i, x)) = values().into_iter().enumerate().find(|(_, x)| !x.is_finite()) {
            let found = format!("{x} at {i} of {:?}", tensor.shape);
            let expected = "finite scales: the checkpoint is damaged, download it again";
            return Err(checkpoint.tensor_error(name, found, expected));
        }
        let blocks = block.map(|size| [shape[0].div_ceil(size[0]), shape[1].div_ceil(size[1])]);
        match (tensor.shape.as_slice(), block, blocks) {
            (_, _, _) if n == 1 => Ok(Scale::One(values()[0])),
            (found, Some(size), Some(blocks)) if found == blocks => {
                Ok(Scale::Blocks { size, columns: blocks[1], scales: values() })
            }
            ([rows] | [rows, 1], ..) if *rows == shape[0] => Ok(Scale::Rows(values())),
            (found, ..) => {
                let found = format!("shape {found:?}");
                let mut expected = format!("one scale, or {} for the rows of {shape:?}", shape[0]);
                if let (Some([rows, columns]), Some(size)) = (blocks, block) {
                    expected = format!("{expected}, or [{rows}, {columns}] for its blocks of {size:?}");
                }
                Err(checkpoint.tensor_error(name, found, expected))
            }
        }
    }

    /// Multiplies row `row` of the weights.
    fn apply(&self, row: usize, x: &mut [f32]) {
        match self {
            Scale::One(scale) => x.iter_mut().for_each(|x| *x *= scale),
            Scale::Rows(scales) => x.iter_mut().for_each(|x| *x *= scales[row]),
            Scale::Blocks { size, columns, scales } => {
                let scales = &scales[row / size[0] * columns..][..*columns];
                for (x, scale) in x.chunks_mut(size[1]).zip(scales) {
                    x.iter_mut().for_each(|x| *x *= scale);
                }
            }
        }
    }
}
