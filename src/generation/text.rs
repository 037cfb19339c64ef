//! A text in the making: the tokens chosen, what is shown of them, and why it ended.

use std::ops::Range;
use std::time::{Duration, Instant};

use bise_models::tokenizer::{EncodeOptions, StreamDecoder, Tokenizer};

use super::{GenerationOptions, GenerationState, StopTexts, log_probs};
use crate::constraint::Constraint;
use crate::sampling::{DryBreaker, Sampler, SamplingError, SamplingParams, dry_breakers};
use crate::speculation::{SpeculationStats, Speculator};

/// Tokens that room is made for when no number was asked for.
const RESERVED: usize = 4096;

/// Why a generation is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended the text with this token.
    EndToken(u32),
    /// The text came to one of [`GenerationOptions::stop`], which is no part of it.
    StopText(String),
    /// The model wrote a control token that one of [`GenerationOptions::stop`] spells.
    StopToken(u32),
    /// As many tokens as were asked for.
    Length,
    /// The constraint allows nothing more.
    Constraint,
    /// [`Generation::interrupt`] was called.
    Interrupted,
}

/// Something that [`Generation::advance`] brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// A token was chosen.
    Token {
        /// The token.
        token: u32,
        /// The text that can be shown now: often this token's, but none while a character is incomplete or a stop text may be
        /// coming, and more once it does not.
        text: &'a str,
        /// The natural logarithm of the token's probability by the model, before anything in the sampler chain; only where
        /// [`GenerationOptions::log_probs`] asks for it.
        log_prob: Option<f32>,
        /// The likeliest tokens and their log-probabilities, the likeliest first.
        top: &'a [(u32, f32)],
    },
    /// The generation is over.
    Finished {
        /// Why.
        finish: &'a Finish,
        /// What had been held back.
        text: &'a str,
    },
}

/// What a generation did, and how long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GenerationStats {
    /// Tokens chosen.
    pub n_chosen: usize,
    /// Time taken to choose them.
    pub choosing: Duration,
    /// Time from [`Generation::next_tokens`] to [`Generation::advance`]: that of the passes.
    pub passes: Duration,
    /// Passes and drafts. A token that was chosen but not read is not in it.
    pub speculation: SpeculationStats,
}

/// A text in the making; see the [module](super).
pub struct Generation {
    tokenizer: Tokenizer,
    options: GenerationOptions,
    sampler: Sampler,
    speculator: Speculator,
    decoder: StreamDecoder,
    stops: StopTexts,
    stop_tokens: Vec<u32>,
    /// Tokens that may still be chosen; `None` is no limit.
    n_left: Option<usize>,
    /// Chosen, but not read yet.
    pending: Option<u32>,
    /// What `next_tokens` returned, until `advance`.
    fed: Vec<u32>,
    fed_at: Option<Instant>,
    finish: Option<Finish>,
    step: Step,
    piece: String,
    stats: GenerationStats,
}

/// What the last call brought, in buffers that are used again.
#[derive(Default)]
struct Step {
    text: String,
    chosen: Vec<Chosen>,
    tops: Vec<(u32, f32)>,
    is_last: bool,
}

struct Chosen {
    token: u32,
    log_prob: Option<f32>,
    text: Range<usize>,
    tops: Range<usize>,
}

impl Step {
    fn clear(&mut self) {
        self.text.clear();
        self.chosen.clear();
        self.tops.clear();
        self.is_last = false;
    }
}

impl Generation {
    /// A generation in the vocabulary of `tokenizer`, with nothing to continue yet.
    ///
    /// # Errors
    /// Sampling parameters outside their range.
    pub fn new(tokenizer: &Tokenizer, options: GenerationOptions) -> Result<Self, SamplingError> {
        let stops = StopTexts::new(options.stop.iter().cloned());
        Ok(Self {
            sampler: Sampler::new(
                &with_breakers(tokenizer, &options.sampling),
                tokenizer.n_vocab(),
                &end_tokens(tokenizer),
            )?,
            speculator: Speculator::new(&options.speculation),
            decoder: decoder(tokenizer, &options),
            stop_tokens: stops.control_tokens(tokenizer),
            stops,
            n_left: options.max_tokens,
            pending: None,
            fed: Vec::new(),
            fed_at: None,
            finish: None,
            step: Step::default(),
            piece: String::new(),
            stats: GenerationStats::default(),
            tokenizer: tokenizer.clone(),
            options,
        })
    }

    /// Begins to continue `context`, all tokens that the model has read. Penalties and DRY look back on it, drafts come from it, and
    /// whatever was generated before is forgotten but for the random numbers, which go on.
    pub fn prime(&mut self, context: &[u32]) {
        self.sampler.forget();
        context.iter().for_each(|&token| self.sampler.accept_prompt(token));
        self.speculator.restart(context);
        self.decoder = decoder(&self.tokenizer, &self.options);
        self.begin();
    }

    /// What another generation with the same options needs to go on from here, beside the tokens that were read. Text that is held back
    /// (part of a character, the beginning of a stop text) is no part of it.
    pub fn state(&self) -> GenerationState {
        let (seed, n_drawn) = (self.sampler.seed(), self.sampler.n_drawn());
        GenerationState { seed, n_drawn, pending: self.pending, mu: self.sampler.mirostat_mu() }
    }

