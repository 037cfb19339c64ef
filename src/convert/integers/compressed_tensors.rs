//! compressed-tensors: `pack-quantized` and `int-quantized` (<https://github.com/vllm-project/compressed-tensors>).

use super::groups::{Scales, Zeros};
use super::linear::{Layout, PackedLinear};
use super::order::{check_order, is_unset};
use super::parts::{Part, Parts};
use super::refused::refuse_variant;
use super::settings::Settings;
use super::words::{Packing, Words};
use crate::convert::ConvertError;

/// What `quantization_config` says of a checkpoint.
#[derive(Clone, Debug)]
pub(super) struct CompressedTensors {
    groups: Vec<ConfigGroup>,
}

/// How a group of layers is quantized. Which layers, their shapes tell.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ConfigGroup {
    n_bits: u32,
    /// None: the whole row.
    group_len: Option<usize>,
    symmetric: bool,
}

impl CompressedTensors {
    /// None where the weights are FP8, or bytes with one scale.
    pub(super) fn of(settings: &Settings<'_>) -> Result<Option<CompressedTensors>, ConvertError> {
        let format = settings.name(&["format"])?.unwrap_or_else(|| "dense".to_owned());
        let transforms =
            settings.object("transform_config")?.and_then(|c| c.object("config_groups").transpose());
        if transforms.transpose()?.is_some_and(|groups| !groups.map.is_empty()) {
            let reason = "activations are rotated between its layers";
            return Err(refuse_variant(settings, "compressed-tensors with transform_config", reason));
        }
        if let Some(sparsity) = settings.object("sparsity_config")?
            && let Some(format) = sparsity.name(&["format"])?
            && format != "dense"
        {
            let reason = "its zeros are left out";
            return Err(refuse_variant(
                settings,
                &format!("compressed-tensors in the format {format}"),
                reason,
            ));
        }
        let Some(config_groups) = settings.object("config_groups")? else {
            return Err(settings.missing("config_groups", "the groups of layers"));
        };
        let mut groups = Vec::new();
        // Of those whose scales are for whole tensors or for tiles, no block of 32 has its own.
        let mut n_plain = 0;
        for key in config_groups.map.keys() {
            let group = config_groups.map[key]
                .as_object()
                .ok_or_else(|| config_groups.invalid(key, &config_groups.map[key], "an object"))?;
            let within = format!("{}{key}.", config_groups.within);
            let group = Settings { path: settings.path, within, map: group };
            let Some(weights) = group.object("weights")? else { continue };
            let format = group.name(&["format"])?.unwrap_or_else(|| format.clone());
            let is_float = weights.name(&["type"])?.is_some_and(|name| name == "float");
            let n_bits = weights.number(&["num_bits"])?.unwrap_or(8);
            let by_rows =
                weights.name(&["strategy"])?.is_some_and(|name| name == "group" || name == "channel");
            match (format.as_str(), is_float) {
                ("float-quantized" | "naive-quantized", true) if n_bits == 8 => n_plain += 1,
                ("int-quantized" | "naive-quantized", false) if n_bits == 8 && !by_rows => n_plain += 1,
                ("pack-quantized", false) => groups.push(ConfigGroup::of(&weights, n_bits)?),
                ("int-quantized" | "naive-quantized", false) if n_bits == 8 => {
                    groups.push(ConfigGroup::of(&weights, n_bits)?)
                }
                (format, _) => {
                    let what = format!("compressed-tensors in the format {format} ({n_bits} bits)");
                    return Err(refuse_variant(settings, &what, format_reason(format)));
                }
            }
        }
        match (groups.is_empty(), n_plain) {
            (false, 0) => Ok(Some(CompressedTensors { groups })),
            (true, 1..) => Ok(None),
            (true, _) => Err(settings.missing("config_groups", "a group of layers with quantized weights")),
            (false, _) => {
                let reason = "layers must be all of one kind";
                Err(refuse_variant(settings, "compressed-tensors with both integers and FP8", reason))
            }
        }
    }

