//! `/lora-adapters`: there are none.

use axum::Json;
use axum::extract::Request;
use serde_json::{Value, json};

use crate::server::answer::{ApiError, kind};
use crate::server::body;

/// `GET /lora-adapters`.
pub async fn list() -> Json<Value> {
    Json(json!([]))
}

/// `POST /lora-adapters`: the scales of adapters, of which there are none to scale.
pub async fn scale(request: Request) -> Result<Json<Value>, ApiError> {
    match body::json(request).await? {
        Value::Array(scales) if scales.is_empty() => Ok(Json(json!({"success": true}))),
        Value::Array(scales) => Err(ApiError::invalid(format!(
            "the body: found {} scales, expected none: adapters (LoRA) are not supported, and none is loaded",
            scales.len()
        ))),
        other => Err(ApiError::invalid(format!("the body: found {}, expected a list", kind(&other)))),
    }
}
