//! `options`: Ollama's names for how a text is generated, with Ollama's defaults.

use serde_json::Value;

use crate::sampling::SamplingParams;
use crate::server::answer::seed_of;
use crate::server::body::Real;

/// What `options` asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Tokens to generate at most (`num_predict`); `None` where that is −1 (no limit) or −2 (until the context is full).
    pub max_tokens: Option<usize>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// The context asked for.
    pub num_ctx: Option<usize>,
    /// Options that were given and change nothing here: not known, or decided when the server starts.
    pub without_effect: Vec<String>,
}

/// The parameters where a request says nothing: the server's, with Ollama's defaults for what is not in `set`, the names of what flags or a
/// Modelfile set. Where a default is llama.cpp's as well, it is there already.
pub(super) fn sampling(server: &SamplingParams, set: &[String]) -> SamplingParams {
    let is_set = |name: &str| set.iter().any(|set| set == name);
    let mut sampling = server.clone();
    if !is_set("top_p") {
        sampling.top_p = 0.9;
    }
    if !is_set("min_p") {
        sampling.min_p = 0.0;
    }
    sampling
}

impl Options {
    /// Reads the object; what is null or left out is as in `sampling`.
    ///
    /// # Errors
    /// A message that names the option, what was found and what was expected.
    pub(crate) fn parse<'a>(
        sampling: SamplingParams,
        given: impl IntoIterator<Item = (&'a String, &'a Value)>,
    ) -> Result<Options, String> {
        let mut options = Options {
            sampling,
            max_tokens: None,
            stop: Vec::new(),
            num_ctx: None,
            without_effect: Vec::new(),
        };
        for (name, value) in given.into_iter().filter(|(_, value)| !value.is_null()) {
            options.set(name, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let sampling = &mut self.sampling;
        match name {
            "temperature" => sampling.temp = float(name, value)?,
            "top_k" => sampling.top_k = integer(name, value)?,
            "top_p" => sampling.top_p = float(name, value)?,
            "min_p" => sampling.min_p = float(name, value)?,
            "typical_p" => sampling.typ_p = float(name, value)?,
            "repeat_last_n" => sampling.penalty_last_n = integer(name, value)?,
            "repeat_penalty" => sampling.penalty_repeat = float(name, value)?,
            "presence_penalty" => sampling.penalty_present = float(name, value)?,
            "frequency_penalty" => sampling.penalty_freq = float(name, value)?,
            "mirostat" => {
                sampling.mirostat = match integer(name, value)? {
                    version @ 0..=2 => version as u8,
                    other => return Err(format!("option \"mirostat\" is {other}: expected 0, 1 or 2")),
                };
            }
            "mirostat_tau" => sampling.mirostat_tau = float(name, value)?,
            "mirostat_eta" => sampling.mirostat_eta = float(name, value)?,
            // As everywhere: −1 asks for a random seed, and of others the lower 32 bits count.
            "seed" => sampling.seed = seed_of(whole(name, value)?),
            "num_predict" => {
                self.max_tokens = match whole(name, value)? {
                    -1 | -2 => None,
                    n @ 0.. => Some(usize::try_from(n).unwrap_or(usize::MAX)),
                    _ => {
                        return Err(format!(
                            "option \"num_predict\" is {value}: expected a number of tokens, -1 for no limit or -2 for \
                             until the context is full"
                        ));
                    }
                };
            }
            "num_ctx" => match whole(name, value)? {
                n @ 1.. => self.num_ctx = Some(usize::try_from(n).unwrap_or(usize::MAX)),
                // What clients send to leave it to the server.
                0 | -1 => {}
                _ => return Err(format!("option \"num_ctx\" is {value}: expected a number of tokens")),
            },
            "stop" => self.stop = texts(name, value)?,
            // Tail-free sampling is gone from llama.cpp and from Ollama; 1 was off.
            "tfs_z" if value.as_f64() == Some(1.0) => {}
            _ => self.without_effect.push(name.to_owned()),
        }
        Ok(())
    }
}

/// A whole number; floats are truncated, as JSON from some languages knows nothing else.
fn whole(name: &str, value: &Value) -> Result<i64, String> {
    let number = value.as_i64().or_else(|| {
        let float = value.as_f64()?;
        // The range that a float holds exactly.
        (float.abs() < 9e15).then_some(float as i64)
    });
    number.ok_or_else(|| match value.is_u64() {
        true => format!("option {name:?} is {value}: expected {} to {}", i64::MIN, i64::MAX),
        false => format!("option {name:?} is {}: expected an integer", shown(value)),
    })
}

fn integer(name: &str, value: &Value) -> Result<i32, String> {
    let number = whole(name, value)?;
    i32::try_from(number)
        .map_err(|_| format!("option {name:?} is {number}: expected {} to {}", i32::MIN, i32::MAX))
}

fn float(name: &str, value: &Value) -> Result<f32, String> {
    let number = value.as_f64().and_then(Real::of).map(|Real(number)| number);
    number.ok_or_else(|| format!("option {name:?} is {}: expected a number", shown(value)))
}

/// A text or several.
fn texts(name: &str, value: &Value) -> Result<Vec<String>, String> {
    let bad = || format!("option {name:?} is {}: expected a text or a list of texts", shown(value));
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(items) => {
            items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(bad)).collect()
        }
        _ => Err(bad()),
    }
}

