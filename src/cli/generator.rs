//! A session and a sampler that write a text together: reading, choosing, making room, taking time.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use bise::sampling::{Sampler, SamplingError, SamplingParams, dry_breakers};
use bise::speculation::{SpeculationOptions, Speculator};
use bise::tokenizer::{EncodeOptions, Tokenizer};
use bise::{Engine, Session, SessionOptions};

use super::load::Loaded;
use super::term::console::Log;
use super::term::signals;
use super::timings::Timings;
use super::usage::wrong;

/// What to do when the context is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Stop.
    Stop,
    /// Forget the older half, except for the first tokens, and go on.
    Shift {
        /// How many of the first are kept.
        n_keep: usize,
    },
}

/// What became of tokens that were to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// They are read; the next token can be chosen.
    Done,
    /// There is no room for them.
    Full,
    /// Ctrl-C.
    Interrupted,
}

/// Writes one text.
pub struct Generator {
    pub engine: Engine,
    pub session: Session,
    pub sampler: Sampler,
    pub timings: Timings,
    pub when_full: WhenFull,
    speculator: Speculator,
    log: Log,
    /// Whether the user was told that the text has outgrown what the model was trained for.
    told_length: bool,
}

impl Generator {
    /// Makes room for a text.
    ///
    /// # Errors
    /// Sampling parameters outside their range; no room.
    pub fn new(
        loaded: Loaded,
        options: &SessionOptions,
        params: SamplingParams,
        speculation: &SpeculationOptions,
        log: Log,
    ) -> Result<Self> {
        let Loaded { engine, took } = loaded;
        let start = Instant::now();
        let tokenizer = engine.tokenizer();
        let sampler = sampler(tokenizer, params)?;
        let session = engine.session(options)?;
        let timings = Timings::new(took + start.elapsed());
        let generator = Self {
            session,
            sampler,
            timings,
            when_full: WhenFull::Stop,
            speculator: Speculator::new(speculation),
            log,
            told_length: false,
            engine,
        };
        generator.report(options);
        Ok(generator)
    }

    /// Chooses tokens by other parameters from now on.
    ///
    /// # Errors
    /// Parameters outside their range.
    pub fn set_sampling(&mut self, params: SamplingParams) -> Result<()> {
        self.sampler = sampler(self.engine.tokenizer(), params)?;
        self.session.tokens().iter().for_each(|&token| self.sampler.accept(token));
        Ok(())
    }

    /// What is going to run, in a few lines.
    fn report(&self, options: &SessionOptions) {
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
        let window = config.sliding_window.map_or(String::new(), |n| format!(", window {n}"));
        let plan = engine.memory(options);
        log.note(format_args!(
            "memory: weights {} + cache {} + buffers {} = {} (context {}{window}, keys {}, values {})",
            super::describe::bytes(plan.weights_bytes as u64),
            super::describe::bytes(plan.cache_bytes as u64),
            super::describe::bytes(plan.scratch_bytes as u64),
            super::describe::bytes(plan.total() as u64),
            self.session.n_ctx(),
            options.k_type,
            options.v_type,
        ));
        log.note(format_args!("sampler seed: {}", self.sampler.seed()));
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

    /// Reads tokens that somebody gave, with a progress bar where there are many.
    ///
    /// # Errors
    /// If the model fails.
    pub fn read(&mut self, tokens: &[u32]) -> Result<Read> {
        if tokens.is_empty() {
            return Ok(Read::Done);
        }
        if !self.make_room(tokens.len())? {
            return Ok(Read::Full);
        }
        let before = self.session.position();
        let progress = (tokens.len() >= 256).then(|| self.log.progress("reading", tokens.len()));
        let start = Instant::now();
        self.session.prefill_with(tokens, &mut |done| {
            if let Some(progress) = &progress {
                progress.set(done);
            }
            if signals::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        self.timings.prompt += start.elapsed();
        let n_read = self.session.position() - before;
        self.timings.n_prompt += n_read;
        tokens[..n_read].iter().for_each(|&token| self.sampler.accept(token));
        self.tell_length();
        Ok(if n_read == tokens.len() { Read::Done } else { Read::Interrupted })
    }

    /// Reads the token that was chosen last, where `n_more` are wanted after it; `None` is no end.
    ///
    /// # Errors
    /// If the model fails.
    pub fn continue_with(&mut self, token: u32, n_more: Option<usize>) -> Result<Read> {
        if !self.make_room(1)? {
            return Ok(Read::Full);
        }
        let start = Instant::now();
        self.speculator.decode(&mut self.session, token, n_more.unwrap_or(usize::MAX))?;
        self.timings.eval += start.elapsed();
        self.timings.speculation = self.speculator.stats();
        self.timings.n_eval += 1;
        self.tell_length();
        Ok(Read::Done)
    }

    /// Chooses the token that comes after those read. It belongs to the text from now on.
    ///
    /// # Errors
    /// If no token can be chosen.
    pub fn choose(&mut self) -> Result<u32> {
        let start = Instant::now();
        let token = self.sampler.sample(self.session.logits().ok_or(bise::Error::NoTokens)?)?;
        self.sampler.accept(token);
        self.timings.sampling += start.elapsed();
        self.timings.n_sampled += 1;
        Ok(token)
    }

    /// Whether `n` more tokens fit, after what there is to be done about it.
    fn make_room(&mut self, n: usize) -> Result<bool> {
        if n <= self.session.room() {
            return Ok(true);
        }
        let WhenFull::Shift { n_keep } = self.when_full else { return Ok(false) };
        while n > self.session.room() {
            let position = self.session.position();
            let n_forgotten = position.saturating_sub(n_keep) / 2;
            if n_forgotten == 0 {
                return Ok(false);
            }
            // What stays behind the gap is read again, at its new place.
            let rest = self.session.tokens()[n_keep + n_forgotten..].to_vec();
            self.session.rewind(n_keep)?;
            let start = Instant::now();
            self.session.prefill(&rest)?;
            self.timings.prompt += start.elapsed();
            self.timings.n_prompt += rest.len();
        }
        Ok(true)
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

fn sampler(tokenizer: &Tokenizer, mut params: SamplingParams) -> Result<Sampler> {
    if params.dry_enabled() {
        params.dry_breakers = breakers(tokenizer, &params.dry_sequence_breakers);
    }
    Sampler::new(&params, tokenizer.n_vocab(), &end_tokens(tokenizer)).map_err(|error| match error {
        SamplingError::BadParameter { .. } => wrong(error),
        error => error.into(),
    })
}

/// All tokens at which a text ends.
fn end_tokens(tokenizer: &Tokenizer) -> Vec<u32> {
    (0..tokenizer.n_vocab() as u32).filter(|&id| tokenizer.is_end_of_generation(id)).collect()
}

/// DRY's sequence breakers in the tokens of a vocabulary.
fn breakers(tokenizer: &Tokenizer, texts: &[String]) -> Vec<bise::sampling::DryBreaker> {
    // Behind a newline, so that no space is put before the text.
    let plain = EncodeOptions { add_special: false, parse_special: false };
    let guard = tokenizer.encode("\n", plain);
    let tokenize = |text: &str| {
        let tokens = tokenizer.encode(&format!("\n{text}"), plain);
        tokens.strip_prefix(&guard[..]).map_or_else(|| tokenizer.encode(text, plain), <[u32]>::to_vec)
    };
    let pieces = (0..tokenizer.n_vocab() as u32).map(|id| (id, tokenizer.piece(id)));
    dry_breakers(texts, pieces, tokenize)
}
