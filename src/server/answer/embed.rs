//! Texts as vectors.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{ApiError, Prompt, Prompts, RequestAdapters, blocking, text_tokens};
use crate::scheduler::EmbedJob;
use crate::server::App;
use crate::server::body::Body;
use crate::server::models::Model;

/// Vectors, and what they cost.
#[derive(Debug)]
pub struct Embedded {
    /// One for each text; without pooling, those of all its tokens one behind the other.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens that were read.
    pub n_tokens: usize,
}

/// Embeds the texts of a field of `body`. Those that are pooled have length 1.
///
/// # Errors
/// An adapter that is not there, what is no text, one without tokens or longer than the context, and a full queue.
pub async fn embed(app: &App, model: &Arc<Model>, body: &Body, field: &str) -> Result<Embedded, ApiError> {
    let Prompts { prompts, .. } = Prompts::read(body.get(field), field)?;
    let adapters = RequestAdapters::read(model, body)?;
    embed_prompts(app, model, prompts, field, adapters, model.pooling.is_some()).await
}

/// Embeds texts, which stand in this field of the request, and divides their vectors by their lengths if `normalize`.
///
/// # Errors
/// As [`embed`].
pub async fn embed_prompts(
    app: &App,
    model: &Arc<Model>,
    prompts: Vec<Prompt>,
    field: &str,
    adapters: RequestAdapters,
    normalize: bool,
) -> Result<Embedded, ApiError> {
    let (tokenizing, at) = (Arc::clone(model), field.to_owned());
    let tokenize = move || {
        let tokens = prompts.iter().map(|prompt| match prompt {
            Prompt::Text(text) => Ok(tokenizing.engine.embedding_tokens(text)),
            other => text_tokens(&tokenizing, other, &at),
        });
        tokens.collect::<Result<Vec<Vec<u32>>, ApiError>>()
    };
    let texts = blocking(tokenize).await?;
    // A sliding window would let a text go on past the context.
    if let Some((index, text)) = texts.iter().enumerate().find(|(_, text)| text.len() > model.n_ctx) {
        let error = ApiError::context_exceeded(text.len(), model.n_ctx);
        let message = format!("input {index}: {}", error.message);
        return Err(if texts.len() == 1 { error } else { ApiError { message: message.into(), ..error } });
    }
    let n_tokens = texts.iter().map(Vec::len).sum();
    let (sender, receiver) = oneshot::channel();
    let done = move |vectors| {
        // Nobody may wait any more.
        let _ = sender.send(vectors);
    };
    app.metrics.request();
    let (pooling, adapters) = (model.pooling, Some(adapters.acting));
    let ticket =
        model.worker.embed(EmbedJob { texts, pooling, adapters, normalize, done: Box::new(done) })?;
    let vectors = receiver.await.map_err(|_| ApiError::unavailable("the server is shutting down"))?;
    drop(ticket);
    let vectors = vectors.map_err(|error| ApiError::from(&error))?;
    app.metrics.embedded(n_tokens);
    Ok(Embedded { vectors, n_tokens })
}