    /// Goes on where the generation was that `state` comes from. `context` is all tokens that the model has read, as in [`Self::prime`];
    /// [`GenerationOptions::max_tokens`] counts from here.
    pub fn resume(&mut self, context: &[u32], state: &GenerationState) {
        self.prime(context);
        if let Some(token) = state.pending {
            self.sampler.accept_prompt(token);
            self.speculator.observe(token);
        }
        self.pending = state.pending;
        self.sampler.resume(state.seed, state.n_drawn, state.mu);
    }

    /// Goes on after `tokens` that were read behind the text so far, the pending token included: lines of a user. There need not be
    /// any.
    pub fn extend(&mut self, tokens: &[u32]) {
        tokens.iter().for_each(|&token| self.sampler.accept_prompt(token));
        self.speculator.extend(tokens);
        self.begin();
    }

    fn begin(&mut self) {
        self.n_left = self.options.max_tokens;
        self.pending = None;
        self.fed.clear();
        self.fed_at = None;
        self.finish = None;
        // What was held back of a text that was left without an end.
        self.stops.finish(&mut self.step.text);
        self.step.clear();
        self.speculator.reserve(self.options.max_tokens.unwrap_or(RESERVED).min(RESERVED));
        if self.n_left == Some(0) {
            self.end(Finish::Length);
        }
    }

    /// The tokens to read next: the one that was chosen last, and up to `max_drafts` drafts of what may follow. None before the first
    /// [`Self::advance`], which takes the logits after the prompt, and none once the generation is over.
    pub fn next_tokens(&mut self, max_drafts: usize) -> &[u32] {
        self.fed.clear();
        if let Some(token) = self.pending.filter(|_| self.finish.is_none()) {
            // The last token wanted needs no pass behind it.
            let wanted = self.n_left.map_or(usize::MAX, |n| n.saturating_sub(1));
            self.fed.push(token);
            self.fed.extend_from_slice(self.speculator.propose(max_drafts.min(wanted)));
            self.fed_at = Some(Instant::now());
        }
        &self.fed
    }

    /// Takes the logits after each of [`Self::next_tokens`] (fewer, where only the first of them were read; one row after a prompt),
    /// chooses tokens by them, and returns how many of the tokens read belong to the text: the others were wrong drafts, and have to
    /// be forgotten by the model.
    ///
    /// # Errors
    /// Logits that are not finite or of another vocabulary, and [`SamplingError::NoCandidate`] where nothing can be chosen. The
    /// generation cannot go on then without [`Self::prime`].
    pub fn advance<'r, R>(&mut self, rows: R) -> Result<usize, SamplingError>
    where
        R: IntoIterator<Item = &'r [f32], IntoIter: ExactSizeIterator>,
    {
        let start = Instant::now();
        self.step.clear();
        let rows = rows.into_iter();
        let n_rows = rows.len();
        let mut n_accepted = usize::from(!self.fed.is_empty());
        for (i, row) in rows.enumerate() {
            if self.finish.is_some() {
                break;
            }
            if self.sampler.is_complete() {
                self.end(Finish::Constraint);
                break;
            }
            let token = self.choose(row)?;
            self.pending = Some(token);
            if i + 1 == n_rows || self.fed.get(i + 1) != Some(&token) {
                break;
            }
            // It was read already, as a draft.
            self.pending = None;
            n_accepted += 1;
        }
        if self.finish.is_none() && self.sampler.is_complete() {
            self.end(Finish::Constraint);
        }
        if let Some(fed_at) = self.fed_at.take() {
            let took = start.duration_since(fed_at);
            self.speculator.passed(n_rows.saturating_sub(1), n_accepted - 1, took);
            self.stats.passes += took;
            self.stats.speculation = self.speculator.stats();
        }
        self.fed.clear();
        self.stats.choosing += start.elapsed();
        Ok(n_accepted)
    }

    /// Chooses the token after one row of logits, and decides whether it is the last.
    fn choose(&mut self, logits: &[f32]) -> Result<u32, SamplingError> {
        let token = self.sampler.sample(logits)?;
        self.sampler.accept(token);
        self.speculator.observe(token);
        self.stats.n_chosen += 1;
        self.n_left = self.n_left.map(|n| n - 1);

        let (text_start, tops_start) = (self.step.text.len(), self.step.tops.len());
        let log_prob = self.options.log_probs.map(|n| {
            if self.options.after_sampling {
                return log_probs::push_drawn(self.sampler.drawn_from(), token, n, &mut self.step.tops);
            }
            let log_sum = log_probs::log_sum_exp(logits);
            log_probs::push_top(logits, log_sum, n, &mut self.step.tops);
            logits[token as usize] - log_sum
        });
        let finish = if self.tokenizer.is_end_of_generation(token) {
            Some(Finish::EndToken(token))
        } else if self.stop_tokens.contains(&token) {
            Some(Finish::StopToken(token))
        } else {
            self.piece.clear();
            self.decoder.push_to(token, &mut self.piece);
            match self.stops.push(&self.piece, &mut self.step.text) {
                Some(i) => Some(Finish::StopText(self.stops.texts()[i].clone())),
                None if self.n_left == Some(0) => Some(Finish::Length),
                None => None,
            }
        };
        self.step.chosen.push(Chosen {
            token,
            log_prob,
            text: text_start..self.step.text.len(),
            tops: tops_start..self.step.tops.len(),
        });
        if let Some(finish) = finish {
            self.end(finish);
        }
        Ok(token)
    }

