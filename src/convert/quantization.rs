//! How the weights of a checkpoint are quantized, as its configuration says.

use bise_models::printable::printable;
use serde_json::{Map, Value};

use super::checkpoint::Checkpoint;
use super::error::ConvertError;
use super::integers::Scheme;
use super::layout::Layout;

/// How weights are stored, where they are not plain floating-point numbers.
#[derive(Clone, Debug, Default)]
pub struct Quantization {
    /// The size of blocks that share a scale: rows and columns.
    pub block: Option<[usize; 2]>,
    /// How layers are packed as integers.
    pub integers: Option<Scheme>,
}

impl Quantization {
    /// That of `checkpoint`.
    ///
    /// # Errors
    /// For kinds that cannot be read.
    pub fn of(checkpoint: &Checkpoint) -> Result<Quantization, ConvertError> {
        let unsupported = |what: String, reason: &str| {
            Err(ConvertError::Unsupported { path: checkpoint.config_path(), what, reason: reason.into() })
        };
        let object = |key: &str| checkpoint.config.get(key).and_then(Value::as_object);
        if checkpoint.layout == Layout::Mistral {
            let Some(quantization) = object("quantization") else { return Ok(Quantization::default()) };
            return match text(quantization, "qformat_weight") {
                Some("fp8_e4m3") => Ok(Quantization::default()),
                other => unsupported(
                    format!(
                        "'quantization' with weights in '{}'",
                        printable(other.unwrap_or("?").as_bytes())
                    ),
                    "of Mistral's own formats, fp8_e4m3 is read: convert the model from another repository",
                ),
            };
        }
        if let Some(scheme) = Scheme::find(&checkpoint.folder, &checkpoint.config)? {
            return Ok(Quantization { integers: Some(scheme), ..Quantization::default() });
        }
        let inner = || object("text_config")?.get("quantization_config")?.as_object();
        let Some(config) = object("quantization_config").or_else(inner) else {
            return Ok(Quantization::default());
        };
        const ANOTHER: &str = "convert the model in BF16 or FP8, and quantize it with `bise quantize`";
        let method = text(config, "quant_method").unwrap_or("?");
        match method {
            "fp8" => Ok(Quantization {
                block: block(checkpoint, config.get("weight_block_size"))?,
                ..Quantization::default()
            }),
            "compressed-tensors" => {
                let format = text(config, "format").unwrap_or("?");
                if !["float-quantized", "naive-quantized", "int-quantized"].contains(&format) {
                    let what = format!("compressed-tensors in the format '{}'", printable(format.as_bytes()));
                    return unsupported(what, ANOTHER);
                }
                let groups = config.get("config_groups").and_then(Value::as_object);
                let weights = groups.and_then(|groups| groups.values().next()?.get("weights"));
                if groups.is_some_and(|groups| groups.len() > 1) {
                    let reason = "layers are quantized in different ways, of which only one is read";
                    return unsupported("compressed-tensors with several 'config_groups'".into(), reason);
                }
                let block = block(checkpoint, weights.and_then(|w| w.get("block_structure")))?;
                Ok(Quantization { block, ..Quantization::default() })
            }
            "modelopt" if text(config, "quant_algo") == Some("FP8") => Ok(Quantization::default()),
            other => unsupported(format!("quantization by '{}'", printable(other.as_bytes())), ANOTHER),
        }
    }
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str()
}

/// The size of a block: two numbers above zero.
fn block(checkpoint: &Checkpoint, value: Option<&Value>) -> Result<Option<[usize; 2]>, ConvertError> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
    let size = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let sizes = value.as_array().map(|sizes| sizes.iter().map(size).collect::<Option<Vec<_>>>());
    match sizes.flatten().as_deref() {
        Some(&[rows, columns]) => Ok(Some([rows, columns])),
        _ => Err(checkpoint.config_error(
            "weight_block_size",
            printable(value.to_string().as_bytes()),
            "two numbers above 0, as in [128, 128]",
        )),
    }
}
