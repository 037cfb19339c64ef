//! `/completion`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::settings::settings;
use crate::server::App;
use crate::server::answer::{
    self, Answer, ApiError, Delta, FinishReason, Finished, Part, Prompts, RequestOptions, TextRequest,
    TokenLogProb, merge,
};
use crate::server::body::{Body, Whole};
use crate::server::models::Model;
use crate::server::openai::{data, failure, log_probs, sse};

/// Answers to one request, at most.
const MAX_ANSWERS: usize = 128;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    prompt: Option<Value>,
    stream: Option<bool>,
    n: Option<Whole<u32>>,
    return_tokens: Option<bool>,
    return_progress: Option<bool>,
    timings_per_token: Option<bool>,
    response_fields: Option<Vec<String>>,
}

/// `POST /completion`: continues a text, or several.
pub async fn complete(State(app): State<Arc<App>>, body: Body) -> Result<Response, ApiError> {
    let prompts = Prompts::read(body.get("prompt"), "prompt")?;
    answer(&app, &body, prompts).await
}

/// Continues the prompts of a request.
///
/// # Errors
/// As [`answer::text`].
pub async fn answer(
    app: &App,
    body: &Body,
    Prompts { prompts, is_list }: Prompts,
) -> Result<Response, ApiError> {
    let fields: Fields = body.read()?;
    let model = app.models.get(body).await?;
    let options = RequestOptions::read(app, &model, body)?;
    let n = fields.n.map_or(1, |n| n.0) as usize;
    if n == 0 || n.saturating_mul(prompts.len()) > MAX_ANSWERS {
        let found = format!("{n} answers to each of {} prompts", prompts.len());
        return Err(ApiError::field("n", found, &format!("1 to {MAX_ANSWERS} answers in all")));
    }
    let mut answers = Vec::new();
    for prompt in prompts {
        for i in 0..n {
            let mut options = options.clone();
            options.sampling = answer::for_choice(options.sampling, i as u32);
            answers.push(answer::text(app, &model, TextRequest { prompt: prompt.clone(), options }).await?);
        }
    }
    let is_stream = fields.stream.unwrap_or(false);
    let results = Results { options, fields, stream: is_stream, model };
    match is_stream {
        true => Ok(sse(app, events(answers, results))),
        false => whole(answers, results, is_list || n > 1).await,
    }
}

/// What all results of a request have.
struct Results {
    options: RequestOptions,
    fields: Fields,
    stream: bool,
    model: Arc<Model>,
}

/// What became of one answer.
#[derive(Default)]
struct Outcome {
    content: String,
    tokens: Vec<u32>,
    log_probs: Vec<TokenLogProb>,
    slot: usize,
    has_new_line: bool,
}

impl Results {
    /// The last result of an answer. In a stream the text has gone out already.
    fn last(&self, index: usize, answer: &Facts, outcome: &Outcome, finished: &Finished) -> Value {
        let Finished { reason, usage, timings, context_full } = finished;
        let (stop_type, stopping_word) = match reason {
            FinishReason::Stop | FinishReason::ToolCalls => ("eos", ""),
            FinishReason::StopText(text) => ("word", text.as_str()),
            FinishReason::Length => ("limit", ""),
        };
        let tokens: &[u32] = match self.fields.return_tokens {
            Some(true) if !self.stream => &outcome.tokens,
            _ => &[],
        };
        let mut result = json!({
            "index": index,
            "content": if self.stream { "" } else { &outcome.content },
            "tokens": tokens,
            "id_slot": outcome.slot,
            "stop": true,
            "model": self.model.name,
            "tokens_predicted": usage.n_generated,
            "tokens_evaluated": usage.n_prompt,
            "generation_settings":
                settings(&self.options, answer.max_tokens, self.stream, Some(self.model.engine.tokenizer())),
            "prompt": self.model.spell(&answer.prompt),
            "has_new_line": outcome.has_new_line,
            // Nothing of a prompt is ever left out; an answer whose context is full is cut.
            "truncated": context_full,
            "stop_type": stop_type,
            "stopping_word": stopping_word,
            "tokens_cached": usage.n_prompt + usage.n_generated.saturating_sub(1),
            "timings": timings,
        });
        if !self.stream
            && let Some(probabilities) = self.probabilities(&outcome.log_probs)
        {
            result["completion_probabilities"] = probabilities;
        }
        match self.fields.response_fields.as_deref() {
            None | Some([]) => result,
            Some(paths) => select(&result, paths),
        }
    }

