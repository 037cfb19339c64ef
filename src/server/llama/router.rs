//! `/models/load`, `/models/unload` and `/models/sse`, as llama-server's router has them.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use crate::server::App;
use crate::server::answer::ApiError;
use crate::server::body::Body;
use crate::server::models::Entry;

#[derive(Debug, Deserialize)]
struct Named {
    model: Option<String>,
}

/// `POST /models/load`: has a model loaded, and does not wait for it.
pub async fn load(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let entry = named(&app, &body).await?;
    if entry.is_idle().is_some() {
        return Err(ApiError::invalid("model is already running"));
    }
    entry.wanted();
    let models = Arc::clone(&app.models);
    // Whether it went well is in its status.
    tokio::spawn(async move { models.load(&entry).await.map(drop) });
    Ok(Json(json!({"success": true})))
}

/// `POST /models/unload`: takes a model out of memory, once the answers under way are over.
pub async fn unload(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let entry = named(&app, &body).await?;
    if app.models.unload(&entry).await {
        return Ok(Json(json!({"success": true})));
    }
    Err(ApiError::invalid("model is not running"))
}

async fn named(app: &App, body: &Body) -> Result<Arc<Entry>, ApiError> {
    app.models.require_router()?;
    let named: Named = body.read()?;
    app.models.named(named.model.as_deref()).await
}

/// `GET /models/sse`: what becomes of models from now on.
pub async fn events(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    app.models.require_router()?;
    let (mut events, mut stopping) = (app.models.events.listen(), app.stopping.subscribe());
    let stream = async_stream::stream! {
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => yield Ok::<Event, Infallible>(Event::default().data(event.to_string())),
                    // Too slow: some are lost, and a look at /models says how things are.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => break,
                },
                changed = stopping.changed() => if changed.is_err() || *stopping.borrow() {
                    break;
                },
            }
        }
    };
    let stream = Sse::new(stream);
    Ok(match app.options.ping {
        Some(interval) => stream.keep_alive(KeepAlive::new().interval(interval).text("ping")).into_response(),
        None => stream.into_response(),
    })
}
