//! Sampling parameters as requests spell them.

use serde::Deserialize;
use serde_json::Value;

use super::{ApiError, kind};
use crate::sampling::{RANDOM_SEED, Sampler, SamplerKind, SamplingParams};
use crate::server::body::{Real, Whole};
use crate::tokenizer::{EncodeOptions, Tokenizer};

/// The parameters, by llama-server's names, of which OpenAI's are some. What is left out is as the server was started.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SamplingFields {
    temperature: Option<Real>,
    dynatemp_range: Option<Real>,
    dynatemp_exponent: Option<Real>,
    top_k: Option<Whole<i32>>,
    top_p: Option<Real>,
    min_p: Option<Real>,
    top_n_sigma: Option<Real>,
    xtc_probability: Option<Real>,
    xtc_threshold: Option<Real>,
    #[serde(alias = "typ_p")]
    typical_p: Option<Real>,
    repeat_last_n: Option<Whole<i32>>,
    repeat_penalty: Option<Real>,
    presence_penalty: Option<Real>,
    frequency_penalty: Option<Real>,
    dry_multiplier: Option<Real>,
    dry_base: Option<Real>,
    dry_allowed_length: Option<Whole<i32>>,
    dry_penalty_last_n: Option<Whole<i32>>,
    dry_sequence_breakers: Option<Vec<String>>,
    mirostat: Option<Whole<u8>>,
    mirostat_tau: Option<Real>,
    mirostat_eta: Option<Real>,
    min_keep: Option<Whole<u32>>,
    seed: Option<Whole<i64>>,
    ignore_eos: Option<bool>,
    logit_bias: Option<Value>,
    samplers: Option<Value>,
}

impl SamplingFields {
    /// The parameters, on top of `defaults`.
    ///
    /// # Errors
    /// A sampler or a bias that makes no sense, and what lies outside its range.
    pub fn params(
        self,
        tokenizer: &Tokenizer,
        defaults: &SamplingParams,
    ) -> Result<SamplingParams, ApiError> {
        let mut params = defaults.clone();
        macro_rules! take {
            ($($field:ident => $param:ident),* $(,)?) => {
                $(if let Some(value) = self.$field { params.$param = value; })*
            };
        }
        macro_rules! take_whole {
            ($($field:ident => $param:ident),* $(,)?) => {
                $(if let Some(Whole(value)) = self.$field { params.$param = value; })*
            };
        }
        macro_rules! take_real {
            ($($field:ident => $param:ident),* $(,)?) => {
                $(if let Some(Real(value)) = self.$field { params.$param = value; })*
            };
        }
        take_real! {
            temperature => temp,
            dynatemp_range => dynatemp_range,
            dynatemp_exponent => dynatemp_exponent,
            top_p => top_p,
            min_p => min_p,
            top_n_sigma => top_n_sigma,
            xtc_probability => xtc_probability,
            xtc_threshold => xtc_threshold,
            typical_p => typ_p,
            repeat_penalty => penalty_repeat,
            presence_penalty => penalty_present,
            frequency_penalty => penalty_freq,
            dry_multiplier => dry_multiplier,
            dry_base => dry_base,
            mirostat_tau => mirostat_tau,
            mirostat_eta => mirostat_eta,
        }
        take! {
            dry_sequence_breakers => dry_sequence_breakers,
            ignore_eos => ignore_eos,
        }
        take_whole! {
            top_k => top_k,
            repeat_last_n => penalty_last_n,
            dry_allowed_length => dry_allowed_length,
            dry_penalty_last_n => dry_penalty_last_n,
            mirostat => mirostat,
        }
        if let Some(Whole(min_keep)) = self.min_keep {
            params.min_keep = min_keep as usize;
        }
        if let Some(Whole(seed)) = self.seed {
            params.seed = seed_of(seed);
        }
        match &self.logit_bias {
            None | Some(Value::Null) => {}
            Some(biases) => params.logit_bias = logit_bias(biases, tokenizer)?,
        }
        match &self.samplers {
            None | Some(Value::Null) => {}
            Some(samplers) => params.samplers = samplers_of(samplers)?,
        }
        Sampler::check(&params, tokenizer.n_vocab())?;
        Ok(params)
    }
}

