//! What other threads share with a scheduler: the queue, cancellations, and a picture of what it is doing. The lock is held for moments, never
//! during a pass.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bise_models::KvCache;
use smallvec::SmallVec;

use super::job::{JobId, JobStats};
use super::listener::{Listener, guarded};
use super::pace::Pace;
use super::refused::Refused;
use super::snapshot::{SchedulerStats, SlotState};
use super::work::Work;
use crate::generation::Finish;
use crate::sampling::Sampler;
use crate::{Cancel, ForwardError};

/// A job in the queue.
pub(super) struct Waiting<S> {
    pub id: JobId,
    pub work: Work<S>,
    /// Pages that it may come to need; for texts to embed, the longest of them.
    pub n_pages: usize,
    pub since: Instant,
}

/// What a scheduler can take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub n_vocab: usize,
    pub n_ctx: usize,
    pub window: Option<usize>,
    pub n_slots: usize,
    pub n_ubatch: usize,
    pub max_pages: usize,
    pub max_queue: usize,
}

impl Limits {
    /// Pages that a text of `n_tokens` needs at most.
    pub fn n_pages(&self, n_tokens: usize) -> usize {
        let n = if self.window.is_none() { n_tokens.min(self.n_ctx) } else { n_tokens };
        KvCache::most_pages(n, self.window, self.n_ubatch)
    }

    /// Pages that a job needs at most, of its longest text.
    fn pages_of<S>(&self, work: &Work<S>) -> usize {
        match work {
            Work::Generate(request) => {
                let max_tokens = request.options.max_tokens.unwrap_or(usize::MAX);
                self.n_pages(request.prompt.len().saturating_add(max_tokens))
            }
            Work::Embed(job) => self.n_pages(job.texts.iter().map(Vec::len).max().unwrap_or(0)),
        }
    }

    fn check<S>(&self, work: &Work<S>) -> Result<(), Refused> {
        match work {
            Work::Generate(request) => {
                if request.prompt.is_empty() {
                    return Err(Refused::NoTokens);
                }
                self.check_tokens(&request.prompt)?;
                if let Some(slot) = request.slot.filter(|slot| *slot >= self.n_slots) {
                    return Err(Refused::NoSuchSlot { slot, n_slots: self.n_slots });
                }
                Sampler::check(&request.options.sampling, self.n_vocab)?;
            }
            Work::Embed(job) => {
                if let Some(index) = job.texts.iter().position(Vec::is_empty) {
                    return Err(Refused::EmptyText { index });
                }
                job.texts.iter().try_for_each(|text| self.check_tokens(text))?;
            }
        }
        let (n_pages, max_pages) = (self.pages_of(work), self.max_pages);
        if n_pages > max_pages {
            return Err(Refused::TooFewPages { n_pages, max_pages });
        }
        Ok(())
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), Refused> {
        let (n_vocab, n_ctx) = (self.n_vocab, self.n_ctx);
        if let Some(&token) = tokens.iter().find(|token| **token as usize >= n_vocab) {
            return Err(Refused::UnknownToken { token, n_vocab });
        }
        if self.window.is_none() && tokens.len() > n_ctx {
            return Err(Refused::PromptTooLong { n_prompt_tokens: tokens.len(), n_ctx });
        }
        Ok(())
    }
}

/// Whether a waiting job can begin.
pub(super) enum Fit {
    Now,
    /// Not this one, but perhaps one behind it.
    Later,
    /// Not before others are over, and none behind it either.
    Blocked,
}

/// What a job has in a pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub id: JobId,
    /// Next tokens of texts.
    pub n_decoding: usize,
    /// Tokens of prompts.
    pub n_prompt: usize,
}

/// A pass under way.
struct Running {
    started: Instant,
    shares: SmallVec<[Share; 16]>,
    pace: Pace,
}

