//! `/lora-adapters`, and what loads and unloads them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, Request, State};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::server::App;
use crate::server::answer::{AdapterScale, ApiError, blocking, kind};
use crate::server::body::{self, Body, Real, Whole};
use crate::server::models::Entry;

/// Which model is meant.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct About {
    model: Option<String>,
}

/// `GET /lora-adapters`. Loads nothing.
pub async fn list(State(app): State<Arc<App>>, Query(about): Query<About>) -> Result<Json<Value>, ApiError> {
    Ok(Json(named(&app, about.model.as_deref()).await?.adapters().to_json().into()))
}

/// `POST /lora-adapters`: the scales for requests that say nothing.
pub async fn scale(
    State(app): State<Arc<App>>,
    Query(about): Query<About>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let value = body::json(request).await?;
    if !value.is_array() {
        return Err(ApiError::invalid(format!("the body: found {}, expected a list", kind(&value))));
    }
    let scales: Vec<AdapterScale> = body::read(&value)?;
    let scales: Vec<(i64, f32)> = scales.iter().map(AdapterScale::pair).collect();
    named(&app, about.model.as_deref()).await?.adapters().rescale(&scales)?;
    Ok(Json(json!({"success": true})))
}

/// The model, if it is there or can be: not one that is opened for the first time.
async fn named(app: &App, name: Option<&str>) -> Result<Arc<Entry>, ApiError> {
    let entry = app.models.named(name).await?;
    if app.models.router().is_none() && entry.facts().is_none() {
        return Err(ApiError { retry_after: Some(1), ..ApiError::unavailable("Loading model") });
    }
    Ok(entry)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Load {
    path: String,
    name: Option<String>,
    scale: Option<Real>,
    /// Which model it is for: [`Body`] has read it.
    #[serde(rename = "model")]
    _model: Option<IgnoredAny>,
}

/// `POST /lora-adapters/load`: reads an adapter from the folder of `--lora-dir`.
pub async fn load(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let fields: Load = body.read()?;
    let model = app.models.get(&body).await?;
    let load = move || {
        let scale = fields.scale.map_or(1.0, |scale| scale.0);
        model.adapters.load(&model.engine, &fields.path, fields.name.as_deref(), scale)
    };
    blocking(load).await.map(Json)
}

#[derive(Debug, Deserialize)]
struct Unload {
    id: Whole<i64>,
}

/// `POST /lora-adapters/unload`: forgets an adapter. Answers under way go on with it.
pub async fn unload(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let fields: Unload = body.read()?;
    named(&app, body.model()?).await?.adapters().unload(fields.id.0)?;
    Ok(Json(json!({"success": true})))
}
