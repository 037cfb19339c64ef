//! The path that all interfaces share: a request becomes a job of the scheduler, and what that tells becomes an [`Answer`].
//!
//! An interface reads its own JSON into a [`ChatRequest`] or [`TextRequest`], and writes the [`Delta`]s of the answer in its own form,
//! as they come or [as a whole](Answer::whole). An answer that is dropped is cancelled.

mod adapters;
mod blocking;
mod constraint;
mod delta;
mod embed;
mod merge;
mod messages;
mod options;
mod prompt;
mod prompts;
mod request;
mod sampling;
mod sink;
pub mod tool_call_id;
mod whole;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;

pub use adapters::{RequestAdapters, Scale as AdapterScale};
pub use blocking::blocking;
pub use delta::{Delta, FinishReason, Finished, Progress, Timings, TokenLogProb, Usage};
pub use embed::{embed, embed_prompts};
pub use merge::{Part, merge};
pub use messages::part_text;
pub use options::log_probs;
pub use prompt::{render, text_tokens, tokenize};
pub use prompts::Prompts;
pub use request::{
    ChatRequest, Format, LogProbs, Prompt, PromptPart, RequestOptions, TextRequest, ToolChoice,
};
pub use sampling::{SamplingFields, Stops, for_choice, seed_of};
pub use whole::{Whole, WholeToolCall};

use self::sink::{Token, Told};
use super::App;
pub use super::body::kind;
pub use super::error::ApiError;
use super::models::Model;
use crate::chat::reply::{ReplyEvent, ReplyOptions, ReplyParser};
use crate::constraint::Constraint;
use crate::generation::{Finish, GenerationOptions};
use crate::scheduler::{Job, JobStats, Ticket};
use crate::speculation::SpeculationOptions;

/// Answers a conversation.
///
/// # Errors
/// Whatever is wrong with the request, a prompt longer than the context included, and a full queue: nothing is sent before that is known.
pub async fn chat(app: &App, model: &Arc<Model>, request: ChatRequest) -> Result<Answer, ApiError> {
    let worker = Arc::clone(model);
    let prepared = blocking(move || {
        let rendered = render(&worker, &request)?;
        let mut tokens = request.earlier.clone();
        let prompt = tokenize(&worker, &rendered);
        // A text begins once.
        let begins = prompt.first().copied() == worker.engine.tokenizer().bos() && !tokens.is_empty();
        tokens.extend(&prompt[usize::from(begins)..]);
        let constraint = constraint::for_chat(&worker, &request)?;
        Ok((request, rendered.text, tokens, constraint))
    });
    let (request, text, tokens, constraint) = prepared.await?;
    let seed = u64::from(request.options.sampling.seed);
    let parser = ReplyParser::new(
        model.engine.tokenizer(),
        ReplyOptions {
            tools: model.finds_calls && !request.tools.is_empty() && request.tool_choice != ToolChoice::None,
            reasoning: !request.raw_reasoning.unwrap_or(model.raw_reasoning),
            only_calls: model.finds_calls
                && matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Function(_)),
            starts_text: true,
            ..ReplyOptions::after(&text, seed)
        },
    );
    submit(app, model, tokens, request.options, constraint, Some(parser))
}

/// Continues a text.
///
/// # Errors
/// As [`chat`].
pub async fn text(app: &App, model: &Arc<Model>, request: TextRequest) -> Result<Answer, ApiError> {
    let worker = Arc::clone(model);
    let prepared = blocking(move || {
        let tokens = text_tokens(&worker, &request.prompt, "prompt")?;
        let constraint = constraint::for_text(&worker, request.options.format.as_ref())?;
        Ok((request, tokens, constraint))
    });
    let (request, tokens, constraint) = prepared.await?;
    submit(app, model, tokens, request.options, constraint, None)
}

/// How many tokens the prompt of a conversation has.
///
/// # Errors
/// Whatever is wrong with the conversation.
pub async fn count_tokens(model: &Arc<Model>, request: ChatRequest) -> Result<usize, ApiError> {
    let model = Arc::clone(model);
    blocking(move || Ok(tokenize(&model, &render(&model, &request)?).len())).await
}

