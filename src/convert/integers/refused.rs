//! Ways to quantize that no block of GGUF can hold.

use bise_models::printable::printable;

use super::settings::Settings;
use crate::convert::ConvertError;

/// What to do instead.
const INSTEAD: &str = "convert the checkpoint that it was made from, and quantize that with `bise quantize`";

/// Why weights of the method cannot be kept.
fn reason(method: &str) -> Option<&'static str> {
    Some(match method {
        "bitsandbytes" | "bitsandbytes_4bit" | "bitsandbytes_8bit" => {
            "its weights index a table of floats (NF4, FP4) or leave columns out (LLM.int8), and its scales are quantized again"
        }
        "nvfp4" | "modelopt" | "modelopt_fp4" | "fp_quant" | "fouroversix" => {
            "its weights are 4-bit floats in groups of 16 with 8-bit floats as scales"
        }
        "mxfp4" | "mxfp6" | "mxfp8" => {
            "its weights are small floats whose scales are powers of two of 8 bits"
        }
        "exl2" | "exl3" | "exllamav2" | "exllamav3" => {
            "its rows are reordered or coded by a trellis, and its bits change within a tensor"
        }
        "hqq" | "sinq" => "its zero points are fractions, or scale rows and columns both",
        "mlx" => "its groups have a bias of 16 bits beside their scale, in place of a zero point",
        "aqlm" | "vptq" | "quip" | "quip#" | "quipsharp" | "quip_sharp" | "higgs" => {
            "its weights are vectors of a codebook"
        }
        "spqr" => "it keeps outliers apart from its integers",
        "quanto" | "torchao" | "eetq" | "quark" | "metal" | "gemma" => {
            "its tensors are laid out for one library and version"
        }
        "fbgemm_fp8" => "its 8-bit floats come with bounds on activations",
        "bitnet" => "its weights have three values and a family of models of their own",
        "qqq" | "bitblas" | "marlin" | "gptq_marlin" | "awq_marlin" | "gptq_bitblas" => {
            "its words are permuted for one kind of GPU"
        }
        "paroquant" => "its weights are rotated",
        "gguf" => "its weights are in GGUF files, which need no conversion",
        _ => return None,
    })
}

/// The error for a method that is not converted.
pub(super) fn refuse(settings: &Settings<'_>, method: &str) -> ConvertError {
    let reason = match reason(method) {
        Some(reason) => format!("{reason}; {INSTEAD}"),
        None => format!("AWQ, GPTQ, compressed-tensors and FP8 are known; {INSTEAD}"),
    };
    settings.unsupported(format!("quantization by '{}'", printable(method.as_bytes())), reason)
}

/// The error for a variant of a method that is otherwise converted.
pub(super) fn refuse_variant(settings: &Settings<'_>, variant: &str, reason: &str) -> ConvertError {
    settings.unsupported(printable(variant.as_bytes()), format!("{reason}; {INSTEAD}"))
}
