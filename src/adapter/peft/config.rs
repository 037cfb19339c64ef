//! `adapter_config.json`.

use std::path::Path;

use bise_models::LowRank;
use bise_models::printable::printable;
use serde_json::{Map, Number, Value, json};

use super::keys;
use super::name::module_of;
use super::pattern::Patterns;
use crate::adapter::error::AdapterFileError;
use crate::adapter::target::Target;
use crate::convert::json_file;

/// Its name.
pub(super) const CONFIG_NAME: &str = "adapter_config.json";

/// What PEFT takes for `r` and `lora_alpha` where they are missing.
const DEFAULT: u32 = 8;
/// The largest rank. Real ones are below 1024; a matrix has as many rows at most.
const MAX_RANK: u64 = 1 << 20;

/// The numbers of an adapter, as `adapter_config.json` has them. [`PeftConfig::default`] is PEFT's.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PeftConfig {
    /// `r`: rows of A and columns of B, where no pattern says otherwise.
    pub rank: usize,
    /// `lora_alpha`: what is added is `alpha / rank · B·A`. PEFT adds nothing where it is 0; llama.cpp takes 0 for "as much as the rank".
    pub alpha: f64,
    /// `use_rslora`: it is `alpha / √rank · B·A` (<https://arxiv.org/abs/2312.03732>).
    pub use_rslora: bool,
    /// `rank_pattern`: expressions for the ends of modules' names, and their ranks. The first that fits counts.
    pub rank_pattern: Vec<(String, usize)>,
    /// `alpha_pattern`: the same for alphas.
    pub alpha_pattern: Vec<(String, f64)>,
    /// `lora_dropout`, which only training looks at.
    pub dropout: f64,
    /// `base_model_name_or_path`: the model it was trained for.
    pub base_model: Option<String>,
    /// `target_parameters`: names of parameters that are adapted in place of modules, as PEFT does with fused experts.
    pub target_parameters: Vec<String>,
}

impl PeftConfig {
    /// That of parts which are there: the most frequent rank and alpha, and patterns with the names of modules that have others.
    #[must_use]
    pub fn of_parts<'a, T: Into<Target>>(parts: impl IntoIterator<Item = (T, &'a LowRank)>) -> PeftConfig {
        let named = |(target, part): (T, &LowRank)| {
            (module_of(target.into()), part.rank, alpha_for(part.scale, part.rank))
        };
        let parts: Vec<(String, usize, f64)> = parts.into_iter().map(named).collect();
        let mut config = PeftConfig {
            rank: most_frequent(parts.iter().map(|(_, rank, _)| *rank)).unwrap_or(DEFAULT as usize),
            alpha: most_frequent(parts.iter().map(|(.., alpha)| *alpha)).unwrap_or(f64::from(DEFAULT)),
            ..PeftConfig::default()
        };
        for (module, rank, alpha) in parts {
            if rank != config.rank {
                config.rank_pattern.push((module.clone(), rank));
            }
            if alpha != config.alpha {
                config.alpha_pattern.push((module, alpha));
            }
        }
        config
    }
}

/// The alpha that gives a scale: the shorter of two numbers where both do.
fn alpha_for(scale: f32, rank: usize) -> f64 {
    let alpha = f64::from(scale) * rank as f64;
    let short = f64::from(alpha as f32);
    if (short / rank as f64) as f32 == scale { short } else { alpha }
}

/// The value that comes most often; of several, the first.
fn most_frequent<T: PartialEq + Copy>(values: impl Iterator<Item = T> + Clone) -> Option<T> {
    let count = |value: T| values.clone().filter(|other| *other == value).count();
    let mut best = None;
    for value in values.clone() {
        let n = count(value);
        if best.is_none_or(|(most, _)| n > most) {
            best = Some((n, value));
        }
    }
    best.map(|(_, value)| value)
}

impl Default for PeftConfig {
    fn default() -> PeftConfig {
        PeftConfig {
            rank: DEFAULT as usize,
            alpha: f64::from(DEFAULT),
            use_rslora: false,
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            dropout: 0.0,
            base_model: None,
            target_parameters: Vec::new(),
        }
    }
}

impl PeftConfig {
    /// Reads the configuration of the adapter in `folder`.
    ///
    /// # Errors
    /// For a file that is missing or broken, another method than LoRA, numbers that make no sense, and keys that change the arithmetic in a way
    /// that is not supported.
    pub fn open(folder: &Path) -> Result<PeftConfig, AdapterFileError> {
        let path = folder.join(CONFIG_NAME);
        PeftConfig::of(&path, &json_file::object(&path)?)
    }

