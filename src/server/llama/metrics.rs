//! `/metrics`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

use crate::server::App;
use crate::server::answer::ApiError;

/// Counts and times in Prometheus' text format. It neither waits for a pass nor loads a model.
pub async fn metrics(State(app): State<Arc<App>>) -> Result<impl IntoResponse, ApiError> {
    if !app.options.metrics {
        return Err(ApiError::not_supported("the server was started with --no-metrics"));
    }
    let stats = app.models.scheduler_stats();
    let headers = [
        (header::CONTENT_TYPE.as_str(), CONTENT_TYPE.to_owned()),
        ("process-start-time-unix", app.metrics.started().to_string()),
    ];
    Ok((headers, app.metrics.to_prometheus(&stats)))
}
