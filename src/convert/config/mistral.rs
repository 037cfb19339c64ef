//! `params.json`, as Mistral publishes it.

use bise_models::printable::printable;
use serde_json::Value;

use super::fields::Fields;
use super::{ModelConfig, Scaling, Yarn};
use crate::convert::checkpoint::Checkpoint;
use crate::convert::error::ConvertError;

/// Contexts of models whose `params.json` does not say: width, layers, width of the feed-forward, the least rope base, context, name.
const CONTEXTS: &[(usize, usize, usize, f64, usize, &str)] = &[
    (4096, 32, 14336, 0.0, 32768, "Mistral 7B"),
    (4096, 36, 12288, 0.0, 32768, "Ministral 8B as Hugging Face's configuration has it"),
    (3072, 30, 8192, 0.0, 131_072, "Voxtral Mini 3B"),
    (5120, 40, 14336, 0.0, 131_072, "Mistral Nemo"),
    (6144, 56, 16384, 0.0, 32768, "Mistral Small 22B and Codestral"),
    (5120, 40, 32768, 1e9, 131_072, "Mistral Small 3.1 and later"),
    (5120, 40, 32768, 0.0, 32768, "Mistral Small 3"),
    (12288, 88, 28672, 0.0, 131_072, "Mistral Large 2"),
];
/// The context of a model that is not among them: as long as that of Mistral's first ones.
const OTHER_CONTEXT: usize = 32768;

/// Keys that say how long the context is.
const CONTEXT_KEYS: [&str; 7] = [
    "max_position_embeddings",
    "n_ctx",
    "n_positions",
    "max_length",
    "max_sequence_length",
    "model_max_length",
    "max_seq_len",
];

/// Reads and checks the configuration.
pub(super) fn read(checkpoint: &Checkpoint) -> Result<ModelConfig, ConvertError> {
    let fields = Fields::new(checkpoint, vec![&checkpoint.config]);
    let unsupported = |what: &str, reason: &str| {
        let (path, what) = (checkpoint.config_path(), what.to_owned());
        Err(ConvertError::Unsupported { path, what, reason: reason.into() })
    };
    let latent = ["kv_lora_rank", "q_lora_rank", "qk_rope_head_dim"];
    if latent.iter().any(|key| fields.get(key).is_some()) {
        let reason = "its attention compresses keys and values as DeepSeek's does, which `bise` does not run";
        return unsupported("a model of DeepSeek's shape", reason);
    }
    if fields.get("moe").is_some() {
        let reason = "convert the same model from Hugging Face's layout (config.json and model*.safetensors)";
        return unsupported("'moe', experts in Mistral's own layout,", reason);
    }
    if fields.text("model_type")?.is_some_and(|kind| kind == "mamba") {
        return unsupported("'model_type': 'mamba'", "`bise` runs transformers alone");
    }
    if let Some(other) = fields.text("activation")?.filter(|name| *name != "silu") {
        let what = format!("'activation': '{}'", printable(other.as_bytes()));
        return unsupported(&what, "the feed-forward is computed with silu alone");
    }
    if fields.bool("causal")? == Some(false) {
        return unsupported("'causal': false", "attention is computed with a causal mask alone");
    }
    let mut notes = Vec::new();
    let n_embd = fields.require_size("dim")?;
    let n_heads = fields.require_size("n_heads")?;
    let n_layers = fields.require_size("n_layers")?;
    let n_ff = fields.require_size("hidden_dim")?;
    let head_dim = match fields.size("head_dim")? {
        Some(head_dim) => head_dim,
        None if n_embd.is_multiple_of(n_heads) => n_embd / n_heads,
        None => {
            let expected = format!("a multiple of {n_heads} heads, or 'head_dim'");
            return Err(checkpoint.config_error("dim", n_embd.to_string(), expected));
        }
    };
    let (sliding_window, is_interleaved) = sliding_window(&fields)?;
    let rope_base = match fields.positive("rope_theta")? {
        Some(base) if base <= 1.0 => {
            return Err(checkpoint.config_error("rope_theta", base.to_string(), "a number above 1"));
        }
        Some(base) => base,
        // As Mistral's own code has it.
        None => {
            let (base, why) = match sliding_window {
                Some(_) => (1e4, "as in Mistral 7B v0.1, which has a sliding window"),
                None => (1e6, "as in models without a sliding window"),
            };
            notes.push(format!("params.json has no 'rope_theta': {base} is taken, {why}"));
            base
        }
    };
    let yarn = yarn(checkpoint, &fields)?;
    let scaling = fields.object("llama_4_scaling")?;
    let temperature = match &scaling {
        None => None,
        Some(scaling) => {
            let missing = || checkpoint.config_error("llama_4_scaling", "no 'beta'", "a number");
            let stretched = yarn.as_ref().map(|yarn| yarn.original_ctx);
            match (scaling.size("original_max_position_embeddings")?, stretched) {
                (Some(n), Some(stretched)) if n != stretched => {
                    let expected =
                        format!("{stretched}, as 'yarn' says: GGUF files have one number for both");
                    return Err(checkpoint.config_error(
                        "llama_4_scaling.original_max_position_embeddings",
                        n.to_string(),
                        expected,
                    ));
                }
                _ => {}
            }
            Some(scaling.number("beta")?.ok_or_else(missing)?)
        }
    };
    if temperature.is_some() && yarn.is_none() {
        let expected = "it beside 'llama_4_scaling', which counts from its original context";
        return Err(checkpoint.config_error("yarn", "no such key", expected));
    }
    let mut n_ctx = None;
    for key in CONTEXT_KEYS {
        if n_ctx.is_none() {
            n_ctx = fields.size(key)?;
        }
    }
    let n_ctx = match (n_ctx, &yarn) {
        (Some(n_ctx), _) => n_ctx,
        (None, Some(yarn)) => {
            let n_ctx = (yarn.original_ctx as f64 * yarn.factor).min(f64::from(i32::MAX)) as usize;
            notes.push(format!(
                "params.json says no length of context: {n_ctx} is taken, what 'yarn' stretches it to"
            ));
            n_ctx
        }
        (None, None) => {
            let shape = |known: &&(usize, usize, usize, f64, usize, &str)| {
                (known.0, known.1, known.2) == (n_embd, n_layers, n_ff) && rope_base >= known.3
            };
            let (n_ctx, whose) = match CONTEXTS.iter().find(shape) {
                Some(known) => (known.4, format!("that of {}", known.5)),
                None => (OTHER_CONTEXT, "that of most Mistral models".to_owned()),
            };
            notes.push(format!("params.json says no length of context: {n_ctx} is taken, {whose}"));
            n_ctx
        }
    };
    // Within the smallest window, layers with and without one compute the same.
    let n_ctx = match sliding_window.filter(|window| is_interleaved && *window < n_ctx) {
        Some(window) => {
            notes.push(format!(
                "windows of attention differ from layer to layer, which makes no difference within {window} tokens: the context is that long \
                 instead of {n_ctx}"
            ));
            window
        }
        None => n_ctx,
    };
    let rows = || checkpoint.tensor("tok_embeddings.weight").and_then(|tensor| tensor.shape.first().copied());
    let n_vocab = match (fields.size("vocab_size")?, rows()) {
        (Some(n), _) => n,
        (None, Some(n)) if n > 0 => n,
        (None, _) => fields.require_size("vocab_size")?,
    };
    Ok(ModelConfig {
        arch: if scaling.is_some() { "mistral3" } else { "llama" },
        n_layers,
        n_ctx,
        n_embd,
        n_ff,
        n_heads,
        n_kv_heads: fields.size("n_kv_heads")?.unwrap_or(n_heads),
        head_dim,
        states_head_dim: fields.get("head_dim").is_some(),
        n_vocab,
        rms_eps: fields.positive("norm_eps")?.unwrap_or(1e-5),
        rope_base,
        scaling: yarn.map_or(Scaling::None, Scaling::Yarn),
        sliding_window,
        temperature,
        experts: None,
        tied: Some(fields.bool("tied_embeddings")?.unwrap_or(false)),
        assumed: Vec::new(),
        notes,
    })
}

