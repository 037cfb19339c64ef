//! One text, read and continued: a [`Sequence`] with the logits after its last token.

use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use bise_models::{ForwardError, KvCache, OutOfMemory, Output, SpanError};
use smallvec::SmallVec;

use crate::ahead::Ahead;
use crate::{Engine, Error, Feed, Sequence, SessionOptions};

/// Sessions stop between passes.
static NEVER: AtomicBool = AtomicBool::new(false);

/// One text: the tokens read so far, their keys and values, and the logits after the last.
pub struct Session {
    engine: Engine,
    /// The tokens read, and the drafts in `ahead`.
    sequence: Sequence,
    n_ubatch: usize,
    /// Logits after the last token read, `[n_vocab]`, unless `logits_are_stale`.
    logits: Vec<f32>,
    logits_are_stale: bool,
    ahead: Ahead,
}

impl Session {
    pub(crate) fn new(engine: Engine, options: &SessionOptions) -> Result<Session, Error> {
        let n_vocab = engine.config().n_vocab;
        let mut logits = Vec::new();
        let out_of_memory = OutOfMemory { bytes: 4 * n_vocab, what: "logits" };
        logits.try_reserve_exact(n_vocab).map_err(|_| out_of_memory)?;
        logits.resize(n_vocab, 0.0);
        let sequence = engine.sequence(options);
        Ok(Session {
            engine,
            sequence,
            n_ubatch: options.n_ubatch.max(1),
            logits,
            logits_are_stale: true,
            ahead: Ahead::default(),
        })
    }

    /// The model.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Tokens read so far.
    pub fn tokens(&self) -> &[u32] {
        &self.sequence.tokens()[..self.position()]
    }

    /// The number of tokens read so far.
    pub fn position(&self) -> usize {
        self.sequence.position() - self.ahead.len()
    }

    /// Tokens it may hold; with a window it may go past that.
    pub fn n_ctx(&self) -> usize {
        self.sequence.n_ctx()
    }

    /// Tokens that still fit; with a window there is no end.
    pub fn room(&self) -> usize {
        self.sequence.room().saturating_add(self.ahead.len())
    }

    /// Drafts that were read ahead of the position and may still turn out right (see [`Session::decode_ahead`]).
    pub fn n_ahead(&self) -> usize {
        self.ahead.len()
    }

    /// Logits after the last token read, `[n_vocab]`. `None` where that token's were not computed: before anything is read, after
    /// [`Session::rewind`] has forgotten tokens, and after a prefill that failed or was stopped.
    pub fn logits(&self) -> Option<&[f32]> {
        (!self.logits_are_stale).then_some(&self.logits[..])
    }

