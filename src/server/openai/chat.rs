//! `/v1/chat/completions`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{FINGERPRINT, StreamFields, data, failure, log_probs, new_id, now, sse, usage_json};
use crate::server::App;
use crate::server::answer::{
    self, Answer, ApiError, ChatRequest, Delta, FinishReason, Finished, Part, RequestOptions, ToolChoice,
    Whole, merge,
};
use crate::server::body::{Body, Whole as WholeNumber};
use crate::server::models::Model;

/// Answers to one request, at most.
const MAX_ANSWERS: u32 = 128;

/// Fields of this interface that no model here can do anything with, and what is expected in their place.
const REFUSED: [(&str, &str); 4] = [
    ("functions", "tools, which came after it"),
    ("function_call", "tool_choice, which came after it"),
    ("audio", "none: answers are text"),
    ("web_search_options", "none: nothing is searched for here"),
];

/// Fields that change nothing.
const WITHOUT_EFFECT: [&str; 2] = ["store", "verbosity"];

/// What a conversation says, beside the options that all requests have.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    model: Option<String>,
    messages: Option<Vec<Value>>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    n: Option<WholeNumber<u32>>,
    logprobs: Option<bool>,
    top_logprobs: Option<WholeNumber<u32>>,
    modalities: Option<Vec<String>>,
    reasoning_effort: Option<String>,
    chat_template_kwargs: Option<Map<String, Value>>,
    enable_thinking: Option<bool>,
    reasoning_format: Option<String>,
    add_generation_prompt: Option<bool>,
    continue_final_message: Option<bool>,
    verbose: Option<bool>,
}

/// A conversation as a request.
///
/// # Errors
/// Fields of other types, or values that make no sense.
pub fn request(app: &App, model: &Model, body: &Body) -> Result<ChatRequest, ApiError> {
    let fields: Fields = body.read()?;
    if let Some(WholeNumber(n)) = fields.n.filter(|n| !(1..=MAX_ANSWERS).contains(&n.0)) {
        return Err(ApiError::field("n", n, &format!("1 to {MAX_ANSWERS}")));
    }
    body.refuse(&REFUSED)?;
    body.warn_without_effect(&WITHOUT_EFFECT);
    if let Some(other) = fields.modalities.iter().flatten().find(|modality| *modality != "text") {
        return Err(ApiError::field("modalities", format_args!("{other:?}"), "\"text\" alone"));
    }
    let mut template_args = Map::new();
    if let Some(effort) = &fields.reasoning_effort {
        template_args.insert("reasoning_effort".to_owned(), effort.as_str().into());
    }
    template_args.extend(fields.chat_template_kwargs.unwrap_or_default());
    let effort_thinks = fields.reasoning_effort.as_deref().map(|effort| effort != "none");
    let mut options = RequestOptions::read(app, model, body)?;
    if fields.logprobs == Some(true) {
        let n = fields.top_logprobs.map_or(0, |n| n.0);
        options.log_probs = Some(answer::log_probs(n, "top_logprobs", false)?);
    } else if fields.top_logprobs.is_some_and(|n| n.0 > 0) {
        return Err(ApiError::field(
            "top_logprobs",
            "a number without logprobs",
            "logprobs to be true as well",
        ));
    }
    Ok(ChatRequest {
        earlier: Vec::new(),
        messages: fields
            .messages
            .ok_or_else(|| ApiError::field("messages", "nothing", "a list of messages"))?,
        tools: fields.tools.unwrap_or_default(),
        tool_choice: tool_choice(fields.tool_choice.as_ref())?,
        parallel_tool_calls: fields.parallel_tool_calls.unwrap_or(true),
        template_args,
        thinking: fields.enable_thinking.or(effort_thinks),
        raw_reasoning: fields.reasoning_format.map(|format| format == "none"),
        add_generation_prompt: fields.add_generation_prompt,
        continue_final_message: fields.continue_final_message,
        options,
    })
}

