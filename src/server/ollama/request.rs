//! Requests of Ollama's interface.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::keep_alive::KeepAlive;
use super::messages::Message;
use super::options::Options;
use crate::sampling::SamplingParams;
use crate::server::answer::{ApiError, Format, LogProbs, kind};

/// What `/api/chat` and `/api/generate` have in common.
#[derive(Debug, Deserialize)]
pub(super) struct Common {
    pub model: Option<String>,
    stream: Option<bool>,
    format: Option<Value>,
    pub keep_alive: Option<KeepAlive>,
    options: Option<Map<String, Value>>,
    think: Option<Value>,
    pub truncate: Option<bool>,
    shift: Option<bool>,
    logprobs: Option<bool>,
    top_logprobs: Option<i64>,
    #[serde(rename = "_debug_render_only")]
    pub render_only: Option<bool>,
}

/// What `/api/chat` has besides.
#[derive(Debug, Deserialize)]
pub(super) struct Chat {
    pub messages: Option<Vec<Message>>,
    pub tools: Option<Vec<Value>>,
}

/// What `/api/generate` has besides.
#[derive(Debug, Deserialize)]
pub(super) struct Generate {
    pub prompt: Option<String>,
    pub suffix: Option<String>,
    pub system: Option<String>,
    pub template: Option<String>,
    pub context: Option<Vec<u32>>,
    pub raw: Option<bool>,
    pub images: Option<Vec<Value>>,
}

/// How much to think.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Think {
    Yes,
    No,
    Level(String),
}

impl Common {
    /// Whether the answer is streamed, as it is unless the request says otherwise.
    pub(super) fn streams(&self) -> bool {
        self.stream.unwrap_or(true)
    }

    /// The model's name.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn model(&self) -> Result<&str, ApiError> {
        named(self.model.as_deref())
    }

    /// What is generated how; `sampling` is where the request says nothing.
    ///
    /// # Errors
    /// An option of the wrong type, or what is not done here.
    pub(super) fn options(&self, sampling: SamplingParams) -> Result<Options, ApiError> {
        if self.shift == Some(true) {
            return Err(ApiError::invalid(
                "shift: found true, expected false: nothing is left out of a context that is full; the answer ends there, with \
                 done_reason \"length\"",
            ));
        }
        let options = Options::parse(sampling, self.options.iter().flatten()).map_err(ApiError::invalid)?;
        if !options.without_effect.is_empty() {
            tracing::warn!(
                "options without effect: {}: unknown, or decided when the server starts",
                options.without_effect.join(", ")
            );
        }
        Ok(options)
    }

    /// The context that the request asks for.
    ///
    /// # Errors
    /// An option of the wrong type.
    pub(super) fn num_ctx(&self) -> Result<Option<usize>, ApiError> {
        let options = Options::parse(SamplingParams::default(), self.options.iter().flatten())
            .map_err(ApiError::invalid)?;
        Ok(options.num_ctx)
    }

    /// What the answer has to follow.
    ///
    /// # Errors
    /// Something other than `"json"` or a schema.
    pub(super) fn format(&self) -> Result<Option<Format>, ApiError> {
        match &self.format {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) if text == "json" => Ok(Some(Format::JsonObject)),
            Some(schema @ Value::Object(_)) => Ok(Some(Format::Schema(schema.clone()))),
            Some(Value::String(other)) => {
                Err(ApiError::field("format", format_args!("{other:?}"), "\"json\" or a JSON schema object"))
            }
            Some(other) => Err(ApiError::field("format", kind(other), "\"json\" or a JSON schema object")),
        }
    }

    /// Which log-probabilities are told.
    ///
    /// # Errors
    /// More than 20.
    pub(super) fn log_probs(&self) -> Result<Option<LogProbs>, ApiError> {
        let n_top = match self.top_logprobs.unwrap_or(0) {
            n @ 0..=20 => n as usize,
            _ => return Err(ApiError::invalid("top_logprobs must be between 0 and 20")),
        };
        Ok((self.logprobs == Some(true)).then_some(LogProbs { n_top, after_sampling: false }))
    }

    /// Whether to think.
    ///
    /// # Errors
    /// Neither a truth value nor a level.
    pub(super) fn think(&self) -> Result<Option<Think>, ApiError> {
        match &self.think {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(true)) => Ok(Some(Think::Yes)),
            Some(Value::Bool(false)) => Ok(Some(Think::No)),
            Some(Value::String(level)) if matches!(level.as_str(), "low" | "medium" | "high" | "max") => {
                Ok(Some(Think::Level(level.clone())))
            }
            Some(other) => Err(ApiError::invalid(format!(
                "invalid think value: {other} (must be \"high\", \"medium\", \"low\", \"max\", true, or false)"
            ))),
        }
    }
}

