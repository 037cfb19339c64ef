//! Work on the disk or over the network that takes its time, and tells how far it is: a JSON object a line, or the last one alone.

use std::convert::Infallible;
use std::ops::ControlFlow;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Sender, channel};

use crate::hub::Progress;
use crate::server::envelope::Dialect;
use crate::server::error::ApiError;

/// Lines that wait for a client to read them.
const MAX_LINES: usize = 64;

/// Takes what is to be told. Nobody listens any more once the client has gone.
pub struct Listener {
    lines: Sender<Value>,
    last: Option<Value>,
}

impl Listener {
    /// Tells something, unless it was just told. `Break` where nobody listens.
    pub fn tell(&mut self, line: Value) -> ControlFlow<()> {
        if self.last.as_ref() == Some(&line) {
            return if self.lines.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        }
        self.last = Some(line.clone());
        match self.lines.blocking_send(line) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    /// Tells what is being done.
    pub fn status(&mut self, status: &str) -> ControlFlow<()> {
        self.tell(json!({ "status": status }))
    }

    /// Tells how far a download is, as Ollama does.
    pub fn watch(&mut self, progress: Progress<'_>) -> ControlFlow<()> {
        let short = |digest: &str| digest.trim_start_matches("sha256:").chars().take(12).collect::<String>();
        match progress {
            Progress::Listing { .. } => self.status("pulling manifest"),
            Progress::Downloading { file, digest, done, total } => {
                let digest = digest.filter(|digest| digest.trim_start_matches("sha256:").len() == 64);
                let mut line = json!({
                    "status": format!("pulling {}", digest.map_or_else(|| file.to_owned(), short)),
                    "completed": done,
                });
                if let Some(digest) = digest {
                    line["digest"] = format!("sha256:{}", digest.trim_start_matches("sha256:")).into();
                }
                if let Some(total) = total {
                    line["total"] = total.into();
                }
                self.tell(line)
            }
            Progress::Checking { .. } => self.status("verifying sha256 digest"),
            Progress::Waiting { file } => self.status(&format!("waiting for another download of {file}")),
            Progress::Converting { name, done, total } => self.tell(json!({
                "status": format!("converting {name}"), "completed": done, "total": total,
            })),
            Progress::WaitingForConversion { name } => {
                self.status(&format!("waiting for another conversion of {name}"))
            }
            Progress::Retrying { why, after } => {
                self.status(&format!("{why}; trying again in {:.1} s", after.as_secs_f64()))
            }
            Progress::Note { text } => self.status(text),
            Progress::Done { .. } => ControlFlow::Continue(()),
        }
    }
}

/// Does something on a thread of its own. With `streams`, what it tells comes as it goes, and an error behind the first line is a line.
///
/// # Errors
/// That of `work`, where nothing was sent before.
pub async fn respond(
    streams: bool,
    work: impl FnOnce(&mut Listener) -> Result<(), ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let (sender, mut lines) = channel(MAX_LINES);
    let done = tokio::task::spawn_blocking(move || work(&mut Listener { lines: sender, last: None }));
    let ended = async move {
        done.await.unwrap_or_else(|error| Err(ApiError::internal(format!("the server has a fault: {error}"))))
    };
    let success = json!({"status": "success"});
    if !streams {
        while lines.recv().await.is_some() {}
        ended.await?;
        return Ok(Json(success).into_response());
    }
    let Some(first) = lines.recv().await else {
        ended.await?;
        return Ok(([(header::CONTENT_TYPE, NDJSON)], format!("{success}\n")).into_response());
    };
    let stream = async_stream::stream! {
        yield Ok::<Bytes, Infallible>(line(&first));
        while let Some(next) = lines.recv().await {
            yield Ok(line(&next));
        }
        match ended.await {
            Ok(()) => yield Ok(line(&success)),
            Err(error) => yield Ok(line(&Dialect::Ollama.error(&error))),
        }
    };
    Ok(([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(stream)).into_response())
}

const NDJSON: &str = "application/x-ndjson";

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}
