//! What a scheduler is asked to do, and what it tells of it.

use std::ops::ControlFlow;
use std::time::Duration;

use bise_models::tokenizer::EncodeOptions;

use crate::adapter::list::Adapters;
use crate::constraint::Constraint;
use crate::embedding::Pooling;
use crate::generation::{Event, Finish, GenerationOptions};
use crate::{Engine, Error};

/// Names a job of one scheduler. Later jobs have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub(super) u64);

impl JobId {
    /// The number, from 0.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A prompt to continue.
pub struct Job {
    /// The tokens of the prompt.
    pub prompt: Vec<u32>,
    /// How it is continued. Drafts ([`GenerationOptions::speculation`]) are only sent while no other text is under way.
    pub options: GenerationOptions,
    /// What the text may be.
    pub constraint: Option<Box<dyn Constraint>>,
    /// The adapters that act on the text; those of the engine where `None`. Texts with different ones share passes.
    pub adapters: Option<Adapters>,
    /// Take as much of the prompt as there is from the prefix cache, and keep the text there. The answer does not depend on it.
    pub cache_prompt: bool,
    /// Tell the log-probability of every token of the prompt but the first ([`JobEvent::PromptToken`]), and so many of the likeliest tokens
    /// in its place. All of the prompt is read then: nothing is taken from the prefix cache.
    pub prompt_log_probs: Option<usize>,
    /// The slot to run in, or whichever is free. The answer does not depend on it.
    pub slot: Option<usize>,
    /// Is told what comes of it.
    pub sink: Box<dyn Sink>,
}

impl Job {
    /// A job that uses the prefix cache and runs in any slot.
    pub fn new(prompt: Vec<u32>, options: GenerationOptions, sink: impl Sink + 'static) -> Job {
        Job {
            prompt,
            options,
            constraint: None,
            adapters: None,
            cache_prompt: true,
            prompt_log_probs: None,
            slot: None,
            sink: Box::new(sink),
        }
    }

    /// [`Job::new`] with the tokens of a text: control tokens in it count as such, and BOS comes first where the vocabulary asks for it.
    pub fn of_text(
        engine: &Engine,
        prompt: &str,
        options: GenerationOptions,
        sink: impl Sink + 'static,
    ) -> Job {
        let encode = EncodeOptions { add_special: true, parse_special: true };
        Job::new(engine.tokenizer().encode(prompt, encode), options, sink)
    }
}

/// Texts to embed.
pub struct EmbedJob {
    /// The tokens of each text; see [`Engine::embedding_tokens`].
    pub texts: Vec<Vec<u32>>,
    /// How a text's hidden states become one vector. `None` keeps those of all tokens, one behind the other.
    pub pooling: Option<Pooling>,
    /// The adapters that act on the texts; those of the engine where `None`.
    pub adapters: Option<Adapters>,
    /// Scale each vector to Euclidean length 1; without pooling, that of each token.
    pub normalize: bool,
    /// Takes the vectors, in the order of the texts, or what went wrong. Called once, on the scheduler's thread; must not block.
    pub done: EmbedDone,
}

/// Takes the vectors of texts, in their order, or what went wrong.
pub type EmbedDone = Box<dyn FnOnce(Result<Vec<Vec<f32>>, Error>) + Send>;

/// Is told what comes of a job.
///
/// Called on the thread that runs the scheduler, between passes: it must not block, as all texts wait for it. [`ControlFlow::Break`]
/// cancels the job. A sink that panics loses its job, and no other.
pub trait Sink: Send {
    /// Takes an event. [`JobEvent::Finished`] is the last, and comes exactly once.
    fn event(&mut self, event: JobEvent<'_>) -> ControlFlow<()>;
}

impl<F: FnMut(JobEvent<'_>) -> ControlFlow<()> + Send> Sink for F {
    fn event(&mut self, event: JobEvent<'_>) -> ControlFlow<()> {
        self(event)
    }
}

/// What comes of a job, in this order.
#[derive(Clone, Copy, Debug)]
pub enum JobEvent<'a> {
    /// It left the queue.
    Started {
        /// The slot it runs in.
        slot: usize,
    },
    /// A part of the prompt was read, or taken from the prefix cache.
    Prompt(PromptProgress),
    /// How likely a token of the prompt was, where [`Job::prompt_log_probs`] asks for it. They come in order, each once.
    PromptToken {
        /// Its place in the prompt, from 1.
        index: usize,
        /// The natural logarithm of its probability after the tokens before it.
        log_prob: f32,
        /// The likeliest tokens in its place and their log-probabilities, the likeliest first.
        top: &'a [(u32, f32)],
    },
    /// A token was chosen, or the text is over: what was held back comes with [`Event::Finished`].
    Generation(Event<'a>),
    /// It is over.
    Finished {
        /// Why the text ended, or what went wrong. A job that was cancelled is [`Finish::Interrupted`], and so is one whose context is
        /// full ([`JobStats::context_full`]).
        result: Result<&'a Finish, &'a Error>,
        /// Counts and times.
        stats: &'a JobStats,
    },
}

/// How far a prompt was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptProgress {
    /// Tokens of the prompt.
    pub total: usize,
    /// Those that came from the prefix cache.
    pub cached: usize,
    /// Those that are done, cached ones included.
    pub processed: usize,
    /// Time since the job left the queue.
    pub elapsed: Duration,
}

/// Counts and times of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobStats {
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Tokens of the prompt that came from the prefix cache, and were not read.
    pub n_cached: usize,
    /// Tokens chosen.
    pub n_generated: usize,
    /// Drafts checked, and those of them that were right.
    pub n_drafted: usize,
    /// Drafts that were right.
    pub n_accepted: usize,
    /// Time in the queue.
    pub queue: Duration,
    /// Time from there until the prompt was read and the first token chosen.
    pub prefill: Duration,
    /// Time from there to the end.
    pub decode: Duration,
    /// The text ended because its context is full.
    pub context_full: bool,
    /// The seed in use.
    pub seed: u32,
}
