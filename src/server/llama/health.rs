//! `/health`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::server::App;
use crate::server::answer::ApiError;

/// 200 while requests are taken, a sleeping model included; 503 while the only model is opened for the first time, and at the end.
pub async fn health(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    if app.is_stopping() {
        return Err(ApiError::unavailable("the server is shutting down"));
    }
    match app.models.single() {
        Some(entry) if entry.facts().is_none() => Err(ApiError::unavailable("Loading model")),
        _ => Ok(Json(json!({"status": "ok"}))),
    }
}
