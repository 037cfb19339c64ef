//! The hyper-parameters of a model, read from a GGUF's metadata and validated once.

use crate::gguf::{GgufError, Metadata, Value};
use crate::rope_scaling::{RopeConfig, RopeScaling};

/// The architectures this crate runs.
pub const ARCHITECTURES: [&str; 2] = ["llama", "mistral3"];

/// Mixtral's feed-forward: a router picks a few of many experts for each token (<https://arxiv.org/abs/2401.04088>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertsConfig {
    /// Experts in a layer.
    pub n_experts: usize,
    /// Experts a token visits.
    pub n_used: usize,
}

/// Ministral's attention temperature: queries grow by `1 + beta·ln(1 + ⌊pos / original_ctx⌋)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionTemperature {
    /// The growth.
    pub beta: f32,
    /// The context after which it begins.
    pub original_ctx: usize,
}

impl AttentionTemperature {
    /// The factor on the queries at position `pos`.
    pub fn at(&self, pos: usize) -> f32 {
        1.0 + self.beta * libm::log((1 + pos / self.original_ctx) as f64) as f32
    }
}

/// What a file says about the shape of its model.
#[derive(Clone, Debug, PartialEq)]
pub struct MistralConfig {
    /// `llama` or `mistral3`.
    pub arch: String,
    /// Layers.
    pub n_layers: usize,
    /// The context the model was trained for, in tokens.
    pub n_ctx_train: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width of the feed-forward.
    pub n_ff: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Dimensions of a head; need not be `n_embd / n_heads`.
    pub head_dim: usize,
    /// Tokens of the vocabulary.
    pub n_vocab: usize,
    /// Added to the mean square before its root.
    pub rms_eps: f32,
    /// Rotary embedding.
    pub rope: RopeConfig,
    /// A query at `i` sees keys `j` with `i − window < j ≤ i`.
    pub sliding_window: Option<usize>,
    /// Whether the window was not in the file, but known to belong to it (Mistral 7B v0.1).
    pub window_assumed: bool,
    /// Attention temperature.
    pub temperature: Option<AttentionTemperature>,
    /// Experts, where the feed-forward is sparse.
    pub experts: Option<ExpertsConfig>,
}

/// Keys of an architecture that are read below.
const READ: [&str; 26] = [
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
    "expert_count",
    "expert_used_count",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.temperature_scale",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.attn_factor",
    "rope.scaling.original_context_length",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_log_multiplier",
    "attention.scale",
    "attention.causal",
];

/// Keys that say something about the file, not about its arithmetic.
const HARMLESS: [&str; 4] = [
    "tensor_data_layout",
    "rope.scaling.finetuned",
    // The epsilon of a LayerNorm, which no Mistral has; some converters write it beside the one of the RMSNorm.
    "attention.layer_norm_epsilon",
    "decoder_start_token_id",
];