/// The smallest window of the layers, and whether they differ in it. Ministral 8B has `_sliding_window`, a pattern of layers that repeats.
fn sliding_window(fields: &Fields<'_>) -> Result<(Option<usize>, bool), ConvertError> {
    let key = match fields.get("sliding_window") {
        Some(_) => "sliding_window",
        None => "_sliding_window",
    };
    let Some(value @ Value::Array(pattern)) = fields.get(key) else { return Ok((fields.size(key)?, false)) };
    let mut windows = Vec::new();
    for window in pattern {
        match window.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0) {
            Some(n) => windows.push(Some(n as usize)),
            None if window.is_null() => windows.push(None),
            None => return Err(fields.wrong(key, value, "numbers of tokens, or null, for each layer")),
        }
    }
    let smallest = windows.iter().flatten().min().copied();
    Ok((smallest, windows.iter().any(|window| *window != smallest)))
}

fn yarn(checkpoint: &Checkpoint, fields: &Fields<'_>) -> Result<Option<Yarn>, ConvertError> {
    let Some(yarn) = fields.object("yarn")? else { return Ok(None) };
    let require = |key: &str| {
        let missing = || checkpoint.config_error("yarn", format!("no '{key}'"), "a number above 0");
        yarn.positive(key)?.ok_or_else(missing)
    };
    let applies = yarn.bool("apply_scale")?.unwrap_or(true);
    Ok(Some(Yarn {
        factor: require("factor")?,
        original_ctx: yarn.require_size("original_max_position_embeddings")?,
        attn_factor: None,
        beta_fast: Some(require("beta")?),
        beta_slow: Some(require("alpha")?),
        // A temperature that is not applied is taken back.
        log_multiplier: Some(if applies { 0.0 } else { 1.0 }),
    }))
}
