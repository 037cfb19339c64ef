//! A line for each request, and a name by which it can be found again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where Anthropic's clients look for it.
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// A name that a client gives is not longer.
const MAX_ID_BYTES: usize = 128;

/// Names a request, by the client's `X-Request-Id` if it has one, and logs how it was answered. Streams are logged when they begin.
pub async fn requests(request: Request, next: Next) -> Response {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let given = request.headers().get(&REQUEST_ID).filter(|id| id.len() <= MAX_ID_BYTES).cloned();
    let id = given.unwrap_or_else(|| {
        let number = NEXT.fetch_add(1, Relaxed);
        HeaderValue::from_str(&format!("{:08x}", number)).expect("digits")
    });
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = tracing::info_span!("request", id = %id.to_str().unwrap_or("?"));
    let started = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let took = started.elapsed().as_secs_f64() * 1e3;
    let status = response.status().as_u16();
    // What looks in every second says nothing new.
    match path.as_str() {
        "/health" | "/v1/health" | "/metrics" | "/slots" => {
            tracing::debug!(parent: &span, %method, path, status, "{took:.1} ms")
        }
        _ => tracing::info!(parent: &span, %method, path, status, "{took:.1} ms"),
    }
    response.headers_mut().insert(ANTHROPIC_REQUEST_ID, id.clone());
    response.headers_mut().insert(REQUEST_ID, id);
    response
}
