//! What a path does with a method.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::schema::reference;
use crate::server::body::MAX_BODY_BYTES;
use crate::server::envelope::Dialect;

/// Readable by people.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// What servers do not have in common.
#[derive(Clone, Copy, Debug)]
pub struct Offered<'a> {
    /// What stands before all paths.
    pub prefix: &'a str,
    /// Whether clients need a key.
    pub keys: bool,
    /// Whether `/slots` is there.
    pub slots: bool,
    /// Whether `/metrics` is there.
    pub metrics: bool,
    /// Whether `POST /props` is there.
    pub props: bool,
    /// Whether the page is there.
    pub page: bool,
    /// Whether models are loaded and unloaded by name.
    pub router: bool,
    /// Whether a model fills gaps.
    pub infill: bool,
}

/// An operation on one or several paths.
#[derive(Clone)]
pub struct Operation {
    pub(super) method: &'static str,
    pub(super) paths: &'static [&'static str],
    pub(super) object: Value,
    /// Whether a server has it; all do, where `None`.
    pub(super) wanted: Option<fn(&Offered) -> bool>,
    dialect: Dialect,
}

impl Operation {
    /// Something that can be read.
    pub fn get(paths: &'static [&'static str], tag: &str, summary: &str) -> Operation {
        Operation::new("get", paths, tag, summary).fails(StatusCode::FORBIDDEN)
    }

    /// Something that takes a JSON object.
    pub fn post(paths: &'static [&'static str], tag: &str, summary: &str) -> Operation {
        [
            StatusCode::BAD_REQUEST,
            StatusCode::FORBIDDEN,
            StatusCode::NOT_FOUND,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            StatusCode::INTERNAL_SERVER_ERROR,
            StatusCode::SERVICE_UNAVAILABLE,
        ]
        .into_iter()
        .fold(Operation::new("post", paths, tag, summary), Operation::fails)
    }

    fn new(method: &'static str, paths: &'static [&'static str], tag: &str, summary: &str) -> Operation {
        let object = json!({"tags": [tag], "summary": summary, "responses": {}});
        Operation { method, paths, object, wanted: None, dialect: Dialect::of(paths[0]) }
    }

    /// With another method than it was made for.
    #[must_use]
    pub fn method(mut self, method: &'static str) -> Operation {
        self.method = method;
        self
    }

    /// Only in servers that have it.
    #[must_use]
    pub fn only(mut self, wanted: fn(&Offered) -> bool) -> Operation {
        self.wanted = Some(wanted);
        self
    }

    /// More about it.
    #[must_use]
    pub fn about(mut self, description: &str) -> Operation {
        self.object["description"] = description.into();
        self
    }

    /// The body of the request.
    #[must_use]
    pub fn takes(mut self, schema: &str) -> Operation {
        self.object["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": reference(schema)}}});
        self
    }

    /// A body that may be anything, or nothing.
    #[must_use]
    pub fn takes_anything(mut self) -> Operation {
        self.object["requestBody"] = json!({"content": {"application/json": {"schema": {}}}});
        self
    }

    /// A body of bytes.
    #[must_use]
    pub fn takes_bytes(mut self) -> Operation {
        self.object["requestBody"] =
            json!({"required": true, "content": {"application/octet-stream": {"schema": {}}}});
        self
    }

    /// A response without a body.
    #[must_use]
    pub fn answers_nothing(mut self, status: StatusCode) -> Operation {
        self.object["responses"][status.as_str()] = json!({"description": "Done."});
        self
    }

    /// The body of a response with status 200.
    #[must_use]
    pub fn answers(self, schema: Value) -> Operation {
        self.answers_as("application/json", schema)
    }

    /// The body of a response with status 200, in some type.
    #[must_use]
    pub fn answers_as(mut self, kind: &str, schema: Value) -> Operation {
        let response = &mut self.object["responses"]["200"];
        if response.is_null() {
            *response = json!({"description": "Done."});
        }
        response["content"][kind] = json!({ "schema": schema });
        self
    }

    /// A stream of events, where the request asks for one. The schema is that of an event, whose data is a part in JSON.
    #[must_use]
    pub fn streams_events(self, part: &str, how: &str) -> Operation {
        self.events(json_text(part), how)
    }

    /// A stream of events whose last one has the data `[DONE]` instead of a part.
    #[must_use]
    pub fn streams_events_until_done(self, part: &str, how: &str) -> Operation {
        self.events(json!({"type": "string", "if": {"const": "[DONE]"}, "else": json_text(part)}), how)
    }

    fn events(self, data: Value, how: &str) -> Operation {
        let event = json!({
            "type": "object", "description": how, "required": ["data"],
            "properties": {"event": {"type": "string"}, "data": data},
        });
        self.answers_as("text/event-stream", event)
    }

    /// A stream of lines, where the request asks for one. Each is a part in JSON.
    #[must_use]
    pub fn streams_lines(self, part: &str, how: &str) -> Operation {
        let lines = json!({
            "type": "string", "description": how, "contentMediaType": "application/x-ndjson", "contentSchema": reference(part),
        });
        self.answers_as("application/x-ndjson", lines)
    }

    /// A parameter in the query.
    #[must_use]
    pub fn query(self, name: &str, schema: Value, description: &str) -> Operation {
        self.parameter(json!({"name": name, "in": "query", "schema": schema, "description": description}))
    }

    /// A part of the path.
    #[must_use]
    pub fn part(self, name: &str, schema: Value, description: &str) -> Operation {
        self.parameter(json!({
            "name": name, "in": "path", "required": true, "schema": schema, "description": description,
        }))
    }

    fn parameter(mut self, parameter: Value) -> Operation {
        match &mut self.object["parameters"] {
            Value::Array(parameters) => parameters.push(parameter),
            none => *none = vec![parameter].into(),
        }
        self
    }

    /// A status with which it may fail.
    #[must_use]
    pub fn fails(mut self, status: StatusCode) -> Operation {
        let description = match status {
            StatusCode::BAD_REQUEST => {
                "The request makes no sense, or its prompt does not fit the context.".to_owned()
            }
            StatusCode::UNAUTHORIZED => "There is no API key, or a wrong one.".to_owned(),
            StatusCode::FORBIDDEN => {
                "`Host` or `Origin` is one that may not use this server (`--host`, `--cors-origins`)."
                    .to_owned()
            }
            StatusCode::NOT_FOUND => "There is no such thing here.".to_owned(),
            StatusCode::PAYLOAD_TOO_LARGE => format!("The body has more than {MAX_BODY_BYTES} bytes."),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                "The body is said to be something other than JSON.".to_owned()
            }
            StatusCode::NOT_IMPLEMENTED => {
                "This server or this model does not do that, or was told not to.".to_owned()
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                "The model is being opened, too many requests wait already, or the server is going down. \
                 `Retry-After` says when it is worth another try."
                    .to_owned()
            }
            _ => "The server could not do it.".to_owned(),
        };
        let envelope = match self.dialect {
            Dialect::OpenAi => "Error",
            Dialect::Ollama => "OllamaError",
            Dialect::Anthropic => "AnthropicError",
        };
        self.object["responses"][status.as_str()] = json!({"description": description, "content": {"application/json": {"schema": reference(envelope)}}});
        self
    }
}

/// A text that is JSON of some schema.
fn json_text(schema: &str) -> Value {
    json!({"type": "string", "contentMediaType": "application/json", "contentSchema": reference(schema)})
}
