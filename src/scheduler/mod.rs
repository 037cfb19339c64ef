//! Many jobs at a time: [`Scheduler`] and [`Worker`].
//!
//! There are no modes. Each pass has the next token of every text under way, and parts of prompts in what is left of its tokens
//! ([`SessionOptions::n_ubatch`](crate::SessionOptions::n_ubatch)); those parts are no longer than lets running texts go on within
//! [`SchedulerOptions::max_gap`]. Of several prompts, the shortest is read first, and a quarter of the time is the
//! oldest's, so that a short question does not wait for a long document, nor that forever for short ones.
//!
//! Jobs begin in the order they came. A job has the same answer alone and among others, in any slot, from the prefix cache or without
//! it: no bit depends on how tokens are cut into passes.
//!
//! A job that is cancelled ends before the next pass. The pass under way is ended too where nobody else is in it, or where the others are
//! served sooner if it begins again; otherwise it is let run for them.
//!
//! ```
//! use std::ops::ControlFlow;
//! use std::sync::mpsc;
//! use bise::generation::{Event, GenerationOptions};
//! use bise::sampling::SamplingParams;
//! use bise::scheduler::{Job, JobEvent, Scheduler, SchedulerOptions, Worker};
//! use bise::Engine;
//!
//! # #[cfg(feature = "builtin-model")] {
//! let engine = Engine::builtin()?;
//! let worker = Worker::start(Scheduler::new(&engine, SchedulerOptions::default())?)?;
//! let options = GenerationOptions {
//!     sampling: SamplingParams::greedy(),
//!     max_tokens: Some(12),
//!     ..GenerationOptions::default()
//! };
//! let (sender, receiver) = mpsc::channel();
//! let sink = move |event: JobEvent<'_>| {
//!     match event {
//!         JobEvent::Generation(Event::Token { text, .. } | Event::Finished { text, .. }) => {
//!             sender.send(text.to_owned()).unwrap();
//!         }
//!         _ => {}
//!     }
//!     ControlFlow::Continue(())
//! };
//! let ticket = worker.submit(Job::of_text(&engine, "Once upon a time", options, sink))?;
//! let story: String = receiver.iter().collect(); // until the sink is dropped
//! assert_eq!(story, ", a kind boy named Hugo lived in a cottage with a");
//! # drop(ticket);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod core;
mod embed;
mod intake;
mod job;
mod listener;
mod options;
mod pace;
mod prefixes;
mod prompt_scores;
pub(crate) mod refused;
mod share;
mod snapshot;
mod text;
mod work;
mod worker;

use std::sync::Arc;

use bise_models::Hook;

pub use job::{EmbedDone, EmbedJob, Job, JobEvent, JobId, JobStats, PromptProgress, Sink};
pub use options::SchedulerOptions;
pub use refused::Refused;
pub use snapshot::{SchedulerStats, SlotState};
pub use worker::{Ticket, Worker, WorkerHandle};

pub(crate) use self::core::Core;
pub(crate) use listener::Listener;
pub(crate) use work::{Request, Work};

use crate::{Engine, Error};

/// Continues many texts in passes that they share; see the [module](self).
///
/// A scheduler does nothing by itself: [`Scheduler::step`] makes one pass. A [`Worker`] is a thread that does so as long as there is work.
pub struct Scheduler {
    core: Core<Box<dyn Sink>>,
}

impl Scheduler {
    /// A scheduler with nothing to do.
    ///
    /// # Errors
    /// Where there is no memory for the buffers of a pass, and where the folder of the prefix cache cannot be made.
    pub fn new(engine: &Engine, options: SchedulerOptions) -> Result<Scheduler, Error> {
        let mut core = Core::new(engine, options)?;
        core.reserve()?;
        Ok(Scheduler { core })
    }

    /// The model.
    pub fn engine(&self) -> &Engine {
        self.core.engine()
    }

    /// Takes a job into the queue.
    ///
    /// # Errors
    /// Where the queue is full, and for a job that cannot be done: its sink is dropped without a word then.
    pub fn submit(&mut self, job: Job) -> Result<JobId, Refused> {
        self.core.submit(work(job))
    }

    /// Takes texts to embed into the queue. They are read in parts, like prompts, in the passes of others.
    ///
    /// # Errors
    /// As [`Scheduler::submit`].
    pub fn embed(&mut self, job: EmbedJob) -> Result<JobId, Refused> {
        self.core.submit(Work::Embed(job))
    }

    /// Cancels a job: it ends as [`Finish::Interrupted`](crate::generation::Finish::Interrupted) in the next step, or at once if it is still
    /// in the queue. A job that is over already is no matter.
    pub fn cancel(&mut self, job: JobId) {
        self.core.intake().cancel(job);
    }

    /// Begins jobs that there is room for, and makes one pass. Returns false when there was nothing to do.
    ///
    /// What goes wrong ends the jobs concerned: a text whose activations are not finite fails alone, and only where no pass can run (memory
    /// for its buffers is short, or the file was changed) do all fail that are under way.
    pub fn step(&mut self) -> bool {
        self.core.step()
    }

    /// What each slot is doing.
    pub fn slots(&self) -> Vec<SlotState> {
        self.core.intake().slots()
    }

    /// Counts since the scheduler was made.
    pub fn stats(&self) -> SchedulerStats {
        self.core.intake().stats()
    }

    /// Has `hook` called after every product, or none.
    pub fn set_hook(&mut self, hook: Option<Arc<dyn Hook>>) {
        self.core.set_hook(hook);
    }
}

fn work(job: Job) -> Work<Box<dyn Sink>> {
    let Job { prompt, options, constraint, adapters, cache_prompt, prompt_log_probs, slot, sink } = job;
    let request =
        Request { prompt, options, constraint, adapters, cache_prompt, prompt_log_probs, slot, sink };
    Work::Generate(Box::new(request))
}
