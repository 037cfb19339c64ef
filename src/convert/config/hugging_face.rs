//! `config.json`, as transformers writes and reads it.

use serde_json::Value;

use super::fields::Fields;
use super::{ModelConfig, Scaling, Yarn};
use crate::convert::checkpoint::Checkpoint;
use crate::convert::error::ConvertError;
use bise_models::printable::printable;

/// What transformers assumes where a configuration does not say.
struct Defaults {
    n_embd: usize,
    n_ff: usize,
    n_layers: usize,
    n_heads: usize,
    n_kv_heads: Option<usize>,
    head_dim: Option<usize>,
    n_ctx: usize,
    n_vocab: usize,
    rms_eps: f64,
    rope_base: f64,
}

const MISTRAL: Defaults = Defaults {
    n_embd: 4096,
    n_ff: 14336,
    n_layers: 32,
    n_heads: 32,
    n_kv_heads: Some(8),
    head_dim: None,
    n_ctx: 131_072,
    n_vocab: 32000,
    rms_eps: 1e-6,
    rope_base: 1e4,
};
const MISTRAL_WINDOW: usize = 4096;
const MIXTRAL: Defaults = Defaults { rms_eps: 1e-5, rope_base: 1e6, ..MISTRAL };
const MINISTRAL_3: Defaults = Defaults {
    n_layers: 34,
    head_dim: Some(128),
    n_ctx: 262_144,
    n_vocab: 131_072,
    rms_eps: 1e-5,
    rope_base: 1e6,
    ..MISTRAL
};
/// The language model of a `Mistral3ForConditionalGeneration` whose configuration says nothing.
const SMALL_3: Defaults = Defaults {
    n_embd: 5120,
    n_ff: 32768,
    n_layers: 40,
    head_dim: Some(128),
    n_vocab: 131_072,
    rms_eps: 1e-5,
    rope_base: 1e9,
    ..MISTRAL
};
const LLAMA: Defaults =
    Defaults { n_ff: 11008, n_kv_heads: None, n_ctx: 2048, rms_eps: 1e-6, rope_base: 1e4, ..MISTRAL };

/// A model that is only a text model, or one with a text model inside.
const ARCHITECTURES: [&str; 8] = [
    "MistralForCausalLM",
    "MixtralForCausalLM",
    "Mistral3ForConditionalGeneration",
    "Ministral3ForCausalLM",
    "LlamaForCausalLM",
    "LLaMAForCausalLM",
    "LlavaForConditionalGeneration",
    "VoxtralForConditionalGeneration",
];

/// Reads and checks the configuration.
pub(super) fn read(checkpoint: &Checkpoint) -> Result<ModelConfig, ConvertError> {
    let root = Fields::new(checkpoint, vec![&checkpoint.config]);
    let text = match root.get("text_config") {
        Some(Value::Object(text)) => Some(text),
        Some(other) => return Err(root.wrong("text_config", other, "an object")),
        None => None,
    };
    let fields = Fields::new(checkpoint, text.into_iter().chain([&checkpoint.config]).collect());
    let text_fields = text.map(|text| Fields::new(checkpoint, vec![text]));
    let arch_name = architecture(text_fields.as_ref())?.or(architecture(Some(&root))?);
    let model_type = match &text_fields {
        Some(text) => text.text("model_type")?,
        None => root.text("model_type")?,
    };
    refuse(checkpoint, &fields, arch_name, model_type)?;
    let (arch, defaults) = match (arch_name, model_type) {
        (Some("Mistral3ForConditionalGeneration" | "Ministral3ForCausalLM"), Some("ministral3")) => {
            ("mistral3", MINISTRAL_3)
        }
        (Some("Mistral3ForConditionalGeneration" | "Ministral3ForCausalLM"), _) => ("mistral3", SMALL_3),
        (Some("MixtralForCausalLM"), _) => ("llama", MIXTRAL),
        (Some("LlamaForCausalLM" | "LLaMAForCausalLM" | "VoxtralForConditionalGeneration"), _) => {
            ("llama", LLAMA)
        }
        _ => ("llama", MISTRAL),
    };
    let is_mixtral = arch_name == Some("MixtralForCausalLM");
    let size = |key: &str, default: usize| Ok::<_, ConvertError>(fields.size(key)?.unwrap_or(default));
    let n_embd = size("hidden_size", defaults.n_embd)?;
    let n_heads = size("num_attention_heads", defaults.n_heads)?;
    // A key that is null says that every head has its own; one that is absent leaves it to transformers.
    let n_kv_heads = match fields.size("num_key_value_heads")? {
        Some(n) => n,
        None if fields.has("num_key_value_heads") => n_heads,
        None => defaults.n_kv_heads.unwrap_or(n_heads),
    };
    let stated = fields.size("head_dim")?.or(defaults.head_dim.filter(|_| !fields.has("head_dim")));
    let head_dim = match stated {
        Some(head_dim) => head_dim,
        None if n_embd.is_multiple_of(n_heads) => n_embd / n_heads,
        None => {
            let expected = format!("a multiple of {n_heads} heads, or 'head_dim'");
            return Err(checkpoint.config_error("hidden_size", n_embd.to_string(), expected));
        }
    };
    let n_ctx = size("max_position_embeddings", defaults.n_ctx)?;
    let (rope_base, scaling, temperature) =
        rope(checkpoint, &fields, &defaults, n_ctx, model_type == Some("ministral3"))?;
    let experts = match is_mixtral {
        true => Some((size("num_local_experts", 8)?, size("num_experts_per_tok", 2)?)),
        false => None,
    };
    let ties = |fields: &Fields<'_>| fields.bool("tie_word_embeddings");
    let inner = text_fields.as_ref().map(ties).transpose()?.flatten();
    // With a model inside, either may say so.
    let tied = match (inner, ties(&root)?) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (inner, outer) => inner.or(outer),
    };
    // What transformers assumes where neither does: Mistral3Config ties, all others do not.
    let ties_by_default = arch_name == Some("Mistral3ForConditionalGeneration");
    let tied = tied.or(Some(false).filter(|_| !ties_by_default));
    const SIZES: [&str; 7] = [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "num_local_experts",
        "vocab_size",
    ];
    let mut notes = Vec::new();
    let sliding_window = match fields.size("sliding_window")? {
        // MistralConfig has a window unless it is set to null.
        None if arch_name == Some("MistralForCausalLM")
            && !fields.has("sliding_window")
            && n_ctx > MISTRAL_WINDOW =>
        {
            notes.push(format!(
                "config.json has no 'sliding_window': {MISTRAL_WINDOW} is taken, as by transformers (null says that there is none)"
            ));
            Some(MISTRAL_WINDOW)
        }
        stated => stated,
    };
    let is_assumed = |key: &&str| !fields.has(key) && (is_mixtral || *key != "num_local_experts");
    let assumed = SIZES.into_iter().filter(is_assumed).collect();
    Ok(ModelConfig {
        arch,
        n_layers: size("num_hidden_layers", defaults.n_layers)?,
        n_ctx,
        n_embd,
        n_ff: size("intermediate_size", defaults.n_ff)?,
        n_heads,
        n_kv_heads,
        head_dim,
        states_head_dim: stated.is_some() || !is_mixtral,
        n_vocab: size("vocab_size", defaults.n_vocab)?,
        rms_eps: fields.positive("rms_norm_eps")?.unwrap_or(defaults.rms_eps),
        rope_base,
        scaling,
        sliding_window,
        temperature,
        experts,
        tied,
        assumed,
        notes,
    })
}

