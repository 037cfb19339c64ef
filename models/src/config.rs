//! The hyper-parameters of a model, read from a GGUF's metadata and validated once.

mod keys;

use keys::Keys;

use crate::gguf::{GgufError, Metadata};
use crate::rope_scaling::{RopeConfig, RopeScaling};

/// The architectures that this crate can run.
pub const ARCHITECTURES: [&str; 2] = ["llama", "mistral3"];

/// The smallest factor of a context extension. Real ones are above 1; below, rotations get too fast to mean anything.
const MIN_FACTOR: f32 = 1e-6;
/// The smallest factor on cosines and sines. The largest is its inverse.
const MIN_MSCALE: f32 = 1e-3;
/// The largest `beta` of an attention temperature. Ministral 3 has 0.1.
const MAX_TEMPERATURE: f32 = 1e3;
/// The widest residual stream and attention. The largest public models have some 16,000. A file may be small and still ask
/// for buffers of any size, one row of them for each token of a pass.
const MAX_WIDTH: usize = 1 << 18;
/// The widest feed-forward. The largest public models have some 60,000.
const MAX_FF_WIDTH: usize = 1 << 20;
/// The most experts a layer may have. The largest public models have some hundreds.
const MAX_EXPERTS: usize = 1 << 12;

/// Mixtral's feed-forward: a router picks a few of many experts for each token (<https://arxiv.org/abs/2401.04088>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertsConfig {
    /// Number of experts in each layer.
    pub n_experts: usize,
    /// Number of experts that each token is sent to.
    pub n_used: usize,
}

/// Ministral's attention temperature: queries are multiplied by `1 + beta·ln(1 + ⌊pos / original_ctx⌋)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionTemperature {
    /// How fast the factor grows, 0 to 1000.
    pub beta: f32,
    /// The position at which it begins to grow.
    pub original_ctx: usize,
}

impl AttentionTemperature {
    /// The factor on the queries at position `pos`.
    pub fn at(&self, pos: usize) -> f32 {
        1.0 + self.beta * libm::log((1 + pos / self.original_ctx) as f64) as f32
    }
}

/// The hyper-parameters of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct MistralConfig {
    /// `llama` or `mistral3`.
    pub arch: String,
    /// Number of transformer layers.
    pub n_layers: usize,
    /// Number of layers after them for multi-token prediction, which are not run.
    pub n_predict_layers: usize,
    /// The context the model was trained for, in tokens.
    pub n_ctx_train: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width of the feed-forward.
    pub n_ff: usize,
    /// Number of query heads.
    pub n_heads: usize,
    /// Number of key and value heads. Divides `n_heads`.
    pub n_kv_heads: usize,
    /// Dimensions of a head, which need not be `n_embd / n_heads`.
    pub head_dim: usize,
    /// Size of the vocabulary.
    pub n_vocab: usize,
    /// The epsilon of RMSNorm, added to the mean square before the root is taken.
    pub rms_eps: f32,
    /// Rotary embedding.
    pub rope: RopeConfig,
    /// The sliding window: a query at `i` attends to keys `j` with `i − window < j ≤ i`.
    pub sliding_window: Option<usize>,
    /// Whether the file lacks the window and is known to need it (Mistral 7B v0.1).
    pub window_assumed: bool,
    /// Attention temperature, where the model has one.
    pub temperature: Option<AttentionTemperature>,
    /// Experts, where the feed-forward is sparse.
    pub experts: Option<ExpertsConfig>,
}