/// A value in a message, not at full length.
fn shown(value: &Value) -> String {
    let mut text = value.to_string();
    if text.len() > 60 {
        text.truncate(text.floor_char_boundary(57));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sampling::RANDOM_SEED;

    fn parse(json: Value) -> Result<Options, String> {
        Options::parse(sampling(&SamplingParams::default(), &[]), json.as_object().unwrap())
    }

    #[test]
    fn defaults_are_those_of_ollama() {
        let options = parse(json!({})).unwrap();
        let sampling = &options.sampling;
        assert_eq!((sampling.temp, sampling.top_k, sampling.top_p, sampling.min_p), (0.8, 40, 0.9, 0.0));
        assert_eq!((sampling.penalty_repeat, sampling.penalty_last_n, sampling.seed), (1.0, 64, RANDOM_SEED));
        assert_eq!(options.max_tokens, None);
    }

    #[test]
    fn what_the_server_was_started_with_is_stronger_than_ollamas_defaults() {
        let server =
            SamplingParams { temp: 0.0, top_p: 0.95, ignore_eos: true, seed: 3, ..SamplingParams::default() };
        let of = |set: &[&str]| sampling(&server, &set.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&[]), SamplingParams { top_p: 0.9, min_p: 0.0, ..server.clone() });
        assert_eq!(of(&["top_p"]), SamplingParams { min_p: 0.0, ..server.clone() });
        assert_eq!(of(&["min_p", "top_p"]), server);
        let given = json!({"temperature": 1, "top_p": null});
        let options = Options::parse(of(&["top_p"]), given.as_object().unwrap()).unwrap();
        assert_eq!((options.sampling.temp, options.sampling.top_p), (1.0, 0.95));
    }

    /// What langchain-ollama sends with each request for embeddings.
    #[test]
    fn null_is_as_if_left_out() {
        let names =
            ["mirostat", "mirostat_eta", "mirostat_tau", "num_ctx", "num_gpu", "num_thread", "repeat_last_n"];
        let more = ["repeat_penalty", "temperature", "stop", "tfs_z", "top_k", "top_p"];
        let given: serde_json::Map<String, Value> =
            names.into_iter().chain(more).map(|name| (name.to_owned(), Value::Null)).collect();
        assert_eq!(parse(given.into()), parse(json!({})));
    }

    #[test]
    fn every_option_has_its_place() {
        let options = parse(json!({
            "temperature": 0, "top_k": 10.0, "top_p": 0.5, "min_p": 0.1, "typical_p": 0.7, "repeat_last_n": -1,
            "repeat_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": 0.3, "mirostat": 2,
            "mirostat_tau": 4.0, "mirostat_eta": 0.2, "seed": 42, "num_predict": 7, "num_ctx": 4096,
            "stop": ["\n", "User:"], "tfs_z": 1.0, "num_gpu": 99, "num_thread": 8, "speed": "high"
        }))
        .unwrap();
        let want = SamplingParams {
            temp: 0.0,
            top_k: 10,
            top_p: 0.5,
            min_p: 0.1,
            typ_p: 0.7,
            penalty_last_n: -1,
            penalty_repeat: 1.1,
            penalty_present: 0.2,
            penalty_freq: 0.3,
            mirostat: 2,
            mirostat_tau: 4.0,
            mirostat_eta: 0.2,
            seed: 42,
            ..SamplingParams::default()
        };
        assert_eq!(options.sampling, want);
        assert_eq!((options.max_tokens, options.num_ctx), (Some(7), Some(4096)));
        assert_eq!(options.stop, ["\n", "User:"]);
        assert_eq!(options.without_effect, ["num_gpu", "num_thread", "speed"]);
    }

    #[test]
    fn limits_and_seeds() {
        let max_tokens = |n: i64| parse(json!({ "num_predict": n })).map(|options| options.max_tokens);
        assert_eq!([-1, -2, 0, 5].map(|n| max_tokens(n).unwrap()), [None, None, Some(0), Some(5)]);
        assert!(max_tokens(-3).unwrap_err().contains("\"num_predict\" is -3"));
        let seed = |n: i64| parse(json!({ "seed": n })).map(|options| options.sampling.seed);
        assert_eq!(seed(-1), Ok(RANDOM_SEED));
        assert_eq!(seed(-7), Ok(u32::MAX - 6));
        assert_eq!(seed(0), Ok(0));
        assert_eq!(seed((1 << 40) + 5), Ok(5));
        assert_eq!(seed(i64::MIN), Ok(0));
        assert_eq!(parse(json!({ "stop": "x" })).unwrap().stop, ["x"]);
        assert_eq!(parse(json!({ "num_ctx": 0 })).unwrap().num_ctx, None);
    }

    #[test]
    fn wrong_types_are_named() {
        for (json, want) in [
            (json!({"top_k": "40"}), r#"option "top_k" is "40": expected an integer"#),
            (json!({"temperature": "hot"}), r#"option "temperature" is "hot": expected a number"#),
            (json!({"temperature": 1e300}), r#"option "temperature" is 1e+300: expected a number"#),
            (json!({"top_k": 1e300}), r#"option "top_k" is 1e+300: expected an integer"#),
            (
                json!({"top_k": 5_000_000_000i64}),
                r#"option "top_k" is 5000000000: expected -2147483648 to 2147483647"#,
            ),
            (json!({"stop": [1]}), r#"option "stop" is [1]: expected a text or a list of texts"#),
            (json!({"mirostat": 3}), r#"option "mirostat" is 3: expected 0, 1 or 2"#),
        ] {
            assert_eq!(parse(json).unwrap_err(), want);
        }
    }
}
