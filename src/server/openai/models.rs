//! `/v1/models`.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Uri};
use serde_json::{Value, json};

use crate::server::App;
use crate::server::answer::ApiError;
use crate::server::anthropic::models as anthropic;
use crate::server::models::{Entry, Status};

/// `GET /v1/models`, which Anthropic's interface has as well: its clients say so in a header. A router looks again which models there are.
pub async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, ApiError> {
    let entries = app.models.listed().await?;
    let entries: Vec<&Entry> = entries.iter().map(|entry| &**entry).collect();
    if headers.contains_key(anthropic::VERSION_HEADER) {
        let page = Query::try_from_uri(&uri).map_err(|error| ApiError::invalid(error.body_text()))?;
        return anthropic::list(&entries, &page).map(Json);
    }
    let models: Vec<Value> =
        entries.into_iter().flat_map(|entry| [vec![model(entry)], adapters(entry)].concat()).collect();
    Ok(Json(json!({"object": "list", "data": models})))
}

/// `GET /v1/models/{name}`.
pub async fn one(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let found = app.models.entry(&name).await;
    if let Ok(entry) = &found {
        // A file that is no model is listed, too.
        let _ = app.models.look(entry).await;
    }
    match found {
        Ok(entry) if headers.contains_key(anthropic::VERSION_HEADER) => Ok(Json(anthropic::one(&entry))),
        Ok(entry) => {
            let adapter = || adapters(&entry).into_iter().find(|adapter| adapter["id"] == *name);
            Ok(Json(if entry.is_called(&name) {
                model(&entry)
            } else {
                adapter().unwrap_or_else(|| model(&entry))
            }))
        }
        Err(error) if error.status == 404 => Err(ApiError::not_found(format!(
            "there is no model {name:?} here: /v1/models lists those there are"
        ))),
        Err(error) => Err(error),
    }
}

/// The adapters of a model, each a model that can be asked for by its name.
fn adapters(entry: &Entry) -> Vec<Value> {
    let of_model = model(entry);
    let adapters = entry.adapters().names().into_iter().map(|(name, path)| {
        let mut value = of_model.clone();
        value["id"] = name.into();
        value["parent"] = entry.options().name().into();
        value["root"] = path.into();
        value["aliases"] = json!([]);
        value["tags"] = json!([]);
        if entry.offer().is_some() {
            value["can_remove"] = false.into();
        }
        value
    });
    adapters.collect()
}

fn model(entry: &Entry) -> Value {
    let options = entry.options();
    let created = entry.created().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let (status, facts) = (entry.status(), entry.facts());
    let fills_gaps = facts.is_some_and(|facts| facts.infills);
    let capabilities: &[&str] =
        if fills_gaps { &["completion", "embedding", "insert"] } else { &["completion", "embedding"] };
    let mut value = json!({
        "id": options.name(),
        "object": "model",
        "created": created,
        "owned_by": "bise",
        "aliases": options.aliases,
        "tags": options.tags,
        "capabilities": capabilities,
        "status": {"value": status.name()},
        "meta": facts.map(|facts| facts.meta()),
    });
    if status == Status::Failed {
        value["status"]["failed"] = true.into();
        value["status"]["exit_code"] = 1.into();
        value["status"]["error"] = entry.failure().map(|error| error.message).into();
    }
    if let Some(offer) = entry.offer() {
        value["aliases"] = offer.aliases.clone().into();
        value["architecture"] = json!({"input_modalities": ["text"], "output_modalities": ["text"]});
        value["source"] = offer.source().into();
        value["can_remove"] = offer.is_removable().into();
    }
    value
}
