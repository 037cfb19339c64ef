//! Anthropic's interface: messages, and how many tokens they have.

mod events;
mod messages;
mod request;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use serde_json::{Value, json};

use self::events::Events;
use self::request::Request;
use super::App;
use super::answer::{self, Answer, ApiError, SamplingFields};
use super::body::Body;
use super::models::Model;

/// The endpoints.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/messages", post(create)).route("/v1/messages/count_tokens", post(count_tokens))
}

async fn create(State(app): State<Arc<App>>, body: Body) -> Response {
    match answered(&app, &body).await {
        Ok(response) => response,
        Err(error) => refused(error),
    }
}

async fn count_tokens(State(app): State<Arc<App>>, body: Body) -> Response {
    match counted(&app, &body).await {
        Ok(n) => Json(json!({ "input_tokens": n })).into_response(),
        Err(error) => refused(error),
    }
}

/// Anthropic's clients try again what failed with a status of 500, unless they are told not to: only what a busy server could not do
/// is worth that.
fn refused(error: ApiError) -> Response {
    let again =
        error.status == StatusCode::SERVICE_UNAVAILABLE || error.status == StatusCode::TOO_MANY_REQUESTS;
    let mut response = error.into_response();
    response
        .headers_mut()
        .insert("x-should-retry", HeaderValue::from_static(if again { "true" } else { "false" }));
    response
}

async fn answered(app: &Arc<App>, body: &Body) -> Result<Response, ApiError> {
    let request: Request = body.read()?;
    let max_tokens = request.max_tokens()?;
    let (model, mut chat) = prepare(app, body, &request).await?;
    chat.options.max_tokens = Some(max_tokens);
    let mut answer = answer::chat(app, &model, chat).await?;
    let id = message_id();
    let name = request.model.clone().unwrap_or_else(|| model.name.clone());
    if request.streams() {
        return Ok(stream(answer, Events::new(&id, &name), app));
    }
    let whole = answer.whole().await?;
    Ok(Json(events::whole(&id, &name, whole)).into_response())
}

async fn counted(app: &Arc<App>, body: &Body) -> Result<usize, ApiError> {
    let request: Request = body.read()?;
    let (model, chat) = prepare(app, body, &request).await?;
    answer::count_tokens(&model, chat).await
}

async fn prepare(
    app: &Arc<App>,
    body: &Body,
    request: &Request,
) -> Result<(Arc<Model>, answer::ChatRequest), ApiError> {
    let model = app.models.get(request.model.as_deref()).await?;
    let sampling: SamplingFields = body.read()?;
    let sampling = sampling.params(model.engine.tokenizer(), &app.options.sampling)?;
    let chat = request.to_chat(sampling, app.options.cache_prompt)?;
    Ok((model, chat))
}

/// Ids in the form of the original.
fn message_id() -> String {
    super::openai::new_id("msg_")
}

fn stream(mut answer: Answer, mut events: Events, app: &App) -> Response {
    let stream = async_stream::stream! {
        while let Some(delta) = answer.next().await {
            for event in events.push(delta, answer.usage()) {
                yield Ok::<Event, Infallible>(sse(&event));
            }
        }
    };
    let response = Sse::new(stream);
    match app.options.ping {
        Some(every) => response
            .keep_alive(KeepAlive::new().interval(every).event(sse(&json!({"type": "ping"}))))
            .into_response(),
        None => response.into_response(),
    }
}

fn sse(event: &Value) -> Event {
    Event::default().event(event["type"].as_str().unwrap_or("error")).data(event.to_string())
}
