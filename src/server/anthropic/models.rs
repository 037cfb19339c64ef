//! Models as Anthropic's interface lists them.

use std::time::SystemTime;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::server::error::ApiError;
use crate::server::models::Entry;

/// The header that clients of this interface send with every request.
pub const VERSION_HEADER: &str = "anthropic-version";

/// Models of a page where a request does not say.
const PAGE_LEN: u32 = 20;

/// Which part of the list is wanted.
#[derive(Debug, Default, Deserialize)]
pub struct Page {
    limit: Option<u32>,
    after_id: Option<String>,
    before_id: Option<String>,
}

/// The models of a page.
///
/// # Errors
/// A limit or a model that is none.
pub fn list(models: &[&Entry], page: &Page) -> Result<Value, ApiError> {
    let limit = page.limit.unwrap_or(PAGE_LEN);
    if !(1..=1000).contains(&limit) {
        return Err(ApiError::field("limit", limit, "1 to 1000"));
    }
    let position = |field: &str, id: &str| {
        let position = models.iter().position(|entry| entry.options().name() == id);
        position
            .ok_or_else(|| ApiError::field(field, format_args!("{id:?}"), "the id of a model in the list"))
    };
    let start = match &page.after_id {
        Some(id) => position("after_id", id)? + 1,
        None => 0,
    };
    let end = match &page.before_id {
        Some(id) => position("before_id", id)?.max(start),
        None => models.len(),
    };
    let (n, rest) = ((limit as usize).min(end - start), &models[start..end]);
    // Before an id, the ones nearest to it.
    let shown = if page.before_id.is_some() { &rest[rest.len() - n..] } else { &rest[..n] };
    let id = |entry: Option<&&Entry>| entry.map(|entry| entry.options().name().to_owned());
    Ok(json!({
        "data": shown.iter().map(|entry| one(entry)).collect::<Vec<_>>(),
        "has_more": n < rest.len(),
        "first_id": id(shown.first()),
        "last_id": id(shown.last()),
    }))
}

/// A model.
pub fn one(entry: &Entry) -> Value {
    let n_ctx = entry.facts().map(|facts| facts.n_ctx);
    json!({
        "type": "model",
        "id": entry.options().name(),
        "display_name": entry.options().name(),
        "created_at": created(entry.created()),
        "lifecycle": "active",
        "max_input_tokens": n_ctx,
        "max_tokens": n_ctx,
    })
}

fn created(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
