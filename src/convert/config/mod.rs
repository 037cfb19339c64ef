//! The configuration of a checkpoint, and the keys of a GGUF file that say the same.

mod fields;
mod hugging_face;
mod mistral;

use std::path::Path;

use bise_models::MistralConfig;
use bise_models::gguf::{GgufError, Metadata};

use super::checkpoint::Checkpoint;
use super::error::ConvertError;
use super::layout::Layout;

/// How rotations are stretched for longer contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// Positions are divided.
    Linear {
        /// By this.
        factor: f64,
    },
    /// YaRN (<https://arxiv.org/abs/2309.00071>).
    Yarn(Yarn),
    /// As in Llama 3.1: each frequency has a divisor of its own, which becomes a tensor.
    Llama3 {
        /// The largest divisor.
        factor: f64,
        /// Waves longer than `original_ctx / low` are divided by all of it.
        low: f64,
        /// Waves shorter than `original_ctx / high` not at all.
        high: f64,
        /// The context before.
        original_ctx: usize,
    },
}

/// The numbers of YaRN. What is not there is not written.
#[derive(Clone, Debug, PartialEq)]
pub struct Yarn {
    /// How much longer the context gets.
    pub factor: f64,
    /// The context before.
    pub original_ctx: usize,
    /// A factor on the rotations besides YaRN's own.
    pub attn_factor: Option<f64>,
    /// Rotations over the original context from which a dimension stays as it is.
    pub beta_fast: Option<f64>,
    /// Rotations below which a dimension is interpolated.
    pub beta_slow: Option<f64>,
    /// How much of the temperature on attention's logits is taken back.
    pub log_multiplier: Option<f64>,
}

/// Keys of the architecture, and those of `config.json` and of `params.json` that they are made of.
const ORIGINS: [(&str, &str, &str); 20] = [
    ("block_count", "num_hidden_layers", "n_layers"),
    ("context_length", "max_position_embeddings", "max_position_embeddings"),
    ("embedding_length", "hidden_size", "dim"),
    ("feed_forward_length", "intermediate_size", "hidden_dim"),
    ("attention.head_count", "num_attention_heads", "n_heads"),
    ("attention.head_count_kv", "num_key_value_heads", "n_kv_heads"),
    ("attention.key_length", "head_dim", "head_dim"),
    ("attention.value_length", "head_dim", "head_dim"),
    ("rope.dimension_count", "head_dim", "head_dim"),
    ("attention.layer_norm_rms_epsilon", "rms_norm_eps", "norm_eps"),
    ("attention.temperature_scale", "llama_4_scaling_beta", "llama_4_scaling.beta"),
    ("expert_count", "num_local_experts", "moe.num_experts"),
    ("expert_used_count", "num_experts_per_tok", "moe.num_experts_per_tok"),
    ("rope.freq_base", "rope_theta", "rope_theta"),
    ("rope.scaling.factor", "factor", "yarn.factor"),
    (
        "rope.scaling.original_context_length",
        "original_max_position_embeddings",
        "yarn.original_max_position_embeddings",
    ),
    ("rope.scaling.attn_factor", "attention_factor", "yarn.factor"),
    ("rope.scaling.yarn_beta_fast", "beta_fast", "yarn.beta"),
    ("rope.scaling.yarn_beta_slow", "beta_slow", "yarn.alpha"),
    ("rope.scaling.yarn_log_multiplier", "mscale_all_dim", "yarn.apply_scale"),
];

/// The hyper-parameters of a checkpoint.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// `llama` or `mistral3`.
    pub arch: &'static str,
    /// Transformer layers.
    pub n_layers: usize,
    /// The context it was trained for.
    pub n_ctx: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width of the feed-forward.
    pub n_ff: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Heads of keys and values.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Whether the file says how wide a head is; llama.cpp's converter does not for Mixtral.
    pub states_head_dim: bool,
    /// Rows of the embedding.
    pub n_vocab: usize,
    /// The epsilon of RMSNorm.
    pub rms_eps: f64,
    /// The base of rotary frequencies.
    pub rope_base: f64,
    /// How they are stretched.
    pub scaling: Scaling,
    /// The sliding window.
    pub sliding_window: Option<usize>,
    /// The β of queries that grow with the logarithm of their position.
    pub temperature: Option<f64>,
    /// Experts in a layer, and those that a token uses.
    pub experts: Option<(usize, usize)>,
    /// Whether the embedding serves as the output, too; `None` where the configuration does not say.
    pub tied: Option<bool>,
    /// Keys of sizes that the configuration does not have, so that transformers' defaults are taken.
    pub assumed: Vec<&'static str>,
    /// What the user should know, one line each.
    pub notes: Vec<String>,
}

/// The hyper-parameters of the model in `folder`, of which only the configuration is read: `config.json` or `params.json`.
///
/// # Errors
/// For a configuration that is missing or broken, an architecture that cannot be converted, and a model that cannot be run.
pub fn configuration(folder: &Path) -> Result<MistralConfig, ConvertError> {
    let checkpoint = Checkpoint::without_weights(folder)?;
    let config = ModelConfig::of(&checkpoint)?;
    let mut metadata = Metadata::new(&checkpoint.config_path().to_string_lossy());
    metadata.set("general.architecture", config.arch);
    config.set_keys(&mut metadata);
    config.check_keys(&checkpoint, &metadata)?;
    Ok(MistralConfig::from_metadata(&metadata)?)
}

