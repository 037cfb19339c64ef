//! Anthropic's interface: messages, and how many tokens they have.

mod cut_json;
mod events;
mod messages;
pub(super) mod models;
mod request;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use serde_json::{Value, json};

use self::events::Events;
use self::request::Request;
use super::App;
use super::answer::{self, Answer, ApiError, RequestAdapters, SamplingFields};
use super::body::Body;
use super::id::new_id;
use super::models::Model;

/// The endpoints.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/messages", post(create)).route("/v1/messages/count_tokens", post(count_tokens))
}

async fn create(State(app): State<Arc<App>>, body: Body) -> Result<Response, ApiError> {
    let request: Request = body.read()?;
    let max_tokens = request.max_tokens()?;
    let (model, mut chat) = prepare(&app, &body, &request).await?;
    chat.options.max_tokens = Some(max_tokens);
    let mut answer = answer::chat(&app, &model, chat).await?;
    let id = message_id();
    let name = request.model.clone().unwrap_or_else(|| model.name.clone());
    if request.streams() {
        return Ok(stream(answer, Events::new(&id, &name), &app));
    }
    let whole = answer.whole().await?;
    Ok(Json(events::whole(&id, &name, whole)).into_response())
}

async fn count_tokens(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let request: Request = body.read()?;
    let (model, chat) = prepare(&app, &body, &request).await?;
    let n = answer::count_tokens(&model, chat).await?;
    Ok(Json(json!({ "input_tokens": n })))
}

/// Fields of this interface that need the service, and what is expected in their place.
const REFUSED: [(&str, &str); 2] =
    [("mcp_servers", "none: tools are called by the client"), ("container", "none: no code is run here")];

async fn prepare(
    app: &Arc<App>,
    body: &Body,
    request: &Request,
) -> Result<(Arc<Model>, answer::ChatRequest), ApiError> {
    let model = app.models.get(body).await?;
    body.refuse(&REFUSED)?;
    body.warn_without_effect(&["context_management", "speed"]);
    let sampling: SamplingFields = body.read()?;
    let sampling = sampling.params(model.engine.tokenizer(), &model.sampling)?;
    let mut chat = request.to_chat(sampling, app.options.cache_prompt)?;
    chat.options.adapters = RequestAdapters::read(&model, body)?;
    Ok((model, chat))
}

/// Ids in the form of the original.
fn message_id() -> String {
    new_id("msg_")
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
