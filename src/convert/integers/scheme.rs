//! How a checkpoint is quantized.

use std::path::Path;

use serde_json::{Map, Value};

use super::awq::Awq;
use super::compressed_tensors::CompressedTensors;
use super::gptq::Gptq;
use super::linear::PackedLinear;
use super::parts::{Parts, Tensors};
use super::refused::refuse;
use super::settings::{Settings, short};
use crate::convert::{ConvertError, json_file};

/// How the layers of a checkpoint are quantized. Which ones are, their tensors tell.
#[derive(Clone, Debug)]
pub struct Scheme(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Awq(Awq),
    Gptq(Gptq),
    CompressedTensors(CompressedTensors),
}

/// What `config.json` says about how weights are quantized, and under which key.
pub fn stated(config: &Map<String, Value>) -> Option<(&'static str, &Value)> {
    let inner = |key: &str| config.get(key).and_then(Value::as_object);
    let objects = [Some(config), inner("text_config"), inner("language_config")];
    let keys = ["quantization_config", "compression_config"];
    let mut found = objects.into_iter().flatten().flat_map(|object| keys.map(|key| (key, object.get(key))));
    found.find_map(|(key, value)| Some((key, value.filter(|value| !value.is_null())?)))
}

impl Scheme {
    /// The scheme of the checkpoint in `folder`, whose `config.json` says `config`. Checkpoints of older programs have a `quantize_config.json` or
    /// a `quant_config.json` in place of the key `quantization_config`.
    ///
    /// None where weights are not quantized, or to FP8 or bytes with one scale.
    ///
    /// # Errors
    /// Where weights are quantized in a way that is not converted, or the configuration contradicts itself.
    pub fn find(folder: &Path, config: &Map<String, Value>) -> Result<Option<Scheme>, ConvertError> {
        let path = folder.join("config.json");
        // Newer versions say the same under `quantization_config`, too.
        if let Some(mlx) = config.get("quantization").and_then(Value::as_object)
            && mlx.contains_key("group_size")
        {
            let settings = Settings { path: &path, within: "quantization.".to_owned(), map: mlx };
            return Err(refuse(&settings, "mlx"));
        }
        if let Some((key, value)) = stated(config) {
            let map = value.as_object().ok_or_else(|| ConvertError::Invalid {
                path: path.clone(),
                what: key.to_owned(),
                found: short(value),
                expected: "an object".to_owned(),
            })?;
            return Scheme::of(&Settings { path: &path, within: format!("{key}."), map }, None);
        }
        for (file, method) in [
            ("quantize_config.json", Some("gptq")),
            ("quant_config.json", Some("awq")),
            ("hf_quant_config.json", Some("modelopt")),
        ] {
            let path = folder.join(file);
            if let Some(map) = json_file::object_if_there(&path)? {
                return Scheme::of(&Settings { path: &path, within: String::new(), map: &map }, method);
            }
        }
        Ok(None)
    }

    /// The scheme that `settings` describe; `method` where they do not name one.
    fn of(settings: &Settings<'_>, method: Option<&str>) -> Result<Option<Scheme>, ConvertError> {
        let named = settings.name(&["quant_method"])?;
        let algorithm =
            || settings.object("quantization").ok().flatten()?.name(&["quant_algo"]).ok().flatten();
        let known = |key| settings.has(key);
        let method = match named.as_deref().or(method) {
            Some(method) => method.to_owned(),
            // Early bitsandbytes and compressed-tensors did not name themselves.
            None if known("load_in_4bit") || known("load_in_8bit") => "bitsandbytes".to_owned(),
            None if known("config_groups") => "compressed-tensors".to_owned(),
            None if known("quant_config") || known("weight_quant_params") => "hqq".to_owned(),
            None => {
                return Err(settings.missing("quant_method", "awq, gptq, compressed-tensors or fp8"));
            }
        };
        let kind = match method.as_str() {
            "awq" => Kind::Awq(Awq::of(settings)?),
            "gptq" => Kind::Gptq(Gptq::of(settings)?),
            "auto-round" | "intel/auto-round" | "autoround" => Scheme::of_auto_round(settings)?,
            "compressed-tensors" | "compressed_tensors" => match CompressedTensors::of(settings)? {
                Some(scheme) => Kind::CompressedTensors(scheme),
                None => return Ok(None),
            },
            "fp8" => return Ok(None),
            "modelopt" if is_fp8(settings.name(&["quant_algo"])?.or_else(algorithm)) => return Ok(None),
            method => return Err(refuse(settings, method)),
        };
        Ok(Some(Scheme(kind)))
    }