    /// Reads tokens after those read before, and returns the logits after the last.
    ///
    /// # Errors
    /// For no tokens, tokens that do not fit or are not in the vocabulary: nothing is read then. A pass that fails (activations that are
    /// not finite, no memory, a file that shrank) ends the reading; [`Session::tokens`] tells which tokens were read before.
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
            let output = if done == tokens.len() { Output::Last } else { Output::None };
            self.read(chunk, output, &mut |_, _| {})?;
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
            return Ok(&self.logits);
        }
        self.check_room(&[token])?;
        self.drop_ahead();
        let drafts = &drafts[..drafts.len().min(self.max_drafts())];
        if drafts.is_empty() || !self.read_ahead(token, drafts)? {
            self.read(&[token], Output::Last, &mut |_, _| {})?;
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
            self.read(chunk, Output::All, &mut |i, logits| each(done + i, logits))?;
            done += chunk.len();
        }
        Ok(())
    }

    /// Forgets the tokens from `position` on. Where rows are needed that have left the window, what remains is read again.
    ///
    /// # Errors
    /// As [`Session::prefill`], when it is read again.
    ///
    /// # Panics
    /// Where `position` lies ahead.
    pub fn rewind(&mut self, position: usize) -> Result<(), Error> {
        assert!(position <= self.position(), "rewinding from {} to {position}", self.position());
        self.drop_ahead();
        if position == self.position() {
            return Ok(());
        }
        if self.sequence.truncate(position) {
            self.logits_are_stale = true;
            return Ok(());
        }
        let tokens = self.tokens()[..position].to_vec();
        self.clear();
        self.prefill(&tokens).map(drop)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.ahead.clear();
        self.sequence.clear();
        self.logits_are_stale = true;
    }

    /// Errs where `tokens` cannot all be read.
    fn check(&self, tokens: &[u32]) -> Result<(), Error> {
        self.check_vocabulary(tokens)?;
        self.check_room(tokens)
    }

    fn check_vocabulary(&self, tokens: &[u32]) -> Result<(), Error> {
        let n_vocab = self.logits.len();
        match tokens.iter().find(|token| **token as usize >= n_vocab) {
            Some(&token) => Err(refusal(SpanError::UnknownToken { token, n_vocab })),
            None => Ok(()),
        }
    }

    fn check_room(&self, tokens: &[u32]) -> Result<(), Error> {
        let (n_tokens, position, room) = (tokens.len(), self.position(), self.room());
        if n_tokens <= room {
            return Ok(());
        }
        Err(refusal(SpanError::ContextFull { n_tokens, position, room }))
    }

    /// Forgets the drafts ahead of the position.
    fn drop_ahead(&mut self) {
        if self.ahead.len() > 0 {
            let whole = self.sequence.truncate(self.position());
            debug_assert!(whole, "more drafts were read than can be dropped");
        }
        self.ahead.clear();
    }

    /// Logits after the last token read (0) or the `i`-th draft ahead, where those were computed.
    pub(crate) fn row(&self, i: usize) -> &[f32] {
        match i {
            0 => &self.logits,
            _ => self.ahead.row(i - 1),
        }
    }

    /// Takes the first `n` drafts ahead into the text.
    pub(crate) fn take_ahead(&mut self, n: usize) -> Result<(), Error> {
        (0..n).try_for_each(|_| match self.ahead.next() {
            Some(draft) => self.decode(draft).map(drop),
            None => Ok(()),
        })
    }

    /// Drafts that can be read beside one token, and dropped again.
    pub(crate) fn max_drafts(&self) -> usize {
        self.room().saturating_sub(1).min(self.n_ubatch - 1).min(KvCache::SLACK)
    }

    /// Reads a token, and drafts ahead of the position. Returns whether it did: not where activations were not finite.
    fn read_ahead(&mut self, token: u32, drafts: &[u32]) -> Result<bool, Error> {
        let tokens: SmallVec<[u32; 64]> = std::iter::once(token).chain(drafts.iter().copied()).collect();
        let position = self.position();
        match self.read_drafts(&tokens) {
            Ok(()) => Ok(true),
            Err(error) => {
                self.ahead.clear();
                let whole = self.sequence.truncate(position);
                debug_assert!(whole, "more drafts were read than can be dropped");
                if is_not_finite(&error) { Ok(false) } else { Err(error) }
            }
        }
    }

    fn read_drafts(&mut self, tokens: &[u32]) -> Result<(), Error> {
        let mut runner = self.engine.shared_runner();
        let mut batch = [Feed { sequence: &mut self.sequence, tokens, output: Output::All }];
        let mut outputs = runner.forward(&mut batch, &NEVER)?;
        self.ahead.set(&tokens[1..]);
        while let Some(row) = outputs.next_row()? {
            match row.index {
                0 => self.logits.copy_from_slice(row.values),
                _ => self.ahead.push_logits(row.values),
            }
        }
        self.logits_are_stale = false;
        Ok(())
    }

    /// Reads tokens in one pass.
    fn read(
        &mut self,
        tokens: &[u32],
        output: Output,
        each: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        let (position, n_tokens) = (self.position(), tokens.len());
        let mut runner = self.engine.shared_runner();
        let mut batch = [Feed { sequence: &mut self.sequence, tokens, output }];
        self.logits_are_stale = true;
        let mut outputs = runner.forward(&mut batch, &NEVER)?;
        loop {
            match outputs.next_row() {
                Ok(Some(row)) => {
                    if row.index + 1 == n_tokens {
                        self.logits.copy_from_slice(row.values);
                        self.logits_are_stale = false;
                    }
                    each(row.index, row.values);
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    // Tokens without logits are of no use to a session.
                    let whole = self.sequence.truncate(position);
                    if !whole {
                        self.clear();
                    }
                    return Err(error.into());
                }
            }
        }
    }
}

/// An error that says why a session's tokens cannot be read.
fn refusal(error: SpanError) -> Error {
    ForwardError::Span { span: 0, error }.into()
}

fn is_not_finite(error: &Error) -> bool {
    let Error::Forward(ForwardError::Span { error, .. }) = error else { return false };
    matches!(error, SpanError::NotFinite { .. } | SpanError::LogitsNotFinite)
}

/// Reads one more token in each of several sessions of one engine, together, and calls `each(i, logits)` with the logits of the
/// `i`-th. The results are those of [`Session::decode`] on each alone, bit for bit. `each` may use other sessions of the engine.
///
/// # Errors
/// As [`Session::prefill`], and for sessions of different engines: nothing is read then. Where the activations of some are not finite, the
/// others are read, and the error of the first that failed comes at the end.
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
    sessions.iter_mut().for_each(Session::drop_ahead);
    let mut runner = engine.shared_runner();
    let mut batch: SmallVec<[Feed<'_>; 16]> = sessions
        .iter_mut()
        .zip(tokens)
        .map(|(session, token)| Feed {
            sequence: &mut session.sequence,
            tokens: std::slice::from_ref(token),
            output: Output::Last,
        })
        .collect();
    let mut outputs = runner.forward(&mut batch, &NEVER)?;
    drop(batch);
    let mut failed = None;
    for i in 0..sessions.len() {
        if let Some(error) = outputs.failure(i) {
            failed.get_or_insert(ForwardError::Span { span: i, error: error.clone() });
        }
    }
    loop {
        match outputs.next_row() {
            Ok(Some(row)) => {
                let session = &mut sessions[row.span];
                session.logits.copy_from_slice(row.values);
                session.logits_are_stale = false;
                each(row.span, row.values);
            }
            Ok(None) => return failed.map_or(Ok(()), |error| Err(error.into())),
            Err(error) => {
                if let ForwardError::Span { span, .. } = error {
                    sessions[span].clear();
                }
                failed.get_or_insert(error);
            }
        }
    }
}
