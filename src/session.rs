//! One sequence of tokens, read and continued.

use std::ops::ControlFlow;

use bise_models::tokenizer::EncodeOptions;
use bise_models::{ForwardError, KvCache, Span, Wanted};

use crate::sampling::{Sampler, SamplingParams};
use crate::{Engine, Error, Pieces, SessionOptions};

/// One sequence: its tokens, and their keys and values.
pub struct Session {
    engine: Engine,
    cache: KvCache,
    tokens: Vec<u32>,
    n_ctx: usize,
    n_ubatch: usize,
    logits: Vec<f32>,
}

impl Session {
    pub(crate) fn new(engine: Engine, options: &SessionOptions) -> Session {
        let (cache, n_ctx) = (engine.cache(options), engine.n_ctx(options));
        let logits = vec![0.0; engine.config().n_vocab];
        Session { engine, cache, tokens: Vec::new(), n_ctx, n_ubatch: options.n_ubatch.max(1), logits }
    }

    /// The model.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Tokens read so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many that is.
    pub fn position(&self) -> usize {
        self.tokens.len()
    }

    /// Tokens it may hold; a sequence with a window may go past it.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// Tokens that still fit; without end where there is a window.
    pub fn room(&self) -> usize {
        self.cache.room()
    }

    /// Logits after the last token read, `[n_vocab]`.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Reads tokens after those read before, and returns the logits after the last.
    ///
    /// # Errors
    /// For no tokens, tokens that do not fit or are not in the vocabulary (then nothing was read), a file that shrank, and activations
    /// that are not finite (then the session is empty again).
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<&[f32], Error> {
        self.prefill_with(tokens, &mut |_| ControlFlow::Continue(()))
    }

    /// The same; `progress` is told after each pass how many tokens are done, and may stop the reading there: the logits are then not
    /// those of the last token.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn prefill_with(
        &mut self,
        tokens: &[u32],
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<&[f32], Error> {
        if tokens.is_empty() {
            return Err(Error::NoTokens);
        }
        self.check_room(tokens)?;
        let mut done = 0;
        for chunk in tokens.chunks(self.n_ubatch) {
            done += chunk.len();
            let wanted = if done == tokens.len() { Wanted::Last } else { Wanted::Nothing };
            self.read(chunk, wanted, &mut |_, _| {})?;
            if progress(done).is_break() {
                break;
            }
        }
        Ok(&self.logits)
    }

