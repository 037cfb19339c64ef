//! Endpoints of llama-server for what this server does not do: each says so. They are no routes, as there is nothing behind them.

use super::super::error::ApiError;

/// What is said to a request for such an endpoint; `None` for any other path.
pub fn unsupported(path: &str) -> Option<ApiError> {
    let message = match path {
        "/rerank" | "/reranking" | "/v1/rerank" | "/v1/reranking" => {
            "rerankers are not supported: a causal model ranks by the similarity of embeddings (/v1/embeddings)"
        }
        slot if slot.starts_with("/slots/") => {
            "slots are not saved to files or restored from them: prompts are cached across requests by themselves"
        }
        _ => return None,
    };
    Some(ApiError::not_supported(message))
}
