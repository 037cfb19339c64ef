//! AWQ as AutoAWQ stores it (`awq/modules/linear/{gemm,gemv,gemv_fast}.py`).

use super::groups::{Scales, Zeros};
use super::linear::{Layout, PackedLinear};
use super::parts::Parts;
use super::refused::refuse_variant;
use super::settings::Settings;
use super::words::{Packing, Words};
use crate::convert::ConvertError;

/// What `quantization_config` says of an AWQ checkpoint.
#[derive(Clone, Debug)]
pub(super) struct Awq {
    version: Version,
    /// None: the whole row.
    group_len: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Gemm,
    Gemv,
    GemvFast,
}

impl Awq {
    pub(super) fn of(settings: &Settings<'_>) -> Result<Awq, ConvertError> {
        let backend = settings.name(&["backend"])?;
        let version = settings.name(&["version", "format"])?.unwrap_or_else(|| "gemm".to_owned());
        let version = match version.as_str() {
            _ if backend.as_deref() == Some("llm-awq") => "llm-awq",
            version => version,
        };
        let version = match version {
            "gemm" => Version::Gemm,
            "gemv" => Version::Gemv,
            "gemv_fast" => Version::GemvFast,
            "marlin" => {
                return Err(refuse_variant(
                    settings,
                    "AWQ of version marlin",
                    "its words are permuted for one kind of GPU",
                ));
            }
            other => {
                let reason = "of its layouts, gemm, gemv and gemv_fast are known";
                return Err(refuse_variant(settings, &format!("AWQ of version {other}"), reason));
            }
        };
        Awq::with_version(settings, version)
    }

    /// AutoRound's `auto_round:auto_awq` is the layout of `gemm`.
    pub(super) fn of_auto_round(settings: &Settings<'_>) -> Result<Awq, ConvertError> {
        Awq::with_version(settings, Version::Gemm)
    }

    fn with_version(settings: &Settings<'_>, version: Version) -> Result<Awq, ConvertError> {
        let n_bits = settings.number(&["bits", "w_bit"])?.unwrap_or(4);
        if n_bits != 4 {
            let reason = "AutoAWQ has layouts for 4 bits alone";
            return Err(refuse_variant(settings, &format!("AWQ with {n_bits} bits"), reason));
        }
        Ok(Awq { version, group_len: settings.group_len(&["group_size", "q_group_size"], Some(128))? })
    }

    pub(super) fn open<'a>(&self, parts: &Parts<'_, 'a>) -> Result<PackedLinear<'a>, ConvertError> {
        match self.version {
            Version::Gemm => self.open_gemm(parts),
            Version::Gemv => self.open_gemv(parts),
            Version::GemvFast => self.open_gemv_fast(parts),
        }
    }

    fn open_gemm<'a>(&self, parts: &Parts<'_, 'a>) -> Result<PackedLinear<'a>, ConvertError> {
        let (qweight, qzeros, scales) = (parts.get("qweight")?, parts.get("qzeros")?, parts.get("scales")?);
        qweight.check_dtype(&["I32"], 4)?;
        qzeros.check_dtype(&["I32"], 4)?;
        let [n_in, n_words] = qweight.matrix()?;
        let n_out = n_words * 8;
        let group_len = qweight.group_len(n_in, self.group_len)?;
        let n_groups = n_in / group_len;
        let because = format!("groups of {group_len} for {n_in} columns and {n_out} rows");
        qzeros.check_shape(&[n_groups, n_words], &because)?;
        scales.check_shape(&[n_groups, n_out], &because)?;
        let layout = Layout {
            n_bits: 4,
            words: Words { packing: Packing::AwqGemm, bytes: qweight.tensor.bytes, n_out, n_in },
            group_len,
            scales: Scales::new(&scales, 1, n_out)?,
            zeros: Zeros::AwqGemm { words: qzeros.tensor.bytes, n_out },
            zeros_part: Some(qzeros),
        };
        PackedLinear::new(parts.layer, &scales, layout)
    }

    fn open_gemv<'a>(&self, parts: &Parts<'_, 'a>) -> Result<PackedLinear<'a>, ConvertError> {
        let (qweight, qzeros, scales) = (parts.get("qweight")?, parts.get("qzeros")?, parts.get("scales")?);
        qweight.check_dtype(&["I32"], 4)?;
        qzeros.check_dtype(&["I32"], 4)?;
        let [n_out, n_words] = qweight.matrix()?;
        let n_in = n_words * 8;
        let group_len = qweight.group_len(n_in, self.group_len)?;
        let n_groups = n_in / group_len;
        // Both are padded, by how much depends on the group.
        let ([zero_rows, row_words], [scale_rows, row_scales]) = (qzeros.matrix()?, scales.matrix()?);
        let because = format!("{n_groups} groups of {group_len} for each of {n_out} rows");
        if zero_rows != n_out || row_words < n_groups.div_ceil(8) {
            qzeros.check_shape(&[n_out, n_groups.div_ceil(8)], &because)?;
        }
        if scale_rows != n_out || row_scales < n_groups {
            scales.check_shape(&[n_out, n_groups], &because)?;
        }
        let layout = Layout {
            n_bits: 4,
            words: Words { packing: Packing::Nibbles, bytes: qweight.tensor.bytes, n_out, n_in },
            group_len,
            scales: Scales::new(&scales, row_scales, 1)?,
            zeros: Zeros::AwqGemv { words: qzeros.tensor.bytes, row_words },
            zeros_part: Some(qzeros),
        };
        PackedLinear::new(parts.layer, &scales, layout)
    }

    fn open_gemv_fast<'a>(&self, parts: &Parts<'_, 'a>) -> Result<PackedLinear<'a>, ConvertError> {
        let (qweight, qzeros, scales) = (parts.get("qweight")?, parts.get("qzeros")?, parts.get("scales")?);
        qweight.check_dtype(&["I16"], 2)?;
        qzeros.check_dtype(&["F16"], 2)?;
        let [n_fours, n_in] = qweight.matrix()?;
        let n_out = n_fours * 4;
        let group_len = qweight.group_len(n_in, self.group_len)?;
        if n_in % 64 != 0 {
            return Err(qweight.invalid(format!("rows of {n_in} weights"), "multiples of 64".to_owned()));
        }
        let n_groups = n_in / group_len;
        let [scale_groups, scale_rows] = scales.matrix()?;
        let because = format!("groups of {group_len} for {n_in} columns and {n_out} rows");
        if scale_rows != n_out || scale_groups < n_groups {
            scales.check_shape(&[n_groups, n_out], &because)?;
        }
        qzeros.check_shape(&[scale_groups, n_out], "the shape of the scales")?;
        let scales_of = Scales::new(&scales, 1, n_out)?;
        let layout = Layout {
            n_bits: 4,
            words: Words { packing: Packing::AwqGemvFast, bytes: qweight.tensor.bytes, n_out, n_in },
            group_len,
            scales: scales_of,
            zeros: Zeros::AwqGemvFast { halves: qzeros.tensor.bytes, n_out, scales: scales_of },
            zeros_part: Some(qzeros),
        };
        PackedLinear::new(parts.layer, &scales, layout)
    }
}
