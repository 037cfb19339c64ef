//! `/api/chat`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Map, Value, json};

use super::lines::{Kind, Lines};
use super::request::{Chat, Common, Think};
use super::{messages, options, reply, show};
use crate::server::App;
use crate::server::answer::{self, ApiError, ChatRequest, RequestAdapters, RequestOptions};
use crate::server::body::Body;
use crate::server::models::{Entry, Model};

pub(super) async fn chat(State(app): State<Arc<App>>, body: Body) -> Result<Response, ApiError> {
    let started = Instant::now();
    let common: Common = body.read()?;
    let request: Chat = body.read()?;
    let name = common.model()?;
    let entry = &app.models.entry(name).await?;
    let messages = request.messages.unwrap_or_default();
    if messages.is_empty() {
        return nothing_to_say(&app, entry, &common, Kind::Chat, started).await;
    }
    let mut chat = conversation(&app, entry, &common)?;
    chat.messages = messages::to_openai(messages)?;
    chat.tools = request.tools.unwrap_or_default();

    let model = app.models.open(entry, None).await?;
    chat.options.adapters = RequestAdapters::read(&model, &body)?;
    let load = started.elapsed();
    check_capabilities(entry, &model, name, &common, &chat)?;
    fit(&model, &common, &mut chat).await?;
    if common.render_only == Some(true) {
        return rendered(&model, name, chat).await;
    }
    let answer = answer::chat(&app, &model, chat).await?;
    app.models.keep(entry, common.keep_alive.map(Into::into));
    reply::send(answer, Lines::new(Kind::Chat, name, started, load), common.streams()).await
}

/// A request without messages or prompt loads the model, or unloads it where it is to be kept for no time at all.
pub(super) async fn nothing_to_say(
    app: &App,
    entry: &Arc<Entry>,
    common: &Common,
    kind: Kind,
    started: Instant,
) -> Result<Response, ApiError> {
    let lines = Lines::new(kind, common.model()?, started, started.elapsed());
    if common.keep_alive.is_some_and(|keep| keep.is_zero()) {
        if entry.is_idle() == Some(true) {
            app.models.unload(entry).await;
        } else {
            app.models.keep(entry, Some(Some(Duration::ZERO)));
        }
        return Ok(Json(lines.done("unload")).into_response());
    }
    app.models.open(entry, None).await?;
    app.models.keep(entry, common.keep_alive.map(Into::into));
    Ok(Json(lines.done("load")).into_response())
}

/// A conversation with everything but its messages and adapters.
pub(super) fn conversation(app: &App, entry: &Entry, common: &Common) -> Result<ChatRequest, ApiError> {
    let started = entry.options();
    let options = common.options(options::sampling(&started.sampling, &started.sampling_set))?;
    let think = common.think()?;
    let mut template_args = Map::new();
    if let Some(Think::Level(level)) = &think {
        template_args.insert("reasoning_effort".to_owned(), level.as_str().into());
    }
    Ok(ChatRequest {
        thinking: think.map(|think| think != Think::No),
        template_args,
        parallel_tool_calls: true,
        options: RequestOptions {
            sampling: options.sampling,
            stop: options.stop,
            max_tokens: options.max_tokens,
            log_probs: common.log_probs()?,
            prompt_log_probs: None,
            format: common.format()?,
            adapters: RequestAdapters::default(),
            cache_prompt: app.options.cache_prompt,
            slot: None,
        },
        ..ChatRequest::default()
    })
}

/// Refuses what the model cannot do, in the words that clients look for.
pub(super) fn check_capabilities(
    entry: &Entry,
    model: &Model,
    name: &str,
    common: &Common,
    chat: &ChatRequest,
) -> Result<(), ApiError> {
    let without = |what: &str| Err(ApiError::invalid(format!("{name:?} does not support {what}")));
    if model.template.is_none() {
        return without("chat");
    }
    let capabilities = entry.facts().map(show::capabilities).unwrap_or_default();
    if !capabilities.contains(&"completion") {
        return without("chat");
    }
    if !chat.tools.is_empty() && !capabilities.contains(&"tools") {
        return without("tools");
    }
    if matches!(common.think()?, Some(Think::Yes | Think::Level(_))) && !capabilities.contains(&"thinking") {
        return without("thinking");
    }
    if let Some(num_ctx) = common.num_ctx()?.filter(|num_ctx| *num_ctx > model.n_ctx) {
        tracing::warn!(
            "num_ctx: found {num_ctx}, but the context has {} tokens (--ctx-size makes it longer)",
            model.n_ctx
        );
    }
    Ok(())
}

/// Leaves out the oldest messages, but for those of the system, until the rest fits into the context: only where the request says
/// `"truncate": true`.
async fn fit(model: &Arc<Model>, common: &Common, chat: &mut ChatRequest) -> Result<(), ApiError> {
    if common.truncate != Some(true) || chat.messages.len() < 2 {
        return Ok(());
    }
    let (worker, mut request) = (Arc::clone(model), chat.clone());
    let kept = answer::blocking(move || {
        let all = std::mem::take(&mut request.messages);
        let (mut fits, mut too_long) = (all.len() - 1, 0);
        let mut n_tokens = |from: usize| {
            request.messages = from_message(&all, from);
            Ok::<_, ApiError>(answer::tokenize(&worker, &answer::render(&worker, &request)?).len())
        };
        if n_tokens(0)? < worker.n_ctx {
            return Ok(all);
        }
        // The later it begins, the shorter it is. What a template refuses to begin with is left out, too.
        while fits - too_long > 1 {
            let middle = too_long + (fits - too_long) / 2;
            match n_tokens(middle) {
                Ok(n) if n < worker.n_ctx => fits = middle,
                _ => too_long = middle,
            }
        }
        Ok(from_message(&all, fits))
    });
    chat.messages = kept.await?;
    Ok(())
}

/// The messages from one on, behind those of the system.
fn from_message(messages: &[Value], from: usize) -> Vec<Value> {
    let (before, rest) = messages.split_at(from);
    let system = before.iter().filter(|message| message["role"] == "system");
    system.chain(rest).cloned().collect()
}

/// The prompt, in place of an answer.
pub(super) async fn rendered(
    model: &Arc<Model>,
    name: &str,
    chat: ChatRequest,
) -> Result<Response, ApiError> {
    let worker = Arc::clone(model);
    let prompt = answer::blocking(move || answer::render(&worker, &chat)).await?;
    Ok(Json(json!({
        "model": name,
        "created_at": jiff::Timestamp::now().to_string(),
        "_debug_info": {"rendered_template": prompt.text},
    }))
    .into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_not_the_system_prompt() {
        let message = |role: &str, content: &str| json!({"role": role, "content": content});
        let talk =
            [message("system", "s"), message("user", "1"), message("assistant", "2"), message("user", "3")];
        assert_eq!(from_message(&talk, 0), talk);
        assert_eq!(from_message(&talk, 3), [talk[0].clone(), talk[3].clone()]);
    }
}