impl MistralConfig {
    /// Reads and checks the hyper-parameters.
    ///
    /// # Errors
    /// For a file that is no language model (an adapter, an importance matrix, a vision encoder), an architecture that is not in
    /// [`ARCHITECTURES`], a key that is missing, of the wrong type or out of range, and a key of the architecture that would change the
    /// arithmetic and is not supported.
    pub fn from_metadata(meta: &Metadata) -> Result<MistralConfig, GgufError> {
        meta.require_model()?;
        let arch: String = meta.require::<&str>("general.architecture")?.to_owned();
        if !ARCHITECTURES.contains(&arch.as_str()) {
            let expected = format!("one of {}", ARCHITECTURES.join(", "));
            return Err(meta.error("general.architecture", format!("'{arch}'"), expected));
        }
        let keys = Keys { meta, arch: &arch };
        keys.refuse_unknown()?;

        let n_blocks = keys.count("block_count")?;
        let n_predict_layers = keys.optional_zero("nextn_predict_layers")?;
        let Some(n_layers) = n_blocks.checked_sub(n_predict_layers).filter(|n| *n > 0) else {
            let expected =
                format!("fewer than the {n_blocks} of '{}', which counts them", keys.name("block_count"));
            return Err(keys.wrong("nextn_predict_layers", n_predict_layers, expected));
        };
        let n_embd = keys.count("embedding_length")?;
        let n_heads = keys.count("attention.head_count")?;
        let n_kv_heads = keys.optional_count("attention.head_count_kv")?.unwrap_or(n_heads);
        if !n_heads.is_multiple_of(n_kv_heads) {
            return Err(keys.wrong(
                "attention.head_count_kv",
                n_kv_heads,
                format!("a divisor of {n_heads} heads"),
            ));
        }
        let head_dim = match keys.optional_count("attention.key_length")? {
            Some(length) => length,
            None if n_embd.is_multiple_of(n_heads) => n_embd / n_heads,
            None => {
                return Err(keys.wrong("embedding_length", n_embd, format!("a multiple of {n_heads} heads")));
            }
        };
        if let Some(v) = keys.optional_count("attention.value_length")?.filter(|v| *v != head_dim) {
            return Err(keys.wrong("attention.value_length", v, format!("{head_dim}, the length of a key")));
        }
        if !head_dim.is_multiple_of(2) {
            return Err(keys.wrong(
                "attention.key_length",
                head_dim,
                "an even length: dimensions rotate in pairs",
            ));
        }
        keys.at_most("embedding_length", n_embd, MAX_WIDTH)?;
        if n_heads.saturating_mul(head_dim) > MAX_WIDTH {
            let found = format!("{n_heads} heads of {head_dim}");
            return Err(keys.wrong("attention.head_count", found, format!("at most {MAX_WIDTH} together")));
        }
        let n_ctx_train = keys.count("context_length")?;
        let rope = keys.rope(head_dim, n_ctx_train)?;
        let temperature_key = keys.present(["attention.temperature_scale", "rope.scaling_beta"]);
        let temperature = match keys.float(temperature_key)?.filter(|beta| *beta != 0.0) {
            None => None,
            Some(beta) if !(0.0..=MAX_TEMPERATURE).contains(&beta) => {
                return Err(keys.wrong(
                    temperature_key,
                    beta,
                    format!("a number from 0 to {MAX_TEMPERATURE}"),
                ));
            }
            Some(beta) => {
                let original_ctx = keys.count("rope.scaling.original_context_length")?;
                Some(AttentionTemperature { beta, original_ctx })
            }
        };
        let n_ff = keys.count("feed_forward_length")?;
        keys.at_most("feed_forward_length", n_ff, MAX_FF_WIDTH)?;
        let experts = match keys.optional_zero("expert_count")? {
            0 => None,
            n_experts => {
                keys.at_most("expert_count", n_experts, MAX_EXPERTS)?;
                let n_used = keys.count("expert_used_count")?;
                if n_used > n_experts {
                    let expected = format!("at most {n_experts} experts");
                    return Err(keys.wrong("expert_used_count", n_used, expected));
                }
                if let Some(n) = keys.optional_count("expert_feed_forward_length")?.filter(|n| *n != n_ff) {
                    let expected = format!("{n_ff}, as in '{}'", keys.name("feed_forward_length"));
                    return Err(keys.wrong("expert_feed_forward_length", n, expected));
                }
                Some(ExpertsConfig { n_experts, n_used })
            }
        };
        let n_vocab = match meta.str_array("tokenizer.ggml.tokens")? {
            Some(tokens) if !tokens.is_empty() => tokens.len(),
            Some(_) => return Err(meta.error("tokenizer.ggml.tokens", "no token", "at least one")),
            None => keys.count("vocab_size")?,
        };
        let rms_eps = meta.require::<f32>(&keys.name("attention.layer_norm_rms_epsilon"))?;
        if !(0.0..1.0).contains(&rms_eps) {
            return Err(keys.wrong("attention.layer_norm_rms_epsilon", rms_eps, "a number in [0, 1)"));
        }
        if let Some(scale) = keys.float("attention.scale")?.filter(|s| *s != 0.0)
            && (scale * (head_dim as f32).sqrt() - 1.0).abs() > 1e-6
        {
            return Err(keys.wrong(
                "attention.scale",
                scale,
                "1/sqrt(head_dim): other scales are not supported",
            ));
        }
        if meta.bool(&keys.name("attention.causal"))? == Some(false) {
            return Err(keys.wrong("attention.causal", false, "true: other masks are not supported"));
        }
        let mut config = MistralConfig {
            n_layers,
            n_predict_layers,
            n_ctx_train,
            n_embd,
            n_ff,
            n_heads,
            n_kv_heads,
            head_dim,
            n_vocab,
            rms_eps,
            rope,
            sliding_window: Some(keys.optional_zero("attention.sliding_window")?).filter(|w| *w > 0),
            window_assumed: false,
            temperature,
            experts,
            arch: arch.clone(),
        };
        let declared = meta.get(&keys.name("attention.sliding_window")).is_some();
        if !declared && config.looks_like_7b_v0_1() {
            config.sliding_window = Some(4096);
            config.window_assumed = true;
        }
        Ok(config)
    }

