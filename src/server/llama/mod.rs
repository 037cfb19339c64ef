//! llama-server's own interface.

mod completion;
mod embedding;
mod health;
mod infill;
mod metrics;
mod props;
mod router;
mod settings;
mod slots;
mod tokens;
mod unsupported;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::App;

/// The endpoints.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/health", get(health::health))
        .route("/v1/health", get(health::health))
        .route("/completion", post(completion::complete))
        .route("/completions", post(completion::complete))
        .route("/infill", post(infill::infill))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/apply-template", post(tokens::apply_template))
        .route("/embedding", post(embedding::embed_texts))
        .route("/embeddings", post(embedding::embed_texts))
        .route("/props", get(props::show).post(props::change))
        .route("/slots", get(slots::list))
        .route("/slots/{id}", post(unsupported::slot_files))
        .route("/models/load", post(router::load))
        .route("/models/unload", post(router::unload))
        .route("/models/sse", get(router::events))
        .route("/metrics", get(metrics::metrics))
        .route("/lora-adapters", get(unsupported::no_adapters).post(unsupported::adapters))
        .route("/rerank", post(unsupported::rerank))
        .route("/reranking", post(unsupported::rerank))
        .route("/v1/rerank", post(unsupported::rerank))
        .route("/v1/reranking", post(unsupported::rerank))
}
