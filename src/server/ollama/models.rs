//! `/api/version`, `/api/tags`, `/api/ps` and `/api/show`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use serde::Deserialize;
use serde_json::{Value, json};

use super::request::named;
use super::show;
use crate::server::App;
use crate::server::answer::{self, ApiError};
use crate::server::body::Body;
use crate::server::models::metadata;

pub(super) async fn version(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({ "version": app.options.ollama_version }))
}

pub(super) async fn tags(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let entries = app.models.listed().await?;
    let models: Vec<Value> = entries.iter().flat_map(|entry| show::tags(entry).collect::<Vec<_>>()).collect();
    Ok(Json(json!({ "models": models })))
}

pub(super) async fn ps(State(app): State<Arc<App>>) -> Json<Value> {
    let entries = app.models.entries();
    let models: Vec<Value> = entries
        .iter()
        .filter_map(|entry| {
            let (model, facts) = (entry.loaded()?, entry.facts()?);
            Some(show::loaded(entry, facts, model.bytes() as u64, entry.expires_at()))
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
    let entry = app.models.entry(asked).await?;
    let (is_verbose, name) = (request.verbose == Some(true), asked.to_owned());
    // No weight is read for this.
    let shown = answer::blocking(move || {
        let cannot = |why: &str| ApiError::internal(format!("model '{name}' cannot be read: {why}"));
        let facts = entry.look().map_err(cannot)?;
        let file = is_verbose.then(|| entry.options().opener.file()).transpose();
        let all = file.map_err(|error| cannot(&error.to_string()))?.map(|file| metadata(&file, usize::MAX));
        Ok(show::show(&entry, facts, &name, all))
    });
    shown.await.map(Json)
}