fn submit(
    app: &App,
    model: &Arc<Model>,
    prompt: Vec<u32>,
    options: RequestOptions,
    constraint: Option<Box<dyn Constraint>>,
    parser: Option<ReplyParser>,
) -> Result<Answer, ApiError> {
    let max_tokens = options.max_tokens.or(model.max_tokens);
    // A sliding window would let a text go on past the context; an answer that nobody bounds is not to go on for ever.
    let Some(room) = model.n_ctx.checked_sub(prompt.len()).filter(|room| *room > 0) else {
        return Err(ApiError::context_exceeded(prompt.len(), model.n_ctx));
    };
    let (sink, events) = sink::channel(Arc::clone(&app.metrics));
    let job = Job {
        options: GenerationOptions {
            sampling: options.sampling.with_context(model.n_ctx),
            max_tokens: Some(max_tokens.map_or(room, |n| n.min(room))),
            stop: if options.stop.is_empty() { model.stop.clone() } else { options.stop },
            speculation: SpeculationOptions::off(),
            log_probs: options.log_probs.map(|log_probs| log_probs.n_top),
            after_sampling: options.log_probs.is_some_and(|log_probs| log_probs.after_sampling),
            special: false,
            starts_text: parser.is_some(),
        },
        constraint,
        adapters: Some(options.adapters.acting),
        cache_prompt: options.cache_prompt,
        prompt_log_probs: options.prompt_log_probs,
        slot: options.slot,
        sink: Box::new(sink),
        prompt: prompt.clone(),
    };
    app.metrics.request();
    let ticket = model.worker.submit(job)?;
    let tokenizer = model.engine.tokenizer();
    let strips_space = tokenizer.strips_space();
    Ok(Answer {
        prompt_log_probs: options.prompt_log_probs.map(|_| Vec::new()),
        prompt: prompt.into(),
        max_tokens,
        room,
        progress: Progress::default(),
        has_progress: false,
        n_generated: 0,
        first_token: None,
        last_token: None,
        wants_log_probs: options.log_probs.is_some(),
        strips_space: parser.is_some() && strips_space,
        parser,
        parsed: Vec::new(),
        has_cut_call: false,
        ready: VecDeque::new(),
        events,
        stats: None,
        _ticket: ticket,
        model: Arc::clone(model),
    })
}

/// An answer on its way. Dropped, it is cancelled.
pub struct Answer {
    /// The tokens of the prompt.
    pub prompt: Arc<[u32]>,
    /// Tokens that the answer may have; `None` is until the context is full.
    pub max_tokens: Option<usize>,
    /// Tokens that the context has room for behind the prompt.
    room: usize,
    progress: Progress,
    /// Progress was told.
    has_progress: bool,
    n_generated: usize,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    wants_log_probs: bool,
    /// The tokens of the prompt so far, where they are asked for and not given out.
    prompt_log_probs: Option<Vec<TokenLogProb>>,
    /// The next token begins the answer, and the space that the vocabulary puts there is none of its text.
    strips_space: bool,
    parser: Option<ReplyParser>,
    parsed: Vec<ReplyEvent>,
    /// The last call is not complete, as the answer was ended in it.
    has_cut_call: bool,
    ready: VecDeque<Delta>,
    events: Receiver<Told>,
    stats: Option<JobStats>,
    /// Dropped, it cancels the job.
    _ticket: Ticket,
    /// In memory as long as it is in use.
    model: Arc<Model>,
}

impl Answer {
    /// What comes next; `None` behind [`Delta::Finished`] or [`Delta::Failed`].
    pub async fn next(&mut self) -> Option<Delta> {
        loop {
            if let Some(delta) = self.ready.pop_front() {
                if let Delta::Progress(progress) = &delta {
                    self.progress = *progress;
                }
                return Some(delta);
            }
            match self.events.recv().await {
                Some(told) => self.take(told),
                None if self.stats.is_some() => return None,
                None => {
                    self.stats = Some(JobStats::default());
                    self.ready.push_back(Delta::Failed(cut()));
                }
            }
        }
    }