impl Running {
    /// Whether the pass is to be ended because these jobs were cancelled: where nobody else is in it, and where the others are served sooner if
    /// it begins again without them.
    fn is_worth_ending(&self, cancelled: &[JobId]) -> bool {
        let sum = |shares: &mut dyn Iterator<Item = &Share>| {
            shares.fold((0, 0), |(decoding, prompt), s| (decoding + s.n_decoding, prompt + s.n_prompt))
        };
        let is_cancelled = |share: &&Share| cancelled.contains(&share.id);
        if !self.shares.iter().any(|share| is_cancelled(&share)) {
            return false;
        }
        let (n_decoding, n_prompt) = sum(&mut self.shares.iter().filter(|share| !is_cancelled(share)));
        if n_decoding + n_prompt == 0 {
            return true;
        }
        let rest = self.pace.estimate(n_decoding, n_prompt);
        let (n_decoding, n_prompt) = sum(&mut self.shares.iter());
        let whole = self.pace.estimate(n_decoding, n_prompt);
        let elapsed = self.started.elapsed().as_secs_f64();
        matches!((rest, whole), (Some(rest), Some(whole)) if elapsed + rest < whole)
    }
}

struct State<S> {
    waiting: VecDeque<Waiting<S>>,
    next_id: u64,
    /// Jobs whose end was not told yet.
    n_open: usize,
    /// Jobs under way.
    active: Vec<JobId>,
    /// Those of them that were cancelled, until the scheduler has seen to it.
    cancelled: Vec<JobId>,
    pass: Option<Running>,
    is_closed: bool,
    /// A thread runs the scheduler.
    has_thread: bool,
    slots: Vec<SlotState>,
    stats: SchedulerStats,
}

pub(super) struct Intake<S> {
    limits: Limits,
    state: Mutex<State<S>>,
    /// There is something to do.
    changed: Condvar,
    /// Ends the pass under way.
    flag: Cancel,
}

