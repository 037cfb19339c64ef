//! `/infill`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use super::completion;
use crate::server::App;
use crate::server::answer::{ApiError, Prompt, Prompts};
use crate::server::body::Body;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    input_prefix: Option<String>,
    input_suffix: Option<String>,
    input_extra: Option<Vec<Extra>>,
    /// Follows the prefix.
    prompt: Option<String>,
}

/// A file beside the one with the gap.
#[derive(Debug, Deserialize)]
struct Extra {
    #[serde(default)]
    filename: Option<String>,
    text: String,
}

/// `POST /infill`: fills the gap between a prefix and a suffix.
pub async fn infill(State(app): State<Arc<App>>, body: Body) -> Result<Response, ApiError> {
    let fields: Fields = body.read()?;
    let model = app.models.get(&body).await?;
    if model.engine.tokenizer().infill_prefix().is_none() {
        return Err(ApiError::not_supported(
            "the model has no tokens to fill in the middle with: Codestral and models like it do",
        ));
    }
    drop(model);
    let missing = |name: &str| ApiError::field(name, "nothing", "a text");
    let suffix = fields.input_suffix.ok_or_else(|| missing("input_suffix"))?;
    // Mistral's models have no form for other files: they come as code before the prefix.
    let mut prefix = String::new();
    for extra in fields.input_extra.unwrap_or_default() {
        if let Some(name) = extra.filename {
            prefix += &format!("// {name}\n");
        }
        prefix += &extra.text;
        if !prefix.ends_with('\n') {
            prefix.push('\n');
        }
    }
    prefix += &fields.input_prefix.ok_or_else(|| missing("input_prefix"))?;
    prefix += &fields.prompt.unwrap_or_default();
    let prompts = Prompts { prompts: vec![Prompt::Infill { prefix, suffix }], is_list: false };
    completion::answer(&app, &body, prompts).await
}