    /// Tokens read and written so far.
    pub fn usage(&self) -> Usage {
        Usage { n_prompt: self.prompt.len(), n_cached: self.progress.cached, n_generated: self.n_generated }
    }

    /// The tokens and times so far.
    pub fn timings(&self) -> Timings {
        if let Some(stats) = &self.stats {
            return timings(stats);
        }
        let Progress { cached, processed, elapsed, .. } = self.progress;
        let decode =
            self.first_token.zip(self.last_token).map_or(Duration::ZERO, |(first, last)| last - first);
        // Before anything is read, no time has passed.
        let n_read = processed - cached;
        let prefill = if n_read == 0 { Duration::ZERO } else { elapsed };
        Timings::new(cached, n_read, prefill, self.n_generated, decode)
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Started { slot } => self.ready.push_back(Delta::Started { slot }),
            Told::Progress(progress) => {
                let Progress { total, cached, processed, .. } = progress;
                if !std::mem::replace(&mut self.has_progress, true) && processed > cached {
                    // Where reading begins, before anything is read.
                    let elapsed = Duration::ZERO;
                    self.ready.push_back(Delta::Progress(Progress {
                        total,
                        cached,
                        processed: cached,
                        elapsed,
                    }));
                }
                self.ready.push_back(Delta::Progress(progress));
            }
            Told::PromptToken { log_prob, top } => self.take_prompt_token(log_prob, top),
            Told::Token(token) => {
                self.give_prompt();
                self.take_token(token);
            }
            Told::Ended { text, is_cut } => {
                self.give_prompt();
                match &mut self.parser {
                    Some(parser) => {
                        parser.push_text(&text, &mut self.parsed);
                        if is_cut {
                            self.has_cut_call = parser.cut(&mut self.parsed);
                        } else {
                            parser.finish(&mut self.parsed);
                        }
                        self.give_parsed(Vec::new(), Vec::new());
                    }
                    None if text.is_empty() => {}
                    None => self.ready.push_back(Delta::Content {
                        text,
                        tokens: Vec::new(),
                        log_probs: Vec::new(),
                    }),
                }
            }
            Told::Finished { result, stats } => {
                let delta = match result {
                    Err(error) => Delta::Failed(error),
                    Ok(Finish::Interrupted) if !stats.context_full => Delta::Failed(cut()),
                    Ok(finish) => Delta::Finished(Finished {
                        reason: self.reason(finish),
                        usage: Usage {
                            n_prompt: stats.n_prompt,
                            n_cached: stats.n_cached,
                            n_generated: stats.n_generated,
                        },
                        timings: timings(&stats),
                        context_full: stats.context_full || stats.n_generated >= self.room,
                    }),
                };
                self.stats = Some(stats);
                self.ready.push_back(delta);
            }
        }
    }

    fn take_token(&mut self, Token { token, text, log_prob, top, at }: Token) {
        self.n_generated += 1;
        self.first_token.get_or_insert(at);
        self.last_token = Some(at);
        let is_end = self.model.engine.tokenizer().is_end_of_generation(token);
        let log_probs = match log_prob.filter(|_| self.wants_log_probs && !is_end) {
            Some(log_prob) => vec![self.log_prob(token, log_prob, top)],
            None => Vec::new(),
        };
        let tokens = if is_end { Vec::new() } else { vec![token] };
        match &mut self.parser {
            Some(parser) => {
                parser.push(token, &text, &mut self.parsed);
                self.give_parsed(tokens, log_probs);
            }
            None if is_end && text.is_empty() => {}
            None => self.ready.push_back(Delta::Content { text, tokens, log_probs }),
        }
    }

    /// The next token of the prompt.
    fn take_prompt_token(&mut self, log_prob: f32, top: Vec<(u32, f32)>) {
        let Some(mut tokens) = self.prompt_log_probs.take() else { return };
        if tokens.is_empty() {
            tokens.push(self.prompt_token(0, 0.0, Vec::new()));
        }
        tokens.push(self.prompt_token(tokens.len(), log_prob, top));
        self.prompt_log_probs = Some(tokens);
    }

    /// Gives out the tokens of the prompt, once it was read.
    fn give_prompt(&mut self) {
        if let Some(mut tokens) = self.prompt_log_probs.take() {
            if tokens.is_empty() {
                tokens.push(self.prompt_token(0, 0.0, Vec::new()));
            }
            self.ready.push_back(Delta::Prompt(tokens));
        }
    }

    /// A token of the prompt as it stands in its text, which leaves out control tokens.
    fn prompt_token(&self, index: usize, log_prob: f32, top: Vec<(u32, f32)>) -> TokenLogProb {
        let tokenizer = self.model.engine.tokenizer();
        let begins_text = self.prompt[..index].iter().all(|token| tokenizer.is_control(*token));
        let token = self.prompt[index];
        let mut told = self.token_log_prob(token, log_prob, top, begins_text && tokenizer.strips_space());
        if tokenizer.is_control(token) {
            told.bytes.clear();
        }
        told
    }

    fn log_prob(&mut self, token: u32, log_prob: f32, top: Vec<(u32, f32)>) -> TokenLogProb {
        let strips_space = std::mem::take(&mut self.strips_space);
        self.token_log_prob(token, log_prob, top, strips_space)
    }

    fn token_log_prob(
        &self,
        token: u32,
        log_prob: f32,
        top: Vec<(u32, f32)>,
        strips_space: bool,
    ) -> TokenLogProb {
        let tokenizer = self.model.engine.tokenizer();
        let bytes = |token: u32| {
            let piece = tokenizer.piece(token);
            if strips_space { piece.strip_prefix(b" ").unwrap_or(piece).to_vec() } else { piece.to_vec() }
        };
        let one = |id: u32, log_prob: f32| TokenLogProb { id, bytes: bytes(id), log_prob, top: Vec::new() };
        TokenLogProb {
            top: top.into_iter().map(|(id, log_prob)| one(id, log_prob)).collect(),
            ..one(token, log_prob)
        }
    }

    /// Passes on what the parser has found. Tokens and their probabilities go with the content, if there is some.
    fn give_parsed(&mut self, mut tokens: Vec<u32>, mut log_probs: Vec<TokenLogProb>) {
        for event in self.parsed.drain(..) {
            self.ready.push_back(match event {
                ReplyEvent::Content(text) => Delta::Content {
                    text,
                    tokens: std::mem::take(&mut tokens),
                    log_probs: std::mem::take(&mut log_probs),
                },
                ReplyEvent::Reasoning(text) => Delta::Reasoning(text),
                ReplyEvent::ToolCall { index, id, name } => Delta::ToolCall { index, id, name },
                ReplyEvent::ToolArguments { index, text } => Delta::ToolArguments { index, text },
                ReplyEvent::ToolCallEnd { .. } => continue,
            });
        }
        if !log_probs.is_empty() {
            self.ready.push_back(Delta::Content { text: String::new(), tokens, log_probs });
        }
    }

    fn reason(&self, finish: Finish) -> FinishReason {
        let calls = self.parser.as_ref().is_some_and(|parser| parser.n_calls() > 0);
        match finish {
            Finish::Length | Finish::Interrupted => FinishReason::Length,
            _ if calls && !self.has_cut_call => FinishReason::ToolCalls,
            Finish::EndToken(_) | Finish::Constraint => FinishReason::Stop,
            Finish::StopText(text) => FinishReason::StopText(text),
            Finish::StopToken(token) => {
                let piece = self.model.engine.tokenizer().piece(token);
                FinishReason::StopText(String::from_utf8_lossy(piece).into_owned())
            }
        }
    }
}

/// Why an answer ends that nobody has cancelled.
fn cut() -> ApiError {
    ApiError::unavailable(
        "the answer was cut: the model is being taken out of memory, or the client reads too slowly",
    )
}

fn timings(stats: &JobStats) -> Timings {
    let n_read = stats.n_prompt - stats.n_cached;
    Timings::new(stats.n_cached, n_read, stats.prefill, stats.n_generated, stats.decode)
}
