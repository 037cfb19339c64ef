//! One sequence of tokens, read and continued.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use bise_models::tokenizer::EncodeOptions;
use bise_models::{ForwardError, KvCache, Span, Wanted};

use crate::ahead::Ahead;
use crate::sampling::{Sampler, SamplingParams};
use crate::{Engine, Error, Pieces, SessionOptions};

/// One sequence: its tokens, and their keys and values.
pub struct Session {
    engine: Engine,
    /// Keys and values of `tokens`, and of the drafts in `ahead`.
    cache: KvCache,
    tokens: Vec<u32>,
    n_ctx: usize,
    n_ubatch: usize,
    /// Logits after the last of `tokens`, `[n_vocab]`, unless `logits_are_stale`.
    logits: Vec<f32>,
    logits_are_stale: bool,
    ahead: Ahead,
    lineage: u64,
}

impl Session {
    pub(crate) fn new(engine: Engine, options: &SessionOptions) -> Session {
        let (cache, n_ctx) = (engine.cache(options), engine.n_ctx(options));
        let logits = vec![0.0; engine.config().n_vocab];
        Session {
            engine,
            cache,
            tokens: Vec::new(),
            n_ctx,
            n_ubatch: options.n_ubatch.max(1),
            logits,
            logits_are_stale: true,
            ahead: Ahead::default(),
            lineage: new_lineage(),
        }
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
        self.cache.room() + self.ahead.len()
    }

    /// Drafts that were read ahead of the position and may still turn out right (see [`Session::decode_ahead`]).
    pub fn n_ahead(&self) -> usize {
        self.ahead.len()
    }

    /// Whether `token` is the next draft.
    pub(crate) fn is_ahead(&self, token: u32) -> bool {
        self.ahead.next() == Some(token)
    }

    /// A number that no other session has, and this one not after tokens were forgotten: while it stays the same, the tokens only grow.
    pub(crate) fn lineage(&self) -> u64 {
        self.lineage
    }

    /// Logits after the last token read, `[n_vocab]`. `None` where that token's were not computed: before anything is read, after
    /// [`Session::rewind`] has forgotten tokens, and after a prefill that failed or was stopped.
    pub fn logits(&self) -> Option<&[f32]> {
        (!self.logits_are_stale).then_some(&self.logits[..])
    }