fn tool_choice(choice: Option<&Value>) -> Result<ToolChoice, ApiError> {
    const EXPECTED: &str = "auto, none, required or a function by name";
    match choice {
        None | Some(Value::Null) => Ok(ToolChoice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" | "any" => Ok(ToolChoice::Required),
            other => Err(ApiError::field("tool_choice", format_args!("{other:?}"), EXPECTED)),
        },
        Some(choice) => {
            let name = choice["function"]["name"].as_str().or_else(|| choice["name"].as_str());
            let name = name.ok_or_else(|| ApiError::field("tool_choice", answer::kind(choice), EXPECTED))?;
            Ok(ToolChoice::Function(name.to_owned()))
        }
    }
}

/// `POST /v1/chat/completions`.
pub async fn complete(State(app): State<Arc<App>>, body: Body) -> Result<Response, ApiError> {
    let fields: Fields = body.read()?;
    let stream: StreamFields = body.read()?;
    let model = app.models.get(&body).await?;
    let request = request(&app, &model, &body)?;
    let n = fields.n.map_or(1, |n| n.0);
    let mut answers = Vec::new();
    for i in 0..n {
        let mut request = request.clone();
        request.options.sampling = answer::for_choice(request.options.sampling, i);
        answers.push(answer::chat(&app, &model, request).await?);
    }
    let head = Head {
        id: new_id("chatcmpl-"),
        created: now(),
        model: fields.model.filter(|name| !name.is_empty()).unwrap_or_else(|| model.name.clone()),
        verbose: fields.verbose.unwrap_or(app.options.verbose),
        log_probs: request.options.log_probs.is_some(),
    };
    match stream.is_stream() {
        true => Ok(sse(&app, events(answers, head, stream))),
        false => whole(&model, answers, head).await,
    }
}

/// What all chunks of a response have.
struct Head {
    id: String,
    created: u64,
    model: String,
    verbose: bool,
    log_probs: bool,
}

impl Head {
    fn object(&self, kind: &str, choices: Value) -> Map<String, Value> {
        let object = json!({
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        });
        match object {
            Value::Object(fields) => fields,
            _ => unreachable!("an object"),
        }
    }

    fn chunk(&self, index: usize, delta: Value, reason: Option<&FinishReason>) -> Map<String, Value> {
        let choice = json!({"index": index, "delta": delta, "finish_reason": reason.map(finish_reason)});
        self.object("chat.completion.chunk", json!([choice]))
    }
}

/// The name of a reason.
pub fn finish_reason(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::StopText(_) => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
    }
}

async fn whole(model: &Model, answers: Vec<Answer>, head: Head) -> Result<Response, ApiError> {
    let mut answers = answers;
    // Together: the slots of those that are not waited for yet go on, too.
    let wholes = futures_util::future::try_join_all(answers.iter_mut().map(Answer::whole)).await?;
    let choices = wholes.iter().enumerate().map(|(index, whole)| {
        let mut choice = json!({
            "index": index,
            "message": message(whole),
            "finish_reason": finish_reason(&whole.reason),
        });
        if head.log_probs {
            choice["logprobs"] = json!({"content": log_probs::content(&whole.log_probs)});
        }
        choice
    });
    let mut object = head.object("chat.completion", choices.collect());
    let usages: Vec<_> = wholes.iter().map(|whole| whole.usage).collect();
    object.insert("usage".to_owned(), usage_json(&usages));
    object.insert("timings".to_owned(), json!(wholes[0].timings));
    if head.verbose {
        let prompt = model.spell(&answers[0].prompt);
        object.insert("__verbose".to_owned(), json!({"prompt": prompt, "content": wholes[0].content}));
    }
    Ok(Json(Value::Object(object)).into_response())
}

