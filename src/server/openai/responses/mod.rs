//! `/v1/responses`: OpenAI's newer interface. Nothing is stored: every request brings its whole conversation.

mod events;
mod input;
mod request;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use serde_json::{Value, json};

use self::events::Events;
use self::request::Request;
use super::{StreamFields, new_id, now, sse};
use crate::server::App;
use crate::server::answer::{self, Answer, ApiError, ChatRequest, Delta, RequestAdapters, SamplingFields};
use crate::server::body::Body;
use crate::server::models::Model;

/// The endpoints, with and without `/v1`.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/responses", post(create))
        .route("/responses", post(create))
        .route("/v1/responses/input_tokens", post(input_tokens))
        .route("/responses/input_tokens", post(input_tokens))
}

async fn create(State(app): State<Arc<App>>, body: Body) -> Result<Response, ApiError> {
    let request: Request = body.read()?;
    let (model, chat) = prepare(&app, &body, &request).await?;
    let echo = request.echo(&model.name, &chat);
    let mut answer = answer::chat(&app, &model, chat).await?;
    let mut events = Events::new(new_id("resp_"), now(), echo);
    let fields: StreamFields = body.read()?;
    if fields.is_stream() {
        return Ok(stream(&app, answer, events, fields));
    }
    while let Some(delta) = answer.next().await {
        if let Delta::Failed(error) = delta {
            return Err(error);
        }
        events.push(delta);
    }
    let mut response = events.response();
    response["timings"] = json!(answer.timings());
    Ok(Json(response).into_response())
}

async fn input_tokens(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let request: Request = body.read()?;
    let (model, chat) = prepare(&app, &body, &request).await?;
    let n_tokens = answer::count_tokens(&model, chat).await?;
    Ok(Json(json!({"object": "response.input_tokens", "input_tokens": n_tokens})))
}

/// Fields of this interface that change nothing. `store` among them: nothing is.
const WITHOUT_EFFECT: [&str; 2] = ["store", "max_tool_calls"];

async fn prepare(app: &App, body: &Body, request: &Request) -> Result<(Arc<Model>, ChatRequest), ApiError> {
    let model = app.models.get(body).await?;
    body.refuse(&[("prompt", "instructions and input: no prompts are kept here")])?;
    body.warn_without_effect(&WITHOUT_EFFECT);
    let sampling: SamplingFields = body.read()?;
    let sampling = sampling.params(model.engine.tokenizer(), &model.sampling)?;
    let mut chat = request.to_chat(sampling, app.options.cache_prompt)?;
    chat.options.adapters = RequestAdapters::read(&model, body)?;
    Ok((model, chat))
}

fn stream(app: &App, mut answer: Answer, mut events: Events, fields: StreamFields) -> Response {
    let stream = async_stream::stream! {
        for event in events.begin() {
            yield named(&event);
        }
        while let Some(delta) = answer.next().await {
            let progress = match &delta {
                Delta::Progress(progress) if fields.returns_progress() => Some(progress.to_json()),
                _ => None,
            };
            let is_last = matches!(delta, Delta::Finished(_));
            for mut event in events.push(delta) {
                let is_text = event["type"] == "response.output_text.delta";
                if event["type"] == "response.completed" || (is_text && fields.times_tokens() && !is_last) {
                    event["timings"] = json!(answer.timings());
                }
                yield named(&event);
            }
            if let Some(progress) = progress {
                let mut event = events.in_progress();
                event["prompt_progress"] = progress;
                yield named(&event);
            }
        }
    };
    sse(app, stream)
}

/// In this interface events have names.
fn named(event: &Value) -> Event {
    Event::default().event(event["type"].as_str().unwrap_or("error")).data(event.to_string())
}
