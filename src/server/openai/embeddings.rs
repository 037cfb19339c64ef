//! `/v1/embeddings`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::server::App;
use crate::server::answer::{ApiError, embed};
use crate::server::body::{Body, Whole};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    model: Option<String>,
    encoding_format: Option<String>,
    dimensions: Option<Whole<u32>>,
}

/// `POST /v1/embeddings`.
pub async fn embed_texts(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let fields: Fields = body.read()?;
    let model = app.models.get(&body).await?;
    let as_base64 = match fields.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            return Err(ApiError::field("encoding_format", format_args!("{other:?}"), "float or base64"));
        }
    };
    let n_embd = model.engine.config().n_embd;
    if let Some(Whole(dimensions)) = fields.dimensions.filter(|n| n.0 as usize != n_embd) {
        return Err(ApiError::field(
            "dimensions",
            dimensions,
            &format!("{n_embd}: the model's vectors are not cut"),
        ));
    }
    if model.pooling.is_none() {
        return Err(ApiError::invalid(
            "--pooling none gives a vector for each token, which this interface has no form for: ask /embedding",
        ));
    }
    let embedded = embed(&app, &model, &body, "input").await?;
    let vectors = embedded.vectors.iter().enumerate().map(|(index, vector)| {
        let embedding = match as_base64 {
            true => {
                Value::String(BASE64.encode(vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()))
            }
            false => json!(vector),
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    Ok(Json(json!({
        "object": "list",
        "model": fields.model.unwrap_or_else(|| model.name.clone()),
        "data": vectors.collect::<Vec<_>>(),
        "usage": {"prompt_tokens": embedded.n_tokens, "total_tokens": embedded.n_tokens},
    })))
}
