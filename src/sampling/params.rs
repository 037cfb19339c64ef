//! The parameters of the chain, with llama.cpp's names and defaults.

use super::{DryBreaker, SamplingError};

/// The seed that asks for a random one (llama.cpp's `LLAMA_DEFAULT_SEED`; `--seed -1`).
pub const RANDOM_SEED: u32 = u32::MAX;

/// A sampler that can stand in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SamplerKind {
    /// Repetition, frequency and presence penalties.
    Penalties,
    /// DRY: a penalty on continuing a repeated sequence.
    Dry,
    /// Top-nσ.
    TopNSigma,
    /// Top-k.
    TopK,
    /// Locally typical sampling.
    TypicalP,
    /// Top-p.
    TopP,
    /// Min-p.
    MinP,
    /// XTC: exclude top choices.
    Xtc,
    /// Temperature, fixed or dynamic.
    Temperature,
}

impl SamplerKind {
    /// The default chain.
    pub const DEFAULT_ORDER: [Self; 9] = [
        Self::Penalties,
        Self::Dry,
        Self::TopNSigma,
        Self::TopK,
        Self::TypicalP,
        Self::TopP,
        Self::MinP,
        Self::Xtc,
        Self::Temperature,
    ];

    /// The name `--samplers` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Penalties => "penalties",
            Self::Dry => "dry",
            Self::TopNSigma => "top_n_sigma",
            Self::TopK => "top_k",
            Self::TypicalP => "typ_p",
            Self::TopP => "top_p",
            Self::MinP => "min_p",
            Self::Xtc => "xtc",
            Self::Temperature => "temperature",
        }
    }

    /// The letter `--sampling-seq` takes.
    pub fn letter(self) -> char {
        match self {
            Self::Penalties => 'e',
            Self::Dry => 'd',
            Self::TopNSigma => 's',
            Self::TopK => 'k',
            Self::TypicalP => 'y',
            Self::TopP => 'p',
            Self::MinP => 'm',
            Self::Xtc => 'x',
            Self::Temperature => 't',
        }
    }

    /// The order that `--samplers` gives: names separated by `;`, in any case, with `_`, `-` or nothing between words
    /// (`top_k`, `top-k`, `topk`); also `nucleus`, `typ` and `temp`. An empty list leaves only the final draw.
    ///
    /// # Errors
    /// [`SamplingError::UnknownSampler`].
    pub fn parse_names(names: &str) -> Result<Vec<Self>, SamplingError> {
        let plain = |name: &str| name.to_ascii_lowercase().replace(['_', '-'], "");
        let names = names.split(';').map(str::trim).filter(|name| !name.is_empty());
        names
            .map(|name| match plain(name).as_str() {
                "nucleus" => Ok(Self::TopP),
                "typ" => Ok(Self::TypicalP),
                "temp" => Ok(Self::Temperature),
                typed => Self::DEFAULT_ORDER
                    .into_iter()
                    .find(|kind| plain(kind.name()) == typed)
                    .ok_or_else(|| SamplingError::UnknownSampler(name.to_owned())),
            })
            .collect()
    }

    /// The order that `--sampling-seq` gives: one letter a sampler, by default `edskypmxt`.
    ///
    /// # Errors
    /// [`SamplingError::UnknownSampler`].
    pub fn parse_letters(letters: &str) -> Result<Vec<Self>, SamplingError> {
        let kind = |letter: char| Self::DEFAULT_ORDER.into_iter().find(|kind| kind.letter() == letter);
        letters.chars().map(|c| kind(c).ok_or_else(|| SamplingError::UnknownSampler(c.to_string()))).collect()
    }
}