/// The first of `architectures`.
fn architecture<'a>(fields: Option<&Fields<'a>>) -> Result<Option<&'a str>, ConvertError> {
    let Some(fields) = fields else { return Ok(None) };
    match fields.get("architectures") {
        None => Ok(None),
        Some(Value::Array(names)) if names.iter().all(Value::is_string) => {
            Ok(names.first().and_then(Value::as_str))
        }
        Some(other) => Err(fields.wrong("architectures", other, "a list of names")),
    }
}

/// Names what cannot be converted.
fn refuse(
    checkpoint: &Checkpoint,
    fields: &Fields<'_>,
    arch_name: Option<&str>,
    model_type: Option<&str>,
) -> Result<(), ConvertError> {
    let unsupported = |what: String, reason: &str| {
        Err(ConvertError::Unsupported { path: checkpoint.config_path(), what, reason: reason.into() })
    };
    const ONLY: &str = "Mistral, Mixtral, Mistral 3 and Ministral 3 models, and Llama models of their shape, are converted: use llama.cpp's \
                        converter for others";
    if model_type == Some("mistral4") {
        let reason = "its attention compresses keys and values and its experts are DeepSeek's, which `bise` does not run";
        return unsupported("model type 'mistral4'".into(), reason);
    }
    if let Some(key) = ["kv_lora_rank", "q_lora_rank"].into_iter().find(|key| fields.get(key).is_some()) {
        let reason =
            "a model of DeepSeek's shape, whose attention compresses keys and values, is not run by `bise`";
        return unsupported(format!("'{key}'"), reason);
    }
    let Some(arch_name) = arch_name else {
        return match model_type {
            Some("mistral" | "llama") => Ok(()),
            Some(other) => unsupported(format!("model type '{}'", printable(other.as_bytes())), ONLY),
            None => Err(checkpoint.config_error(
                "architectures",
                "no such key",
                "the name of the model's architecture, as in MistralForCausalLM",
            )),
        };
    };
    if !ARCHITECTURES.contains(&arch_name) {
        return unsupported(format!("architecture '{}'", printable(arch_name.as_bytes())), ONLY);
    }
    if arch_name.ends_with("ForConditionalGeneration")
        && let Some(other) = model_type.filter(|t| !["mistral", "ministral3", "llama"].contains(t))
    {
        let other = printable(other.as_bytes());
        return unsupported(format!("architecture '{arch_name}' with a text model of type '{other}'"), ONLY);
    }
    if let Some(other) = fields.text("hidden_act")?.filter(|name| *name != "silu") {
        let other = printable(other.as_bytes());
        return unsupported(
            format!("'hidden_act': '{other}'"),
            "the feed-forward is computed with silu alone",
        );
    }
    if fields.bool("is_causal")? == Some(false) {
        return unsupported("'is_causal': false".into(), "attention is computed with a causal mask alone");
    }
    Ok(())
}

