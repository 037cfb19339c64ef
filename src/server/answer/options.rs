//! What requests of every kind may say, read from their bodies.

use serde::Deserialize;
use serde_json::Value;

use super::{ApiError, Format, LogProbs, RequestAdapters, RequestOptions, SamplingFields, Stops, kind};
use crate::server::App;
use crate::server::body::{Body, Limit, Whole};
use crate::server::models::Model;

/// Log-probabilities of tokens that may be asked for beside each one chosen.
const MAX_LOG_PROBS: u32 = 1024;

/// The fields, by OpenAI's and llama-server's names.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    max_completion_tokens: Option<Limit>,
    max_tokens: Option<Limit>,
    n_predict: Option<Limit>,
    stop: Option<Stops>,
    cache_prompt: Option<bool>,
    id_slot: Option<Whole<i32>>,
    n_probs: Option<Whole<u32>>,
    post_sampling_probs: Option<bool>,
    response_format: Option<ResponseFormat>,
    json_schema: Option<Value>,
    grammar: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: Option<String>,
    schema: Option<Value>,
    json_schema: Option<JsonSchemaFields>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JsonSchemaFields {
    schema: Option<Value>,
}

impl RequestOptions {
    /// Reads what a body says; the rest is as the server was started.
    ///
    /// # Errors
    /// Fields of other types, or values that make no sense.
    pub fn read(app: &App, model: &Model, body: &Body) -> Result<RequestOptions, ApiError> {
        let fields: Fields = body.read()?;
        let sampling = body.read::<SamplingFields>()?.params(model.engine.tokenizer(), &model.sampling)?;
        let slot = match fields.id_slot {
            None | Some(Whole(-1)) => None,
            Some(Whole(id)) => Some(
                usize::try_from(id)
                    .map_err(|_| ApiError::field("id_slot", id, "a slot's number, or -1 for any"))?,
            ),
        };
        let log_probs = match fields.n_probs {
            None | Some(Whole(0)) => None,
            Some(Whole(n)) => Some(log_probs(n, "n_probs", fields.post_sampling_probs.unwrap_or(false))?),
        };
        let max_tokens = fields.max_completion_tokens.or(fields.max_tokens).or(fields.n_predict);
        Ok(RequestOptions {
            sampling,
            stop: match fields.stop.unwrap_or_default().0 {
                none if none.is_empty() => model.stop.clone(),
                given => given,
            },
            max_tokens: max_tokens.and_then(|limit| limit.0),
            log_probs,
            prompt_log_probs: None,
            format: format(fields.response_format, fields.json_schema, fields.grammar)?,
            adapters: RequestAdapters::read(model, body)?,
            cache_prompt: fields.cache_prompt.unwrap_or(app.options.cache_prompt),
            slot,
        })
    }
}

/// Log-probabilities of `n` tokens beside each one chosen.
///
/// # Errors
/// More than anybody needs.
pub fn log_probs(n: u32, field: &str, after_sampling: bool) -> Result<LogProbs, ApiError> {
    if n > MAX_LOG_PROBS {
        return Err(ApiError::field(field, n, &format!("at most {MAX_LOG_PROBS}")));
    }
    Ok(LogProbs { n_top: n as usize, after_sampling })
}

fn format(
    response_format: Option<ResponseFormat>,
    json_schema: Option<Value>,
    grammar: Option<String>,
) -> Result<Option<Format>, ApiError> {
    let schema = |schema: Value, field: &str| match schema {
        Value::Object(_) | Value::Bool(_) => Ok(Format::Schema(schema)),
        other => Err(ApiError::field(field, kind(&other), "a JSON schema: an object")),
    };
    let of_response = match response_format {
        None => None,
        Some(ResponseFormat { kind: None, .. }) => {
            return Err(ApiError::field(
                "response_format.type",
                "nothing",
                "text, json_object or json_schema",
            ));
        }
        Some(ResponseFormat { kind: Some(kind), schema: plain, json_schema }) => match kind.as_str() {
            "text" => None,
            "json_object" => Some(match plain {
                Some(given) => schema(given, "response_format.schema")?,
                None => Format::JsonObject,
            }),
            "json_schema" => match json_schema.and_then(|fields| fields.schema).or(plain) {
                Some(given) => Some(schema(given, "response_format.json_schema.schema")?),
                None => {
                    return Err(ApiError::field(
                        "response_format.json_schema.schema",
                        "nothing",
                        "a JSON schema",
                    ));
                }
            },
            other => {
                let found = format!("{other:?}");
                return Err(ApiError::field(
                    "response_format.type",
                    found,
                    "text, json_object or json_schema",
                ));
            }
        },
    };
    let of_schema = json_schema.map(|given| schema(given, "json_schema")).transpose()?;
    let of_grammar = grammar.filter(|grammar| !grammar.is_empty()).map(Format::Grammar);
    let mut formats = [of_response, of_schema, of_grammar].into_iter().flatten();
    match (formats.next(), formats.next()) {
        (format, None) => Ok(format),
        _ => Err(ApiError::invalid(
            "response_format, json_schema and grammar: found more than one of them, expected one",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<Option<Format>, String> {
        let fields: Fields = crate::server::body::read(&body).map_err(|error| error.message.into_owned())?;
        format(fields.response_format, fields.json_schema, fields.grammar)
            .map_err(|error| error.message.into_owned())
    }

    #[test]
    fn formats_have_several_spellings() {
        let schema = json!({"const": "42"});
        for body in [
            json!({"response_format": {"type": "json_object", "schema": schema}}),
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}),
            json!({"json_schema": schema}),
        ] {
            assert_eq!(read(body), Ok(Some(Format::Schema(schema.clone()))));
        }
        assert_eq!(read(json!({"response_format": {"type": "json_object"}})), Ok(Some(Format::JsonObject)));
        assert_eq!(
            read(json!({"grammar": "root ::= \"a\""})),
            Ok(Some(Format::Grammar("root ::= \"a\"".to_owned())))
        );
        for none in [
            json!({}),
            json!({"response_format": null, "grammar": ""}),
            json!({"response_format": {"type": "text"}}),
        ] {
            assert_eq!(read(none), Ok(None));
        }
    }

    #[test]
    fn formats_that_make_no_sense_are_named() {
        assert_eq!(
            read(json!({"response_format": {"type": "sound"}})).unwrap_err(),
            "response_format.type: found \"sound\", expected text, json_object or json_schema"
        );
        let schema = json!({"response_format": {"type": "json_object", "schema": 123}});
        assert_eq!(
            read(schema).unwrap_err(),
            "response_format.schema: found a number, expected a JSON schema: an object"
        );
        assert!(
            read(json!({"grammar": "root ::= x", "json_schema": {}})).unwrap_err().contains("more than one")
        );
    }
}