impl ModelConfig {
    /// That of `checkpoint`.
    ///
    /// # Errors
    /// For an architecture that cannot be converted, and a number that is missing, of the wrong kind or out of range.
    pub fn of(checkpoint: &Checkpoint) -> Result<ModelConfig, ConvertError> {
        let config = match checkpoint.layout {
            Layout::HuggingFace => hugging_face::read(checkpoint)?,
            Layout::Mistral => mistral::read(checkpoint)?,
        };
        let wrong =
            |key: &str, found: String, expected: String| Err(checkpoint.config_error(key, found, expected));
        if !config.n_heads.is_multiple_of(config.n_kv_heads) {
            let key = match checkpoint.layout {
                Layout::HuggingFace => "num_key_value_heads",
                Layout::Mistral => "n_kv_heads",
            };
            return wrong(
                key,
                config.n_kv_heads.to_string(),
                format!("a divisor of {} heads", config.n_heads),
            );
        }
        if !config.head_dim.is_multiple_of(2) {
            let expected = "an even number: dimensions rotate in pairs".to_owned();
            return wrong("head_dim", config.head_dim.to_string(), expected);
        }
        if let Some((n_experts, n_used)) = config.experts
            && n_used > n_experts
        {
            return wrong("num_experts_per_tok", n_used.to_string(), format!("at most {n_experts} experts"));
        }
        Ok(config)
    }

    /// Whether rows of queries and keys come in halves of a head, as transformers rotates them, rather than in pairs.
    pub fn rotates_halves(&self, layout: Layout) -> bool {
        layout == Layout::HuggingFace
    }

    /// Checks that the model can be run that the keys in `metadata` describe.
    ///
    /// # Errors
    /// Where it cannot, with the key of the checkpoint's configuration that says so.
    pub fn check_keys(&self, checkpoint: &Checkpoint, metadata: &Metadata) -> Result<(), ConvertError> {
        match MistralConfig::from_metadata(metadata) {
            Ok(_) => Ok(()),
            Err(GgufError::Key { key, found, expected, .. }) => {
                let end = key.strip_prefix(self.arch).and_then(|key| key.strip_prefix('.')).unwrap_or(&key);
                let stated = ORIGINS.iter().find(|(gguf, ..)| *gguf == end);
                let stated =
                    stated.map_or(key.as_str(), |(_, hugging_face, mistral)| match checkpoint.layout {
                        Layout::HuggingFace => hugging_face,
                        Layout::Mistral => mistral,
                    });
                Err(checkpoint.config_error(stated, found, expected))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the keys of the architecture, in the order of llama.cpp's converter.
    pub fn set_keys(&self, to: &mut Metadata) {
        let arch = self.arch;
        let mut number = |key: &str, n: usize| {
            // Sizes were checked when they were read.
            to.set(&format!("{arch}.{key}"), u32::try_from(n).unwrap_or(u32::MAX));
        };
        number("block_count", self.n_layers);
        number("context_length", self.n_ctx);
        number("embedding_length", self.n_embd);
        number("feed_forward_length", self.n_ff);
        number("attention.head_count", self.n_heads);
        number("attention.head_count_kv", self.n_kv_heads);
        if let Some(window) = self.sliding_window {
            number("attention.sliding_window", window);
        }
        if let Some((n_experts, n_used)) = self.experts {
            number("expert_count", n_experts);
            number("expert_used_count", n_used);
        }
        if self.states_head_dim {
            number("attention.key_length", self.head_dim);
            number("attention.value_length", self.head_dim);
        }
        number("vocab_size", self.n_vocab);
        number("rope.dimension_count", self.head_dim);
        if let Scaling::Yarn(yarn) = &self.scaling {
            number("rope.scaling.original_context_length", yarn.original_ctx);
        }
        let mut float = |key: &str, x: Option<f64>| {
            if let Some(x) = x {
                to.set(&format!("{arch}.{key}"), x as f32);
            }
        };
        float("rope.freq_base", Some(self.rope_base));
        float("attention.layer_norm_rms_epsilon", Some(self.rms_eps));
        float("attention.temperature_scale", self.temperature);
        match &self.scaling {
            Scaling::None | Scaling::Llama3 { .. } => {}
            Scaling::Linear { factor } => {
                float("rope.scaling.factor", Some(*factor));
                to.set(&format!("{arch}.rope.scaling.type"), "linear");
            }
            Scaling::Yarn(yarn) => {
                float("rope.scaling.factor", Some(yarn.factor));
                float("rope.scaling.attn_factor", yarn.attn_factor);
                float("rope.scaling.yarn_beta_fast", yarn.beta_fast);
                float("rope.scaling.yarn_beta_slow", yarn.beta_slow);
                float("rope.scaling.yarn_log_multiplier", yarn.log_multiplier);
                to.set(&format!("{arch}.rope.scaling.type"), "yarn");
            }
        }
    }
}