    pub(super) fn of(path: &Path, object: &Map<String, Value>) -> Result<PeftConfig, AdapterFileError> {
        let fields = Fields { path, object };
        match object.get("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            _ if object.contains_key("fine_tune_type") => {
                let reason = "it is one of mlx_lm, which lays matrices out otherwise: fuse it there (mlx_lm.fuse), and convert the model";
                return Err(fields.unsupported("the adapter", reason));
            }
            Some(other) => {
                let what = format!("the method \"peft_type\": '{}'", printable(other.as_bytes()));
                return Err(
                    fields.unsupported(what, "LORA alone is: merge it with PEFT's `merge_and_unload`")
                );
            }
            None => return Err(fields.wrong("peft_type", "the method, \"LORA\"")),
        }
        if let Some(refused) = keys::refused(object) {
            let value = shown(&refused.value);
            let what = format!("\"{}\": {value}", printable(refused.key.as_bytes()));
            return Err(fields.unsupported(what, refused.reason));
        }
        if let Some((key, expected)) = keys::mistyped(object) {
            return Err(fields.wrong(key, expected));
        }
        let rank = match object.get("r") {
            None => DEFAULT as usize,
            Some(value) => rank_of(value).ok_or_else(|| fields.wrong("r", RANK))?,
        };
        let alpha = match object.get("lora_alpha") {
            None => f64::from(DEFAULT),
            Some(value) => alpha_of(value).ok_or_else(|| fields.wrong("lora_alpha", ALPHA))?,
        };
        let base_model = match object.get("base_model_name_or_path") {
            Some(Value::String(name)) if !name.is_empty() => Some(name.clone()),
            _ => None,
        };
        let dropout = object.get("lora_dropout").and_then(Value::as_f64).unwrap_or(0.0);
        let config = PeftConfig {
            rank,
            alpha,
            use_rslora: fields.bool("use_rslora")?,
            rank_pattern: fields.pattern("rank_pattern", RANK, rank_of)?,
            alpha_pattern: fields.pattern("alpha_pattern", ALPHA, alpha_of)?,
            dropout,
            base_model,
            target_parameters: fields.texts("target_parameters")?,
        };
        Ok(config)
    }

    /// The configuration as PEFT 0.21 writes it, with what an adapter of `target_modules` needs besides.
    pub(super) fn to_json(&self, target_modules: &[String], layers_to_transform: Option<&[usize]>) -> Value {
        let pattern = |entries: Vec<(String, Value)>| Value::Object(entries.into_iter().collect());
        let ranks = self.rank_pattern.iter().map(|(key, rank)| (key.clone(), json!(rank)));
        let alphas = self.alpha_pattern.iter().map(|(key, alpha)| (key.clone(), number(*alpha)));
        json!({
            "alora_invocation_tokens": null,
            "alpha_pattern": pattern(alphas.collect()),
            "arrow_config": null,
            "auto_mapping": null,
            "base_model_name_or_path": self.base_model,
            "bias": "none",
            "corda_config": null,
            "ensure_weight_tying": false,
            "eva_config": null,
            "exclude_modules": null,
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "kasa_config": null,
            "layer_replication": null,
            "layers_pattern": null,
            "layers_to_transform": layers_to_transform,
            "loftq_config": {},
            "lora_alpha": number(self.alpha),
            "lora_bias": false,
            "lora_dropout": number(self.dropout),
            "lora_ga_config": null,
            "megatron_config": null,
            "megatron_core": "megatron.core",
            "modules_to_save": null,
            "monteclora_config": null,
            "peft_type": "LORA",
            "peft_version": "0.21.2",
            "qalora_group_size": 16,
            "r": self.rank,
            "rank_pattern": pattern(ranks.collect()),
            "revision": null,
            "target_modules": target_modules,
            "target_parameters": if self.target_parameters.is_empty() { Value::Null } else { json!(self.target_parameters) },
            "task_type": "CAUSAL_LM",
            "trainable_token_indices": null,
            "use_bdlora": null,
            "use_dora": false,
            "use_qalora": false,
            "use_rslora": self.use_rslora,
            "velora_config": null
        })
    }
}

/// Integers where they are some, as PEFT has them most often.
fn number(x: f64) -> Value {
    match x.fract() == 0.0 && x.abs() < 1e15 {
        true => Value::from(x as i64),
        false => Number::from_f64(x).map_or(Value::Null, Value::Number),
    }
}

const RANK: &str = "a rank of 1 or more";
const ALPHA: &str = "a number";

