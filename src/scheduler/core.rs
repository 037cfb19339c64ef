//! The loop of a scheduler: admission, planning, one pass, and what comes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bise_models::{ForwardError, Hook, KvCache, PagePool, Reservation, SpanError};
use smallvec::SmallVec;

use super::embed::Embedding;
use super::intake::{Fit, Intake, Limits, Share, Waiting};
use super::job::{JobId, JobStats};
use super::listener::{Listener, guarded};
use super::options::SchedulerOptions;
use super::pace::Pace;
use super::refused::Refused;
use super::share::{Reader, share_out};
use super::text::{Next, Text};
use super::work::Work;
use crate::generation::{Finish, Generation};
use crate::prefix::PrefixCache;
use crate::runner::SharedRunner;
use crate::{Cancel, Engine, Error, Feed, Sequence};

/// Drafts in a pass, at most: what a generation sends by default. All of them can be dropped again.
const MOST_DRAFTS: usize = 15;
const _: () = assert!(MOST_DRAFTS <= KvCache::SLACK);

/// Who a span of a pass belongs to.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Text(usize),
    Reading { embedding: usize, reading: usize },
}

/// What a pass has in it.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    n_decoding: usize,
    n_prompt: usize,
    has_drafts: bool,
}

pub(crate) struct Core<S> {
    engine: Engine,
    runner: SharedRunner,
    hook: Option<Arc<dyn Hook>>,
    pub(super) pool: PagePool,
    pub(super) prefix: Option<PrefixCache>,
    pub(super) intake: Arc<Intake<S>>,
    /// In the order they came.
    pub(super) texts: Vec<Text<S>>,
    pub(super) embeddings: Vec<Embedding>,
    pace: Pace,
    /// How long texts have waited for passes that were cancelled since the last one that was not.
    waited: Duration,
    /// Jobs that were in a pass that panicked, each to be tried alone.
    suspects: Vec<JobId>,
    /// Logits after a token and its drafts.
    rows: Vec<f32>,
    /// The memory of these.
    rows_reservation: Option<Reservation>,
    /// Ends passes in place of the intake.
    cancel: Option<Cancel>,
}

