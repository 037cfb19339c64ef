//! A model in memory, ready to answer.

use std::sync::Arc;

use bise_kernels::PAGE_LEN;
use serde_json::{Map, Value, json};

use super::{ModelAdapters, room};
use crate::chat::{ChatTemplate, SpecialTokens};
use crate::constraint::Grammars;
use crate::embedding::Pooling;
use crate::sampling::SamplingParams;
use crate::scheduler::{Scheduler, SchedulerOptions, Worker, WorkerHandle};
use crate::server::ModelOptions;
use crate::server::options::{BoxError, ContextShare};
use crate::{Engine, SessionOptions};

/// A model in memory, ready to answer. It goes when the last request that uses it is over and nothing else holds it.
pub struct Model {
    /// Its name, which answers bear.
    pub name: String,
    /// The model itself.
    pub engine: Engine,
    /// Where its requests are scheduled.
    pub worker: WorkerHandle,
    /// Its adapters.
    pub adapters: Arc<ModelAdapters>,
    /// The vocabulary, as grammars take it.
    pub grammars: Grammars,
    /// From conversations to prompts; `None` where neither the file nor the command line has one.
    pub template: Option<ChatTemplate>,
    /// The texts of BOS and EOS.
    pub special_tokens: SpecialTokens,
    /// Tokens that a request and its answer may have together.
    pub n_ctx: usize,
    /// How hidden states become one vector; `None` keeps those of all tokens.
    pub pooling: Option<Pooling>,
    /// More variables for the chat template.
    pub template_args: Map<String, Value>,
    /// Whether to think, where a request says nothing.
    pub thinking: Option<bool>,
    /// Whether thoughts stay in the answer as they are written, where a request says nothing.
    pub raw_reasoning: bool,
    /// Whether calls of tools are looked for in answers; they stay in the text otherwise.
    pub finds_calls: bool,
    /// Whether an answer at the end of a conversation is continued, where a request says nothing.
    pub continues_answers: bool,
    session: SessionOptions,
    /// Contexts that may be full at a time.
    n_contexts: usize,
    /// Sampling parameters, where a request says nothing.
    pub sampling: SamplingParams,
    /// Tokens of an answer at most, where a request says nothing; `None` is until the context is full.
    pub max_tokens: Option<usize>,
    /// Texts that end an answer, where a request names none.
    pub stop: Vec<String>,
    /// The system prompt of conversations without one.
    pub system: Option<String>,
    /// Messages that come before those of a request.
    pub messages: Vec<Value>,
}

impl Model {
    /// Opens a model with its adapters, and starts its thread. This takes as long as the disk does.
    ///
    /// # Errors
    /// The file, its template, an adapter or the memory for it.
    pub fn open(options: &ModelOptions, adapters: Arc<ModelAdapters>) -> Result<Model, BoxError> {
        let engine = options.opener.open()?;
        adapters.open(&engine)?;
        let adds_space =
            engine.file().metadata().bool("tokenizer.ggml.add_space_prefix").ok().flatten().unwrap_or(true);
        let template = match &options.template {
            Some(template) => Some(template.clone().with_space_prefix(adds_space)),
            None => file_template(&engine)?,
        };
        let scheduler = share_context(&engine, options)?;
        let n_ctx = scheduler.session.n_ctx;
        let pooling = match options.pooling {
            Some(pooling) => pooling,
            None => engine.pooling()?.unwrap_or(Pooling::Mean),
        };
        let session = scheduler.session;
        let worker = Worker::start(Scheduler::new(&engine, scheduler)?)?;
        Ok(Model {
            name: options.name().to_owned(),
            grammars: Grammars::new(engine.tokenizer()),
            special_tokens: SpecialTokens::of(engine.tokenizer()),
            worker,
            adapters,
            session,
            n_contexts: if options.context == ContextShare::Pool { 1 } else { options.scheduler.n_slots },
            template,
            n_ctx,
            pooling: if options.embeds_tokens { None } else { Some(pooling) },
            template_args: options.template_args.clone(),
            thinking: options.thinking,
            raw_reasoning: options.raw_reasoning,
            finds_calls: options.finds_calls,
            continues_answers: options.continues_answers,
            sampling: options.sampling.clone(),
            max_tokens: options.max_tokens,
            stop: options.stop.clone(),
            system: options.extras.system.clone().filter(|system| !system.is_empty()),
            messages: options
                .extras
                .messages
                .iter()
                .map(|(role, content)| json!({"role": role, "content": content}))
                .collect(),
            engine,
        })
    }
}

impl Model {
    /// Bytes that it takes with full contexts, beside the program.
    pub fn bytes(&self) -> usize {
        let plan = self.engine.memory(&self.session).for_sequences(self.n_contexts);
        room::model_bytes(&plan)
    }

    /// Tokens as text, control tokens spelled out.
    pub fn spell(&self, tokens: &[u32]) -> String {
        let mut decoder = self.engine.tokenizer().stream(false);
        let mut text = String::new();
        tokens.iter().for_each(|&token| decoder.push_to(token, &mut text));
        text + &decoder.finish()
    }

    /// Tokens as text, without control tokens.
    pub fn text(&self, tokens: &[u32]) -> String {
        self.engine.tokenizer().decode(tokens, true)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.worker.stop();
    }
}

/// The options of the scheduler, with the context that each request has.
fn share_context(engine: &Engine, options: &ModelOptions) -> Result<SchedulerOptions, BoxError> {
    let mut scheduler = options.scheduler.clone();
    let n_ctx = engine.n_ctx(&scheduler.session);
    let n_slots = scheduler.n_slots;
    if options.context == ContextShare::Split && n_ctx < n_slots {
        return Err(
            format!("a context of {n_ctx} tokens is too short for {n_slots} requests at a time").into()
        );
    }
    scheduler.session.n_ctx = options.n_ctx_each(n_ctx);
    if options.context == ContextShare::Pool {
        scheduler.max_pages = Some(n_ctx.div_ceil(PAGE_LEN));
    }
    Ok(scheduler)
}

/// The chat template of the file, if it has one.
fn file_template(engine: &Engine) -> Result<Option<ChatTemplate>, BoxError> {
    let source = engine.file().metadata().str("tokenizer.chat_template")?.filter(|source| !source.is_empty());
    Ok(source.map(ChatTemplate::from_source).transpose()?)
}
