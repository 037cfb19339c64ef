//! Weights that are quantized already.

use std::borrow::Cow;
use std::ops::Range;

use bise_kernels::Format;
use bise_models::gguf::{TensorBytes, TensorType};

use super::rows::Rows;
use super::stored::{Found, Names};
use crate::convert::checkpoint::Checkpoint;
use crate::convert::error::ConvertError;
use crate::convert::integers::{self, NotHeld, PackedLinear, Scheme};
use crate::convert::keep::Keep;

/// The layers of a checkpoint that are quantized, and what becomes of them.
pub(super) struct PackedLayers<'n, 'a> {
    pub checkpoint: &'a Checkpoint,
    pub names: &'n Names<'a>,
    pub scheme: &'n Scheme,
}

impl<'a> PackedLayers<'_, 'a> {
    /// Whether the weights of `module` are quantized.
    pub fn has(&self, module: &str) -> bool {
        self.scheme.is_quantized(self, module)
    }

    /// The blocks that `modules`, which become one tensor, are kept in. None where their weights are converted, with a line that says why if
    /// they should have been kept.
    pub fn kept_format(
        &self,
        modules: &[String],
        keep: Keep,
        notes: &mut Vec<String>,
    ) -> Result<Option<Format>, ConvertError> {
        let mut layers = Vec::new();
        if keep == Keep::Nothing || !modules.iter().any(|module| self.has(module)) {
            return Ok(None);
        }
        for module in modules {
            let found = match self.has(module) {
                true => {
                    let linear = self.scheme.open(self, module)?;
                    let format = match keep {
                        Keep::All(Some(format)) => linear.check_format(format).map(|()| format),
                        _ => linear.exact_format(),
                    };
                    format.map(|format| (linear, format))
                }
                false => {
                    Err(NotHeld::new(module, "its weights are not quantized, but those of other experts are"))
                }
            };
            match (found, keep) {
                (Ok(layer), _) => layers.push(layer),
                (Err(reason), Keep::WherePossible) => {
                    notes.push(format!("{reason}: its weights are converted"));
                    return Ok(None);
                }
                (Err(reason), _) => {
                    return Err(ConvertError::Unsupported {
                        path: self.checkpoint.config_path(),
                        what: "keeping all integers exactly".into(),
                        reason: format!(
                            "{reason}; without --lossless, weights are converted to any --outtype"
                        ),
                    });
                }
            }
        }
        let first = layers.first().map(|(_, format)| *format);
        // Where layers differ, Q5_0 holds all integers of 4 bits, and Q8_0 those of 8 bits, too.
        let candidates = first.into_iter().chain([Format::Q5_0, Format::Q8_0]);
        let held_by_all =
            |format: &Format| layers.iter().all(|(layer, _)| layer.check_format(*format).is_ok());
        Ok(candidates.into_iter().find(held_by_all))
    }

    /// The weights of `module`, a matrix of the `shape` `[n_rows, k]`; in blocks of `format`, which was checked, or in F32.
    pub fn matrix(
        &self,
        module: &str,
        shape: [usize; 2],
        format: Option<Format>,
    ) -> Result<Found<'a>, ConvertError> {
        let linear = self.scheme.open(self, module)?;
        let parts = self.scheme.parts(self, module);
        let used: Vec<_> = parts.iter().filter_map(|part| self.names.get(module, part)).collect();
        let (name, tensor) = used[0];
        if [linear.n_out(), linear.n_in()] != shape {
            let found = format!("weights of the shape {:?}", [linear.n_out(), linear.n_in()]);
            let expected = format!("{shape:?}, {}", self.names.because);
            return Err(self.checkpoint.tensor_error(name, found, expected));
        }
        let rows = Packed { linear, format, bytes: tensor.bytes.clone() };
        let used = used.into_iter().map(|(name, _)| name).collect();
        Ok(Found { rows: Box::new(rows), used, lacks_scale: false })
    }
}

impl<'a> integers::Tensors<'a> for PackedLayers<'_, 'a> {
    fn tensor(&self, name: &str) -> Option<integers::StoredTensor<'a>> {
        let (_, tensor) = self.names.named(name)?;
        Some(integers::StoredTensor {
            path: self.checkpoint.path_of(tensor),
            dtype: tensor.dtype.name(),
            shape: &tensor.shape,
            bytes: &tensor.bytes,
        })
    }

    fn path(&self) -> &std::path::Path {
        &self.checkpoint.folder
    }
}

/// A matrix of integers.
struct Packed<'a> {
    linear: PackedLinear<'a>,
    /// The blocks that they are kept in: one of `Lossless::FORMATS`. F32 if none.
    format: Option<Format>,
    /// The integers' tensor.
    bytes: TensorBytes,
}

impl Rows for Packed<'_> {
    fn tensor_type(&self) -> TensorType {
        match self.format {
            None => TensorType::F32,
            Some(Format::Q4_0) => TensorType::Q4_0,
            Some(Format::Q4_1) => TensorType::Q4_1,
            Some(Format::Q5_0) => TensorType::Q5_0,
            Some(_) => TensorType::Q8_0,
        }
    }

    fn keeps_type(&self) -> bool {
        self.format.is_some()
    }

    fn read(&self, rows: Range<usize>) -> Cow<'_, [u8]> {
        let k = self.linear.n_in();
        Cow::Owned(match self.format {
            Some(format) => {
                let mut out = vec![0; rows.len() * format.row_bytes(k).expect("rows are whole blocks")];
                self.linear.encode(rows, format, &mut out);
                out
            }
            None => {
                let mut x = vec![0.0; rows.len() * k];
                self.linear.dequantize(rows, &mut x);
                x.iter().flat_map(|x| x.to_le_bytes()).collect()
            }
        })
    }

    fn places(&self, rows: Range<usize>) -> Vec<TensorBytes> {
        match self.linear.integer_bytes(rows.clone()) {
            Some(range) => vec![self.bytes.slice(range)],
            // All rows lie across the whole tensor, which is given back after the last.
            None if rows.end == self.linear.n_out() => vec![self.bytes.clone()],
            None => Vec::new(),
        }
    }
}
