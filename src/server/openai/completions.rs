//! `/v1/completions`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::chat::finish_reason;
use super::{FINGERPRINT, StreamFields, data, failure, log_probs, new_id, now, sse, usage_of};
use crate::server::App;
use crate::server::answer::{
    self, Answer, ApiError, Delta, FinishReason, Finished, Part, Prompt, Prompts, RequestOptions,
    TextRequest, Usage, merge,
};
use crate::server::body::{Body, Whole};
use crate::server::models::Model;

/// Answers to one request, at most.
const MAX_ANSWERS: usize = 128;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    model: Option<String>,
    prompt: Option<Value>,
    suffix: Option<String>,
    n: Option<Whole<u32>>,
    best_of: Option<Whole<u32>>,
    echo: Option<bool>,
    logprobs: Option<Value>,
    verbose: Option<bool>,
}

/// `POST /v1/completions`.
pub async fn complete(State(app): State<Arc<App>>, body: Body) -> Result<Response, ApiError> {
    let fields: Fields = body.read()?;
    let stream: StreamFields = body.read()?;
    let model = app.models.get(&body).await?;
    let mut options = RequestOptions::read(&app, &model, &body)?;
    match &fields.logprobs {
        None | Some(Value::Null | Value::Bool(false)) => {}
        Some(Value::Bool(true)) => options.log_probs = Some(answer::log_probs(0, "logprobs", false)?),
        Some(n) => {
            let n = n.as_u64().and_then(|n| u32::try_from(n).ok());
            let n = n.ok_or_else(|| {
                ApiError::field("logprobs", fields.logprobs.as_ref().unwrap_or(&Value::Null), "a number")
            })?;
            options.log_probs = Some(answer::log_probs(n, "logprobs", false)?);
        }
    }
    if fields.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty())
        && model.engine.tokenizer().infill_prefix().is_none()
    {
        let expected =
            "none: the model has no tokens to fill in the middle with (Codestral and models like it do)";
        return Err(ApiError::field("suffix", "a text", expected));
    }
    let echoes = fields.echo == Some(true);
    // What is repeated is as likely as it is.
    options.prompt_log_probs = options.log_probs.filter(|_| echoes).map(|log_probs| log_probs.n_top);
    let prompts = prompts(fields.prompt.as_ref(), fields.suffix)?;
    let n = fields.n.map_or(1, |n| n.0) as usize;
    if n == 0 || n.saturating_mul(prompts.len()) > MAX_ANSWERS {
        return Err(ApiError::field("n", n, &format!("1 to {MAX_ANSWERS} answers in all")));
    }
    if let Some(Whole(best_of)) = fields.best_of.filter(|best_of| best_of.0 as usize != n) {
        return Err(ApiError::field("best_of", best_of, &format!("{n}, as many as n: every answer is sent")));
    }
    let head = Head {
        id: new_id("cmpl-"),
        created: now(),
        model: fields.model.filter(|name| !name.is_empty()).unwrap_or_else(|| model.name.clone()),
        log_probs: options.log_probs.is_some(),
        verbose: fields.verbose.unwrap_or(app.options.verbose),
        n,
    };
    let mut answers = Vec::new();
    for prompt in prompts {
        for i in 0..n {
            let mut options = options.clone();
            options.sampling = answer::for_choice(options.sampling, i as u32);
            answers.push(answer::text(&app, &model, TextRequest { prompt: prompt.clone(), options }).await?);
        }
    }
    let echoes = match echoes {
        true => answers.iter().map(|answer| model.text(&answer.prompt)).collect(),
        false => vec![String::new(); answers.len()],
    };
    match stream.is_stream() {
        true => Ok(sse(&app, events(answers, echoes, head, stream))),
        false => whole(&model, answers, echoes, head).await,
    }
}

/// The prompts of a request; with a suffix, gaps to be filled.
fn prompts(prompt: Option<&Value>, suffix: Option<String>) -> Result<Vec<Prompt>, ApiError> {
    let prompts = Prompts::read(prompt, "prompt")?.prompts;
    let Some(suffix) = suffix.filter(|suffix| !suffix.is_empty()) else { return Ok(prompts) };
    prompts
        .into_iter()
        .map(|prompt| match prompt {
            Prompt::Text(prefix) => Ok(Prompt::Infill { prefix, suffix: suffix.clone() }),
            _ => Err(ApiError::field("suffix", "a prompt of tokens before it", "a text as prompt")),
        })
        .collect()
}

struct Head {
    id: String,
    created: u64,
    model: String,
    log_probs: bool,
    verbose: bool,
    /// Answers to each prompt.
    n: usize,
}