/// What the chain does. The fields have llama.cpp's names, and [`Default`] its defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// Seed of the random numbers; [`RANDOM_SEED`] draws one.
    pub seed: u32,
    /// The truncating samplers that have a say in it leave at least this many tokens.
    pub min_keep: usize,
    /// Keep the k most likely tokens; 0 or less turns it off.
    pub top_k: i32,
    /// Keep the likeliest tokens that add up to this probability; 1 turns it off.
    pub top_p: f32,
    /// Keep the tokens at least this many times as likely as the likeliest; 0 turns it off.
    pub min_p: f32,
    /// How often XTC acts; 0 turns it off.
    pub xtc_probability: f32,
    /// The probability from which on a token is a top choice for XTC; above 0.5 turns it off.
    pub xtc_threshold: f32,
    /// Probability of the locally typical tokens kept; 1 turns it off.
    pub typ_p: f32,
    /// Temperature; 0 or less is greedy: always the most likely token, the lowest id among equals.
    pub temp: f32,
    /// The temperature varies by ± this with the entropy; 0 turns it off.
    pub dynatemp_range: f32,
    /// How the entropy maps to the temperature.
    pub dynatemp_exponent: f32,
    /// The number of recent tokens that penalties consider; 0 turns them off, −1 considers all.
    pub penalty_last_n: i32,
    /// Repetition penalty; 1 turns it off.
    pub penalty_repeat: f32,
    /// Frequency penalty; 0 turns it off.
    pub penalty_freq: f32,
    /// Presence penalty; 0 turns it off.
    pub penalty_present: f32,
    /// Strength of DRY; 0 turns it off.
    pub dry_multiplier: f32,
    /// Base of DRY's exponential; below 1 turns it off.
    pub dry_base: f32,
    /// The longest repetition that DRY leaves unpunished, in tokens.
    pub dry_allowed_length: i32,
    /// The number of recent tokens that DRY considers; 0 turns it off, −1 considers all.
    pub dry_penalty_last_n: i32,
    /// The texts across which DRY sees no repetition. They act once they have been made into `dry_breakers`.
    pub dry_sequence_breakers: Vec<String>,
    /// `dry_sequence_breakers` as sequences of tokens, made by [`super::dry_breakers`].
    pub dry_breakers: Vec<DryBreaker>,
    /// 1 or 2 for that version of mirostat, which takes the place of the whole chain but the temperature; 0 for none.
    pub mirostat: u8,
    /// Mirostat's target surprise, in bits.
    pub mirostat_tau: f32,
    /// Mirostat's learning rate.
    pub mirostat_eta: f32,
    /// Keep the tokens within this many standard deviations of the highest logit; 0 or less turns it off.
    pub top_n_sigma: f32,
    /// Never sample an end token.
    pub ignore_eos: bool,
    /// (token, what to add to its logit); −∞ rules it out.
    pub logit_bias: Vec<(u32, f32)>,
    /// The order of the chain.
    pub samplers: Vec<SamplerKind>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            seed: RANDOM_SEED,
            min_keep: 0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            typ_p: 1.0,
            temp: 0.8,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            penalty_last_n: 64,
            penalty_repeat: 1.0,
            penalty_freq: 0.0,
            penalty_present: 0.0,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: 64,
            dry_sequence_breakers: ["\n", ":", "\"", "*"].map(str::to_owned).into(),
            dry_breakers: Vec::new(),
            mirostat: 0,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            top_n_sigma: -1.0,
            ignore_eos: false,
            logit_bias: Vec::new(),
            samplers: SamplerKind::DEFAULT_ORDER.into(),
        }
    }
}

impl SamplingParams {
    /// Always the most likely token: no randomness at all.
    pub fn greedy() -> Self {
        Self { temp: 0.0, ..Self::default() }
    }

    /// Makes a look-back of −1 mean the context of `n_ctx` tokens, so that the memory of it is bounded.
    #[must_use]
    pub fn with_context(mut self, n_ctx: usize) -> Self {
        for last_n in [&mut self.penalty_last_n, &mut self.dry_penalty_last_n] {
            if *last_n == -1 {
                *last_n = i32::try_from(n_ctx).unwrap_or(i32::MAX);
            }
        }
        self
    }

    /// Whether DRY acts, and so whether its breakers need to be tokenized.
    pub fn dry_enabled(&self) -> bool {
        self.mirostat == 0 && self.samplers.contains(&SamplerKind::Dry) && self.is_active(SamplerKind::Dry)
    }

    /// Whether the most likely of the remaining tokens is always taken.
    pub(super) fn is_greedy(&self) -> bool {
        let dynamic = self.mirostat == 0
            && self.dynatemp_range > 0.0
            && self.samplers.contains(&SamplerKind::Temperature);
        self.temp <= 0.0 && !dynamic
    }

