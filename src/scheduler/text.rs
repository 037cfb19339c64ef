//! A text under way.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bise_kernels::kv_page::PAGE_LEN;
use bise_models::{ForwardError, Output, PageRef};

use super::job::{JobEvent, JobId, JobStats, PromptProgress};
use super::listener::{Listener, guarded, tell_or_lose};
use super::prompt_scores::PromptScores;
use super::work::Request;
use crate::generation::{Event, Finish, Generation};
use crate::prefix::{PrefixCache, Restore};
use crate::{Error, Feed, Sequence};

/// What a text has in the next pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Next {
    #[default]
    Nothing,
    /// So many tokens of its prompt (or of what it had read before it lost its pages).
    Prompt(usize),
    /// The token chosen last, and so many drafts at most.
    Token { max_drafts: usize },
}

pub(super) struct Text<S> {
    pub id: JobId,
    pub slot: usize,
    /// `None` after it panicked.
    sink: Option<S>,
    pub generation: Generation,
    /// The prompt, and the tokens that were chosen and read since.
    pub tokens: Vec<u32>,
    pub sequence: Sequence,
    /// Pages that it may come to need.
    pub n_pages: usize,
    pub stats: JobStats,
    started: Instant,
    /// When the prompt was read and the first token chosen.
    decoding_since: Option<Instant>,
    /// The prompt was read once.
    pub is_primed: bool,
    /// A pass with drafts has failed.
    pub without_drafts: bool,
    /// It gave its pages up for others, and waits until one of them is over.
    pub is_parked: bool,
    pub next: Next,
    /// What it can have of the prefix cache, while that is being read from the disk.
    pub restore: Option<Restore>,
    /// Pages that the prefix cache has of it; `None` where it is not to have any.
    pub n_kept: Option<usize>,
    /// How likely the tokens of the prompt are.
    scores: Option<PromptScores>,
    /// The state of the prefix cache when it was last asked.
    pub seen: u64,
    /// How it ended.
    pub outcome: Option<Result<Finish, Error>>,
}

impl<S: Listener> Text<S> {
    pub fn begin(
        id: JobId,
        slot: usize,
        generation: Generation,
        request: Request<S>,
        sequence: Sequence,
        n_pages: usize,
        queue: Duration,
    ) -> Text<S> {
        let Request { prompt: mut tokens, options, cache_prompt, prompt_log_probs, sink, .. } = request;
        tokens.reserve(options.max_tokens.unwrap_or(4096).min(4096));
        let stats =
            JobStats { n_prompt: tokens.len(), queue, seed: generation.seed(), ..JobStats::default() };
        Text {
            id,
            slot,
            sink: Some(sink),
            generation,
            tokens,
            sequence,
            n_pages,
            stats,
            started: Instant::now(),
            decoding_since: None,
            is_primed: false,
            without_drafts: false,
            is_parked: false,
            next: Next::Nothing,
            restore: None,
            n_kept: cache_prompt.then_some(0),
            scores: prompt_log_probs.map(PromptScores::new),
            seen: 0,
            outcome: None,
        }
    }

    /// Tokens to read before the text can go on.
    pub fn n_unread(&self) -> usize {
        self.tokens.len().saturating_sub(self.sequence.position())
    }

    /// Whether it can have something in a pass.
    pub fn is_ready(&self) -> bool {
        !self.is_parked && self.restore.is_none() && self.outcome.is_none()
    }

    /// Whether it may begin with what others have read.
    pub fn takes_prefixes(&self) -> bool {
        self.n_kept.is_some() && self.scores.is_none() && !self.is_parked
    }

    pub fn is_decoding(&self) -> bool {
        self.is_primed && self.n_unread() == 0
    }