impl Head {
    fn object(&self, choices: Value) -> Map<String, Value> {
        let object = json!({
            "id": self.id,
            "object": "text_completion",
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

    fn choice(index: usize, text: &str, log_probs: Value, reason: Option<&FinishReason>) -> Value {
        json!({"text": text, "index": index, "logprobs": log_probs, "finish_reason": reason.map(finish_reason)})
    }

    /// What all answers used together. The prompt of several answers counts once.
    fn usage(&self, usages: &[Usage]) -> Value {
        let firsts = || usages.iter().step_by(self.n);
        let n_generated = usages.iter().map(|usage| usage.n_generated).sum();
        usage_of(
            firsts().map(|usage| usage.n_prompt).sum(),
            firsts().map(|usage| usage.n_cached).sum(),
            n_generated,
        )
    }
}

async fn whole(
    model: &Model,
    answers: Vec<Answer>,
    echoes: Vec<String>,
    head: Head,
) -> Result<Response, ApiError> {
    let mut answers = answers;
    let wholes = futures_util::future::try_join_all(answers.iter_mut().map(Answer::whole)).await?;
    let choices = wholes.iter().zip(&echoes).enumerate().map(|(index, (whole, echo))| {
        let log_probs = match head.log_probs {
            true if !whole.prompt_log_probs.is_empty() => {
                let tokens = [&whole.prompt_log_probs[..], &whole.log_probs].concat();
                log_probs::lists(&tokens, 0, true)
            }
            true => log_probs::lists(&whole.log_probs, echo.chars().count(), false),
            false => Value::Null,
        };
        Head::choice(index, &format!("{echo}{}", whole.content), log_probs, Some(&whole.reason))
    });
    let mut object = head.object(choices.collect());
    let usages: Vec<Usage> = wholes.iter().map(|whole| whole.usage).collect();
    object.insert("usage".to_owned(), head.usage(&usages));
    object.insert("timings".to_owned(), json!(wholes[0].timings));
    if head.verbose {
        object.insert("__verbose".to_owned(), json!({"prompt": model.spell(&answers[0].prompt)}));
    }
    Ok(Json(Value::Object(object)).into_response())
}

fn events(
    answers: Vec<Answer>,
    echoes: Vec<String>,
    head: Head,
    stream: StreamFields,
) -> impl Stream<Item = Event> + Send {
    async_stream::stream! {
        let n = answers.len();
        let mut offsets: Vec<usize> = echoes.iter().map(|echo| echo.chars().count()).collect();
        // With log-probabilities it comes once the prompt was read.
        for (index, echo) in echoes.iter().enumerate().filter(|(_, echo)| !echo.is_empty() && !head.log_probs) {
            yield data(&Value::Object(head.object(json!([Head::choice(index, echo, Value::Null, None)]))));
        }
        let mut usages = vec![Usage::default(); n];
        let mut n_finished = 0;
        let mut last_timings = Value::Null;
        let mut parts = std::pin::pin!(merge(answers));
        while let Some(Part { index, delta, timings }) = parts.next().await {
            let timed = |mut chunk: Map<String, Value>| {
                if stream.times_tokens() {
                    chunk.insert("timings".to_owned(), json!(timings));
                }
                data(&Value::Object(chunk))
            };
            match delta {
                Delta::Progress(progress) if stream.returns_progress() => {
                    let mut chunk = head.object(json!([Head::choice(index, "", Value::Null, None)]));
                    chunk.insert("prompt_progress".to_owned(), progress.to_json());
                    yield timed(chunk);
                }
                Delta::Prompt(tokens) => {
                    let lists = log_probs::lists(&tokens, 0, true);
                    yield timed(head.object(json!([Head::choice(index, &echoes[index], lists, None)])));
                }
                Delta::Content { text, log_probs, .. } if !text.is_empty() || !log_probs.is_empty() => {
                    let lists = match head.log_probs {
                        true => log_probs::lists(&log_probs, offsets[index], false),
                        false => Value::Null,
                    };
                    offsets[index] += text.chars().count();
                    yield timed(head.object(json!([Head::choice(index, &text, lists, None)])));
                }
                Delta::Finished(Finished { reason, usage, timings, .. }) => {
                    usages[index] = usage;
                    n_finished += 1;
                    last_timings = json!(timings);
                    let mut chunk = head.object(json!([Head::choice(index, "", Value::Null, Some(&reason))]));
                    if n_finished == n && !stream.includes_usage() {
                        chunk.insert("timings".to_owned(), last_timings.clone());
                        // Clients of llama-server read it here, too.
                        chunk.insert("usage".to_owned(), head.usage(&usages));
                    }
                    yield data(&Value::Object(chunk));
                }
                Delta::Failed(error) => {
                    yield failure(&error);
                    return;
                }
                // Texts have no thoughts and call no tools.
                _ => {}
            }
        }
        if stream.includes_usage() {
            let mut chunk = head.object(json!([]));
            chunk.insert("usage".to_owned(), head.usage(&usages));
            chunk.insert("timings".to_owned(), last_timings);
            yield data(&Value::Object(chunk));
        }
        yield Event::default().data("[DONE]");
    }
}
