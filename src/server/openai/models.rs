//! `/v1/models`.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Uri};
use serde_json::{Value, json};

use crate::server::App;
use crate::server::answer::ApiError;
use crate::server::anthropic::models as anthropic;
use crate::server::models::{Entry, Status};

/// `GET /v1/models`, which Anthropic's interface has as well: its clients say so in a header.
pub async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, ApiError> {
    let entries: Vec<&Entry> = app.models.entries().iter().map(|entry| &**entry).collect();
    if headers.contains_key(anthropic::VERSION_HEADER) {
        let page = Query::try_from_uri(&uri).map_err(|error| ApiError::invalid(error.body_text()))?;
        return anthropic::list(&entries, &page).map(Json);
    }
    let models: Vec<Value> = entries.into_iter().map(model).collect();
    Ok(Json(json!({"object": "list", "data": models})))
}

/// `GET /v1/models/{name}`.
pub async fn one(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    match app.models.find(&name) {
        Some(entry) if headers.contains_key(anthropic::VERSION_HEADER) => Ok(Json(anthropic::one(entry))),
        Some(entry) => Ok(Json(model(entry))),
        None => Err(ApiError::not_found(format!(
            "there is no model {name:?} here: /v1/models lists those there are"
        ))),
    }
}

fn model(entry: &Entry) -> Value {
    let options = entry.options();
    let created = entry.created().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let status = match entry.status() {
        Status::Loading => "loading",
        Status::Loaded => "loaded",
        Status::Sleeping => "sleeping",
    };
    let fills_gaps = entry.facts().is_some_and(|facts| facts.infills);
    let capabilities: &[&str] =
        if fills_gaps { &["completion", "embedding", "insert"] } else { &["completion", "embedding"] };
    json!({
        "id": options.name(),
        "object": "model",
        "created": created,
        "owned_by": "bise",
        "aliases": options.aliases,
        "tags": options.tags,
        "capabilities": capabilities,
        "status": {"value": status},
        "meta": entry.facts().map(|facts| facts.meta()),
    })
}
