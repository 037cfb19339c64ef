//! How the weights of a checkpoint are quantized, as its configuration says.

use std::path::Path;

use bise_models::printable::printable;
use serde_json::{Map, Value};

use super::checkpoint::Checkpoint;
use super::error::ConvertError;
use super::integers::{Scheme, stated};
use super::layout::Layout;

/// How weights are stored, where they are not plain floating-point numbers.
#[derive(Clone, Debug, Default)]
pub struct Quantization {
    /// The size of blocks that share a scale: rows and columns.
    pub block: Option<[usize; 2]>,
    /// The scale that every weight of 8 bits has, without the name of its module. None where nothing is said about such weights.
    pub scale: Option<&'static str>,
    /// How layers are packed as integers.
    pub integers: Option<Scheme>,
}

/// Whether the checkpoint in `folder` says that its layers are packed as integers, of a kind that can be read.
pub fn has_integers(folder: &Path) -> bool {
    let quantization =
        Checkpoint::without_weights(folder).and_then(|checkpoint| Quantization::of(&checkpoint));
    quantization.is_ok_and(|quantization| quantization.integers.is_some())
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
        if checkpoint.layout == Layout::Mistral {
            let Some(stated) = checkpoint.config.get("quantization").filter(|stated| !stated.is_null())
            else {
                return Ok(Quantization::default());
            };
            let format = match stated {
                Value::Object(quantization) => text(quantization, "qformat_weight").unwrap_or("?").to_owned(),
                other => other.to_string(),
            };
            return match format.as_str() {
                "fp8_e4m3" => Ok(Quantization { scale: Some("qscale_weight"), ..Quantization::default() }),
                other => unsupported(
                    format!("'quantization' with weights in '{}'", printable(other.as_bytes())),
                    "of Mistral's own formats, fp8_e4m3 is read: convert the model from another repository",
                ),
            };
        }
        if let Some(scheme) = Scheme::find(&checkpoint.folder, &checkpoint.config)? {
            return Ok(Quantization { integers: Some(scheme), ..Quantization::default() });
        }
        let Some((key, Value::Object(config))) = stated(&checkpoint.config) else {
            // ModelOpt may say it in a file of its own.
            let has_file = checkpoint.folder.join("hf_quant_config.json").exists();
            return Ok(Quantization { scale: has_file.then_some("weight_scale"), ..Quantization::default() });
        };
        const ANOTHER: &str = "convert the model in BF16 or FP8, and quantize it with `bise quantize`";
        let method = text(config, "quant_method").unwrap_or("compressed-tensors").to_lowercase();
        match method.replace('_', "-").as_str() {
            "fp8" => Ok(Quantization {
                block: block(checkpoint, "weight_block_size", config.get("weight_block_size"))?,
                scale: Some("weight_scale_inv"),
                ..Quantization::default()
            }),
            "compressed-tensors" => {
                let format = text(config, "format").unwrap_or("?").to_lowercase();
                if !["float-quantized", "naive-quantized", "int-quantized"].contains(&format.as_str()) {
                    let what = format!("compressed-tensors in the format '{}'", printable(format.as_bytes()));
                    return unsupported(what, ANOTHER);
                }
                let groups = config.get("config_groups").and_then(Value::as_object);
                let (name, group) = groups.and_then(|groups| groups.iter().next()).unzip();
                if groups.is_some_and(|groups| groups.len() > 1) {
                    let reason = "layers are quantized in different ways, of which only one is read";
                    return unsupported("compressed-tensors with several 'config_groups'".into(), reason);
                }
                let place = format!("{key}.config_groups.{}.weights.block_structure", name.map_or("", |n| n));
                let stated = group.and_then(|group| group.get("weights")?.get("block_structure"));
                let block = block(checkpoint, &place, stated)?;
                Ok(Quantization { block, scale: Some("weight_scale"), ..Quantization::default() })
            }
            "modelopt" => Ok(Quantization { scale: Some("weight_scale"), ..Quantization::default() }),
            other => unsupported(format!("quantization by '{}'", printable(other.as_bytes())), ANOTHER),
        }
    }
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str()
}

/// The size of a block: two numbers above zero.
fn block(
    checkpoint: &Checkpoint,
    key: &str,
    value: Option<&Value>,
) -> Result<Option<[usize; 2]>, ConvertError> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
    let size = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let sizes = value.as_array().map(|sizes| sizes.iter().map(size).collect::<Option<Vec<_>>>());
    match sizes.flatten().as_deref() {
        Some(&[rows, columns]) => Ok(Some([rows, columns])),
        _ => Err(checkpoint.config_error(
            key,
            printable(value.to_string().as_bytes()),
            "two numbers above 0, as in [128, 128]",
        )),
    }
}
