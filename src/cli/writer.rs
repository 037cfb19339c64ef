//! Drives a generation in a session: prefill with progress, context shift, Ctrl-C, timings.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use bise::generation::{Finish, Generation, GenerationOptions};
use bise::sampling::SamplingError;
use bise::{Engine, Error, Session, SessionOptions};

use super::load::Loaded;
use super::prompt_cache::{PromptCache, Reused};
use super::term::console::Log;
use super::term::signals::{self, Writing};
use super::timings::Timings;
use super::usage::wrong;

/// What to do when the context is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Stop.
    Stop,
    /// Stop, also where a sliding window leaves room for more.
    StopAtContext,
    /// Forget the older half, except for the first tokens, and go on.
    Shift {
        /// How many of the first are kept.
        n_keep: usize,
    },
}

/// Outcome of a prefill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// The tokens are read.
    Done,
    /// There is no room for them.
    Full,
    /// Ctrl-C. What was not read is read first the next time.
    Interrupted,
}

/// Why generation paused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The generation is over.
    Finished(Finish),
    /// There is no room for more.
    Full,
    /// Ctrl-C.
    Interrupted,
}

/// A session and its generation.
pub struct Writer {
    pub engine: Engine,
    pub session: Session,
    pub generation: Generation,
    pub when_full: WhenFull,
    /// Tokens of the text that the session has still to read, because Ctrl-C was pressed.
    unread: Vec<u32>,
    prompt_cache: Option<PromptCache>,
    timings: Timings,
    pub log: Log,
    /// Whether the user was told that the text has outgrown what the model was trained for.
    told_length: bool,
}

impl Writer {
    /// Allocates the session, or takes that of the prompt cache, and reports what is going to run.
    ///
    /// # Errors
    /// Sampling parameters outside their range; no room.
    pub fn new(
        loaded: Loaded,
        cached: Option<(PromptCache, Option<Session>)>,
        options: &SessionOptions,
        generation: GenerationOptions,
        log: Log,
    ) -> Result<Self> {
        let start = Instant::now();
        let engine = loaded.engine.clone();
        let generation = Generation::new(engine.tokenizer(), generation).map_err(|error| match error {
            SamplingError::BadParameter { .. } => wrong(error),
            error => error.into(),
        })?;
        let (prompt_cache, restored) = cached.unzip();
        let session = match restored.flatten() {
            Some(session) => session,
            None => engine.session(options)?,
        };
        let timings = Timings::new(loaded.took + start.elapsed());
        let (when_full, unread) = (WhenFull::Stop, Vec::new());
        let writer = Self {
            engine,
            session,
            generation,
            when_full,
            unread,
            prompt_cache,
            timings,
            log,
            told_length: false,
        };
        writer.report(&loaded, options);
        Ok(writer)
    }

    /// What is going to run, in a few lines.
    fn report(&self, loaded: &Loaded, options: &SessionOptions) {
        let (engine, log) = (&self.engine, self.log);
        let config = engine.config();
        let about = super::describe::Description::of(engine.file());
        log.note(format_args!(
            "model: {}, {}, {} threads, {}",
            about.name,
            about.model_type(),
            engine.n_threads(),
            engine.isa()
        ));
        loaded.tell_memory(1, options, log);
        log.note(format_args!("sampler seed: {}", self.generation.seed()));
        if self.session.n_ctx() > config.n_ctx_train {
            log.warn(format_args!(
                "the context of {} tokens is longer than the {} the model was trained for",
                self.session.n_ctx(),
                config.n_ctx_train
            ));
        }
    }

    /// Refuses a prompt that can never fit.
    ///
    /// # Errors
    /// A prompt of no tokens, or longer than a context without a window.
    pub fn check_prompt(&self, tokens: &[u32]) -> Result<()> {
        ensure!(!tokens.is_empty(), "the prompt is empty: found no token, expected at least one");
        let (n_ctx, windowed) = (self.session.n_ctx(), self.engine.config().sliding_window.is_some());
        if !windowed && tokens.len() > n_ctx {
            bail!(
                "the prompt is too long: found {} tokens, expected at most {n_ctx} (--ctx-size)",
                tokens.len()
            );
        }
        Ok(())
    }

    /// Lets Ctrl-C end what is read or written, at once, as long as the guard lives.
    pub fn listen(&self) -> Writing {
        signals::answering(self.session.cancel_handle())
    }

    /// What `--verbose-prompt` shows: the tokens of a prompt, without the first `n_before`, which were read before.
    pub fn log_prompt(&self, log: Log, tokens: &[u32], n_before: Option<usize>) {
        let before = n_before.map_or_else(String::new, |n| format!(" ({n} read before)"));
        log.note(format_args!("number of tokens in prompt = {}{before}", tokens.len()));
        for &token in &tokens[n_before.unwrap_or(0)..] {
            let piece = String::from_utf8_lossy(self.engine.tokenizer().piece(token)).into_owned();
            log.note(format_args!("{token:>6} -> '{piece}'"));
        }
    }

    /// Prefills tokens, with a progress bar where there are many. Telling the generation is up to the caller.
    ///
    /// # Errors
    /// If the model fails.
    pub fn read(&mut self, tokens: &[u32]) -> Result<Read> {
        match self.make_room(tokens.len())? {
            Read::Done => {}
            read => return Ok(read),
        }
        self.unread.extend_from_slice(tokens);
        let read = self.catch_up()?;
        self.tell_length();
        Ok(read)
    }