/// A name that is there.
///
/// # Errors
/// It is not.
pub(super) fn named(model: Option<&str>) -> Result<&str, ApiError> {
    model.filter(|name| !name.is_empty()).ok_or_else(|| ApiError::invalid("model is required"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::server::body::read;

    fn common(json: Value) -> Common {
        read(&json).unwrap()
    }

    fn refusal<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.status, 400);
        error.message.into_owned()
    }

    #[test]
    fn formats() {
        let format = |format: Value| common(json!({ "format": format })).format();
        assert_eq!(format(json!(null)).unwrap(), None);
        assert_eq!(format(json!("")).unwrap(), None);
        assert_eq!(format(json!("json")).unwrap(), Some(Format::JsonObject));
        assert_eq!(
            format(json!({"type": "object"})).unwrap(),
            Some(Format::Schema(json!({"type": "object"})))
        );
        assert_eq!(
            refusal(format(json!("xml"))),
            "format: found \"xml\", expected \"json\" or a JSON schema object"
        );
        assert_eq!(
            refusal(format(json!(7))),
            "format: found a number, expected \"json\" or a JSON schema object"
        );
    }

    #[test]
    fn thinking_is_said_by_truth_values_or_levels() {
        let think = |think: Value| common(json!({ "think": think })).think();
        assert_eq!(think(json!(null)).unwrap(), None);
        assert_eq!(think(json!(true)).unwrap(), Some(Think::Yes));
        assert_eq!(think(json!(false)).unwrap(), Some(Think::No));
        assert_eq!(think(json!("high")).unwrap(), Some(Think::Level("high".to_owned())));
        assert!(refusal(think(json!("hard"))).starts_with("invalid think value: \"hard\""));
    }

    #[test]
    fn log_probabilities_and_names() {
        let log_probs = |json: Value| common(json).log_probs();
        assert_eq!(log_probs(json!({"top_logprobs": 3})).unwrap(), None);
        let want = LogProbs { n_top: 3, after_sampling: false };
        assert_eq!(log_probs(json!({"logprobs": true, "top_logprobs": 3})).unwrap(), Some(want));
        assert_eq!(refusal(log_probs(json!({"top_logprobs": 21}))), "top_logprobs must be between 0 and 20");
        assert_eq!(refusal(common(json!({"model": ""})).model().map(str::to_owned)), "model is required");
        assert!(
            refusal(common(json!({"shift": true})).options(SamplingParams::default())).starts_with("shift: ")
        );
        assert!(common(json!({})).streams() && !common(json!({"stream": false})).streams());
    }

    /// ollama-python sends all of these, whatever they hold.
    #[test]
    fn fields_may_be_null() {
        let chat: Chat = read(&json!({"messages": null, "tools": []})).unwrap();
        assert!(chat.messages.is_none() && chat.tools.unwrap().is_empty());
        let generate: Generate = read(&json!({
            "prompt": null, "suffix": null, "system": null, "template": null, "context": null, "raw": null, "images": null
        }))
        .unwrap();
        assert!(generate.prompt.is_none() && generate.context.is_none());
        let common = common(json!({
            "model": "mistral", "stream": false, "format": null, "options": null, "keep_alive": null, "think": null,
            "logprobs": null, "top_logprobs": null
        }));
        let options = common.options(SamplingParams::default()).unwrap();
        assert_eq!(options.sampling, SamplingParams::default());
        assert!(common.keep_alive.is_none() && !common.streams());
    }

    #[test]
    fn wrong_types_are_named_by_their_path() {
        let wrong = read::<Common>(&json!({"model": 7})).unwrap_err().message;
        assert_eq!(wrong, "model: found integer `7`, expected a string");
        let wrong = read::<Chat>(&json!({"messages": [{"role": 1}]})).unwrap_err().message;
        assert_eq!(wrong, "messages[0].role: found integer `1`, expected a string");
    }
}
