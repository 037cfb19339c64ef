//! Endpoints of llama-server for what this server does not do: each says so.

use axum::Json;
use serde_json::{Value, json};

use crate::server::answer::ApiError;

/// `GET /lora-adapters`: none.
pub async fn no_adapters() -> Json<Value> {
    Json(json!([]))
}

/// `POST /lora-adapters`.
pub async fn adapters() -> ApiError {
    ApiError::not_supported("adapters (LoRA) are not supported: none is loaded, and none can be")
}

/// `/rerank`.
pub async fn rerank() -> ApiError {
    ApiError::not_supported(
        "rerankers are not supported: a causal model ranks by the similarity of embeddings (/v1/embeddings)",
    )
}

/// `POST /slots/{id}?action=…`.
pub async fn slot_files() -> ApiError {
    ApiError::not_supported(
        "slots are not saved to files or restored from them: prompts are cached across requests by themselves",
    )
}