    pub(super) fn open<'a>(&self, parts: &Parts<'_, 'a>) -> Result<PackedLinear<'a>, ConvertError> {
        let scales = parts.get("weight_scale")?;
        let packed = match parts.find("weight_packed") {
            Some(packed) => packed,
            None => return self.open_bytes(parts, parts.get("weight")?, &scales),
        };
        packed.check_dtype(&["I32"], 4)?;
        let [rows, row_words] = packed.matrix()?;
        let shape_part = parts.get("weight_shape")?;
        let shape = shape_part.integers()?;
        let (n_out, n_in) = match shape[..] {
            [n_out, n_in]
                if usize::try_from(n_out) == Ok(rows) && n_in > 0 && n_in <= row_words as i64 * 32 =>
            {
                (rows, n_in as usize)
            }
            _ => {
                let expected = format!("the sizes of {}, which has {rows} rows", packed.what());
                return Err(shape_part.invalid(format!("{shape:?}"), expected));
            }
        };
        let group_len = self.group_len(&scales, n_out, n_in)?;
        let fits = |group: &&ConfigGroup| {
            n_in * group.n_bits as usize == row_words * 32 && group.group_len.unwrap_or(n_in) == group_len
        };
        let Some(group) = self.groups.iter().find(fits) else {
            let found = format!("{row_words} words for {n_in} columns in groups of {group_len}");
            return Err(packed.invalid(found, self.expected()));
        };
        if let Some(g_idx) = parts.find("weight_g_idx")
            && !is_unset(&g_idx)?
        {
            check_order(&g_idx, n_in, group_len)?;
        }
        let n_bits = group.n_bits;
        let packing = if n_bits == 4 { Packing::Nibbles } else { Packing::Bytes };
        let words = Words { packing, bytes: packed.tensor.bytes, n_out, n_in };
        self.layer(parts, &scales, words, group_len, n_bits)
    }

    /// Opens `int-quantized` weights, one signed byte each.
    fn open_bytes<'a>(
        &self,
        parts: &Parts<'_, 'a>,
        weight: Part<'a>,
        scales: &Part<'a>,
    ) -> Result<PackedLinear<'a>, ConvertError> {
        weight.check_dtype(&["I8"], 1)?;
        let [n_out, n_in] = weight.matrix()?;
        let group_len = self.group_len(scales, n_out, n_in)?;
        let words = Words { packing: Packing::SignedBytes, bytes: weight.tensor.bytes, n_out, n_in };
        self.layer(parts, scales, words, group_len, 8)
    }

    fn layer<'a>(
        &self,
        parts: &Parts<'_, 'a>,
        scales: &Part<'a>,
        words: Words<'a>,
        group_len: usize,
        n_bits: u32,
    ) -> Result<PackedLinear<'a>, ConvertError> {
        let (n_out, n_groups) = (words.n_out, words.n_in / group_len);
        let zeros_part = parts.find("weight_zero_point");
        let zeros = match &zeros_part {
            None => {
                let same = |group: &&ConfigGroup| {
                    group.n_bits == n_bits && group.group_len.unwrap_or(words.n_in) == group_len
                };
                if self.groups.iter().filter(same).all(|group| !group.symmetric) {
                    // The error of a tensor that is missing.
                    parts.get("weight_zero_point")?;
                }
                Zeros::All(1 << (n_bits - 1))
            }
            Some(part) if part.tensor.dtype == "I8" => {
                part.check_dtype(&["I8"], 1)?;
                check_sizes(part, n_out, n_groups)?;
                Zeros::SignedBytes { bytes: part.tensor.bytes, n_groups, middle: 1 << (n_bits - 1) }
            }
            Some(part) => {
                part.check_dtype(&["I32"], 4)?;
                let in_word = 32 / n_bits as usize;
                let because = format!("{n_groups} groups for {n_out} rows, {in_word} rows to a word");
                part.check_shape(&[n_out.div_ceil(in_word), n_groups], &because)?;
                Zeros::Rows { words: part.tensor.bytes, n_groups, n_bits }
            }
        };
        let scales_of = Scales::new(scales, n_groups, 1)?;
        let layout = Layout { n_bits, words, group_len, scales: scales_of, zeros, zeros_part };
        PackedLinear::new(parts.layer, scales, layout)
    }

    /// The weights of a group, by the number of scales.
    fn group_len(&self, scales: &Part<'_>, n_out: usize, n_in: usize) -> Result<usize, ConvertError> {
        let n_groups = match scales.tensor.shape {
            [rows] if *rows == n_out => 1,
            [rows, n_groups] if *rows == n_out && *n_groups > 0 => *n_groups,
            shape => {
                let found = format!("the shape {shape:?}");
                return Err(scales.invalid(found, format!("a scale for every group of {n_out} rows")));
            }
        };
        let known = self.groups.iter().map(|group| group.group_len.unwrap_or(n_in));
        let by_config = known.clone().find(|group_len| n_in.div_ceil(*group_len) == n_groups);
        match by_config {
            Some(group_len) => scales.group_len(n_in, Some(group_len)),
            None => {
                let found = format!("{n_groups} groups for {n_in} columns");
                Err(scales.invalid(found, self.expected()))
            }
        }
    }

    fn expected(&self) -> String {
        let describe = |group: &ConfigGroup| match group.group_len {
            Some(group_len) => format!("{} bits in groups of {group_len}", group.n_bits),
            None => format!("{} bits with a scale for each row", group.n_bits),
        };
        let all: Vec<String> = self.groups.iter().map(describe).collect();
        format!("{}, as config_groups says", all.join(" or "))
    }
}

