//! OpenAI's interface, with the fields that llama-server adds to it.

mod chat;
mod completions;
mod embeddings;
pub mod log_probs;
mod models;
mod responses;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::Stream;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::answer::{ApiError, Usage};
use super::envelope::Dialect;
use super::id::new_id;

pub use chat::request as chat_request;

/// The version of what answers, which begins with a `b` as llama-server's does.
pub const FINGERPRINT: &str = concat!("bise-", env!("CARGO_PKG_VERSION"));

/// The endpoints. llama-server has most of them without `/v1`, too.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/chat/completions", post(chat::complete))
        .route("/chat/completions", post(chat::complete))
        .route("/v1/chat/completions/input_tokens", post(chat::input_tokens))
        .route("/chat/completions/input_tokens", post(chat::input_tokens))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/embeddings", post(embeddings::embed_texts))
        .route("/v1/models", get(models::list))
        .route("/models", get(models::list))
        .route("/v1/models/{*name}", get(models::one))
        .merge(responses::routes())
}

/// What a stream shows besides the answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct StreamFields {
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    return_progress: Option<bool>,
    timings_per_token: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl StreamFields {
    fn is_stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    fn includes_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    fn returns_progress(&self) -> bool {
        self.return_progress.unwrap_or(false)
    }

    fn times_tokens(&self) -> bool {
        self.timings_per_token.unwrap_or(false)
    }
}

/// Events as a response, with comments in between while there is nothing to say.
pub fn sse(app: &App, events: impl Stream<Item = Event> + Send + 'static) -> Response {
    use futures_util::StreamExt;

    let stream = Sse::new(events.map(Ok::<_, std::convert::Infallible>));
    let mut response = match app.options.ping {
        Some(interval) => stream.keep_alive(KeepAlive::new().interval(interval).text("ping")).into_response(),
        None => stream.into_response(),
    };
    // Proxies are not to collect it.
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    response
}

/// A value as an event.
pub fn data(value: &Value) -> Event {
    Event::default().data(value.to_string())
}

/// An error in a stream that has begun.
pub fn failure(error: &ApiError) -> Event {
    data(&Dialect::OpenAi.error(error))
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// The sum of what several answers used. The prompt they share counts once.
fn usage_json(usages: &[Usage]) -> Value {
    let n_generated: usize = usages.iter().map(|usage| usage.n_generated).sum();
    let (n_prompt, n_cached) = usages.first().map_or((0, 0), |usage| (usage.n_prompt, usage.n_cached));
    usage_of(n_prompt, n_cached, n_generated)
}

fn usage_of(n_prompt: usize, n_cached: usize, n_generated: usize) -> Value {
    json!({
        "prompt_tokens": n_prompt,
        "completion_tokens": n_generated,
        "total_tokens": n_prompt + n_generated,
        "prompt_tokens_details": {"cached_tokens": n_cached},
    })
}