/// The base, the scaling and the temperature.
fn rope(
    checkpoint: &Checkpoint,
    fields: &Fields<'_>,
    defaults: &Defaults,
    n_ctx: usize,
    is_ministral_3: bool,
) -> Result<(f64, Scaling, Option<f64>), ConvertError> {
    let given = match fields.object("rope_parameters")? {
        Some(given) => Some(given),
        None => fields.object("rope_scaling")?,
    };
    let none = serde_json::Map::new();
    let missing = given.is_none();
    let given = given.unwrap_or_else(|| Fields::new(checkpoint, vec![&none]));
    let base = match given.positive("rope_theta")? {
        Some(base) => base,
        None => fields.positive("rope_theta")?.unwrap_or(defaults.rope_base),
    };
    if base <= 1.0 {
        return Err(checkpoint.config_error("rope_theta", base.to_string(), "a number above 1"));
    }
    if missing && is_ministral_3 {
        // What transformers assumes then.
        let yarn = Yarn {
            factor: 16.0,
            original_ctx: 16384,
            attn_factor: None,
            beta_fast: Some(32.0),
            beta_slow: Some(1.0),
            log_multiplier: Some(1.0),
        };
        return Ok((base, Scaling::Yarn(yarn), Some(0.1)));
    }
    let kind = match given.text("rope_type")? {
        Some(kind) => kind,
        None => given.text("type")?.unwrap_or("default"),
    };
    if is_ministral_3 && kind != "yarn" {
        let found = format!("'{}'", printable(kind.as_bytes()));
        return Err(checkpoint.config_error("rope_type", found, "'yarn', as Ministral 3 has"));
    }
    let require = |key: &str| {
        let missing = || checkpoint.config_error(key, "no such key", format!("it beside rope type '{kind}'"));
        given.positive(key)?.ok_or_else(missing)
    };
    let original_ctx = || {
        let size = match given.size("original_max_position_embeddings")? {
            Some(size) => Some(size),
            None => fields.size("original_max_position_embeddings")?,
        };
        Ok::<_, ConvertError>(size.unwrap_or(n_ctx))
    };
    let scaling = match kind {
        "default" | "none" => Scaling::None,
        "linear" => Scaling::Linear { factor: require("factor")? },
        "yarn" => {
            let factor = require("factor")?;
            // Of `mscale_all_dim` llama.cpp takes account in a file of Ministral 3 alone.
            let log_multiplier = match is_ministral_3 {
                true => Some(given.number("mscale_all_dim")?.unwrap_or(0.0)),
                false => None,
            };
            Scaling::Yarn(Yarn {
                factor,
                original_ctx: original_ctx()?,
                attn_factor: attn_factor(&given, factor, log_multiplier)?,
                beta_fast: given.positive("beta_fast")?,
                beta_slow: given.positive("beta_slow")?,
                log_multiplier,
            })
        }
        "llama3" => Scaling::Llama3 {
            factor: given.positive("factor")?.unwrap_or(8.0),
            low: given.positive("low_freq_factor")?.unwrap_or(1.0),
            high: given.positive("high_freq_factor")?.unwrap_or(4.0),
            original_ctx: given.size("original_max_position_embeddings")?.unwrap_or(8192),
        },
        other => {
            return Err(ConvertError::Unsupported {
                path: checkpoint.config_path(),
                what: format!("rope type '{}'", printable(other.as_bytes())),
                reason: "rotations are computed as default, linear, yarn or llama3".into(),
            });
        }
    };
    let temperature = match is_ministral_3 {
        true => given.number("llama_4_scaling_beta")?,
        false => None,
    };
    Ok((base, scaling, temperature))
}

/// What rotations are multiplied by besides what readers of GGUF files compute: `None` where that is all.
///
/// With `m(x) = 1 + 0.1 · x · ln(factor)`, transformers multiply by `attention_factor`, else by `m(mscale) / m(mscale_all_dim)` where both are there,
/// else by `m(1)`; readers of GGUF files by `m(1) / m(log_multiplier)`.
fn attn_factor(
    given: &Fields<'_>,
    factor: f64,
    log_multiplier: Option<f64>,
) -> Result<Option<f64>, ConvertError> {
    let m = |x: f64| if factor <= 1.0 { 1.0 } else { 1.0 + 0.1 * x * libm::log(factor) };
    let (mscale, all_dim) = (given.number("mscale")?, given.number("mscale_all_dim")?);
    let wanted = match (given.positive("attention_factor")?, mscale, all_dim) {
        (Some(wanted), ..) => wanted,
        (None, Some(mscale), Some(all_dim)) if mscale != 0.0 && all_dim != 0.0 => m(mscale) / m(all_dim),
        _ => m(1.0),
    };
    let ratio = wanted * m(log_multiplier.unwrap_or(0.0)) / m(1.0);
    Ok(Some(ratio).filter(|ratio| (ratio - 1.0).abs() > 1e-6))
}
