//! `/api/version`, `/api/tags`, `/api/ps` and `/api/show`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use serde::Deserialize;
use serde_json::{Value, json};

use super::request::named;
use super::{entry, show};
use crate::server::App;
use crate::server::answer::ApiError;
use crate::server::body::Body;
use crate::server::models::metadata;

pub(super) async fn version(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({ "version": app.options.ollama_version }))
}

pub(super) async fn tags(State(app): State<Arc<App>>) -> Json<Value> {
    let models: Vec<Value> =
        app.models.entries().iter().flat_map(|entry| show::tags(entry).collect::<Vec<_>>()).collect();
    Json(json!({ "models": models }))
}

pub(super) async fn ps(State(app): State<Arc<App>>) -> Json<Value> {
    let entries = app.models.entries().iter();
    let models: Vec<Value> = entries
        .filter_map(|entry| {
            let (model, facts) = (entry.loaded()?, entry.facts()?);
            let bytes = model.engine.memory(&entry.options().scheduler.session).now() as u64;
            Some(show::loaded(entry, facts, bytes, entry.expires_at()))
        })
        .collect();
    Json(json!({ "models": models }))
}

#[derive(Debug, Deserialize)]
struct Show {
    model: Option<String>,
    name: Option<String>,
    verbose: Option<bool>,
}

pub(super) async fn show(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let request: Show = body.read()?;
    let asked = named(request.model.as_deref().filter(|name| !name.is_empty()).or(request.name.as_deref()))?;
    let entry = entry(&app, asked)?;
    let all = if request.verbose == Some(true) {
        let model = entry.get().await?;
        Some(metadata(model.engine.file(), usize::MAX))
    } else {
        None
    };
    let facts = match entry.facts() {
        Some(facts) => facts,
        None => {
            entry.get().await?;
            entry.facts().ok_or_else(|| ApiError::unavailable("Loading model"))?
        }
    };
    Ok(Json(show::show(entry, facts, asked, all)))
}
