//! `/api/blobs`: files that models are made from, sent ahead under their digests.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::mpsc::channel;

use super::refused;
use crate::hub::Sha256;
use crate::server::App;
use crate::server::answer::ApiError;
use crate::server::body::broken_off;

/// Pieces of a body that wait for the disk.
const MAX_PIECES: usize = 16;

/// `HEAD /api/blobs/sha256:…`: whether it is there.
pub async fn is_there(
    State(app): State<Arc<App>>,
    Path(digest): Path<String>,
) -> Result<StatusCode, ApiError> {
    let digest = parse(&digest)?;
    let store = app.models.require_router()?.catalog.hub.own_store();
    if store.blob(&digest).is_file() {
        return Ok(StatusCode::OK);
    }
    Err(ApiError::not_found(format!("there is no blob sha256:{digest}")))
}

/// `POST /api/blobs/sha256:…`: takes it. It has its name once it is whole, on the disk, and what the digest says.
pub async fn receive(
    State(app): State<Arc<App>>,
    Path(digest): Path<String>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let digest = parse(&digest)?;
    let store = app.models.require_router()?.catalog.hub.own_store().clone();
    if store.blob(&digest).is_file() {
        // A client that has sent all of it reads the answer.
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
        return Ok(StatusCode::OK);
    }
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length: Option<u64> = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let (sender, mut pieces) = channel::<axum::body::Bytes>(MAX_PIECES);
    let written = tokio::task::spawn_blocking(move || {
        let mut blob = store.receive(digest, length)?;
        while let Some(piece) = pieces.blocking_recv() {
            if piece.is_empty() {
                // The body has come to its end.
                return blob.finish();
            }
            blob.write(&piece)?;
        }
        // What was written so far goes with `blob`.
        Ok(false)
    });
    let mut body = request.into_body();
    let mut cut = None;
    loop {
        match body.frame().await {
            Some(Ok(frame)) => {
                let Ok(piece) = frame.into_data() else { continue };
                if !piece.is_empty() && sender.send(piece).await.is_err() {
                    break;
                }
            }
            Some(Err(error)) => {
                cut = Some(broken_off(&error));
                break;
            }
            None => {
                let _ = sender.send(axum::body::Bytes::new()).await;
                break;
            }
        }
    }
    drop(sender);
    let written = written.await.map_err(|error| ApiError::internal(error.to_string()))?;
    if let Some(cut) = cut {
        return Err(cut);
    }
    match written.map_err(refused)? {
        true => Ok(StatusCode::CREATED),
        false => Err(ApiError::invalid(format!(
            "digest mismatch: the body is not what has the digest sha256:{digest}"
        ))),
    }
}

/// A digest is nothing but 64 hexadecimal digits: no path has that form.
fn parse(text: &str) -> Result<Sha256, ApiError> {
    Sha256::parse_prefixed(text).ok_or_else(|| {
        ApiError::field("digest", format_args!("{text:?}"), "sha256: and 64 hexadecimal digits")
    })
}
