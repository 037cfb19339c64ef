//! `/slots`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::scheduler::SlotState;
use crate::server::App;
use crate::server::answer::ApiError;
use crate::server::models::Entry;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    fail_on_no_slot: Option<String>,
    model: Option<String>,
}

/// What each slot is doing. Texts are none of it: they belong to whoever sent them.
pub async fn list(
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, ApiError> {
    if !app.options.slots {
        return Err(ApiError::not_supported("the server was started with --no-slots"));
    }
    let of = |entry: &Entry| match entry.loaded() {
        Some(model) => model.worker.slots(),
        None => idle_slots(entry.options().scheduler.n_slots, entry.facts().map_or(0, |facts| facts.n_ctx)),
    };
    let slots = match (app.models.single(), wanted.model.filter(|name| !name.is_empty())) {
        (Some(entry), _) => of(&entry),
        (None, Some(name)) => of(&*app.models.entry(&name).await?),
        // Of a router, all that are in memory.
        (None, None) => app.models.loaded().flat_map(|model| model.worker.slots()).collect(),
    };
    if wanted.fail_on_no_slot.is_some_and(|value| value != "0") && slots.iter().all(|slot| slot.job.is_some())
    {
        return Err(ApiError::unavailable("no slot available"));
    }
    Ok(Json(slots.iter().map(slot).collect()))
}

fn idle_slots(n: usize, n_ctx: usize) -> Vec<SlotState> {
    (0..n).map(|id| SlotState { id, n_ctx, ..SlotState::default() }).collect()
}

fn slot(slot: &SlotState) -> Value {
    let is_processing = slot.job.is_some();
    let n_remain = slot.n_left.filter(|_| is_processing).map_or(-1, |n| n as i64);
    json!({
        "id": slot.id,
        "id_task": slot.job.map_or(-1, |job| job.number() as i64),
        "n_ctx": slot.n_ctx,
        "speculative": false,
        "is_processing": is_processing,
        "n_prompt_tokens": if is_processing { slot.n_prompt } else { 0 },
        "n_prompt_tokens_processed": if is_processing { slot.n_processed } else { 0 },
        "n_prompt_tokens_cache": if is_processing { slot.n_cached } else { 0 },
        "next_token": [{
            "has_next_token": is_processing,
            "n_remain": n_remain,
            "n_decoded": if is_processing { slot.n_generated } else { 0 },
        }],
    })
}
