//! From an answer to a response.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Json, Response};
use serde_json::Value;

use super::lines::{Lines, join};
use crate::server::answer::{Answer, ApiError, Delta};

/// Sends an answer, as it comes or as a whole.
///
/// # Errors
/// The answer fails before anything was sent.
pub(super) async fn send(mut answer: Answer, mut lines: Lines, streams: bool) -> Result<Response, ApiError> {
    let mut first = Vec::new();
    while first.is_empty() || !streams {
        match answer.next().await {
            Some(Delta::Failed(error)) => return Err(error),
            Some(delta) => first.extend(lines.push(delta)),
            None => break,
        }
    }
    if !streams {
        let whole = join(lines.kind(), first).ok_or_else(|| ApiError::internal("the answer did not come"))?;
        return Ok(Json(whole).into_response());
    }
    let stream = async_stream::stream! {
        yield Ok::<Bytes, Infallible>(ndjson(first));
        while let Some(delta) = answer.next().await {
            let more = lines.push(delta);
            if !more.is_empty() {
                yield Ok(ndjson(more));
            }
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response())
}

fn ndjson(lines: Vec<Value>) -> Bytes {
    lines.into_iter().map(|line| format!("{line}\n")).collect::<String>().into()
}