    /// Ends the text: what was held back is text after all, unless a stop text ended it.
    fn end(&mut self, finish: Finish) {
        if !matches!(finish, Finish::StopText(_)) {
            let rest = self.decoder.finish();
            if self.stops.push(&rest, &mut self.step.text).is_none() {
                self.stops.finish(&mut self.step.text);
            }
        }
        self.step.is_last = true;
        self.finish = Some(finish);
    }

    /// Ends the generation where it is: the context is full, or somebody lost interest. [`Self::events`] then has what was held back.
    pub fn interrupt(&mut self) {
        if self.finish.is_none() {
            self.step.clear();
            self.end(Finish::Interrupted);
        }
    }

    /// Why the generation is over, or `None` while it goes on.
    pub fn finish(&self) -> Option<&Finish> {
        self.finish.as_ref()
    }

    /// The text that the last call of [`Self::advance`] or [`Self::interrupt`] brought.
    pub fn text(&self) -> &str {
        &self.step.text
    }

    /// What the last call of [`Self::advance`] or [`Self::interrupt`] brought, in order: tokens, and then perhaps the end.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        let step = &self.step;
        let tokens = step.chosen.iter().map(|chosen| Event::Token {
            token: chosen.token,
            text: &step.text[chosen.text.clone()],
            log_prob: chosen.log_prob,
            top: &step.tops[chosen.tops.clone()],
        });
        let shown = step.chosen.last().map_or(0, |chosen| chosen.text.end);
        let finish = self.finish.as_ref().filter(|_| step.is_last);
        tokens.chain(finish.map(|finish| Event::Finished { finish, text: &step.text[shown..] }))
    }

    /// The token that was chosen last, while it has not been read.
    pub fn pending(&self) -> Option<u32> {
        self.pending
    }

    /// The number of tokens that [`Self::next_tokens`] returned, until [`Self::advance`].
    pub(crate) fn n_fed(&self) -> usize {
        self.fed.len()
    }

    /// Tokens that may still be chosen; `None` is no limit.
    pub fn n_left(&self) -> Option<usize> {
        self.n_left
    }

    /// The seed in use.
    pub fn seed(&self) -> u32 {
        self.sampler.seed()
    }

    /// What was done so far, over all continuations.
    pub fn stats(&self) -> GenerationStats {
        self.stats
    }

    /// Sets how many tokens a continuation has at most; `None` is no limit. Counts from the next [`Self::prime`] or
    /// [`Self::extend`].
    pub fn set_max_tokens(&mut self, max_tokens: Option<usize>) {
        self.options.max_tokens = max_tokens;
    }

    /// Chooses tokens by other parameters from the next [`Self::prime`] on.
    ///
    /// # Errors
    /// Parameters outside their range; nothing changes then.
    pub fn set_sampling(&mut self, params: &SamplingParams) -> Result<(), SamplingError> {
        self.sampler.set_params(&with_breakers(&self.tokenizer, params))?;
        self.options.sampling = params.clone();
        Ok(())
    }

    /// Allows only what a constraint does, from the next token on.
    pub fn constrain(&mut self, constraint: impl Constraint + 'static) {
        self.constrain_boxed(Box::new(constraint));
    }

    pub(crate) fn constrain_boxed(&mut self, constraint: Box<dyn Constraint>) {
        self.sampler.constrain(constraint);
    }

    /// Allows everything again, and gives back the constraint.
    pub fn unconstrain(&mut self) -> Option<Box<dyn Constraint>> {
        self.sampler.unconstrain()
    }
}

fn decoder(tokenizer: &Tokenizer, options: &GenerationOptions) -> StreamDecoder {
    if options.starts_text {
        tokenizer.stream_from_start(!options.special)
    } else {
        tokenizer.stream(!options.special)
    }
}

/// All tokens at which a text ends.
fn end_tokens(tokenizer: &Tokenizer) -> Vec<u32> {
    (0..tokenizer.n_vocab() as u32).filter(|&id| tokenizer.is_end_of_generation(id)).collect()
}

/// The parameters, with DRY's sequence breakers in the tokens of the vocabulary.
fn with_breakers(tokenizer: &Tokenizer, params: &SamplingParams) -> SamplingParams {
    let mut params = params.clone();
    if params.dry_enabled() && params.dry_breakers.is_empty() {
        params.dry_breakers = breakers(tokenizer, &params.dry_sequence_breakers);
    }
    params
}

fn breakers(tokenizer: &Tokenizer, texts: &[String]) -> Vec<DryBreaker> {
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
