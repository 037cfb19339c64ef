//! Work that would keep other requests waiting.

use super::ApiError;

/// Does something that may take a while on a thread that nobody waits for.
///
/// # Errors
/// Those of `work`.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| {
        Err(ApiError::internal("the request could not be processed: it made the server panic"))
    })
}