/// The parameters of one of several answers to a request: where a seed was given, each has its own.
pub fn for_choice(params: SamplingParams, index: u32) -> SamplingParams {
    let seed = match params.seed {
        RANDOM_SEED => RANDOM_SEED,
        seed => seed.wrapping_add(index).min(RANDOM_SEED - 1),
    };
    SamplingParams { seed, ..params }
}

/// A seed of any size; −1 asks for a random one. As in llama-server, the lower 32 bits count.
pub fn seed_of(seed: i64) -> u32 {
    if seed == -1 { RANDOM_SEED } else { seed as u32 }
}

fn samplers_of(samplers: &Value) -> Result<Vec<SamplerKind>, ApiError> {
    let named = match samplers {
        // A letter each, as with --sampler-seq.
        Value::String(letters) => SamplerKind::parse_letters(letters),
        Value::Array(names) => {
            let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
            let Some(names) = names else {
                return Err(ApiError::field("samplers", "a list of other things", "a list of names"));
            };
            SamplerKind::parse_names(&names.join(";"))
        }
        other => {
            return Err(ApiError::field(
                "samplers",
                kind(other),
                "a list of names, or a text with a letter each",
            ));
        }
    };
    named.map_err(|error| ApiError::invalid(format!("samplers: {error}")))
}

/// `{"15043": 1.5, "Hello": -100}`, or `[[15043, 1.5], ["Hello", false]]`. A text stands for each of its tokens, `false` for never.
fn logit_bias(biases: &Value, tokenizer: &Tokenizer) -> Result<Vec<(u32, f32)>, ApiError> {
    let pairs: Vec<(Value, &Value)> = match biases {
        Value::Object(biases) => biases
            .iter()
            .map(|(token, bias)| {
                let id = token.parse::<u64>().map_or_else(|_| token.as_str().into(), Value::from);
                (id, bias)
            })
            .collect(),
        Value::Array(biases) => biases
            .iter()
            .map(|bias| match bias.as_array().map(Vec::as_slice) {
                Some([token, bias]) => Ok((token.clone(), bias)),
                _ => Err(ApiError::field("logit_bias", bias, "pairs of a token and a bias")),
            })
            .collect::<Result<_, _>>()?,
        other => return Err(ApiError::field("logit_bias", kind(other), "an object, or a list of pairs")),
    };
    let mut params = Vec::new();
    for (token, bias) in pairs {
        let bias = match bias {
            Value::Bool(false) => f32::NEG_INFINITY,
            bias => match bias.as_f64().map(Real::of) {
                Some(Some(Real(bias))) => bias,
                Some(None) => {
                    return Err(ApiError::field("logit_bias", bias, "biases from -3.4e38 to 3.4e38"));
                }
                None => {
                    return Err(ApiError::field("logit_bias", kind(bias), "a number, or false for never"));
                }
            },
        };
        match &token {
            Value::String(text) => {
                let plain = EncodeOptions { add_special: false, parse_special: true };
                params.extend(tokenizer.encode(text, plain).into_iter().map(|token| (token, bias)));
            }
            id => match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
                Some(id) => params.push((id, bias)),
                None => return Err(ApiError::field("logit_bias", id, "a token's number or text")),
            },
        }
    }
    Ok(params)
}

/// `stop`: a text or several.
#[derive(Clone, Debug, Default)]
pub struct Stops(pub Vec<String>);

impl<'de> Deserialize<'de> for Stops {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Stops, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Stops;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_unit<E>(self) -> Result<Stops, E> {
                Ok(Stops::default())
            }

            fn visit_str<E>(self, text: &str) -> Result<Stops, E> {
                Ok(Stops(vec![text.to_owned()]))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut texts: A) -> Result<Stops, A::Error> {
                let mut stops = Vec::new();
                while let Some(text) = texts.next_element::<String>()? {
                    stops.push(text);
                }
                // One that is empty would end every answer before it begins.
                stops.retain(|text| !text.is_empty());
                Ok(Stops(stops))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
