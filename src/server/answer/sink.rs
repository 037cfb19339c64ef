//! From the scheduler's thread to the task that answers.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::{self, Receiver, Sender};

use super::{ApiError, Progress};
use crate::generation::{Event, Finish};
use crate::scheduler::{JobEvent, JobStats, Sink};
use crate::server::metrics::Metrics;

/// Events that may wait for a client to read them. One that is further behind has lost interest, and its job is cancelled.
const BACKLOG: usize = 16_384;

/// What a job tells, as values.
#[derive(Debug)]
pub enum Told {
    /// It left the queue.
    Started { slot: usize },
    /// A part of the prompt was read.
    Progress(Progress),
    /// How likely a token of the prompt was; all but the first are told.
    PromptToken { log_prob: f32, top: Vec<(u32, f32)> },
    /// A token was chosen.
    Token(Token),
    /// The text is over; `text` had been held back. It was cut unless the model, or what it had to follow, has ended it.
    Ended { text: String, is_cut: bool },
    /// The job is over.
    Finished { result: Result<Finish, ApiError>, stats: JobStats },
}

/// A token that was chosen.
#[derive(Debug)]
pub struct Token {
    pub token: u32,
    pub text: String,
    pub log_prob: Option<f32>,
    pub top: Vec<(u32, f32)>,
    pub at: Instant,
}

/// A sink, and where its events come out.
pub fn channel(metrics: Arc<Metrics>) -> (ChannelSink, Receiver<Told>) {
    // One more than the backlog: the end has a place of its own.
    let (sender, receiver) = mpsc::channel(BACKLOG + 1);
    (ChannelSink { sender, metrics, submitted: Instant::now(), last_token: None }, receiver)
}

/// Passes on what a job tells, without waiting, and counts it.
pub struct ChannelSink {
    sender: Sender<Told>,
    metrics: Arc<Metrics>,
    submitted: Instant,
    last_token: Option<Instant>,
}

impl ChannelSink {
    fn observe_token(&mut self) -> Instant {
        let now = Instant::now();
        match self.last_token {
            None => self.metrics.first_token(now - self.submitted),
            Some(last) => self.metrics.gap(now - last),
        }
        self.last_token = Some(now);
        now
    }
}

impl Sink for ChannelSink {
    fn event(&mut self, event: JobEvent<'_>) -> ControlFlow<()> {
        let told = match event {
            JobEvent::Started { slot } => {
                self.metrics.left_queue(self.submitted.elapsed());
                Told::Started { slot }
            }
            JobEvent::Prompt(progress) => Told::Progress(progress.into()),
            JobEvent::PromptToken { log_prob, top, .. } => Told::PromptToken { log_prob, top: top.to_vec() },
            JobEvent::Generation(Event::Token { token, text, log_prob, top }) => {
                let at = self.observe_token();
                Told::Token(Token { token, text: text.to_owned(), log_prob, top: top.to_vec(), at })
            }
            JobEvent::Generation(Event::Finished { text, finish }) => Told::Ended {
                text: text.to_owned(),
                is_cut: !matches!(finish, Finish::EndToken(_) | Finish::Constraint),
            },
            JobEvent::Finished { result, stats } => {
                self.metrics.finished(stats);
                Told::Finished { result: result.cloned().map_err(ApiError::from), stats: stats.clone() }
            }
        };
        let is_last = matches!(told, Told::Finished { .. });
        if self.sender.capacity() <= 1 && !is_last {
            return ControlFlow::Break(());
        }
        match self.sender.try_send(told) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}
