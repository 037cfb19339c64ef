//! Ollama's interface.

mod chat;
mod embed;
mod generate;
mod keep_alive;
mod lines;
mod manage;
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

/// A time as `keep_alive` has it: seconds, or a duration such as `5m`; `None` is for ever.
///
/// # Errors
/// A message that says what was found and expected.
pub fn parse_keep_alive(text: &str) -> Result<Option<std::time::Duration>, String> {
    keep_alive::KeepAlive::parse(text).map(Into::into)
}

/// The endpoints.
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
        .merge(manage::routes())
}