fn rank_of(value: &Value) -> Option<usize> {
    value.as_u64().filter(|rank| (1..=MAX_RANK).contains(rank)).map(|rank| rank as usize)
}

fn alpha_of(value: &Value) -> Option<f64> {
    value.as_f64().filter(|alpha| (*alpha as f32).is_finite())
}

/// The beginning of a value, as messages have it.
fn shown(value: &str) -> String {
    const MOST: usize = 120;
    let begin: String = value.chars().take(MOST).collect();
    let more = if begin.len() < value.len() { "…" } else { "" };
    format!("{}{more}", printable(begin.as_bytes()))
}

/// The fields of the file.
struct Fields<'a> {
    path: &'a Path,
    object: &'a Map<String, Value>,
}

impl Fields<'_> {
    fn wrong(&self, key: &str, expected: &str) -> AdapterFileError {
        let found = self.object.get(key).map_or_else(|| "nothing".to_owned(), Value::to_string);
        self.invalid(format!("\"{key}\""), &found, expected)
    }

    fn invalid(&self, what: String, found: &str, expected: &str) -> AdapterFileError {
        AdapterFileError::Invalid {
            path: self.path.to_owned(),
            what,
            found: shown(found),
            expected: expected.to_owned(),
        }
    }

    fn unsupported(&self, what: impl Into<String>, reason: impl Into<String>) -> AdapterFileError {
        AdapterFileError::Unsupported { path: self.path.to_owned(), what: what.into(), reason: reason.into() }
    }

    fn bool(&self, key: &str) -> Result<bool, AdapterFileError> {
        match self.object.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, AdapterFileError> {
        let values = match self.object.get(key) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(_) => return Err(self.wrong(key, "an array of names")),
        };
        let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
        texts.collect::<Option<_>>().ok_or_else(|| self.wrong(key, "an array of names"))
    }

    fn pattern<T: Copy>(
        &self,
        key: &str,
        expected: &str,
        value_of: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<(String, T)>, AdapterFileError> {
        let object = match self.object.get(key) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Object(object)) => object,
            Some(_) => return Err(self.wrong(key, "an object of names and numbers")),
        };
        let mut entries = Vec::with_capacity(object.len());
        for (name, value) in object {
            let Some(value) = value_of(value) else {
                let what = format!("\"{key}\", '{}'", printable(name.as_bytes()));
                return Err(self.invalid(what, &value.to_string(), expected));
            };
            entries.push((name.clone(), value));
        }
        // Each is compiled here, so that what is no expression is refused where it stands.
        Patterns::new(entries.iter().cloned()).map_err(|(name, why)| {
            let expected = format!("a regular expression without lookaround and back-references ({why})");
            self.invalid(format!("\"{key}\""), &format!("'{name}'"), &expected)
        })?;
        Ok(entries)
    }
}

/// Which rank and which scale a module has.
pub(super) struct Scales<'a> {
    config: &'a PeftConfig,
    ranks: Patterns<usize>,
    alphas: Patterns<f64>,
}

impl<'a> Scales<'a> {
    /// # Errors
    /// A pattern that is no expression, and why not.
    pub fn of(config: &'a PeftConfig) -> Result<Scales<'a>, (String, String)> {
        let ranks = Patterns::new(config.rank_pattern.iter().cloned())?;
        Ok(Scales { config, ranks, alphas: Patterns::new(config.alpha_pattern.iter().cloned())? })
    }

    /// The rank of a module, as `model.layers.0.self_attn.q_proj`, and what its product is multiplied by.
    pub fn of_module(&mut self, module: &str) -> (usize, f32) {
        let rank = self.ranks.find(module).unwrap_or(self.config.rank);
        let alpha = self.alphas.find(module).unwrap_or(self.config.alpha);
        (rank, self.config.scale(alpha, rank))
    }

    /// Expressions that no module was asked for.
    pub fn unused(&self) -> Vec<String> {
        let of = |key: &'static str, text: &str| {
            format!("no tensor belongs to '{}' of {key}", printable(text.as_bytes()))
        };
        let ranks = self.ranks.unused().map(|text| of("rank_pattern", text));
        ranks.chain(self.alphas.unused().map(|text| of("alpha_pattern", text))).collect()
    }
}

impl PeftConfig {
    /// What `B·A` of `rank` is multiplied by.
    pub fn scale(&self, alpha: f64, rank: usize) -> f32 {
        let rank = rank as f64;
        (alpha / if self.use_rslora { rank.sqrt() } else { rank }) as f32
    }
}