    /// The samplers that do something, in order.
    pub(super) fn active_samplers(&self) -> Vec<SamplerKind> {
        let mut active: Vec<_> = self.samplers.iter().copied().filter(|&kind| self.is_active(kind)).collect();
        if self.is_greedy() {
            // These never drop the most likely token or change which one it is; at the end of a greedy chain they
            // only cost time.
            while let Some(
                SamplerKind::TopNSigma
                | SamplerKind::TopK
                | SamplerKind::TopP
                | SamplerKind::MinP
                | SamplerKind::Temperature,
            ) = active.last()
            {
                active.pop();
            }
        }
        active
    }

    fn is_active(&self, kind: SamplerKind) -> bool {
        match kind {
            SamplerKind::Penalties => {
                let neutral =
                    self.penalty_repeat == 1.0 && self.penalty_freq == 0.0 && self.penalty_present == 0.0;
                self.penalty_last_n != 0 && !neutral
            }
            SamplerKind::Dry => {
                self.dry_multiplier != 0.0 && self.dry_base >= 1.0 && self.dry_penalty_last_n != 0
            }
            SamplerKind::TopNSigma => self.top_n_sigma > 0.0,
            SamplerKind::TopK => self.top_k > 0,
            SamplerKind::TypicalP => self.typ_p < 1.0,
            SamplerKind::TopP => self.top_p < 1.0,
            SamplerKind::MinP => self.min_p > 0.0,
            SamplerKind::Xtc => self.xtc_probability > 0.0 && self.xtc_threshold <= 0.5,
            SamplerKind::Temperature => self.temp != 1.0 || self.dynatemp_range > 0.0,
        }
    }

    /// Checks the ranges.
    pub(super) fn check(&self) -> Result<(), SamplingError> {
        let bad = |name, value: &dyn ToString, expected| {
            Err(SamplingError::BadParameter { name, value: value.to_string(), expected })
        };
        for (name, value) in [
            ("top_p", self.top_p),
            ("min_p", self.min_p),
            ("xtc_probability", self.xtc_probability),
            ("xtc_threshold", self.xtc_threshold),
            ("typ_p", self.typ_p),
            ("temp", self.temp),
            ("dynatemp_range", self.dynatemp_range),
            ("dynatemp_exponent", self.dynatemp_exponent),
            ("penalty_freq", self.penalty_freq),
            ("penalty_present", self.penalty_present),
            ("dry_multiplier", self.dry_multiplier),
            ("dry_base", self.dry_base),
            ("mirostat_tau", self.mirostat_tau),
            ("mirostat_eta", self.mirostat_eta),
            ("top_n_sigma", self.top_n_sigma),
        ] {
            if !value.is_finite() {
                return bad(name, &value, "a finite number");
            }
        }
        let repeat = self.penalty_repeat;
        if !(repeat.is_finite() && repeat > 0.0 && (1.0 / repeat).is_finite()) {
            return bad("penalty_repeat", &repeat, "a finite number above 0");
        }
        for (name, value) in
            [("penalty_last_n", self.penalty_last_n), ("dry_penalty_last_n", self.dry_penalty_last_n)]
        {
            if value < -1 {
                return bad(name, &value, "-1 or more");
            }
        }
        if self.dry_allowed_length < 0 {
            return bad("dry_allowed_length", &self.dry_allowed_length, "0 or more");
        }
        if self.mirostat > 2 {
            return bad("mirostat", &self.mirostat, "0, 1 or 2");
        }
        if let Some((_, bias)) = self.logit_bias.iter().find(|(_, b)| b.is_nan() || *b == f32::INFINITY) {
            return bad("logit_bias", bias, "a finite number or -inf");
        }
        Ok(())
    }
}

