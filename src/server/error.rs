//! Why a request is not answered, before an interface puts it in its own envelope.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::Error;
use crate::chat::ChatError;
use crate::constraint::ConstraintError;
use crate::sampling::SamplingError;
use crate::scheduler::Refused;
use crate::{ForwardError, SpanError};

/// An error of the API.
///
/// As a response it has no body yet: the outermost layer writes it in the envelope of the interface that was asked
/// (see [`crate::server::envelope`]).
#[derive(Clone, Debug)]
pub struct ApiError {
    /// The status of the response.
    pub status: StatusCode,
    /// The kind, by llama-server's names (`invalid_request_error` …), which are OpenAI's as far as that has them.
    pub kind: &'static str,
    /// What is wrong, in one line.
    pub message: Cow<'static, str>,
    /// Numbers for programs (`n_prompt_tokens`, `n_ctx` …).
    pub fields: Box<Map<String, Value>>,
    /// Seconds after which it is worth another try.
    pub retry_after: Option<u32>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError { status, kind, message: message.into(), fields: Box::default(), retry_after: None }
    }

    /// 400: the request is not one that can be answered.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// 400, about one field of the request.
    pub fn field(name: &str, found: impl std::fmt::Display, expected: &str) -> ApiError {
        ApiError::invalid(format!("{name}: found {found}, expected {expected}")).with("param", name)
    }

    /// Another 4xx that is the client's doing.
    pub fn refused(status: StatusCode, message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(status, "invalid_request_error", message)
    }

    /// 401: no API key, or a wrong one.
    pub fn unauthorized() -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "authentication_error", "Invalid API Key")
    }

    /// 403: this client may not ask that.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "permission_error", message)
    }

    /// 404.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not_found_error", message)
    }

    /// 501: this server does not do that, or was told not to.
    pub fn not_supported(message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::NOT_IMPLEMENTED, "not_supported_error", message)
    }

    /// 503: not now.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable_error", message)
    }

    /// 500: the server's own fault.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The prompt has more tokens than the context.
    pub fn context_exceeded(n_prompt_tokens: usize, n_ctx: usize) -> ApiError {
        let message = format!(
            "the request exceeds the available context size: the prompt has {n_prompt_tokens} tokens and the context {n_ctx} \
             (a longer --ctx-size, or fewer --parallel, makes room)"
        );
        ApiError::new(StatusCode::BAD_REQUEST, "exceed_context_size_error", message)
            .with("n_prompt_tokens", n_prompt_tokens)
            .with("n_ctx", n_ctx)
    }

    /// Adds a field for programs.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> ApiError {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// The object under `error` in OpenAI's and llama-server's envelopes.
    pub fn to_json(&self) -> Value {
        let mut object = json!({
            "code": self.status.as_u16(),
            "message": self.message,
            "type": self.kind,
        });
        object.as_object_mut().expect("an object").extend((*self.fields).clone());
        object
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> ApiError {
        match refused {
            Refused::PromptTooLong { n_prompt_tokens, n_ctx } => {
                ApiError::context_exceeded(n_prompt_tokens, n_ctx)
            }
            Refused::QueueFull { n_waiting } => ApiError {
                retry_after: Some(1),
                // Clients of Ollama look for these words.
                ..ApiError::unavailable("server busy, please try again.  maximum pending requests exceeded")
                    .with("n_waiting", n_waiting)
            },
            Refused::ShuttingDown => ApiError::unavailable("the server is shutting down"),
            Refused::Sampling(error) => error.into(),
            Refused::NoSuchSlot { slot, n_slots } => {
                ApiError::field("id_slot", slot, &format!("a slot below {n_slots}, or -1 for any"))
            }
            other => ApiError::invalid(other.to_string()),
        }
    }
}

impl From<SamplingError> for ApiError {
    fn from(error: SamplingError) -> ApiError {
        match error {
            SamplingError::BadParameter { name, value, expected } => {
                ApiError::field(request_name(name), value, expected)
            }
            SamplingError::NoSuchToken { token, n_vocab } => ApiError::field(
                "logit_bias",
                format_args!("the token {token}"),
                &format!("tokens below {n_vocab}"),
            ),
            other => ApiError::invalid(other.to_string()),
        }
    }
}

/// What a parameter of the sampler is called in requests.
fn request_name(name: &'static str) -> &'static str {
    match name {
        "temp" => "temperature",
        "typ_p" => "typical_p",
        "penalty_last_n" => "repeat_last_n",
        "penalty_repeat" => "repeat_penalty",
        "penalty_freq" => "frequency_penalty",
        "penalty_present" => "presence_penalty",
        other => other,
    }
}

impl From<ChatError> for ApiError {
    fn from(error: ChatError) -> ApiError {
        ApiError::invalid(error.to_string())
    }
}

impl From<ConstraintError> for ApiError {
    fn from(error: ConstraintError) -> ApiError {
        ApiError::invalid(error.to_string())
    }
}

impl From<&Error> for ApiError {
    fn from(error: &Error) -> ApiError {
        match error {
            Error::Sampling(SamplingError::NotFinite { .. }) => ApiError::internal(error.to_string()),
            Error::Sampling(_) | Error::NoTokens | Error::EmptyText { .. } => {
                ApiError::invalid(error.to_string())
            }
            Error::Text { index, error } => {
                let inner = ApiError::from(&**error);
                ApiError { message: format!("input {index}: {}", inner.message).into(), ..inner }
            }
            Error::Forward(ForwardError::Span {
                error: SpanError::ContextFull { n_tokens, position, room },
                ..
            }) => ApiError::context_exceeded(position + n_tokens, position + room),
            Error::Forward(ForwardError::Span { error: SpanError::UnknownToken { .. }, .. }) => {
                ApiError::invalid(error.to_string())
            }
            Error::OutOfMemory(_) | Error::OverCeiling(_) | Error::DoesNotFit(_) => {
                ApiError { retry_after: Some(1), ..ApiError::unavailable(error.to_string()) }
            }
            _ => ApiError::internal(error.to_string()),
        }
    }
}
