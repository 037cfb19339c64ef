//! GPTQ as AutoGPTQ and GPTQModel store it.

use super::groups::{GptqOffset, Scales, Zeros};
use super::linear::{Layout, PackedLinear};
use super::order::check_order;
use super::parts::Parts;
use super::refused::refuse_variant;
use super::settings::Settings;
use super::words::{Packing, Words};
use crate::convert::ConvertError;

/// What `quantization_config` says of a GPTQ checkpoint.
#[derive(Clone, Debug)]
pub(super) struct Gptq {
    n_bits: u32,
    /// None: the whole row.
    group_len: Option<usize>,
    offset: GptqOffset,
}

impl Gptq {
    pub(super) fn of(settings: &Settings<'_>) -> Result<Gptq, ConvertError> {
        let format = settings.name(&["checkpoint_format", "format"])?.unwrap_or_else(|| "gptq".to_owned());
        let offset = match format.as_str() {
            _ if settings.flag("is_marlin_format")? == Some(true) => return Err(marlin(settings)),
            "gptq_v2" => GptqOffset::None,
            "gptq" if is_by_gptqmodel(settings) => GptqOffset::OneInWords,
            "gptq" => GptqOffset::One,
            "marlin" => return Err(marlin(settings)),
            other => {
                let reason = "of its formats, gptq and gptq_v2 are known";
                return Err(refuse_variant(settings, &format!("GPTQ in the format {other}"), reason));
            }
        };
        // Rules per module: those with "-:" leave modules as they are, others change bits and groups.
        if let Some(dynamic) = settings.object("dynamic")?
            && let Some(rule) = dynamic.map.keys().find(|rule| !rule.starts_with("-:"))
        {
            let what = format!("GPTQ with settings of its own for {rule}");
            return Err(refuse_variant(settings, &what, "all layers must have the same bits and groups"));
        }
        Gptq::with_offset(settings, offset)
    }

    pub(super) fn of_auto_round(settings: &Settings<'_>, v2: bool) -> Result<Gptq, ConvertError> {
        Gptq::with_offset(settings, if v2 { GptqOffset::None } else { GptqOffset::One })
    }

    fn with_offset(settings: &Settings<'_>, offset: GptqOffset) -> Result<Gptq, ConvertError> {
        let n_bits = match settings.number(&["bits"])? {
            Some(4) => 4,
            Some(8) => 8,
            Some(n) => {
                let reason = "integers of 4 and of 8 bits fit blocks of GGUF";
                return Err(refuse_variant(settings, &format!("GPTQ with {n} bits"), reason));
            }
            None => return Err(settings.missing("bits", "4 or 8")),
        };
        Ok(Gptq { n_bits, group_len: settings.group_len(&["group_size"], Some(128))?, offset })
    }

    pub(super) fn open<'a>(&self, parts: &Parts<'_, 'a>) -> Result<PackedLinear<'a>, ConvertError> {
        let (qweight, qzeros, scales) = (parts.get("qweight")?, parts.get("qzeros")?, parts.get("scales")?);
        qweight.check_dtype(&["I32"], 4)?;
        qzeros.check_dtype(&["I32"], 4)?;
        let in_word = 32 / self.n_bits as usize;
        let [word_rows, n_out] = qweight.matrix()?;
        let n_in = word_rows * in_word;
        let group_len = qweight.group_len(n_in, self.group_len)?;
        if n_out % in_word != 0 {
            let expected = format!("a multiple of {in_word}, as zero points are packed");
            return Err(qweight.invalid(format!("{n_out} rows of weights"), expected));
        }
        let n_groups = n_in / group_len;
        let because = format!("groups of {group_len} for {n_in} columns and {n_out} rows");
        qzeros.check_shape(&[n_groups, n_out / in_word], &because)?;
        scales.check_shape(&[n_groups, n_out], &because)?;
        if let Some(g_idx) = parts.find("g_idx") {
            check_order(&g_idx, n_in, group_len)?;
        }
        let packing = if self.n_bits == 4 { Packing::GptqNibbles } else { Packing::GptqBytes };
        let zeros =
            Zeros::Gptq { words: qzeros.tensor.bytes, n_out, n_bits: self.n_bits, offset: self.offset };
        let layout = Layout {
            n_bits: self.n_bits,
            words: Words { packing, bytes: qweight.tensor.bytes, n_out, n_in },
            group_len,
            scales: Scales::new(&scales, 1, n_out)?,
            zeros,
            zeros_part: Some(qzeros),
        };
        PackedLinear::new(parts.layer, &scales, layout)
    }
}

fn marlin(settings: &Settings<'_>) -> ConvertError {
    refuse_variant(settings, "GPTQ in the format marlin", "its words are permuted for one kind of GPU")
}

/// Whether `meta.quantizer` names GPTQModel.
fn is_by_gptqmodel(settings: &Settings<'_>) -> bool {
    let quantizer = settings.value("meta").and_then(|meta| meta.get("quantizer"));
    let names = |value: &serde_json::Value| value.as_str().is_some_and(|name| name.starts_with("gptqmodel"));
    quantizer.is_some_and(|value| names(value) || value.as_array().is_some_and(|all| all.iter().any(names)))
}
