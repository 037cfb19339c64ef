//! Bodies that a response did not wait for.
//!
//! A request can be refused before its body has come: for its key, its type, its length. A connection that is closed then is reset while the
//! client is still sending, and most clients take that for the answer. So what is left of the body is read and dropped before the response
//! goes out, as long as it keeps coming.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long the client may take to send the next part.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long it may take for all of them.
const LONGEST: Duration = Duration::from_secs(10);

/// Reads what a request was not asked for.
pub async fn drain(request: Request, next: Next) -> Response {
    // Who waits for a word before sending the body does not send it after a refusal.
    let waits = request.headers().contains_key(header::EXPECT);
    if waits || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (back, mut returned) = oneshot::channel();
    let request = request.map(|body| Body::new(Lent { body, back: Some(back) }));
    let response = next.run(request).await;
    if let Ok(mut body) = returned.try_recv() {
        let rest = async { while let Ok(Some(Ok(_))) = timeout(PATIENCE, body.frame()).await {} };
        // Whoever sends for longer than that finds the connection closed.
        let _ = timeout(LONGEST, rest).await;
    }
    response
}

/// A body that goes back to its owner if it is not read to its end.
struct Lent {
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Lent>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.body.is_end_stream()
            && let Some(back) = self.back.take()
        {
            // Nobody may be there any more.
            let _ = back.send(std::mem::take(&mut self.body));
        }
    }
}
