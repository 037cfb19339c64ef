//! The keys of an architecture: typed access, and which of them may be there.

use crate::extras::Extra;
use crate::gguf::{GgufError, Metadata, Value};

/// Keys that [`MistralConfig::from_metadata`](super::MistralConfig::from_metadata) reads.
pub(super) const READ: &[&str] = &[
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
    "expert_count",
    "expert_used_count",
    "expert_feed_forward_length",
    "nextn_predict_layers",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.temperature_scale",
    "attention.scale",
    "attention.causal",
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
    // Ollama's converter has its own names for some of these.
    "rope.scaling.beta_fast",
    "rope.scaling.beta_slow",
    "rope.scaling.mscale_all_dim",
    "rope.scaling_beta",
];

/// Keys that cannot touch the logits.
const HARMLESS: &[&str] = &[
    "tensor_data_layout",
    "rope.scaling.finetuned",
    // The epsilon of a LayerNorm, which no Mistral has; some converters write it beside that of the RMSNorm.
    "attention.layer_norm_epsilon",
    "decoder_start_token_id",
    // How an embedding model makes one vector of many.
    "pooling_type",
];

/// Keys that change nothing at the value given.
const NEUTRAL: &[(&str, f64)] = &[
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
    ("use_parallel_residual", 0.0),
    ("logit_scale", 1.0),
    ("residual_scale", 1.0),
    ("embedding_scale", 1.0),
    ("expert_weights_scale", 1.0),
    ("expert_weights_norm", 1.0),
    ("rope.scaling.yarn_attn_factor", 1.0),
    ("rope.scaling.yarn_ext_factor", 1.0),
    ("rope.scaling.mscale", 1.0),
];

/// Keys about the layers with a sliding window, which here are all layers or none: they may repeat another key.
const REPEATED: &[(&str, &str)] = &[
    ("rope.freq_base_swa", "rope.freq_base"),
    ("rope.dimension_count_swa", "rope.dimension_count"),
    ("attention.key_length_swa", "attention.key_length"),
    ("attention.value_length_swa", "attention.value_length"),
];

/// Counts are limited, so that products of two of them fit.
const MAX_COUNT: u64 = 1 << 31;

/// Typed access to the keys of one architecture.
pub(super) struct Keys<'a> {
    pub meta: &'a Metadata,
    pub arch: &'a str,
}

impl Keys<'_> {
    pub fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.arch)
    }

    pub fn wrong(&self, key: &str, found: impl ToString, expected: impl Into<String>) -> GgufError {
        self.meta.error(&self.name(key), found.to_string(), expected)
    }

    /// The first of `keys` that the file has; the first of all if it has none.
    pub fn present<'k>(&self, keys: [&'k str; 2]) -> &'k str {
        keys.into_iter().find(|key| self.meta.get(&self.name(key)).is_some()).unwrap_or(keys[0])
    }

    pub fn float(&self, key: &str) -> Result<Option<f32>, GgufError> {
        match self.meta.f32(&self.name(key))? {
            Some(v) if !v.is_finite() => Err(self.wrong(key, v, "a finite number")),
            v => Ok(v),
        }
    }

    pub fn positive(&self, key: &str) -> Result<Option<f32>, GgufError> {
        match self.float(key)? {
            Some(v) if v <= 0.0 => Err(self.wrong(key, v, "a positive number")),
            v => Ok(v),
        }
    }

    /// A count, given once or once for each layer if all agree; at most 2³¹.
    fn optional(&self, key: &str) -> Result<Option<usize>, GgufError> {
        let name = self.name(key);
        let count = match self.meta.get(&name) {
            Some(value @ Value::Array(array)) => {
                let each = self.meta.get_as::<Vec<u64>>(&name)?.unwrap_or_default();
                match each.first().filter(|first| each.iter().all(|n| n == *first)) {
                    Some(first) => *first,
                    None if array.is_empty() => return Err(self.wrong(key, value.describe(), "a count")),
                    None => {
                        return Err(self.wrong(
                            key,
                            "values that differ by layer",
                            "one value for all layers",
                        ));
                    }
                }
            }
            _ => match self.meta.u64(&name)? {
                Some(count) => count,
                None => return Ok(None),
            },
        };
        match usize::try_from(count) {
            Ok(n) if count <= MAX_COUNT => Ok(Some(n)),
            _ => Err(self.wrong(key, count, format!("a count up to {MAX_COUNT}"))),
        }
    }

    pub fn optional_count(&self, key: &str) -> Result<Option<usize>, GgufError> {
        match self.optional(key)? {
            Some(0) => Err(self.wrong(key, 0, "a positive count")),
            n => Ok(n),
        }
    }

    pub fn optional_zero(&self, key: &str) -> Result<usize, GgufError> {
        Ok(self.optional(key)?.unwrap_or(0))
    }

    pub fn count(&self, key: &str) -> Result<usize, GgufError> {
        match self.optional_count(key)? {
            Some(n) => Ok(n),
            None => Err(self.wrong(key, "no such key", "a positive count")),
        }
    }

    pub fn at_most(&self, key: &str, n: usize, most: usize) -> Result<(), GgufError> {
        if n > most {
            return Err(self.wrong(key, n, format!("at most {most}")));
        }
        Ok(())
    }

    /// Refuses keys of the architecture that may change the arithmetic and are not read.
    pub fn refuse_unknown(&self) -> Result<(), GgufError> {
        for (name, value) in self.meta.iter() {
            let Some(key) = name.strip_prefix(self.arch).and_then(|rest| rest.strip_prefix('.')) else {
                continue;
            };
            if READ.contains(&key) || HARMLESS.contains(&key) || Extra::of_key(key).is_some() {
                continue;
            }
            let found = || value.describe();
            if let Some((_, neutral)) = NEUTRAL.iter().find(|(neutral, _)| *neutral == key) {
                if number(value) != Some(*neutral) {
                    let expected = format!("{neutral}: other values are not supported");
                    return Err(self.wrong(key, found(), expected));
                }
            } else if let Some((_, same)) = REPEATED.iter().find(|(repeated, _)| *repeated == key) {
                if number(value).is_none()
                    || number(value) != self.meta.get(&self.name(same)).and_then(number)
                {
                    let expected = format!("the value of '{}': others are not supported", self.name(same));
                    return Err(self.wrong(key, found(), expected));
                }
            } else if key == "attention.sliding_window_pattern" {
                // Which layers have the window: without one it says nothing, and 1 is every layer.
                if self.optional_zero("attention.sliding_window")? > 0 && number(value) != Some(1.0) {
                    return Err(self.wrong(key, found(), "1: windows in some layers only are not supported"));
                }
            } else {
                let expected = "a key this program knows: it may change the arithmetic, and is not supported";
                return Err(self.wrong(key, found(), expected));
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