/// Keys that change nothing at the value given.
const NEUTRAL: [(&str, f64); 19] = [
    ("attention.clamp_kqv", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("attn_logit_softcapping", 0.0),
    ("final_logit_softcapping", 0.0),
    ("router_logit_softcapping", 0.0),
    ("expert_shared_count", 0.0),
    ("expert_group_count", 0.0),
    ("expert_group_used_count", 0.0),
    ("expert_shared_feed_forward_length", 0.0),
    ("leading_dense_block_count", 0.0),
    ("nextn_predict_layers", 0.0),
    ("use_parallel_residual", 0.0),
    ("logit_scale", 1.0),
    ("residual_scale", 1.0),
    ("embedding_scale", 1.0),
    ("expert_weights_scale", 1.0),
    ("expert_weights_norm", 1.0),
    ("rope.scaling.yarn_attn_factor", 1.0),
    ("rope.scaling.yarn_ext_factor", 1.0),
];

impl MistralConfig {
    /// Reads and checks the hyper-parameters.
    ///
    /// # Errors
    /// For an architecture that is not in [`ARCHITECTURES`], a key that is missing, of the wrong type or out of range, and for every key
    /// of the architecture that would change the arithmetic and is not supported.
    pub fn from_metadata(meta: &Metadata) -> Result<MistralConfig, GgufError> {
        let arch: String = meta.require::<&str>("general.architecture")?.to_owned();
        if !ARCHITECTURES.contains(&arch.as_str()) {
            let expected = format!("one of {}", ARCHITECTURES.join(", "));
            return Err(meta.error("general.architecture", format!("'{arch}'"), expected));
        }
        let keys = Keys { meta, arch: &arch };
        keys.refuse_unknown()?;

        let n_layers = keys.count("block_count")?;
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
        let n_ctx_train = keys.count("context_length")?;
        let rope = keys.rope(head_dim, n_ctx_train)?;
        let temperature = match keys.float("attention.temperature_scale")?.filter(|beta| *beta != 0.0) {
            None => None,
            Some(beta) => {
                let original_ctx = keys.count("rope.scaling.original_context_length")?;
                Some(AttentionTemperature { beta, original_ctx })
            }
        };
        let experts = match keys.optional_zero("expert_count")? {
            0 => None,
            n_experts => {
                let n_used = keys.count("expert_used_count")?;
                if n_used > n_experts {
                    let expected = format!("at most {n_experts} experts");
                    return Err(keys.wrong("expert_used_count", n_used, expected));
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
            n_ctx_train,
            n_embd,
            n_ff: keys.count("feed_forward_length")?,
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

    /// Width of all query heads together.
    pub fn q_dim(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Width of all key heads together; that of the values too.
    pub fn kv_dim(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Public files of Mistral 7B v0.1 lost their window in conversion; its rope base sets it apart from v0.2 and v0.3.
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

/// Typed access to the keys of one architecture.
struct Keys<'a> {
    meta: &'a Metadata,
    arch: &'a str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.arch)
    }

    fn wrong(&self, key: &str, found: impl ToString, expected: impl Into<String>) -> GgufError {
        self.meta.error(&self.name(key), found.to_string(), expected)
    }

    fn float(&self, key: &str) -> Result<Option<f32>, GgufError> {
        match self.meta.f32(&self.name(key))? {
            Some(v) if !v.is_finite() => Err(self.wrong(key, v, "a finite number")),
            v => Ok(v),
        }
    }

    fn positive(&self, key: &str) -> Result<Option<f32>, GgufError> {
        match self.float(key)? {
            Some(v) if v <= 0.0 => Err(self.wrong(key, v, "a positive number")),
            v => Ok(v),
        }
    }

    /// A count that may be given once, or once for each layer if all agree; at most 2³¹, so that products fit.
    fn optional(&self, key: &str) -> Result<Option<usize>, GgufError> {
        let name = self.name(key);
        let count = match self.meta.get(&name) {
            Some(Value::Array(_)) => {
                let each = self.meta.i32_array(&name)?.unwrap_or_default();
                let Some(first) = each.first().copied().filter(|first| each.iter().all(|n| n == first))
                else {
                    return Err(self.wrong(key, "values that differ by layer", "one value for all layers"));
                };
                u64::try_from(first).map_err(|_| self.wrong(key, first, "a count"))?
            }
            _ => match self.meta.u64(&name)? {
                Some(count) => count,
                None => return Ok(None),
            },
        };
        match usize::try_from(count) {
            Ok(n) if n <= 1 << 31 => Ok(Some(n)),
            _ => Err(self.wrong(key, count, "a count below 2^31")),
        }
    }

    fn optional_count(&self, key: &str) -> Result<Option<usize>, GgufError> {
        match self.optional(key)? {
            Some(0) => Err(self.wrong(key, 0, "a positive count")),
            n => Ok(n),
        }
    }

    fn optional_zero(&self, key: &str) -> Result<usize, GgufError> {
        Ok(self.optional(key)?.unwrap_or(0))
    }

    fn count(&self, key: &str) -> Result<usize, GgufError> {
        match self.optional_count(key)? {
            Some(n) => Ok(n),
            None => Err(self.wrong(key, "no such key", "a positive count")),
        }
    }

    fn rope(&self, head_dim: usize, n_ctx_train: usize) -> Result<RopeConfig, GgufError> {
        let n_dims = self.optional_count("rope.dimension_count")?.unwrap_or(head_dim);
        if n_dims > head_dim || !n_dims.is_multiple_of(2) {
            let expected = format!("an even number up to {head_dim}, the length of a head");
            return Err(self.wrong("rope.dimension_count", n_dims, expected));
        }
        let factor = match self.positive("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            None => self.positive("rope.scale_linear")?,
        };
        let kind = self.meta.str(&self.name("rope.scaling.type"))?;
        let scaling = match (kind, factor) {
            (Some("none"), _) | (None, None) | (Some("linear"), None) => RopeScaling::None,
            (Some("linear") | None, Some(1.0)) => RopeScaling::None,
            (Some("linear") | None, Some(factor)) => RopeScaling::Linear { factor },
            (Some("yarn"), factor) => RopeScaling::Yarn {
                factor: factor.unwrap_or(1.0),
                original_ctx: self
                    .optional_count("rope.scaling.original_context_length")?
                    .unwrap_or(n_ctx_train),
                beta_fast: self.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: self.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                log_multiplier: self.float("rope.scaling.yarn_log_multiplier")?.unwrap_or(0.0),
            },
            (Some(other), _) => {
                return Err(self.wrong("rope.scaling.type", format!("'{other}'"), "none, linear or yarn"));
            }
        };
        let base = self.positive("rope.freq_base")?.unwrap_or(10_000.0);
        if base <= 1.0 {
            return Err(self.wrong("rope.freq_base", base, "a number above 1"));
        }
        let attn_factor = self.positive("rope.scaling.attn_factor")?.unwrap_or(1.0);
        Ok(RopeConfig { n_dims, base, scaling, attn_factor })
    }

    fn refuse_unknown(&self) -> Result<(), GgufError> {
        for (name, value) in self.meta.iter() {
            let Some(key) = name.strip_prefix(self.arch).and_then(|rest| rest.strip_prefix('.')) else {
                continue;
            };
            if READ.contains(&key) || HARMLESS.contains(&key) {
                continue;
            }
            match NEUTRAL.iter().find(|(neutral, _)| *neutral == key) {
                Some((_, neutral)) if number(value) == Some(*neutral) => {}
                Some((_, neutral)) => {
                    return Err(self.wrong(
                        key,
                        value.describe(),
                        format!("{neutral}: other values are not supported"),
                    ));
                }
                None => {
                    let expected =
                        "a key this program knows: it may change the arithmetic, and is not supported";
                    return Err(self.wrong(key, value.describe(), expected));
                }
            }
        }
        Ok(())
    }
}

fn number(value: &Value) -> Option<f64> {
    match *value {
        Value::U8(v) => Some(v.into()),
        Value::I8(v) => Some(v.into()),
        Value::U16(v) => Some(v.into()),
        Value::I16(v) => Some(v.into()),
        Value::U32(v) => Some(v.into()),
        Value::I32(v) => Some(v.into()),
        Value::U64(v) => Some(v as f64),
        Value::I64(v) => Some(v as f64),
        Value::F32(v) => Some(v.into()),
        Value::F64(v) => Some(v),
        Value::Bool(v) => Some(v.into()),
        _ => None,
    }
}
