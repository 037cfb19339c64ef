//! `/embedding`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::server::App;
use crate::server::answer::{ApiError, Prompts, embed};
use crate::server::body::Body;

/// `POST /embedding`: the vectors of a text or several; with `--pooling none`, those of each token.
pub async fn embed_texts(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let model = app.models.get(&body).await?;
    let field = if body.get("input").is_some() { "input" } else { "content" };
    if let Some(other) = body.get("content").filter(|_| field == "input") {
        Prompts::read(Some(other), "content")?;
    }
    let embedded = embed(&app, &model, &body, field).await?;
    let n_embd = model.engine.config().n_embd;
    let results = embedded.vectors.iter().enumerate().map(|(index, vector)| {
        let vectors: Vec<&[f32]> = vector.chunks(n_embd).collect();
        json!({"index": index, "embedding": vectors})
    });
    Ok(Json(results.collect()))
}