impl ConfigGroup {
    fn of(weights: &Settings<'_>, n_bits: i64) -> Result<ConfigGroup, ConvertError> {
        let n_bits = match n_bits {
            4 => 4,
            8 => 8,
            n => {
                let reason = "integers of 4 and of 8 bits fit blocks of GGUF";
                return Err(refuse_variant(weights, &format!("compressed-tensors with {n} bits"), reason));
            }
        };
        let group_len = weights.group_len(&["group_size"], None)?;
        let strategy = weights.name(&["strategy"])?;
        let group_len = match strategy.as_deref() {
            Some("group") | None => group_len,
            Some("channel") => None,
            Some(other) => {
                let what = format!("compressed-tensors with the strategy {other}");
                return Err(refuse_variant(weights, &what, "scales must be of groups or of rows (channels)"));
            }
        };
        let symmetric = weights.flag("symmetric")?.unwrap_or(true);
        Ok(ConfigGroup { n_bits, group_len, symmetric })
    }
}

/// Why a format is not converted.
fn format_reason(format: &str) -> &'static str {
    match format {
        "nvfp4-pack-quantized" => "its weights are 4-bit floats in groups of 16 with 8-bit floats as scales",
        "mxfp4-pack-quantized" | "mxfp6-pack-quantized" | "mxfp8-quantized" => {
            "its weights are small floats whose scales are powers of two of 8 bits"
        }
        "marlin-24" => "its words are permuted for one kind of GPU",
        "sparse-bitmask" | "sparse-24-bitmask" => "its zeros are left out",
        "dense" | "fakequant" => "its weights are rounded, but not packed",
        _ => "pack-quantized, int-quantized and float-quantized are known",
    }
}

/// Checks for `[n_out, n_groups]`, or `[n_out]` where there is one group.
fn check_sizes(part: &Part<'_>, n_out: usize, n_groups: usize) -> Result<(), ConvertError> {
    match part.tensor.shape {
        [rows] if *rows == n_out && n_groups == 1 => Ok(()),
        _ => part.check_shape(&[n_out, n_groups], "the shape of the scales"),
    }
}
