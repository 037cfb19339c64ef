//! `/api/embed` and `/api/embeddings`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Json;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::keep_alive::KeepAlive;
use super::options::Options;
use super::request::named;
use crate::embedding::{Norm, normalize};
use crate::sampling::SamplingParams;
use crate::server::App;
use crate::server::answer::{self, ApiError, Prompt, RequestAdapters, kind};
use crate::server::body::{Body, Whole};
use crate::server::models::Model;

#[derive(Debug, Deserialize)]
struct Request {
    model: Option<String>,
    /// `/api/embed`.
    input: Option<Value>,
    /// `/api/embeddings`.
    prompt: Option<String>,
    truncate: Option<bool>,
    dimensions: Option<Whole<u32>>,
    keep_alive: Option<KeepAlive>,
    options: Option<Map<String, Value>>,
}

impl Request {
    /// Sampling is of no use here, but what is no option is told all the same.
    fn check_options(&self) -> Result<(), ApiError> {
        let options = Options::parse(SamplingParams::default(), self.options.iter().flatten());
        options.map(drop).map_err(ApiError::invalid)
    }
}

/// `POST /api/embed`: several texts.
pub(super) async fn embed(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let started = Instant::now();
    let request: Request = body.read()?;
    let name = named(request.model.as_deref())?;
    request.check_options()?;
    let texts = texts(request.input.as_ref())?;
    let entry = app.models.entry(name).await?;
    let model = app.models.open(&entry, None).await?;
    let load = started.elapsed();
    app.models.keep(&entry, request.keep_alive.map(Into::into));
    if texts.is_empty() {
        return Ok(Json(json!({"model": name, "embeddings": []})));
    }
    let adapters = RequestAdapters::read(&model, &body)?;
    let prompts = prompts(&model, texts, request.truncate == Some(true)).await?;
    let mut embedded = answer::embed_prompts(&app, &model, prompts, "input", adapters, true).await?;
    if let Some(Whole(n)) = request.dimensions.filter(|n| n.0 > 0) {
        for vector in &mut embedded.vectors {
            if vector.len() > n as usize {
                vector.truncate(n as usize);
                normalize(vector, Norm::P(2.0));
            }
        }
    }
    Ok(Json(json!({
        "model": name,
        "embeddings": embedded.vectors,
        "total_duration": nanoseconds(started.elapsed()),
        "load_duration": nanoseconds(load),
        "prompt_eval_count": embedded.n_tokens,
    })))
}

/// `POST /api/embeddings`, which came first: one text.
pub(super) async fn embeddings(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let request: Request = body.read()?;
    let name = named(request.model.as_deref())?;
    request.check_options()?;
    let entry = app.models.entry(name).await?;
    let model = app.models.open(&entry, None).await?;
    app.models.keep(&entry, request.keep_alive.map(Into::into));
    let Some(text) = request.prompt.filter(|text| !text.is_empty()) else {
        return Ok(Json(json!({"embedding": []})));
    };
    let adapters = RequestAdapters::read(&model, &body)?;
    let prompts = prompts(&model, vec![text], request.truncate == Some(true)).await?;
    let mut embedded = answer::embed_prompts(&app, &model, prompts, "prompt", adapters, true).await?;
    Ok(Json(json!({"embedding": embedded.vectors.pop()})))
}

/// A text or several; none where there is nothing to embed.
fn texts(input: Option<&Value>) -> Result<Vec<String>, ApiError> {
    let expected = "a text or a list of texts";
    match input {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(items)) => items
            .iter()
            .enumerate()
            .map(|(i, item)| match item {
                Value::String(text) => Ok(text.clone()),
                other => Err(ApiError::field(&format!("input[{i}]"), kind(other), "a text")),
            })
            .collect(),
        Some(other) => Err(ApiError::field("input", kind(other), expected)),
    }
}

/// What is embedded of each text: all of it, or as much as fits into the context where `truncate` allows that.
async fn prompts(model: &Arc<Model>, texts: Vec<String>, truncate: bool) -> Result<Vec<Prompt>, ApiError> {
    if !truncate {
        return Ok(texts.into_iter().map(Prompt::Text).collect());
    }
    let model = Arc::clone(model);
    let cut = move || {
        let fitted = texts.iter().map(|text| {
            let mut tokens = model.engine.embedding_tokens(text);
            let end = tokens.last().copied();
            if tokens.len() > model.n_ctx {
                tokens.truncate(model.n_ctx);
                // The end token that the model was trained with stays.
                if let (Some(last), Some(end)) = (tokens.last_mut(), end)
                    && Some(end) == model.engine.tokenizer().eos()
                {
                    *last = end;
                }
            }
            Prompt::Tokens(tokens)
        });
        Ok(fitted.collect())
    };
    answer::blocking(cut).await
}

fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_or_several() {
        let texts = |input: Value| texts(Some(&input)).map_err(|error| error.message.into_owned());
        assert_eq!(texts(json!("a")), Ok(vec!["a".to_owned()]));
        assert_eq!(texts(json!(["a", "b"])), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(texts(json!("")), Ok(Vec::new()));
        assert_eq!(texts(json!([])), Ok(Vec::new()));
        assert_eq!(texts(json!(null)), Ok(Vec::new()));
        assert_eq!(texts(json!(["a", 7])), Err("input[1]: found a number, expected a text".to_owned()));
        assert_eq!(
            texts(json!(7)),
            Err("input: found a number, expected a text or a list of texts".to_owned())
        );
    }
}