    /// Reads tokens after those read before, and returns the logits after the last.
    ///
    /// # Errors
    /// For no tokens, tokens that do not fit or are not in the vocabulary: nothing is read then. A file that shrank ends the reading at
    /// the pass that finds out; [`Session::tokens`] tells which tokens were read before. Where activations are not finite, the session
    /// is left empty.
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
        self.check(tokens)?;
        self.drop_ahead();
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
        self.decode_ahead(token, &[])
    }

    /// The same, and reads ahead: `drafts`, tokens that may come next, pass through the model together with `token`. Where they are
    /// then decoded one after the other, in this order, each takes no pass of its own; the first that differs drops what is left of
    /// them. The logits are those of [`Session::decode`] without drafts, bit for bit, and only decoded tokens count in
    /// [`Session::tokens`].
    ///
    /// Where `token` is itself the next draft of an earlier call, no pass runs and `drafts` are not used. Of the drafts only as many are
    /// read as fit beside `token` in a pass and in the context; and with a window, as can be dropped again.
    ///
    /// # Errors
    /// As [`Session::prefill`], also for drafts that are not in the vocabulary. Drafts on which activations are not finite are no error:
    /// `token` is read without them.
    pub fn decode_ahead(&mut self, token: u32, drafts: &[u32]) -> Result<&[f32], Error> {
        self.check_vocabulary(&[token])?;
        self.check_vocabulary(drafts)?;
        if let Some(logits) = self.ahead.take(token) {
            self.logits.copy_from_slice(logits);
            self.logits_are_stale = false;
            self.tokens.push(token);
            return Ok(&self.logits);
        }
        self.check_room(&[token])?;
        self.drop_ahead();
        let drafts = &drafts[..drafts.len().min(self.max_drafts())];
        if drafts.is_empty() || !self.read_ahead(token, drafts)? {
            self.read(&[token], Wanted::Last, &mut |_, _| {})?;
        }
        Ok(&self.logits)
    }

    /// Reads tokens, and calls `each(i, logits)` with the logits after the `i`-th. `each` may use other sessions of the engine.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn score(&mut self, tokens: &[u32], each: &mut dyn FnMut(usize, &[f32])) -> Result<(), Error> {
        self.check(tokens)?;
        self.drop_ahead();
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
        self.ahead.clear();
        if self.cache.rewind(position) {
            if position < self.tokens.len() {
                self.tokens.truncate(position);
                self.logits_are_stale = true;
                self.lineage = new_lineage();
            }
            return Ok(());
        }
        let mut tokens = std::mem::take(&mut self.tokens);
        tokens.truncate(position);
        self.clear();
        self.prefill(&tokens).map(drop)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.ahead.clear();
        self.cache.rewind(0);
        self.tokens.clear();
        self.logits_are_stale = true;
        self.lineage = new_lineage();
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

    /// Errs where `tokens` cannot all be read.
    fn check(&self, tokens: &[u32]) -> Result<(), Error> {
        self.check_vocabulary(tokens)?;
        self.check_room(tokens)
    }

    fn check_vocabulary(&self, tokens: &[u32]) -> Result<(), Error> {
        let n_vocab = self.logits.len();
        match tokens.iter().find(|token| **token as usize >= n_vocab) {
            Some(&token) => Err(ForwardError::UnknownToken { token, n_vocab }.into()),
            None => Ok(()),
        }
    }

    fn check_room(&self, tokens: &[u32]) -> Result<(), Error> {
        let (n_tokens, position, room) = (tokens.len(), self.position(), self.room());
        if n_tokens <= room {
            return Ok(());
        }
        Err(ForwardError::ContextFull { n_tokens, position, room }.into())
    }

    /// Forgets the drafts ahead of the position.
    fn drop_ahead(&mut self) {
        if self.ahead.len() > 0 {
            let whole = self.cache.rewind(self.tokens.len());
            debug_assert!(whole, "more drafts were read than can be dropped");
        }
        self.ahead.clear();
    }

    /// Drafts that can be read beside one token.
    fn max_drafts(&self) -> usize {
        // The rows that the token sees have to stay.
        let droppable = self.cache.writable_until(self.position()).saturating_sub(self.position() + 1);
        droppable.min(self.room().saturating_sub(1)).min(self.n_ubatch - 1)
    }

    /// Reads a token, and drafts ahead of the position. Returns whether it did: not where activations were not finite.
    fn read_ahead(&mut self, token: u32, drafts: &[u32]) -> Result<bool, Error> {
        self.engine.file().check_unchanged()?;
        let tokens: Vec<u32> = std::iter::once(token).chain(drafts.iter().copied()).collect();
        let engine = self.engine.clone();
        // Few sizes, so that buffers are seldom made anew.
        let mut scratch = engine.scratch(tokens.len().next_power_of_two());
        let mut batch = [Span { cache: &mut self.cache, tokens: &tokens, wanted: Wanted::All }];
        match engine.model().forward(engine.team(), &mut batch, scratch.get()) {
            Ok(logits) => {
                let (first, others) = logits.split_at(self.logits.len());
                self.logits.copy_from_slice(first);
                self.logits_are_stale = false;
                self.ahead.set(drafts, others);
                self.tokens.push(token);
                Ok(true)
            }
            // Nothing that the next pass sees was overwritten.
            Err(ForwardError::NotFinite { .. } | ForwardError::LogitsNotFinite) => Ok(false),
            Err(e) => Err(e.into()),
        }
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
                self.tokens.extend_from_slice(tokens);
                let mut rows = logits.chunks(self.logits.len());
                self.logits_are_stale = rows.len() == 0;
                if let Some(last) = rows.clone().next_back() {
                    self.logits.copy_from_slice(last);
                }
                // Last, as it may panic.
                rows.by_ref().enumerate().for_each(|(i, logits)| each(i, logits));
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

fn new_lineage() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Reads one more token in each of several sessions of one engine, together, and calls `each(i, logits)` with the logits of the
/// `i`-th. The results are those of [`Session::decode`] on each alone, bit for bit. `each` may use other sessions of the engine.
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
    sessions.iter_mut().for_each(Session::drop_ahead);
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
            for ((session, token), logits) in sessions.iter_mut().zip(tokens).zip(rows.clone()) {
                session.tokens.push(*token);
                session.logits.copy_from_slice(logits);
                session.logits_are_stale = false;
            }
            rows.enumerate().for_each(|(i, logits)| each(i, logits));
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
