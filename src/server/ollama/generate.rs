//! `/api/generate`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::chat::{check_capabilities, conversation, nothing_to_say, rendered};
use super::lines::{Kind, Lines};
use super::request::{Common, Generate};
use super::{messages, reply};
use crate::server::App;
use crate::server::answer::{self, ApiError, Prompt, RequestAdapters, TextRequest};
use crate::server::body::Body;

pub(super) async fn generate(State(app): State<Arc<App>>, body: Body) -> Result<Response, ApiError> {
    let started = Instant::now();
    let common: Common = body.read()?;
    let request: Generate = body.read()?;
    let name = common.model()?;
    let entry = &app.models.entry(name).await?;
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if request.images.as_ref().is_some_and(|images| !images.is_empty()) {
        return Err(messages::images_refused("images"));
    }
    if request.template.as_ref().is_some_and(|template| !template.is_empty()) {
        return Err(ApiError::invalid(
            "template: found one, expected none: the chat template is the model file's, or that of --chat-template; a prompt that \
             is written out goes with \"raw\": true",
        ));
    }
    let raw = request.raw == Some(true);
    let context = request.context.unwrap_or_default();
    if raw && (given(&request.system).is_some() || !context.is_empty()) {
        return Err(ApiError::invalid("raw mode does not support template, system, or context"));
    }
    let Some(prompt) = given(&request.prompt) else {
        return nothing_to_say(&app, entry, &common, Kind::Generate, started).await;
    };
    let mut chat = conversation(&app, entry, &common)?;
    let model = app.models.open(entry, None).await?;
    chat.options.adapters = RequestAdapters::read(&model, &body)?;
    let n_vocab = model.engine.tokenizer().n_vocab();
    if let Some(token) = context.iter().find(|token| **token as usize >= n_vocab) {
        return Err(ApiError::field(
            "context",
            format_args!("token {token}"),
            &format!("tokens below {n_vocab}"),
        ));
    }
    let load = started.elapsed();
    let mut lines = Lines::new(Kind::Generate, name, started, load);
    let text = match given(&request.suffix) {
        Some(suffix) if model.engine.tokenizer().infill_prefix().is_some() => {
            Some(Prompt::Infill { prefix: prompt.clone(), suffix })
        }
        Some(_) => return Err(ApiError::invalid(format!("{name:?} does not support insert"))),
        None => raw.then(|| Prompt::Text(prompt.clone())),
    };
    let answer = match text {
        Some(prompt) => answer::text(&app, &model, TextRequest { prompt, options: chat.options }).await?,
        None => {
            if let Some(system) = given(&request.system) {
                chat.messages.push(json!({"role": "system", "content": system}));
            }
            chat.messages.push(json!({"role": "user", "content": prompt}));
            chat.earlier = context;
            check_capabilities(entry, &model, name, &common, &chat)?;
            if common.render_only == Some(true) {
                return rendered(&model, name, chat).await;
            }
            let answer = answer::chat(&app, &model, chat).await?;
            lines.remember(&answer.prompt);
            answer
        }
    };
    app.models.keep(entry, common.keep_alive.map(Into::into));
    reply::send(answer, lines, common.streams()).await
}
