//! How the next token is chosen: [`SamplingParams`].

use anyhow::Result;
use bise::sampling::{RANDOM_SEED, SamplerKind, SamplingParams, parse_logit_bias};

use super::prompt::EscapeArgs;
use crate::cli::usage::wrong;

/// The chain of samplers.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Samplers to apply, in this order, separated by ';' [default: penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature]
    #[arg(
        long,
        value_name = "NAMES",
        default_value = "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature",
        hide_default_value = true
    )]
    pub samplers: String,

    /// Samplers to apply, a letter each [default: edskypmxt]
    #[arg(long, alias = "sampling-seq", value_name = "LETTERS")]
    pub sampler_seq: Option<String>,

    /// Random seed; -1: a random one
    #[arg(short, long, value_name = "SEED", default_value = "-1", value_parser = parse_seed, allow_negative_numbers = true)]
    pub seed: u32,

    /// Never generate an end-of-text token
    #[arg(long)]
    pub ignore_eos: bool,

    /// Temperature; 0: always take the most likely token
    #[arg(
        long,
        alias = "temperature",
        value_name = "N",
        default_value_t = 0.8,
        allow_negative_numbers = true,
        env = "LLAMA_ARG_TEMPERATURE"
    )]
    pub temp: f32,

    /// Keep the K most likely tokens; 0: off
    #[arg(
        long,
        value_name = "K",
        default_value_t = 40,
        allow_negative_numbers = true,
        env = "LLAMA_ARG_TOP_K"
    )]
    pub top_k: i32,

    /// Keep the most likely tokens whose probabilities add up to P; 1: off
    #[arg(long, value_name = "P", default_value_t = 0.95, env = "LLAMA_ARG_TOP_P")]
    pub top_p: f32,

    /// Keep tokens at least P times as likely as the most likely one; 0: off
    #[arg(long, value_name = "P", default_value_t = 0.05, env = "LLAMA_ARG_MIN_P")]
    pub min_p: f32,

    /// Keep tokens within N standard deviations of the highest logit; -1: off
    #[arg(long, alias = "top-nsigma", value_name = "N", default_value_t = -1.0, allow_negative_numbers = true)]
    pub top_n_sigma: f32,

    /// Locally typical sampling; 1: off
    #[arg(long, alias = "typical-p", value_name = "P", default_value_t = 1.0)]
    pub typical: f32,

    /// XTC: probability of dropping the most likely tokens; 0: off
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub xtc_probability: f32,

    /// XTC: how likely a token must be to be dropped; above 0.5: off
    #[arg(long, value_name = "P", default_value_t = 0.1)]
    pub xtc_threshold: f32,

    /// Number of last tokens that penalties look at; 0: off, -1: the whole context
    #[arg(long, value_name = "N", default_value_t = 64, allow_negative_numbers = true)]
    pub repeat_last_n: i32,

    /// Factor by which repeated tokens are penalized; 1: off
    #[arg(long, value_name = "N", default_value_t = 1.0, env = "LLAMA_ARG_REPEAT_PENALTY")]
    pub repeat_penalty: f32,

    /// Penalty subtracted once from each repeated token; 0: off
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0.0,
        allow_negative_numbers = true,
        env = "LLAMA_ARG_PRESENCE_PENALTY"
    )]
    pub presence_penalty: f32,

    /// Penalty subtracted for every occurrence of a token; 0: off
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0.0,
        allow_negative_numbers = true,
        env = "LLAMA_ARG_FREQUENCY_PENALTY"
    )]
    pub frequency_penalty: f32,

    /// DRY: strength of the penalty for repeated sequences; 0: off
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    pub dry_multiplier: f32,

    /// DRY: how the penalty grows with the length of the repetition
    #[arg(long, value_name = "N", default_value_t = 1.75)]
    pub dry_base: f32,

    /// DRY: length of a repetition that is not penalized
    #[arg(long, value_name = "N", default_value_t = 2, allow_negative_numbers = true)]
    pub dry_allowed_length: i32,

    /// DRY: number of last tokens it looks at; 0: off, -1: the whole context
    #[arg(long, value_name = "N", default_value_t = 64, allow_negative_numbers = true)]
    pub dry_penalty_last_n: i32,

    /// DRY: a text that breaks repetitions, instead of '\n', ':', '"' and '*'; none: no breakers
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub dry_sequence_breaker: Vec<String>,

    /// Dynamic temperature: half its range; 0: off
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    pub dynatemp_range: f32,

    /// Dynamic temperature: exponent of the entropy
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    pub dynatemp_exp: f32,

    /// Mirostat version, instead of the samplers above: 1 or 2; 0: off
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub mirostat: u8,

    /// Mirostat: learning rate (eta)
    #[arg(long, value_name = "N", default_value_t = 0.1)]
    pub mirostat_lr: f32,

    /// Mirostat: target entropy (tau)
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    pub mirostat_ent: f32,

    /// Add BIAS to the logit of a token id, as in 15043+1 or 2-inf
    #[arg(short, long, value_name = "TOKEN(+/-)BIAS", value_parser = |s: &str| parse_logit_bias(s))]
    pub logit_bias: Vec<(u32, f32)>,
}

impl SamplingArgs {
    /// Sampling parameters; a look-back of -1 becomes the whole context of `n_ctx` tokens.
    ///
    /// # Errors
    /// An unknown sampler. (Ranges are checked where the sampler is made.)
    pub fn params(&self, n_ctx: usize, escapes: EscapeArgs) -> Result<SamplingParams> {
        let samplers = match &self.sampler_seq {
            Some(letters) => {
                SamplerKind::parse_letters(letters).map_err(|e| wrong(format_args!("--sampler-seq: {e}")))?
            }
            None => SamplerKind::parse_names(&self.samplers)
                .map_err(|e| wrong(format_args!("--samplers: {e}")))?,
        };
        let mut params = SamplingParams {
            seed: self.seed,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            xtc_probability: self.xtc_probability,
            xtc_threshold: self.xtc_threshold,
            typ_p: self.typical,
            temp: self.temp,
            dynatemp_range: self.dynatemp_range,
            dynatemp_exponent: self.dynatemp_exp,
            penalty_last_n: self.repeat_last_n,
            penalty_repeat: self.repeat_penalty,
            penalty_freq: self.frequency_penalty,
            penalty_present: self.presence_penalty,
            dry_multiplier: self.dry_multiplier,
            dry_base: self.dry_base,
            dry_allowed_length: self.dry_allowed_length,
            dry_penalty_last_n: self.dry_penalty_last_n,
            mirostat: self.mirostat,
            mirostat_tau: self.mirostat_ent,
            mirostat_eta: self.mirostat_lr,
            top_n_sigma: self.top_n_sigma,
            ignore_eos: self.ignore_eos,
            logit_bias: self.logit_bias.clone(),
            samplers,
            ..SamplingParams::default()
        };
        if !self.dry_sequence_breaker.is_empty() {
            let breakers = self.dry_sequence_breaker.iter().filter(|text| *text != "none");
            let meant = breakers.map(|text| escapes.meant("--dry-sequence-breaker", text.clone()));
            params.dry_sequence_breakers = meant.collect::<Result<_>>()?;
        }
        Ok(params.with_context(n_ctx))
    }
}

fn parse_seed(text: &str) -> Result<u32, String> {
    match text {
        "-1" => Ok(RANDOM_SEED),
        _ => text.parse().map_err(|_| format!("'{text}' is neither -1 nor a number from 0 to {}", u32::MAX)),
    }
}