impl<S: Listener> Core<S> {
    pub fn new(engine: &Engine, options: SchedulerOptions) -> Result<Core<S>, Error> {
        let SchedulerOptions { session, n_slots, max_queue, max_pages, max_gap, prefix } = options;
        let (config, n_ubatch) = (engine.config(), session.n_ubatch.max(1));
        let mut limits = Limits {
            n_vocab: config.n_vocab,
            n_ctx: engine.n_ctx(&session),
            window: config.sliding_window,
            n_slots: n_slots.clamp(1, n_ubatch),
            n_ubatch,
            max_pages: usize::MAX,
            max_queue,
        };
        let all = limits.n_pages(usize::MAX).saturating_mul(limits.n_slots);
        limits.max_pages = max_pages.unwrap_or(all);
        let pool = engine.page_pool(&session, usize::MAX);
        Ok(Core {
            engine: engine.clone(),
            runner: engine.shared_runner(),
            hook: None,
            prefix: PrefixCache::open(engine, &session, &pool, &prefix)?,
            pool,
            intake: Arc::new(Intake::new(limits)),
            texts: Vec::new(),
            embeddings: Vec::new(),
            pace: Pace::new(max_gap),
            waited: Duration::ZERO,
            suspects: Vec::new(),
            rows: Vec::new(),
            rows_reservation: None,
            cancel: None,
        })
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn intake(&self) -> &Arc<Intake<S>> {
        &self.intake
    }

    /// Takes a job into the queue.
    pub fn submit(&self, work: Work<S>) -> Result<JobId, Refused> {
        self.intake.submit(work)
    }

    /// Has `cancel` end passes, and nothing else.
    pub fn set_cancel(&mut self, cancel: Cancel) {
        self.cancel = Some(cancel);
    }

    pub fn set_hook(&mut self, hook: Option<Arc<dyn Hook>>) {
        self.runner.set_hook(hook.clone());
        self.hook = hook;
    }

    /// Makes room for the longest pass.
    pub fn reserve(&mut self) -> Result<(), Error> {
        self.runner.reserve(self.intake.limits().n_ubatch)
    }

    /// One step; where no pass can run, all that are under way fail.
    pub fn step(&mut self) -> bool {
        match self.try_step() {
            Ok(goes_on) => goes_on,
            Err(error) => {
                self.fail_all(&error);
                true
            }
        }
    }

    /// One step. Returns false where there was nothing to do.
    ///
    /// # Errors
    /// Where no pass can run. Everything is as it was before the pass then.
    pub fn try_step(&mut self) -> Result<bool, Error> {
        self.heed_cancellations();
        self.admit();
        for text in self.texts.iter_mut().filter(|text| text.is_decoding() && text.sequence.room() == 0) {
            text.end_full();
        }
        self.settle();
        if self.texts.is_empty() && self.embeddings.is_empty() {
            self.runner.release_adapters();
            return Ok(self.intake.has_waiting());
        }
        self.find_prefixes();
        let plan = self.plan();
        self.make_room();
        self.publish();
        let result = self.pass(plan);
        self.keep_prefixes();
        self.settle();
        self.publish();
        result.map(|()| true)
    }

    /// Interrupts all texts, those in the queue too.
    pub fn interrupt_all(&mut self) {
        self.intake.stop();
        self.heed_cancellations();
        self.settle();
    }

    /// Ends all that is under way, because of something that concerns all.
    pub fn fail_all(&mut self, error: &Error) {
        let what = error.to_string();
        let broken = || Error::NoPass { what: what.clone() };
        self.texts.iter_mut().for_each(|text| text.fail(broken()));
        self.embeddings.iter_mut().for_each(|embedding| embedding.error = Some(broken()));
        self.settle();
    }

    fn heed_cancellations(&mut self) {
        for id in self.intake.take_cancelled() {
            self.texts.iter_mut().filter(|text| text.id == id).for_each(Text::interrupt);
            for embedding in self.embeddings.iter_mut().filter(|embedding| embedding.id == id) {
                embedding.error.get_or_insert(ForwardError::Cancelled.into());
            }
        }
        self.settle();
    }

    /// Pages that all under way may come to need.
    fn n_pages_taken(&self) -> usize {
        let texts: usize = self.texts.iter().map(|text| text.n_pages).sum();
        texts + self.embeddings.iter().map(Embedding::n_pages).sum::<usize>()
    }

    /// Begins jobs, and texts of jobs under way, while there is room for them.
    fn admit(&mut self) {
        let limits = *self.intake.limits();
        loop {
            if self.begin_readings().is_err() {
                return;
            }
            let n_left = limits.max_pages.saturating_sub(self.n_pages_taken());
            let (texts, n_embeddings) = (&self.texts, self.embeddings.len());
            let is_idle = texts.is_empty() && n_embeddings == 0;
            let fit = |waiting: &Waiting<S>| {
                let has_slot = match &waiting.work {
                    Work::Generate(request) => match request.slot {
                        Some(slot) => texts.iter().all(|text| text.slot != slot),
                        None => texts.len() < limits.n_slots,
                    },
                    Work::Embed(_) => n_embeddings < limits.n_slots,
                };
                match (has_slot, is_idle || waiting.n_pages <= n_left) {
                    (false, _) => Fit::Later,
                    (true, true) => Fit::Now,
                    (true, false) => Fit::Blocked,
                }
            };
            let Some(waiting) = self.intake.take_next(fit) else { return };
            self.begin(waiting);
        }
    }

    /// Begins texts to embed, about as many as a pass can read. Errs where one has to wait for others to be over.
    fn begin_readings(&mut self) -> Result<(), ()> {
        let limits = *self.intake.limits();
        for i in 0..self.embeddings.len() {
            while let Some(len) = self.embeddings[i].next_len()
                && self.embeddings[i].n_unread() < limits.n_ubatch
            {
                let (n_pages, n_taken) = (limits.n_pages(len), self.n_pages_taken());
                if n_taken > 0 && n_pages > limits.max_pages.saturating_sub(n_taken) {
                    return Err(());
                }
                self.embeddings[i].begin(&self.pool, limits.n_ctx, limits.window, n_pages);
            }
        }
        Ok(())
    }

    fn begin(&mut self, waiting: Waiting<S>) {
        let Waiting { id, work, n_pages, since } = waiting;
        let mut request = match work {
            Work::Generate(request) => request,
            Work::Embed(job) => {
                let adapters = job.adapters.clone().unwrap_or_else(|| self.engine.adapters());
                return self.embeddings.push(Embedding::new(id, job, adapters));
            }
        };
        let is_free = |slot: &usize| self.texts.iter().all(|text| text.slot != *slot);
        let n_slots = self.intake.limits().n_slots;
        let slot = request.slot.or_else(|| (0..n_slots).find(is_free)).unwrap_or(0);
        let mut generation = match Generation::new(self.engine.tokenizer(), request.options.clone()) {
            Ok(generation) => generation,
            Err(error) => {
                self.intake.finished(id, |_, stats| stats.n_failed += 1);
                let _ = guarded(move || request.sink.finished(Err(error.into()), &JobStats::default()));
                self.intake.told();
                return;
            }
        };
        if let Some(constraint) = request.constraint.take() {
            generation.constrain_boxed(constraint);
        }
        let limits = self.intake.limits();
        let mut sequence = Sequence::new(&self.pool, limits.n_ctx, limits.window);
        sequence.set_adapters(request.adapters.take().unwrap_or_else(|| self.engine.adapters()));
        let text = Text::begin(id, slot, generation, *request, sequence, n_pages, since.elapsed());
        self.texts.push(text);
        self.publish();
        self.texts.last_mut().into_iter().for_each(Text::tell_started);
    }

    /// Decides what is in the next pass: the next token of every text whose prompt was read, and parts of prompts.
    fn plan(&mut self) -> Plan {
        self.texts.iter_mut().for_each(|text| text.next = Next::Nothing);
        self.embeddings.iter_mut().for_each(|embedding| embedding.plan(0));
        let n_ubatch = self.intake.limits().n_ubatch;
        let Core { suspects, texts, embeddings, .. } = &mut *self;
        suspects.retain(|id| {
            texts.iter().any(|text| text.id == *id && text.is_ready())
                || embeddings.iter().any(|e| e.id == *id)
        });
        let suspect = self.suspects.last().copied();
        let takes_part = |id: JobId| suspect.is_none_or(|suspect| suspect == id);
        let mut readers: SmallVec<[Reader; 16]> = SmallVec::new();
        let mut n_decoding = 0;
        for text in self.texts.iter_mut().filter(|text| text.is_ready() && takes_part(text.id)) {
            match text.n_unread() {
                0 if text.is_primed => {
                    text.next = Next::Token { max_drafts: 0 };
                    n_decoding += 1;
                }
                n_unread => readers.push(Reader { id: text.id, n_unread, share: 0 }),
            }
        }
        for embedding in self.embeddings.iter().filter(|embedding| takes_part(embedding.id)) {
            readers.push(Reader { id: embedding.id, n_unread: embedding.n_unread(), share: 0 });
        }
        let n = self.pace.n_prompt(n_decoding, readers.len(), self.waited).min(n_ubatch - n_decoding);
        share_out(&mut readers, n);
        for reader in readers.iter().filter(|reader| reader.share > 0) {
            if let Some(text) = self.texts.iter_mut().find(|text| text.id == reader.id) {
                text.next = Next::Prompt(reader.share);
            } else if let Some(embedding) = self.embeddings.iter_mut().find(|e| e.id == reader.id) {
                embedding.plan(reader.share);
            }
        }
        let is_alone = n_decoding == 1 && self.texts.len() == 1 && self.embeddings.is_empty();
        let has_drafts = is_alone && !self.texts[0].without_drafts && self.has_room_for_drafts();
        if has_drafts {
            let text = &mut self.texts[0];
            let max_drafts = text.sequence.room().saturating_sub(1).min(n_ubatch - 1).min(MOST_DRAFTS);
            text.next = Next::Token { max_drafts };
        }
        self.texts.iter_mut().for_each(|text| text.without_drafts = false);
        Plan { n_decoding, n_prompt: readers.iter().map(|reader| reader.share).sum(), has_drafts }
    }

    /// Reserves memory for the logits after drafts.
    fn has_room_for_drafts(&mut self) -> bool {
        if self.rows_reservation.is_none() {
            let bytes = (1 + MOST_DRAFTS) * self.engine.config().n_vocab * size_of::<f32>();
            self.rows_reservation = self.engine.budget().reserve(bytes).ok();
        }
        self.rows_reservation.is_some()
    }

    /// What each job has in the pass.
    fn shares(&self) -> SmallVec<[Share; 16]> {
        let texts = self.texts.iter().filter_map(|text| match text.next {
            Next::Nothing => None,
            Next::Prompt(n_prompt) => Some(Share { id: text.id, n_decoding: 0, n_prompt }),
            Next::Token { .. } => Some(Share { id: text.id, n_decoding: 1, n_prompt: 0 }),
        });
        let embeddings = self.embeddings.iter().map(|embedding| {
            let n_prompt = embedding.n_next();
            Share { id: embedding.id, n_decoding: 0, n_prompt }
        });
        texts.chain(embeddings.filter(|share| share.n_prompt > 0)).collect()
    }

    /// One pass.
    ///
    /// # Errors
    /// Where no pass can run.
    fn pass(&mut self, plan: Plan) -> Result<(), Error> {
        if plan.n_decoding + plan.n_prompt == 0 || !self.intake.begin_pass(self.shares(), &self.pace) {
            return Ok(());
        }
        let started = Instant::now();
        let Core { engine, runner, intake, texts, embeddings, rows, cancel, .. } = self;
        let mut owners: SmallVec<[Owner; 16]> = SmallVec::new();
        let mut batch: SmallVec<[Feed<'_>; 16]> = SmallVec::new();
        for (i, text) in texts.iter_mut().enumerate() {
            if let Some(feed) = text.feed() {
                owners.push(Owner::Text(i));
                batch.push(feed);
            }
        }
        for (embedding, job) in embeddings.iter_mut().enumerate() {
            for (reading, feed) in job.feeds() {
                owners.push(Owner::Reading { embedding, reading });
                batch.push(feed);
            }
        }
        let n_rows: usize = batch.iter().map(|feed| feed.tokens.len()).sum();
        let flag = cancel.as_ref().unwrap_or(intake.flag()).flag();
        let (runner, spans) = (&mut **runner, &mut batch[..]);
        let passed = guarded(move || runner.forward(spans, flag));
        drop(batch);
        intake.end_pass();
        let mut outputs = match passed {
            Ok(Ok(outputs)) => outputs,
            Ok(Err(error)) => {
                texts.iter_mut().for_each(Text::unfeed);
                return match error {
                    Error::Forward(ForwardError::Cancelled) if cancel.is_none() => {
                        self.waited += started.elapsed();
                        Ok(())
                    }
                    Error::Forward(ForwardError::Span { span, error: SpanError::NoPages(error) }) => {
                        self.find_pages(owners[span], SpanError::NoPages(error));
                        Ok(())
                    }
                    Error::Forward(ForwardError::Span { span, error }) => {
                        match (owners[span], n_rows > plan.n_decoding + plan.n_prompt) {
                            // It may be the drafts.
                            (Owner::Text(i), true) => self.texts[i].without_drafts = true,
                            (owner, _) => self.fail_owner(owner, error),
                        }
                        Ok(())
                    }
                    error => Err(error),
                };
            }
            Err(panic) => {
                self.recover(panic);
                return Ok(());
            }
        };
        for (span, owner) in owners.iter().enumerate() {
            if let Some(error) = outputs.failure(span) {
                fail(texts, embeddings, *owner, error.clone());
            } else if let Owner::Text(i) = owner {
                texts[*i].tell_progress();
            }
        }
        let n_vocab = engine.config().n_vocab;
        rows.clear();
        let result: Result<(), Error> = loop {
            match outputs.next_row() {
                Ok(None) => break Ok(()),
                Ok(Some(row)) => match owners[row.span] {
                    Owner::Text(_) if plan.has_drafts => rows.extend_from_slice(row.values),
                    Owner::Text(i) if texts[i].outcome.is_none() => texts[i].take_row(row.index, row.values),
                    Owner::Text(_) => {}
                    Owner::Reading { embedding, reading } => {
                        embeddings[embedding].push(reading, row.index, row.values);
                    }
                },
                // What was read before a draft that went wrong is sound.
                Err(ForwardError::Span { .. }) if !rows.is_empty() => break Ok(()),
                Err(ForwardError::Span { span, error }) => fail(texts, embeddings, owners[span], error),
                Err(error) => break Err(error.into()),
            }
        };
        if let (true, Some(Owner::Text(i))) = (!rows.is_empty(), owners.first()) {
            texts[*i].advance(rows.chunks(n_vocab));
        }
        result?;
        if n_rows == plan.n_decoding + plan.n_prompt {
            self.pace.passed(plan.n_decoding, plan.n_prompt, started.elapsed());
        }
        self.waited = Duration::ZERO;
        self.suspects.pop();
        let n_embedded: usize = self.embeddings.iter().map(Embedding::n_next).sum();
        let n_texts = owners.len();
        self.intake.publish(|_, stats| {
            stats.n_passes += 1;
            stats.n_texts_in_passes += n_texts;
            stats.n_embedded += n_embedded;
            stats.n_prompt += plan.n_prompt - n_embedded;
        });
        Ok(())
    }

    fn fail_owner(&mut self, owner: Owner, error: SpanError) {
        fail(&mut self.texts, &mut self.embeddings, owner, error);
    }

    /// Finds pages for a job that has no memory: the youngest text gives up its own, and reads its tokens again when another is over.
    fn find_pages(&mut self, owner: Owner, error: SpanError) {
        let is_running = |text: &&mut Text<S>| !text.is_parked && text.outcome.is_none();
        let n_running = self.texts.iter_mut().filter(is_running).count();
        let n_others =
            self.embeddings.iter().map(|embedding| embedding.n_unread()).filter(|n| *n > 0).count();
        if self.give_up_prefixes() {
            return;
        }
        let youngest = self.texts.iter_mut().rfind(is_running);
        match youngest {
            Some(text) if n_running + n_others > 1 => {
                text.is_parked = true;
                text.restore = None;
                text.sequence.clear();
            }
            _ => self.fail_owner(owner, error),
        }
    }

    /// After a panic in a pass: whose fault it was shows when each job that was in it is tried alone.
    fn recover(&mut self, error: Error) {
        self.runner.renew();
        self.runner.set_hook(self.hook.clone());
        for text in &mut self.texts {
            if text.sequence.cache().len() != text.sequence.position() {
                text.sequence.clear();
            }
            text.unfeed();
        }
        self.embeddings.iter_mut().for_each(Embedding::repair);
        let mut shares = self.shares();
        if let [Share { id, .. }] = shares[..] {
            if let Some(text) = self.texts.iter_mut().find(|text| text.id == id) {
                text.fail(error);
            } else if let Some(embedding) = self.embeddings.iter_mut().find(|e| e.id == id) {
                embedding.error.get_or_insert(error);
            }
            shares.clear();
            self.suspects.pop();
        }
        self.suspects.extend(shares.iter().map(|share| share.id));
    }

    /// Takes leave of jobs that are over. Their slots are free before anybody is told.
    fn settle(&mut self) {
        let mut i = 0;
        while i < self.texts.len() {
            if self.texts[i].outcome.is_some() {
                let text = self.texts.remove(i);
                self.finish(text);
            } else {
                i += 1;
            }
        }
        let mut i = 0;
        while i < self.embeddings.len() {
            self.embeddings[i].settle();
            if self.embeddings[i].is_over() {
                let mut embedding = self.embeddings.remove(i);
                embedding.release();
                self.suspects.retain(|id| *id != embedding.id);
                self.texts.iter_mut().for_each(|text| text.is_parked = false);
                let has_failed = embedding.error.is_some();
                let n_pages = self.pool.n_used();
                self.intake.finished(embedding.id, |_, stats| {
                    stats.n_failed += usize::from(has_failed);
                    stats.n_pages = n_pages;
                });
                embedding.tell_finished();
                self.intake.told();
            } else {
                i += 1;
            }
        }
    }

    fn finish(&mut self, mut text: Text<S>) {
        self.suspects.retain(|id| *id != text.id);
        self.texts.iter_mut().for_each(|text| text.is_parked = false);
        text.stop_clocks();
        if let (Some(prefix), Some(Ok(_))) = (&mut self.prefix, &text.outcome) {
            text.leave_pages(prefix, true);
        }
        text.restore = None;
        text.sequence.clear();
        self.keep_within_bounds();
        let n_pages = self.pool.n_used();
        let (n_kept, n_written) = self.kept_pages();
        self.intake.finished(text.id, |slots, stats| {
            if let Some(slot) = slots.get_mut(text.slot) {
                slot.job = None;
            }
            let JobStats { n_cached, n_generated, prefill, decode, .. } = text.stats;
            stats.n_cached += n_cached;
            stats.n_generated += n_generated;
            stats.prefill += prefill;
            stats.decode += decode;
            stats.n_tokens_max = stats.n_tokens_max.max(text.tokens.len());
            (stats.n_pages, stats.n_cached_pages, stats.n_written_pages) = (n_pages, n_kept, n_written);
            match &text.outcome {
                Some(Err(_)) => stats.n_failed += 1,
                Some(Ok(Finish::Interrupted)) if !text.stats.context_full => stats.n_cancelled += 1,
                _ => {}
            }
        });
        text.tell_finished();
        self.intake.told();
    }

    /// Shows others where texts are.
    fn publish(&self) {
        let (texts, n_pages) = (&self.texts, self.pool.n_used());
        let (n_kept, n_written) = self.kept_pages();
        self.intake.publish(|slots, stats| {
            for text in texts {
                let Some(slot) = slots.get_mut(text.slot) else { continue };
                slot.job = Some(text.id);
                slot.n_prompt = text.stats.n_prompt;
                slot.n_cached = text.stats.n_cached;
                slot.n_processed = text.sequence.position().min(text.stats.n_prompt);
                slot.n_generated = text.stats.n_generated;
                slot.n_left = text.generation.n_left();
            }
            (stats.n_pages, stats.n_cached_pages, stats.n_written_pages) = (n_pages, n_kept, n_written);
        });
    }
}

impl<S> Drop for Core<S> {
    fn drop(&mut self) {
        // The runner's memory goes back to the engine.
        self.runner.set_hook(None);
    }
}

/// Ends a job because of its span of a pass.
fn fail<S: Listener>(texts: &mut [Text<S>], embeddings: &mut [Embedding], owner: Owner, error: SpanError) {
    match owner {
        Owner::Text(i) => texts[i].fail_span(error),
        Owner::Reading { embedding, reading } => {
            let error = ForwardError::Span { span: 0, error };
            embeddings[embedding].fail_reading(reading, error.into());
        }
    }
}