    /// What it has in a pass, given what was planned for it.
    pub fn feed(&mut self) -> Option<Feed<'_>> {
        let Text { generation, tokens, sequence, is_primed, scores, .. } = self;
        match self.next {
            Next::Nothing => None,
            Next::Prompt(n) => {
                let at = sequence.position();
                let is_last = at + n == tokens.len() && !*is_primed;
                let output = match is_last {
                    _ if scores.is_some() && !*is_primed => Output::All,
                    true => Output::Last,
                    false => Output::None,
                };
                Some(Feed { sequence, tokens: &tokens[at..at + n], output })
            }
            Next::Token { max_drafts } => {
                let fed = generation.next_tokens(max_drafts);
                let output = if fed.len() > 1 { Output::All } else { Output::Last };
                tokens.extend_from_slice(fed);
                Some(Feed { sequence, tokens: fed, output })
            }
        }
    }

    /// Begins with pages that others have read: `n` tokens of it.
    pub fn adopt(&mut self, n: usize, first_page: usize, pages: &[PageRef]) {
        let at = self.sequence.position();
        if n <= at {
            return;
        }
        self.sequence.clear();
        if self.sequence.adopt_pages(&self.tokens[..n], first_page, pages) && !self.is_primed {
            self.stats.n_cached += n - at;
            self.tell_progress();
        }
    }

    /// Leaves its pages to others; the last one, which it may still write to, only where it is over.
    pub fn leave_pages(&mut self, prefix: &mut PrefixCache, is_over: bool) {
        let Some(n_kept) = self.n_kept else { return };
        let n = self.sequence.position().min(self.tokens.len());
        let n_whole = n / PAGE_LEN;
        if is_over && n > 0 {
            prefix.insert(&self.tokens[..n], &self.sequence, 0);
        } else if n_whole > n_kept {
            prefix.insert(&self.tokens[..n_whole * PAGE_LEN], &self.sequence, n_kept);
            self.n_kept = Some(n_whole);
        }
    }

    /// What was fed was not read.
    pub fn unfeed(&mut self) {
        if let Next::Token { .. } = self.next {
            self.tokens.truncate(self.sequence.position());
        }
    }

    /// Takes the logits after the token of a pass with this index: those in a prompt say how likely the next one was.
    pub fn take_row(&mut self, index: usize, logits: &[f32]) {
        if let (Next::Prompt(n), Some(scores), false) = (self.next, &mut self.scores, self.is_primed) {
            let next = self.sequence.position() - n + index + 1;
            if let Some(&token) = self.tokens.get(next) {
                if let Some(event) = scores.score(next, token, logits)
                    && tell_or_lose(&mut self.sink, event).is_break()
                {
                    self.interrupt();
                }
                return;
            }
        }
        self.advance([logits]);
    }

    /// Takes the logits after the tokens of a pass that are wanted: one row after a prompt, or one for each token fed.
    pub fn advance<'r, R>(&mut self, rows: R)
    where
        R: IntoIterator<Item = &'r [f32], IntoIter: ExactSizeIterator>,
    {
        let Text { generation, tokens, sequence, is_primed, .. } = self;
        let start = match self.next {
            Next::Token { .. } => tokens.len() - generation.n_fed(),
            _ => tokens.len(),
        };
        // A constraint is others' code.
        let advanced = guarded(|| {
            if !*is_primed {
                generation.prime(tokens);
            }
            if generation.finish().is_some() { Ok(0) } else { generation.advance(rows) }
        });
        let n_accepted = match advanced {
            Ok(Ok(n_accepted)) => n_accepted,
            Ok(Err(error)) => return self.fail(error.into()),
            Err(panic) => return self.fail(panic),
        };
        *is_primed = true;
        self.decoding_since.get_or_insert_with(Instant::now);
        tokens.truncate(start + n_accepted);
        if !sequence.truncate(tokens.len()) {
            // Never so with fewer drafts than the slack of a cache.
            sequence.clear();
        }
        let stats = self.generation.stats();
        self.stats.n_generated = stats.n_chosen;
        self.stats.n_drafted = stats.speculation.n_drafted;
        self.stats.n_accepted = stats.speculation.n_accepted;
        self.tell_step();
    }

    /// Tells what the last step of the generation brought.
    fn tell_step(&mut self) {
        let Text { generation, sink, .. } = self;
        let mut flow = ControlFlow::Continue(());
        for event in generation.events() {
            if tell_or_lose(sink, JobEvent::Generation(event)).is_break() {
                flow = ControlFlow::Break(());
            }
        }
        match generation.finish() {
            Some(finish) => self.outcome = Some(Ok(finish.clone())),
            None if flow.is_break() => self.interrupt(),
            None => {}
        }
    }

    /// Ends the text where it is.
    pub fn interrupt(&mut self) {
        if self.outcome.is_none() {
            if self.is_primed {
                self.generation.interrupt();
                self.tell_step();
            } else {
                let event = Event::Finished { finish: &Finish::Interrupted, text: "" };
                let _ = tell_or_lose(&mut self.sink, JobEvent::Generation(event));
                self.outcome = Some(Ok(Finish::Interrupted));
            }
        }
    }

    /// Ends the text because its context is full.
    pub fn end_full(&mut self) {
        self.stats.context_full = true;
        self.interrupt();
    }

    pub fn fail(&mut self, error: Error) {
        self.outcome.get_or_insert(Err(error));
    }

    /// [`Text::fail`] with what is wrong with its span of a pass.
    pub fn fail_span(&mut self, error: bise_models::SpanError) {
        self.fail(ForwardError::Span { span: 0, error }.into());
    }

    pub fn tell_started(&mut self) {
        self.tell(JobEvent::Started { slot: self.slot });
    }

    /// Tells how much of the prompt is done.
    pub fn tell_progress(&mut self) {
        if !self.is_primed {
            let (total, cached) = (self.stats.n_prompt, self.stats.n_cached);
            let processed = self.sequence.position().min(total);
            let progress = PromptProgress { total, cached, processed, elapsed: self.started.elapsed() };
            self.tell(JobEvent::Prompt(progress));
        }
    }

    fn tell(&mut self, event: JobEvent<'_>) {
        if tell_or_lose(&mut self.sink, event).is_break() {
            self.interrupt();
        }
    }

    /// Tells that it is over. Whoever is told finds the slot free already.
    pub fn tell_finished(mut self) -> JobStats {
        let outcome = self.outcome.take().unwrap_or(Ok(Finish::Interrupted));
        if let Some(sink) = &mut self.sink {
            let _ = guarded(|| sink.finished(outcome, &self.stats));
        }
        let stats = std::mem::take(&mut self.stats);
        // Sinks and constraints are others' code.
        let _ = guarded(|| drop(self));
        stats
    }

    /// Notes the times it took.
    pub fn stop_clocks(&mut self) {
        let now = Instant::now();
        let decoding_since = self.decoding_since.unwrap_or(now);
        self.stats.prefill = decoding_since - self.started;
        self.stats.decode = now - decoding_since;
    }
}
