//! Errors in the form of the interface that was asked.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Value, json};

use super::App;
use super::error::ApiError;

/// An interface, by how it writes errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's and llama-server's: `{"error": {"code", "message", "type"}}`.
    OpenAi,
    /// Ollama's: `{"error": "message"}`.
    Ollama,
    /// Anthropic's: `{"type": "error", "error": {"type", "message"}}`.
    Anthropic,
}

impl Dialect {
    /// The interface that a path belongs to.
    pub fn of(path: &str) -> Dialect {
        if path.starts_with("/api/") {
            Dialect::Ollama
        } else if path.starts_with("/v1/messages") {
            Dialect::Anthropic
        } else {
            Dialect::OpenAi
        }
    }

    /// The interface that a client asks: that of the path, or Anthropic's for a path that two interfaces have and a client that says so.
    pub fn asked(path: &str, headers: &HeaderMap) -> Dialect {
        if path.starts_with("/v1/models") && headers.contains_key("anthropic-version") {
            Dialect::Anthropic
        } else {
            Dialect::of(path)
        }
    }

    /// The body of a response that tells of an error.
    pub fn error(self, error: &ApiError) -> Value {
        match self {
            Dialect::OpenAi => json!({"error": error.to_json()}),
            Dialect::Ollama => json!({"error": error.message}),
            Dialect::Anthropic => {
                let kind = match error.status {
                    StatusCode::UNAUTHORIZED => "authentication_error",
                    StatusCode::FORBIDDEN => "permission_error",
                    StatusCode::NOT_FOUND => "not_found_error",
                    StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
                    StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
                    StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
                    status if status.is_client_error() => "invalid_request_error",
                    _ => "api_error",
                };
                let mut object = json!({"type": kind, "message": error.message});
                object.as_object_mut().expect("an object").extend((*error.fields).clone());
                json!({"type": "error", "error": object})
            }
        }
    }
}

/// Gives every response that tells of an error its body.
pub async fn write_errors(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let path = path.strip_prefix(app.options.prefix.as_str()).unwrap_or(path);
    let dialect = Dialect::asked(path, request.headers());
    let mut response = next.run(request).await;
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        let body = dialect.error(&error).to_string();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        // OpenAI's and Anthropic's clients try again what failed with a status of 500 or above, unless they are told not to: only what a
        // busy server could not do is worth that.
        let is_busy = matches!(error.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        headers.insert("x-should-retry", HeaderValue::from_static(if is_busy { "true" } else { "false" }));
        *response.body_mut() = Body::from(body);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface_has_its_own_form() {
        let error = ApiError::context_exceeded(100, 64);
        let openai = Dialect::of("/v1/chat/completions").error(&error);
        assert_eq!(openai["error"]["code"], 400);
        assert_eq!(
            (&openai["error"]["n_prompt_tokens"], &openai["error"]["n_ctx"]),
            (&json!(100), &json!(64))
        );
        let ollama = Dialect::of("/api/chat").error(&error);
        assert!(ollama["error"].as_str().unwrap().contains("100 tokens"));
        let anthropic = Dialect::of("/v1/messages/count_tokens").error(&error);
        assert_eq!(
            (&anthropic["type"], &anthropic["error"]["type"]),
            (&json!("error"), &json!("invalid_request_error"))
        );
        let version = HeaderMap::from_iter([(
            header::HeaderName::from_static("anthropic-version"),
            HeaderValue::from_static("2023-06-01"),
        )]);
        assert_eq!(Dialect::asked("/v1/models/x", &HeaderMap::new()), Dialect::OpenAi);
        assert_eq!(Dialect::asked("/v1/models/x", &version), Dialect::Anthropic);
        assert_eq!(Dialect::asked("/v1/chat/completions", &version), Dialect::OpenAi);
    }
}
