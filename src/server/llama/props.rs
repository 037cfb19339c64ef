//! `/props`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::settings::settings;
use crate::server::App;
use crate::server::answer::{ApiError, RequestOptions};
use crate::server::models::Status;
use crate::server::openai::FINGERPRINT;

/// How the server was started, and which model it has. Does not wake it.
pub async fn show(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let entry = app.models.default_entry();
    let facts = entry.facts().ok_or_else(|| ApiError::unavailable("Loading model"))?;
    let options = RequestOptions {
        sampling: app.options.sampling.clone(),
        cache_prompt: app.options.cache_prompt,
        ..RequestOptions::default()
    };
    let defaults = settings(&options, app.options.max_tokens, true, None);
    Ok(Json(json!({
        "default_generation_settings": {"n_ctx": facts.n_ctx, "params": defaults},
        "total_slots": entry.options().scheduler.n_slots,
        "model_alias": entry.options().name(),
        "model_path": entry.options().path,
        "modalities": {"vision": false, "audio": false},
        "endpoint_slots": app.options.slots,
        "endpoint_props": app.options.props,
        "endpoint_metrics": app.options.metrics,
        "chat_template": facts.template.as_deref().unwrap_or_default(),
        "bos_token": facts.bos,
        "eos_token": facts.eos,
        "build_info": FINGERPRINT,
        "is_sleeping": entry.status() == Status::Sleeping,
    })))
}

/// `POST /props`. As with llama-server, there is nothing yet that it could change.
pub async fn change(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    if !app.options.props {
        return Err(ApiError::not_supported("the server was started without --props"));
    }
    Ok(Json(json!({"success": true})))
}
