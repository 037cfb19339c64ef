//! `/props`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::settings::settings;
use crate::server::App;
use crate::server::answer::{ApiError, RequestOptions};
use crate::server::models::Status;
use crate::server::openai::FINGERPRINT;

/// How the server was started, and which model it has; of a router, the model in the query, or how it goes about them. Loads nothing.
pub async fn show(State(app): State<Arc<App>>, Query(about): Query<About>) -> Result<Json<Value>, ApiError> {
    let entry = match (app.models.single(), about.model.filter(|name| !name.is_empty())) {
        (Some(entry), _) => entry,
        (None, Some(name)) => app.models.entry(&name).await?,
        (None, None) => return Ok(Json(of_router(&app))),
    };
    app.models.look(&entry).await?;
    let facts = entry.facts().ok_or_else(|| ApiError::unavailable("Loading model"))?;
    let options = RequestOptions {
        sampling: entry.options().sampling.clone(),
        stop: entry.options().stop.clone(),
        cache_prompt: app.options.cache_prompt,
        ..RequestOptions::default()
    };
    let defaults = settings(&options, entry.options().max_tokens, true, None);
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

/// Which model is asked about.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct About {
    model: Option<String>,
}

fn of_router(app: &App) -> Value {
    let router = app.models.router();
    json!({
        "role": "router",
        "max_instances": router.and_then(|router| router.max_models).unwrap_or(0),
        "models_autoload": router.is_some_and(|router| router.autoload),
        "model_alias": "bise",
        "model_path": "none",
        "default_generation_settings": {"n_ctx": 0, "params": {}},
        "endpoint_slots": app.options.slots,
        "endpoint_props": app.options.props,
        "endpoint_metrics": app.options.metrics,
        "build_info": FINGERPRINT,
    })
}

/// `POST /props`. As with llama-server, there is nothing yet that it could change.
pub async fn change() -> Json<Value> {
    Json(json!({"success": true}))
}