/// The message of a complete answer.
fn message(whole: &Whole) -> Value {
    let calls: Vec<Value> = whole
        .tool_calls
        .iter()
        .map(|call| {
            json!({
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            })
        })
        .collect();
    let content = match whole.content.as_str() {
        "" if !calls.is_empty() => Value::Null,
        content => content.into(),
    };
    let mut message = json!({"role": "assistant", "content": content});
    if !whole.reasoning.is_empty() {
        message["reasoning_content"] = whole.reasoning.as_str().into();
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    message
}

fn events(
    answers: Vec<Answer>,
    head: Head,
    stream: StreamFields,
) -> impl futures_util::Stream<Item = axum::response::sse::Event> + Send {
    let n = answers.len();
    async_stream::stream! {
        for index in 0..n {
            let role = json!({"role": "assistant", "content": null});
            yield data(&Value::Object(head.chunk(index, role, None)));
        }
        let mut finished = Vec::new();
        let mut parts = std::pin::pin!(merge(answers));
        while let Some(Part { index, delta, timings }) = parts.next().await {
            let timed = |mut chunk: Map<String, Value>| {
                if stream.times_tokens() {
                    chunk.insert("timings".to_owned(), json!(timings));
                }
                data(&Value::Object(chunk))
            };
            match delta {
                Delta::Started { .. } | Delta::Prompt(_) => {}
                Delta::Progress(progress) if stream.returns_progress() => {
                    let mut chunk = head.chunk(index, json!({}), None);
                    chunk.insert("prompt_progress".to_owned(), progress.to_json());
                    yield timed(chunk);
                }
                Delta::Progress(_) => {}
                Delta::Content { text, log_probs, .. } => {
                    if text.is_empty() && log_probs.is_empty() {
                        continue;
                    }
                    // Some clients take an empty content for the end.
                    let delta = if text.is_empty() { json!({}) } else { json!({"content": text}) };
                    let mut chunk = head.chunk(index, delta, None);
                    if head.log_probs {
                        chunk["choices"][0]["logprobs"] = json!({"content": log_probs::content(&log_probs)});
                    }
                    yield timed(chunk);
                }
                Delta::Reasoning(text) => yield timed(head.chunk(index, json!({"reasoning_content": text}), None)),
                Delta::ToolCall { index: call, id, name } => {
                    let function = json!({"name": name, "arguments": ""});
                    let call = json!({"index": call, "id": id, "type": "function", "function": function});
                    yield timed(head.chunk(index, json!({"tool_calls": [call]}), None));
                }
                Delta::ToolArguments { index: call, text } => {
                    let call = json!({"index": call, "function": {"arguments": text}});
                    yield timed(head.chunk(index, json!({"tool_calls": [call]}), None));
                }
                Delta::Finished(Finished { reason, usage, timings, .. }) => {
                    finished.push((usage, timings));
                    let mut chunk = head.chunk(index, json!({}), Some(&reason));
                    if finished.len() == n && !stream.includes_usage() {
                        chunk.insert("timings".to_owned(), json!(timings));
                    }
                    yield data(&Value::Object(chunk));
                }
                Delta::Failed(error) => {
                    yield failure(&error);
                    return;
                }
            }
        }
        if stream.includes_usage() {
            let usages: Vec<_> = finished.iter().map(|(usage, _)| *usage).collect();
            let mut chunk = head.object("chat.completion.chunk", json!([]));
            chunk.insert("usage".to_owned(), usage_json(&usages));
            chunk.insert("timings".to_owned(), json!(finished.last().map(|(_, timings)| timings)));
            yield data(&Value::Object(chunk));
        }
        yield axum::response::sse::Event::default().data("[DONE]");
    }
}

/// `POST /v1/chat/completions/input_tokens`: how many tokens a conversation has.
pub async fn input_tokens(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let model = app.models.get(&body).await?;
    let request = request(&app, &model, &body)?;
    let n = answer::count_tokens(&model, request).await?;
    Ok(Json(json!({"object": "response.input_tokens", "input_tokens": n})))
}