/// Reads `--logit-bias`: `TOKEN_ID(+/-)BIAS`, for example `15043+1`, `15043-0.5` or `2-inf`.
///
/// # Errors
/// [`SamplingError::BadLogitBias`].
pub fn parse_logit_bias(text: &str) -> Result<(u32, f32), SamplingError> {
    let parse = || {
        let sign = text.find(['+', '-'])?;
        let token = text[..sign].trim().parse().ok()?;
        let size = text[sign + 1..].trim();
        // A second sign is none of the form, though a number could have it.
        let size: f32 = if size.starts_with(['+', '-']) { None } else { size.parse().ok() }?;
        let bias = if text[sign..].starts_with('-') { -size } else { size };
        (!bias.is_nan() && bias != f32::INFINITY).then_some((token, bias))
    };
    parse().ok_or_else(|| SamplingError::BadLogitBias(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_letters_of_the_default_order() {
        let names = "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature";
        assert_eq!(SamplerKind::parse_names(names).unwrap(), SamplerKind::DEFAULT_ORDER);
        assert_eq!(SamplerKind::parse_letters("edskypmxt").unwrap(), SamplerKind::DEFAULT_ORDER);
    }

    #[test]
    fn names_have_other_spellings() {
        use SamplerKind::{MinP, Temperature, TopK, TopNSigma, TopP, TypicalP};
        let got = SamplerKind::parse_names("Top-K;topk;temp; nucleus ;typ;minp;top-n-sigma;").unwrap();
        assert_eq!(got, [TopK, TopK, Temperature, TopP, TypicalP, MinP, TopNSigma]);
        assert_eq!(SamplerKind::parse_names("").unwrap(), []);
    }

    #[test]
    fn unknown_samplers_are_named() {
        let err = SamplerKind::parse_names("top_k;topp2").unwrap_err();
        assert_eq!(err, SamplingError::UnknownSampler("topp2".to_owned()));
        assert_eq!(
            SamplerKind::parse_letters("kZ").unwrap_err(),
            SamplingError::UnknownSampler("Z".to_owned())
        );
    }

    #[test]
    fn logit_biases() {
        assert_eq!(parse_logit_bias("15043+1").unwrap(), (15043, 1.0));
        assert_eq!(parse_logit_bias("15043-1.5").unwrap(), (15043, -1.5));
        assert_eq!(parse_logit_bias("2-inf").unwrap(), (2, f32::NEG_INFINITY));
        assert_eq!(parse_logit_bias("2-1e2").unwrap(), (2, -100.0));
        for bad in ["", "5", "+1", "-1+1", "5+", "5+x", "5+inf", "5-nan", "5+-1", "5--1", "99999999999+1"] {
            assert_eq!(parse_logit_bias(bad), Err(SamplingError::BadLogitBias(bad.to_owned())));
        }
    }

    #[test]
    fn bad_parameters_are_named() {
        let name = |params: SamplingParams| match params.check() {
            Err(SamplingError::BadParameter { name, .. }) => name,
            other => panic!("{other:?}"),
        };
        let ok = SamplingParams::default;
        assert!(ok().check().is_ok());
        assert_eq!(name(SamplingParams { temp: f32::NAN, ..ok() }), "temp");
        assert_eq!(name(SamplingParams { penalty_repeat: 0.0, ..ok() }), "penalty_repeat");
        assert_eq!(name(SamplingParams { penalty_last_n: -2, ..ok() }), "penalty_last_n");
        assert_eq!(name(SamplingParams { dry_allowed_length: -1, ..ok() }), "dry_allowed_length");
        assert_eq!(name(SamplingParams { mirostat: 3, ..ok() }), "mirostat");
        assert_eq!(name(SamplingParams { logit_bias: vec![(1, f32::NAN)], ..ok() }), "logit_bias");
    }

    #[test]
    fn defaults_leave_four_links() {
        use SamplerKind::{Dry, MinP, Penalties, Temperature, TopK, TopP, Xtc};
        assert_eq!(SamplingParams::default().active_samplers(), [TopK, TopP, MinP, Temperature]);
        assert_eq!(SamplingParams::greedy().active_samplers(), []);
        let busy = SamplingParams {
            penalty_repeat: 1.1,
            dry_multiplier: 0.8,
            xtc_probability: 0.5,
            ..SamplingParams::greedy()
        };
        assert_eq!(busy.active_samplers(), [Penalties, Dry, TopK, TopP, MinP, Xtc]);
    }

    #[test]
    fn context_bounds_the_look_back() {
        let params = SamplingParams { penalty_last_n: -1, ..Default::default() }.with_context(4096);
        assert_eq!((params.penalty_last_n, params.dry_penalty_last_n), (4096, 64));
    }
}