    fn partial(
        &self,
        index: usize,
        n_prompt: usize,
        n_generated: usize,
        text: &str,
        tokens: &[u32],
    ) -> Map<String, Value> {
        let result = json!({
            "index": index,
            "content": text,
            "tokens": tokens,
            "stop": false,
            "id_slot": -1,
            "tokens_predicted": n_generated,
            "tokens_evaluated": n_prompt,
        });
        match result {
            Value::Object(fields) => fields,
            _ => unreachable!("an object"),
        }
    }

    fn probabilities(&self, log_probs: &[TokenLogProb]) -> Option<Value> {
        let asked = self.options.log_probs?;
        Some(match asked.after_sampling {
            true => log_probs::after_sampling(log_probs),
            false => log_probs::content(log_probs),
        })
    }
}

/// What stays the same about an answer.
struct Facts {
    prompt: Arc<[u32]>,
    max_tokens: Option<usize>,
}

impl Facts {
    fn of(answer: &Answer) -> Facts {
        Facts { prompt: Arc::clone(&answer.prompt), max_tokens: answer.max_tokens }
    }
}

/// The parts of a result that `response_fields` names, by their paths.
fn select(result: &Value, paths: &[String]) -> Value {
    let parts = paths.iter().filter_map(|path| {
        let value = result.pointer(&format!("/{path}"))?;
        Some((path.clone(), value.clone()))
    });
    Value::Object(parts.collect())
}

async fn whole(answers: Vec<Answer>, results: Results, is_list: bool) -> Result<Response, ApiError> {
    let facts: Vec<Facts> = answers.iter().map(Facts::of).collect();
    let mut answers = answers;
    let wholes = futures_util::future::try_join_all(answers.iter_mut().map(Answer::whole)).await?;
    let mut list = Vec::new();
    for (index, (whole, facts)) in wholes.into_iter().zip(&facts).enumerate() {
        let finished = Finished {
            reason: whole.reason,
            usage: whole.usage,
            timings: whole.timings,
            context_full: whole.context_full,
        };
        let outcome = Outcome {
            has_new_line: whole.content.contains('\n'),
            content: whole.content,
            tokens: whole.tokens,
            log_probs: whole.log_probs,
            slot: whole.slot,
        };
        list.push(results.last(index, facts, &outcome, &finished));
    }
    let body = if is_list { Value::Array(list) } else { list.swap_remove(0) };
    Ok(Json(body).into_response())
}

fn events(answers: Vec<Answer>, results: Results) -> impl Stream<Item = Event> + Send {
    async_stream::stream! {
        let facts: Vec<Facts> = answers.iter().map(Facts::of).collect();
        let mut outcomes: Vec<Outcome> = facts.iter().map(|_| Outcome::default()).collect();
        let mut parts = std::pin::pin!(merge(answers));
        while let Some(Part { index, delta, timings }) = parts.next().await {
            let outcome = &mut outcomes[index];
            let n_prompt = facts[index].prompt.len();
            let timed = |mut partial: Map<String, Value>, slot: usize| {
                partial.insert("id_slot".to_owned(), slot.into());
                if results.fields.timings_per_token == Some(true) {
                    partial.insert("timings".to_owned(), json!(timings));
                }
                data(&Value::Object(partial))
            };
            match delta {
                Delta::Started { slot } => outcome.slot = slot,
                Delta::Progress(progress) if results.fields.return_progress == Some(true) => {
                    let mut partial = results.partial(index, n_prompt, 0, "", &[]);
                    partial.insert("prompt_progress".to_owned(), progress.to_json());
                    yield timed(partial, outcome.slot);
                }
                Delta::Content { text, tokens, log_probs } => {
                    outcome.tokens.extend(&tokens);
                    outcome.log_probs.extend(log_probs);
                    outcome.has_new_line |= text.contains('\n');
                    // Tokens without text wait for those that bring it, unless each one is of interest.
                    if text.is_empty() && results.options.log_probs.is_none() {
                        continue;
                    }
                    let tokens = std::mem::take(&mut outcome.tokens);
                    let log_probs = std::mem::take(&mut outcome.log_probs);
                    let mut partial = results.partial(index, n_prompt, timings.predicted_n, &text, &tokens);
                    if let Some(probabilities) = results.probabilities(&log_probs).filter(|_| !log_probs.is_empty()) {
                        partial.insert("completion_probabilities".to_owned(), probabilities);
                    }
                    yield timed(partial, outcome.slot);
                }
                Delta::Finished(finished) => {
                    yield data(&results.last(index, &facts[index], outcome, &finished));
                }
                Delta::Failed(error) => {
                    yield failure(&error);
                    return;
                }
                _ => {}
            }
        }
    }
}