    /// Cuts the text back to the beginning that it has in common with `tokens`.
    ///
    /// # Errors
    /// If the model fails.
    pub fn reuse(&mut self, tokens: &[u32]) -> Result<(Reused, Read)> {
        let session = &self.session;
        let n_common = session.tokens().iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let is_all = n_common == tokens.len() && session.position() == n_common && session.logits().is_some();
        // Otherwise the last token is read again, for the logits after it.
        let n_kept = if is_all { n_common } else { n_common.min(tokens.len().saturating_sub(1)) };
        let reused = Reused { n_kept, n_common, n_prompt: tokens.len() };
        Ok((reused, self.rewind(n_kept)?))
    }

    /// A prompt was read, part of which was there before.
    pub fn prompt_is_read(&mut self, reused: Reused) {
        if let Some(cache) = &mut self.prompt_cache {
            cache.begin(&self.session, reused);
        }
    }

    /// The text is over. Keeps it where the prompt cache keeps all, the token that was chosen last included.
    ///
    /// # Errors
    /// If the model fails, or the file cannot be written.
    pub fn end_text(&mut self) -> Result<()> {
        let Some(cache) = &self.prompt_cache else { return Ok(()) };
        let is_end = |token: &u32| self.engine.tokenizer().is_end_of_generation(*token);
        let chosen = self.generation.pending().filter(|token| !is_end(token));
        if let Some(token) =
            chosen.filter(|_| cache.keeps_all() && self.session.room() > 0 && self.unread.is_empty())
        {
            self.session.decode(token)?;
        }
        cache.end(&self.session)
    }

    /// Forgets the text from `position` on.
    ///
    /// # Errors
    /// If the model fails.
    pub fn rewind(&mut self, position: usize) -> Result<Read> {
        self.unread.clear();
        uncancelled(self.session.rewind(position))
    }

    /// Forgets the text.
    pub fn clear(&mut self) {
        self.unread.clear();
        self.session.clear();
    }

    /// Generates until the generation finishes, the context is full or Ctrl-C is pressed, and passes each piece to `show`.
    ///
    /// # Errors
    /// If the model fails, or `show` does.
    pub fn write(&mut self, show: &mut dyn FnMut(&str) -> Result<()>) -> Result<Pause> {
        let pause = loop {
            if let Some(finish) = self.generation.finish() {
                break Pause::Finished(finish.clone());
            }
            if self.generation.pending().is_some() {
                match self.make_room(1)? {
                    Read::Done => {}
                    Read::Full => break Pause::Full,
                    Read::Interrupted => break Pause::Interrupted,
                }
            }
            let max_drafts = match self.when_full {
                WhenFull::StopAtContext => self.left_of_context().saturating_sub(1),
                _ => usize::MAX,
            };
            let step = self.session.step_within(&mut self.generation, max_drafts);
            if uncancelled(step)? == Read::Interrupted {
                break Pause::Interrupted;
            }
            show(self.generation.text())?;
            self.tell_length();
        };
        if !matches!(pause, Pause::Finished(_)) {
            self.generation.interrupt();
            show(self.generation.text())?;
        }
        Ok(pause)
    }

    /// Prints how long everything took.
    pub fn print_timings(&mut self) {
        self.timings.generation = self.generation.stats();
        self.timings.print(self.log);
    }

    /// Sees to it that `n` more tokens fit, shifting the context if that is allowed.
    fn make_room(&mut self, n: usize) -> Result<Read> {
        if self.when_full == WhenFull::StopAtContext && self.left_of_context() == 0 {
            return Ok(Read::Full);
        }
        while self.unread.len() + n > self.session.room() {
            let WhenFull::Shift { n_keep } = self.when_full else { return Ok(Read::Full) };
            let tokens = self.session.tokens();
            let n_forgotten = tokens.len().saturating_sub(n_keep) / 2;
            if n_forgotten == 0 {
                return Ok(Read::Full);
            }
            // What stays behind the gap is read again, at its new place.
            let kept = [&tokens[..n_keep], &tokens[n_keep + n_forgotten..]].concat();
            let rewound = uncancelled(self.session.rewind(n_keep))?;
            self.unread.splice(..0, kept[self.session.position()..].iter().copied());
            if rewound == Read::Interrupted || self.catch_up()? == Read::Interrupted {
                return Ok(Read::Interrupted);
            }
        }
        Ok(Read::Done)
    }

    /// Reads what is unread; it has to fit.
    fn catch_up(&mut self) -> Result<Read> {
        let n = self.unread.len();
        if n == 0 {
            return Ok(Read::Done);
        }
        let progress = (n >= 256).then(|| self.log.progress("reading", n));
        let (before, start) = (self.session.position(), Instant::now());
        let read = uncancelled(self.session.prefill_with(&self.unread, &mut |done| {
            if let Some(progress) = &progress {
                progress.set(done);
            }
            ControlFlow::Continue(())
        }));
        let n_read = self.session.position() - before;
        self.unread.drain(..n_read);
        self.timings.prompt += start.elapsed();
        self.timings.n_prompt += n_read;
        read
    }

    /// Positions left in the context.
    fn left_of_context(&self) -> usize {
        self.session.n_ctx().saturating_sub(self.session.position())
    }

    fn tell_length(&mut self) {
        let trained = self.engine.config().n_ctx_train;
        if !self.told_length && self.session.position() > trained && self.session.n_ctx() <= trained {
            self.told_length = true;
            self.log.warn(format_args!(
                "the text is now longer than the {trained} tokens the model was trained for"
            ));
        }
    }
}

/// [`Read::Interrupted`] where the session was cancelled.
fn uncancelled<T>(result: Result<T, Error>) -> Result<Read> {
    match result {
        Ok(_) => Ok(Read::Done),
        Err(error) if error.is_cancelled() => Ok(Read::Interrupted),
        Err(error) => Err(error.into()),
    }
}