    /// Width of all query heads together: `n_heads · head_dim`.
    pub fn q_dim(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Width of all key heads together, and of all value heads: `n_kv_heads · head_dim`.
    pub fn kv_dim(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Whether this is Mistral 7B v0.1, whose public files lost the window in conversion. The rope base tells it from v0.2 and v0.3.
    fn looks_like_7b_v0_1(&self) -> bool {
        self.arch == "llama"
            && (self.n_layers, self.n_heads, self.n_kv_heads) == (32, 32, 8)
            && (self.n_embd, self.n_ff, self.n_ctx_train) == (4096, 14336, 32768)
            && (32000..=32064).contains(&self.n_vocab)
            && self.rope.base == 10_000.0
            && self.rope.scaling == RopeScaling::None
            && self.experts.is_none()
    }
}

impl Keys<'_> {
    fn rope(&self, head_dim: usize, n_ctx_train: usize) -> Result<RopeConfig, GgufError> {
        let n_dims = self.optional_count("rope.dimension_count")?.unwrap_or(head_dim);
        if n_dims > head_dim || !n_dims.is_multiple_of(2) {
            let expected = format!("an even number up to {head_dim}, the length of a head");
            return Err(self.wrong("rope.dimension_count", n_dims, expected));
        }
        let kind = self.meta.str(&self.name("rope.scaling.type"))?;
        // Ollama's converter writes an empty type, and zeros for all that belongs to it, where there is no scaling.
        let factor = || {
            let key = self.present(["rope.scaling.factor", "rope.scale_linear"]);
            match self.positive(key)? {
                Some(factor) if factor < MIN_FACTOR => {
                    Err(self.wrong(key, factor, format!("a factor of {MIN_FACTOR} or more")))
                }
                factor => Ok(factor.unwrap_or(1.0)),
            }
        };
        let scaling = match kind {
            Some("none" | "default" | "") => RopeScaling::None,
            Some("linear") | None => match factor()? {
                1.0 => RopeScaling::None,
                factor => RopeScaling::Linear { factor },
            },
            Some("yarn") => {
                let beta = |keys, default: f32| {
                    Ok::<_, GgufError>(self.positive(self.present(keys))?.unwrap_or(default))
                };
                let multiplier = ["rope.scaling.yarn_log_multiplier", "rope.scaling.mscale_all_dim"];
                RopeScaling::Yarn {
                    factor: factor()?,
                    original_ctx: self
                        .optional_count("rope.scaling.original_context_length")?
                        .unwrap_or(n_ctx_train),
                    beta_fast: beta(["rope.scaling.yarn_beta_fast", "rope.scaling.beta_fast"], 32.0)?,
                    beta_slow: beta(["rope.scaling.yarn_beta_slow", "rope.scaling.beta_slow"], 1.0)?,
                    log_multiplier: self.float(self.present(multiplier))?.unwrap_or(0.0),
                }
            }
            Some(other) => {
                return Err(self.wrong("rope.scaling.type", format!("'{other}'"), "none, linear or yarn"));
            }
        };
        let base = self.positive("rope.freq_base")?.unwrap_or(10_000.0);
        if base <= 1.0 {
            return Err(self.wrong("rope.freq_base", base, "a number above 1"));
        }
        let attn_factor = self.positive("rope.scaling.attn_factor")?.unwrap_or(1.0);
        let rope = RopeConfig { n_dims, base, scaling, attn_factor };
        let mscale = rope.mscale();
        if !(MIN_MSCALE..=1.0 / MIN_MSCALE).contains(&mscale) {
            let key = match attn_factor {
                1.0 => self.present(["rope.scaling.yarn_log_multiplier", "rope.scaling.mscale_all_dim"]),
                _ => "rope.scaling.attn_factor",
            };
            let expected = format!("a factor between {MIN_MSCALE} and {}", 1.0 / MIN_MSCALE);
            return Err(self.wrong(key, format!("a value that scales rotations by {mscale}"), expected));
        }
        Ok(rope)
    }
}