impl<S: Listener> Intake<S> {
    pub fn new(limits: Limits) -> Intake<S> {
        let slot = |id| SlotState { id, n_ctx: limits.n_ctx, ..SlotState::default() };
        let state = State {
            waiting: VecDeque::new(),
            next_id: 0,
            n_open: 0,
            active: Vec::new(),
            cancelled: Vec::new(),
            pass: None,
            is_closed: false,
            has_thread: false,
            slots: (0..limits.n_slots).map(slot).collect(),
            stats: SchedulerStats { max_pages: limits.max_pages, ..SchedulerStats::default() },
        };
        Intake { limits, state: Mutex::new(state), changed: Condvar::new(), flag: Cancel::new() }
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Nothing that runs under the lock leaves the state half-changed.
    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn submit(&self, work: Work<S>) -> Result<JobId, Refused> {
        if self.state().is_closed {
            return Err(Refused::ShuttingDown);
        }
        self.limits.check(&work)?;
        let n_pages = self.limits.pages_of(&work);
        let mut state = self.state();
        if state.is_closed {
            return Err(Refused::ShuttingDown);
        }
        let n_waiting = state.waiting.len();
        let n_free = state.slots.iter().filter(|slot| slot.job.is_none()).count();
        if n_waiting >= self.limits.max_queue.saturating_add(n_free) {
            return Err(Refused::QueueFull { n_waiting });
        }
        let id = JobId(state.next_id);
        state.next_id += 1;
        state.n_open += 1;
        state.waiting.push_back(Waiting { id, work, n_pages, since: Instant::now() });
        state.stats.n_waiting = state.waiting.len();
        drop(state);
        self.changed.notify_all();
        Ok(id)
    }

    /// Cancels a job, wherever it is. One that is over, or was never there, is no matter.
    pub fn cancel(&self, id: JobId) {
        let mut state = self.state();
        if let Some(i) = state.waiting.iter().position(|waiting| waiting.id == id) {
            let waiting = state.waiting.remove(i);
            state.stats.n_waiting = state.waiting.len();
            state.stats.n_finished += 1;
            state.stats.n_cancelled += 1;
            drop(state);
            waiting.into_iter().for_each(|waiting| self.tell_cancelled(waiting));
        } else if state.active.contains(&id) && !state.cancelled.contains(&id) {
            state.cancelled.push(id);
            if state.pass.as_ref().is_some_and(|pass| pass.is_worth_ending(&state.cancelled)) {
                self.flag.cancel();
            }
        }
    }

    /// Takes no more jobs.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    /// Takes no more jobs, and cancels all there are.
    pub fn stop(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let State { active, cancelled, pass, waiting, stats, .. } = &mut *state;
        cancelled.clone_from(active);
        if pass.is_some() {
            self.flag.cancel();
        }
        let waiting = std::mem::take(waiting);
        stats.n_waiting = 0;
        stats.n_finished += waiting.len();
        stats.n_cancelled += waiting.len();
        drop(state);
        self.changed.notify_all();
        waiting.into_iter().for_each(|waiting| self.tell_cancelled(waiting));
    }

    pub fn slots(&self) -> Vec<SlotState> {
        self.state().slots.clone()
    }

    pub fn stats(&self) -> SchedulerStats {
        self.state().stats.clone()
    }

    /// Waits until there may be something to do. Returns false once there will never be anything again.
    pub fn wait(&self) -> bool {
        let mut state = self.state();
        loop {
            if !state.waiting.is_empty() {
                return true;
            }
            if state.is_closed {
                return false;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes that a thread runs the scheduler, or that it has ended.
    pub fn set_thread(&self, runs: bool) {
        self.state().has_thread = runs;
        self.changed.notify_all();
    }

    /// Waits until every job is over and its sink was told, and if no more are taken, until the thread has ended; for `timeout` at most. Returns whether
    /// it came to that.
    pub fn wait_idle(&self, timeout: Duration) -> bool {
        let is_busy = |state: &mut State<S>| state.n_open > 0 || (state.is_closed && state.has_thread);
        let waited = self.changed.wait_timeout_while(self.state(), timeout, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    // What follows is for the scheduler's thread.

    /// Ends passes.
    pub fn flag(&self) -> &Cancel {
        &self.flag
    }

    pub fn has_waiting(&self) -> bool {
        !self.state().waiting.is_empty()
    }

    pub fn take_cancelled(&self) -> Vec<JobId> {
        std::mem::take(&mut self.state().cancelled)
    }

    /// Takes the next job that can begin, in the order they came.
    pub fn take_next(&self, mut fit: impl FnMut(&Waiting<S>) -> Fit) -> Option<Waiting<S>> {
        let mut state = self.state();
        let mut next = None;
        for (i, waiting) in state.waiting.iter().enumerate() {
            match fit(waiting) {
                Fit::Now => {
                    next = Some(i);
                    break;
                }
                Fit::Later => {}
                Fit::Blocked => break,
            }
        }
        let waiting = state.waiting.remove(next?)?;
        state.active.push(waiting.id);
        state.stats.n_waiting = state.waiting.len();
        state.stats.n_running = state.active.len();
        Some(waiting)
    }

    /// Announces a pass. Returns false where jobs have been cancelled meanwhile: look after them first.
    pub fn begin_pass(&self, shares: SmallVec<[Share; 16]>, pace: &Pace) -> bool {
        let mut state = self.state();
        if !state.cancelled.is_empty() {
            return false;
        }
        self.flag.reset();
        state.pass = Some(Running { started: Instant::now(), shares, pace: pace.clone() });
        true
    }

    /// From here on nobody ends the pass.
    pub fn end_pass(&self) {
        self.state().pass = None;
        self.flag.reset();
    }

    /// Changes what others see.
    pub fn publish(&self, change: impl FnOnce(&mut [SlotState], &mut SchedulerStats)) {
        let state = &mut *self.state();
        change(&mut state.slots, &mut state.stats);
    }

    /// Notes that a job is over, before anybody is told.
    pub fn finished(&self, id: JobId, change: impl FnOnce(&mut [SlotState], &mut SchedulerStats)) {
        let mut state = self.state();
        state.active.retain(|active| *active != id);
        state.cancelled.retain(|cancelled| *cancelled != id);
        state.stats.n_running = state.active.len();
        state.stats.n_finished += 1;
        let State { slots, stats, .. } = &mut *state;
        change(slots, stats);
    }

    /// Notes that a job's end was told.
    pub fn told(&self) {
        self.state().n_open -= 1;
        self.changed.notify_all();
    }

    /// Tells a job that it was cancelled in the queue.
    fn tell_cancelled(&self, waiting: Waiting<S>) {
        match waiting.work {
            Work::Generate(mut request) => {
                let n_prompt = request.prompt.len();
                let stats = JobStats { n_prompt, queue: waiting.since.elapsed(), ..JobStats::default() };
                let _ = guarded(move || request.sink.finished(Ok(Finish::Interrupted), &stats));
            }
            Work::Embed(job) => super::embed::call(job.done, Err(ForwardError::Cancelled.into())),
        }
        self.told();
    }
}
