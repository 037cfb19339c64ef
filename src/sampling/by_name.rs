//! Sampling parameters by name: what `/set` in a conversation and requests of a server speak.

use super::{RANDOM_SEED, SamplerKind, SamplingError, SamplingParams};

/// A parameter: its name in llama.cpp, the other names in use, how it is written and how it is read.
struct Named {
    name: &'static str,
    aliases: &'static [&'static str],
    get: fn(&SamplingParams) -> String,
    set: fn(&mut SamplingParams, &str) -> Option<()>,
    expected: &'static str,
}

macro_rules! number {
    ($name:literal $(| $alias:literal)*, $field:ident, $expected:literal) => {
        Named {
            name: $name,
            aliases: &[$($alias),*],
            get: |params| params.$field.to_string(),
            set: |params, text| {
                params.$field = text.parse().ok()?;
                Some(())
            },
            expected: $expected,
        }
    };
}

const NAMED: [Named; 26] = [
    Named {
        name: "seed",
        aliases: &[],
        get: |params| match params.seed {
            RANDOM_SEED => "-1".to_owned(),
            seed => seed.to_string(),
        },
        set: |params, text| {
            params.seed = if text == "-1" { RANDOM_SEED } else { text.parse().ok()? };
            Some(())
        },
        expected: "-1 or a number from 0 to 4294967295",
    },
    number!("temp" | "temperature", temp, "a number"),
    number!("top_k", top_k, "a whole number"),
    number!("top_p", top_p, "a number"),
    number!("min_p", min_p, "a number"),
    number!("min_keep", min_keep, "a whole number"),
    number!("typ_p" | "typical" | "typical_p", typ_p, "a number"),
    number!("top_n_sigma", top_n_sigma, "a number"),
    number!("xtc_probability", xtc_probability, "a number"),
    number!("xtc_threshold", xtc_threshold, "a number"),
    number!("dynatemp_range", dynatemp_range, "a number"),
    number!("dynatemp_exp" | "dynatemp_exponent", dynatemp_exponent, "a number"),
    number!("repeat_last_n" | "penalty_last_n", penalty_last_n, "a whole number"),
    number!("repeat_penalty" | "penalty_repeat", penalty_repeat, "a number"),
    number!("frequency_penalty" | "penalty_freq", penalty_freq, "a number"),
    number!("presence_penalty" | "penalty_present", penalty_present, "a number"),
    number!("dry_multiplier", dry_multiplier, "a number"),
    number!("dry_base", dry_base, "a number"),
    number!("dry_allowed_length", dry_allowed_length, "a whole number"),
    number!("dry_penalty_last_n", dry_penalty_last_n, "a whole number"),
    number!("mirostat", mirostat, "0, 1 or 2"),
    number!("mirostat_ent" | "mirostat_tau", mirostat_tau, "a number"),
    number!("mirostat_lr" | "mirostat_eta", mirostat_eta, "a number"),
    Named {
        name: "ignore_eos",
        aliases: &[],
        get: |params| params.ignore_eos.to_string(),
        set: |params, text| {
            params.ignore_eos = match text {
                "true" | "on" | "1" => true,
                "false" | "off" | "0" => false,
                _ => return None,
            };
            Some(())
        },
        expected: "true or false",
    },
    Named {
        name: "samplers",
        aliases: &[],
        get: |params| params.samplers.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(";"),
        set: |params, text| {
            params.samplers = SamplerKind::parse_names(text).ok()?;
            Some(())
        },
        expected: "names of samplers, separated by ';'",
    },
    Named {
        name: "logit_bias",
        aliases: &[],
        get: |params| {
            let biases = params.logit_bias.iter().map(|(token, bias)| format!("{token}{bias:+}"));
            biases.collect::<Vec<_>>().join(",")
        },
        set: |params, text| {
            let biases = text.split(',').map(str::trim).filter(|bias| !bias.is_empty());
            params.logit_bias = biases.map(super::parse_logit_bias).collect::<Result<_, _>>().ok()?;
            Some(())
        },
        expected: "TOKEN_ID(+/-)BIAS, separated by ','",
    },
];

impl SamplingParams {
    /// Sets one parameter by its name in llama.cpp (`top_k`, `repeat_penalty` …) or here; `-` counts as `_`. The value is
    /// one that a sampler takes, or nothing changes.
    ///
    /// # Errors
    /// [`SamplingError::UnknownParameter`], and [`SamplingError::BadParameter`] for a value that is not of the kind
    /// expected or out of range.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SamplingError> {
        let plain = name.replace('-', "_");
        let named = NAMED
            .iter()
            .find(|named| named.name == plain || named.aliases.contains(&plain.as_str()))
            .ok_or_else(|| SamplingError::UnknownParameter(name.to_owned()))?;
        let mut changed = self.clone();
        (named.set)(&mut changed, value).ok_or_else(|| SamplingError::BadParameter {
            name: named.name,
            value: format!("{value:?}"),
            expected: named.expected,
        })?;
        changed.check()?;
        *self = changed;
        Ok(())
    }

    /// All parameters that [`SamplingParams::set`] takes, by their names in llama.cpp, with their values.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        NAMED.iter().map(|named| (named.name, (named.get)(self)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_set_by_any_of_its_names() {
        let mut params = SamplingParams::default();
        for (name, value) in [
            ("temp", "0.25"),
            ("temperature", "0.5"),
            ("top-k", "7"),
            ("repeat_penalty", "1.5"),
            ("seed", "-1"),
        ] {
            params.set(name, value).unwrap();
        }
        assert_eq!((params.temp, params.top_k, params.penalty_repeat), (0.5, 7, 1.5));
        assert_eq!(params.seed, RANDOM_SEED);
        params.set("logit_bias", "5+1, 2-inf").unwrap();
        assert_eq!(params.logit_bias, [(5, 1.0), (2, f32::NEG_INFINITY)]);
    }

    #[test]
    fn what_is_shown_can_be_set() {
        let mut params = SamplingParams { seed: 3, temp: 0.7, ignore_eos: true, ..SamplingParams::default() };
        params.logit_bias = vec![(5, -1.5), (2, f32::NEG_INFINITY)];
        let mut copy = SamplingParams::greedy();
        for (name, value) in params.values() {
            copy.set(name, &value).unwrap_or_else(|error| panic!("{name} {value}: {error}"));
        }
        assert_eq!(copy, params);
    }

    #[test]
    fn bad_values_are_named_and_change_nothing() {
        let mut params = SamplingParams::default();
        let bad = |params: &mut SamplingParams, name: &str, value: &str| {
            params.set(name, value).unwrap_err().to_string()
        };
        assert!(bad(&mut params, "tmep", "1").contains("\"tmep\""));
        assert_eq!(
            bad(&mut params, "top_k", "many"),
            "sampling parameter top_k is \"many\": expected a whole number"
        );
        assert!(bad(&mut params, "temp", "NaN").contains("a finite number"));
        assert!(bad(&mut params, "mirostat", "3").contains("0, 1 or 2"));
        assert!(bad(&mut params, "samplers", "top_q").contains("samplers"));
        assert_eq!(params, SamplingParams::default());
    }
}