    /// AutoRound writes the layouts of others.
    fn of_auto_round(settings: &Settings<'_>) -> Result<Kind, ConvertError> {
        let data_type = settings.name(&["data_type"])?.unwrap_or_else(|| "int".to_owned());
        if data_type != "int" {
            return Err(refuse(settings, &format!("auto-round with data_type {data_type}")));
        }
        let packing =
            settings.name(&["packing_format"])?.unwrap_or_else(|| "auto_round:auto_gptq".to_owned());
        // Which zero points each writes: auto_round/export/export_to_autoround/export.py.
        match packing.strip_prefix("auto_round:").unwrap_or(&packing) {
            "auto_awq" | "awq" => Ok(Kind::Awq(Awq::of_auto_round(settings)?)),
            "auto_gptq" | "gptq" => Ok(Kind::Gptq(Gptq::of_auto_round(settings, false)?)),
            "gptqmodel" => Ok(Kind::Gptq(Gptq::of_auto_round(settings, true)?)),
            _ => Err(refuse(settings, &format!("auto-round with packing_format {packing}"))),
        }
    }

    /// The field's name of the scheme: `AWQ`, `GPTQ` or `compressed-tensors`.
    pub fn name(&self) -> &'static str {
        match self.0 {
            Kind::Awq(_) => "AWQ",
            Kind::Gptq(_) => "GPTQ",
            Kind::CompressedTensors(_) => "compressed-tensors",
        }
    }

    /// The tensors that stand for the weights of `layer`, which are quantized, without its name. The integers come first.
    pub fn parts(&self, tensors: &dyn Tensors<'_>, layer: &str) -> &'static [&'static str] {
        match self.0 {
            Kind::Awq(_) => &["qweight", "qzeros", "scales"],
            Kind::Gptq(_) => &["qweight", "qzeros", "scales", "g_idx"],
            Kind::CompressedTensors(_) if tensors.tensor(&format!("{layer}.weight_packed")).is_some() => {
                &["weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx"]
            }
            Kind::CompressedTensors(_) => &["weight", "weight_scale", "weight_zero_point"],
        }
    }

    /// Whether the weights of `layer` are quantized.
    pub fn is_quantized(&self, tensors: &dyn Tensors<'_>, layer: &str) -> bool {
        let has = |suffix: &str| tensors.tensor(&format!("{layer}.{suffix}"));
        match self.0 {
            Kind::Awq(_) | Kind::Gptq(_) => has("qweight").is_some(),
            Kind::CompressedTensors(_) => {
                has("weight_packed").is_some() || has("weight").is_some_and(|tensor| tensor.dtype == "I8")
            }
        }
    }

    /// Opens the quantized weights of `layer`, as in `model.layers.0.self_attn.q_proj`.
    ///
    /// # Errors
    /// Where a tensor is missing, types or shapes do not fit each other or the configuration, scales are not finite, or columns are reordered.
    pub fn open<'a>(&self, tensors: &dyn Tensors<'a>, layer: &str) -> Result<PackedLinear<'a>, ConvertError> {
        let parts = Parts { tensors, layer };
        match &self.0 {
            Kind::Awq(awq) => awq.open(&only(parts, "qweight")?),
            Kind::Gptq(gptq) => gptq.open(&only(parts, "qweight")?),
            Kind::CompressedTensors(scheme) => scheme.open(&parts),
        }
    }
}

/// Refuses a layer that has plain weights besides the packed ones.
fn only<'t, 'a>(parts: Parts<'t, 'a>, packed: &str) -> Result<Parts<'t, 'a>, ConvertError> {
    match parts.find("weight") {
        None => Ok(parts),
        Some(weight) => {
            let expected = format!("either it or '{packed}'");
            Err(weight.invalid("both".to_owned(), expected))
        }
    }
}

fn is_fp8(algorithm: Option<String>) -> bool {
    algorithm.is_some_and(|name| name == "fp8")
}
