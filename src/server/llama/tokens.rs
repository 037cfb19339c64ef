//! `/tokenize`, `/detokenize` and `/apply-template`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::server::App;
use crate::server::answer::{self, ApiError, Prompt, PromptPart, Prompts};
use crate::server::body::Body;
use crate::server::openai;
use crate::tokenizer::EncodeOptions;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenizeFields {
    content: Option<Value>,
    add_special: Option<bool>,
    parse_special: Option<bool>,
    with_pieces: Option<bool>,
}

/// `POST /tokenize`.
pub async fn tokenize(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let fields: TokenizeFields = body.read()?;
    let model = app.models.get(&body).await?;
    answer::blocking(move || {
        let tokenizer = model.engine.tokenizer();
        let parse_special = fields.parse_special.unwrap_or(true);
        let encode =
            |text: &str, add_special| tokenizer.encode(text, EncodeOptions { add_special, parse_special });
        let add_special = fields.add_special.unwrap_or(false);
        let content = fields.content.filter(|content| !content.is_null());
        let mut prompts = match &content {
            None => Vec::new(),
            // Texts in a list are one text here.
            Some(Value::Array(parts)) if parts.iter().all(Value::is_string) => {
                let text = |part: &Value| PromptPart::Text(part.as_str().unwrap_or_default().to_owned());
                vec![Prompt::Mixed(parts.iter().map(text).collect())]
            }
            content => Prompts::read(content.as_ref(), "content")?.prompts,
        };
        let tokens = match prompts.pop() {
            None => Vec::new(),
            Some(_) if !prompts.is_empty() => {
                return Err(ApiError::field("content", "several prompts", "one"));
            }
            Some(Prompt::Text(text)) => encode(&text, add_special),
            Some(Prompt::Tokens(tokens)) => tokens,
            Some(Prompt::Mixed(parts)) => {
                let mut tokens = Vec::new();
                for (i, part) in parts.into_iter().enumerate() {
                    match part {
                        PromptPart::Text(text) => tokens.extend(encode(&text, add_special && i == 0)),
                        PromptPart::Token(token) => tokens.push(token),
                    }
                }
                tokens
            }
            Some(Prompt::Infill { .. }) => unreachable!("no request spells one here"),
        };
        if !fields.with_pieces.unwrap_or(false) {
            return Ok(Json(json!({"tokens": tokens})));
        }
        let piece = |token: u32| {
            let bytes = tokenizer.piece(token);
            std::str::from_utf8(bytes).map_or_else(|_| json!(bytes), |text| json!(text))
        };
        let pieces: Vec<Value> =
            tokens.iter().map(|&token| json!({"id": token, "piece": piece(token)})).collect();
        Ok(Json(json!({"tokens": pieces})))
    })
    .await
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DetokenizeFields {
    tokens: Option<Vec<crate::server::body::Whole<u32>>>,
}

/// `POST /detokenize`.
pub async fn detokenize(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let fields: DetokenizeFields = body.read()?;
    let model = app.models.get(&body).await?;
    let tokens: Vec<u32> = fields.tokens.unwrap_or_default().iter().map(|token| token.0).collect();
    let n_vocab = model.engine.config().n_vocab;
    if let Some(token) = tokens.iter().find(|token| **token as usize >= n_vocab) {
        return Err(ApiError::field(
            "tokens",
            format_args!("token {token}"),
            &format!("tokens below {n_vocab}"),
        ));
    }
    Ok(Json(json!({"content": model.spell(&tokens)})))
}

/// `POST /apply-template`: the prompt of a conversation.
pub async fn apply_template(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let model = app.models.get(&body).await?;
    let request = openai::chat_request(&app, &model, &body)?;
    let rendered = answer::blocking(move || answer::render(&model, &request)).await?;
    Ok(Json(json!({"prompt": rendered.text})))
}