    /// Reads one token, and returns the logits after it.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn decode(&mut self, token: u32) -> Result<&[f32], Error> {
        self.prefill(&[token])
    }

    /// Reads tokens, and calls `each(i, logits)` with the logits after the `i`-th.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn score(&mut self, tokens: &[u32], each: &mut dyn FnMut(usize, &[f32])) -> Result<(), Error> {
        self.check_room(tokens)?;
        let mut done = 0;
        for chunk in tokens.chunks(self.n_ubatch) {
            self.read(chunk, Wanted::All, &mut |i, logits| each(done + i, logits))?;
            done += chunk.len();
        }
        Ok(())
    }

    /// Forgets the tokens from `position` on. Where rows that a window still needs were overwritten since, what is left is read again.
    ///
    /// # Errors
    /// As [`Session::prefill`], when it is read again.
    ///
    /// # Panics
    /// Where `position` lies ahead.
    pub fn rewind(&mut self, position: usize) -> Result<(), Error> {
        assert!(position <= self.tokens.len(), "rewinding from {} to {position}", self.tokens.len());
        if self.cache.rewind(position) {
            self.tokens.truncate(position);
            return Ok(());
        }
        let mut tokens = std::mem::take(&mut self.tokens);
        tokens.truncate(position);
        self.clear();
        self.prefill(&tokens).map(drop)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.cache.rewind(0);
        self.tokens.clear();
    }

    /// Continues `prompt` (read after what was read before) with up to `max_tokens` tokens, piece by piece, until the model ends.
    ///
    /// # Errors
    /// For sampling parameters that make no sense, and as [`Session::prefill`] for the prompt.
    pub fn generate(
        &mut self,
        prompt: &str,
        sampling: &SamplingParams,
        max_tokens: usize,
    ) -> Result<Pieces<'_>, Error> {
        let tokenizer = self.engine.tokenizer();
        let n_vocab = self.engine.config().n_vocab;
        let options = EncodeOptions { add_special: self.tokens.is_empty(), parse_special: true };
        let prompt = tokenizer.encode(prompt, options);
        let ends: Vec<u32> =
            (0..n_vocab as u32).filter(|token| tokenizer.is_end_of_generation(*token)).collect();
        let mut sampler = Sampler::new(sampling, n_vocab, &ends)?;
        self.prefill(&prompt)?;
        prompt.iter().for_each(|token| sampler.accept(*token));
        Ok(Pieces::new(self, sampler, max_tokens))
    }

    fn check_room(&self, tokens: &[u32]) -> Result<(), Error> {
        if tokens.len() <= self.cache.room() {
            return Ok(());
        }
        let (n_tokens, position, room) = (tokens.len(), self.position(), self.cache.room());
        Err(ForwardError::ContextFull { n_tokens, position, room }.into())
    }

    fn read(
        &mut self,
        tokens: &[u32],
        wanted: Wanted,
        each: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        self.engine.file().check_unchanged()?;
        let engine = self.engine.clone();
        let mut scratch = engine.scratch(tokens.len());
        let mut batch = [Span { cache: &mut self.cache, tokens, wanted }];
        match engine.model().forward(engine.team(), &mut batch, scratch.get()) {
            Ok(logits) => {
                for (i, logits) in logits.chunks(self.logits.len()).enumerate() {
                    each(i, logits);
                }
                if let Some(last) = logits.chunks(self.logits.len()).last() {
                    self.logits.copy_from_slice(last);
                }
                self.tokens.extend_from_slice(tokens);
                Ok(())
            }
            Err(e @ (ForwardError::NotFinite { .. } | ForwardError::LogitsNotFinite)) => {
                self.clear();
                Err(e.into())
            }
            Err(e) => Err(e.into()),
        }
    }
}

/// Reads one more token in each of several sessions of one engine, together, and calls `each(i, logits)` with the logits of the
/// `i`-th. The results are those of [`Session::decode`] on each alone, bit for bit.
///
/// # Errors
/// As [`Session::prefill`], and for sessions of different engines; if it fails for one it fails for all.
///
/// # Panics
/// Where there is not one token for each session.
pub fn decode_together(
    sessions: &mut [Session],
    tokens: &[u32],
    each: &mut dyn FnMut(usize, &[f32]),
) -> Result<(), Error> {
    assert_eq!(sessions.len(), tokens.len(), "one token for each session");
    let Some(first) = sessions.first() else { return Ok(()) };
    let engine = first.engine.clone();
    if sessions.iter().any(|s| !s.engine.is_same(&engine)) {
        return Err(Error::ForeignSession);
    }
    engine.file().check_unchanged()?;
    let mut scratch = engine.scratch(sessions.len());
    let mut batch: Vec<Span<'_>> = sessions
        .iter_mut()
        .zip(tokens)
        .map(|(s, token)| Span {
            cache: &mut s.cache,
            tokens: std::slice::from_ref(token),
            wanted: Wanted::Last,
        })
        .collect();
    let result = engine.model().forward(engine.team(), &mut batch, scratch.get());
    match result {
        Ok(logits) => {
            let rows = logits.chunks(engine.config().n_vocab);
            for (i, ((session, token), logits)) in sessions.iter_mut().zip(tokens).zip(rows).enumerate() {
                session.tokens.push(*token);
                session.logits.copy_from_slice(logits);
                each(i, logits);
            }
            Ok(())
        }
        Err(e) => {
            if !matches!(e, ForwardError::UnknownToken { .. } | ForwardError::ContextFull { .. }) {
                sessions.iter_mut().for_each(Session::clear);
            }
            Err(e.into())
        }
    }
}
