//! llama-server's own interface.

mod adapters;
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

pub use unsupported::unsupported;

use super::App;

/// The endpoints; `POST /props` where `changes_props`.
pub fn routes(changes_props: bool) -> Router<Arc<App>> {
    let props = get(props::show);

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
        .route("/props", if changes_props { props.post(props::change) } else { props })
        .route("/slots", get(slots::list))
        .route("/models/load", post(router::load))
        .route("/models/unload", post(router::unload))
        .route("/models/sse", get(router::events))
        .route("/metrics", get(metrics::metrics))
        .route("/lora-adapters", get(adapters::list).post(adapters::scale))
        .route("/lora-adapters/load", post(adapters::load))
        .route("/lora-adapters/unload", post(adapters::unload))
}
