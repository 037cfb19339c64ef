//! Ollama's interface.

mod chat;
mod embed;
mod generate;
mod keep_alive;
mod lines;
mod messages;
mod models;
mod options;
mod reply;
mod request;
mod show;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::App;
use super::answer::ApiError;
use super::models::Entry;

/// The endpoints, but for those that change what is on the disk.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/version", get(models::version))
        .route("/api/tags", get(models::tags))
        .route("/api/ps", get(models::ps))
        .route("/api/show", post(models::show))
        .route("/api/chat", post(chat::chat))
        .route("/api/generate", post(generate::generate))
        .route("/api/embed", post(embed::embed))
        .route("/api/embeddings", post(embed::embeddings))
}

/// The model of that name. In this interface, names count even where there is one model alone.
fn entry<'a>(app: &'a App, name: &str) -> Result<&'a Arc<Entry>, ApiError> {
    app.models.find(name).ok_or_else(|| ApiError::not_found(format!("model '{name}' not found")))
}
