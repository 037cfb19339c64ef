//! A single text that is read and continued: a [`Sequence`] and the logits after its last token.

mod ahead;

use std::borrow::BorrowMut;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bise_kernels::CancelFlags;
use bise_models::{ForwardError, KvCache, OutOfMemory, Output, PoolError, Reservation, SpanError};
use smallvec::SmallVec;

use self::ahead::Ahead;
use crate::adapter::list::Adapters;
use crate::{Cancel, Engine, Error, Feed, Sequence, SessionOptions};

/// One text: the tokens read so far, their keys and values, and the logits after the last token.
pub struct Session {
    engine: Engine,
    /// The tokens read, and the drafts in `ahead`.
    sequence: Sequence,
    n_ubatch: usize,
    /// `[n_vocab]`
    logits: Arc<Vec<f32>>,
    /// The position whose last token the logits come after.
    logits_at: Option<usize>,
    ahead: Ahead,
    cancel: Cancel,
    _reservation: Reservation,
}

impl Engine {
    /// A new text, with everything to read and continue it.
    ///
    /// # Errors
    /// Where the system does not have the memory for its logits, or it could not fill its context under the ceiling on memory.
    pub fn session(&self, options: &SessionOptions) -> Result<Session, Error> {
        self.check_ceiling(options)?;
        Session::new(self.clone(), options)
    }
}

impl Session {
    pub(crate) fn new(engine: Engine, options: &SessionOptions) -> Result<Session, Error> {
        let n_vocab = engine.config().n_vocab;
        let reservation = engine.budget().reserve(4 * n_vocab)?;
        let logits = Arc::new(row_of(n_vocab)?);
        let sequence = engine.sequence(options);
        Ok(Session {
            engine,
            sequence,
            n_ubatch: options.n_ubatch.max(1),
            logits,
            logits_at: None,
            ahead: Ahead::default(),
            cancel: Cancel::new(),
            _reservation: reservation,
        })
    }

    /// A session that has read `sequence`; `logits` are those after its last token.
    pub(crate) fn restored(
        engine: Engine,
        sequence: Sequence,
        options: &SessionOptions,
        logits: Option<&[f32]>,
    ) -> Result<Session, Error> {
        let mut session = Session::new(engine, options)?;
        session.sequence = sequence;
        if let Some(logits) = logits {
            write(&mut session.logits, logits)?;
            session.logits_at = Some(session.position());
        }
        Ok(session)
    }

    /// The tokens read, and drafts ahead of the position.
    pub(crate) fn sequence(&self) -> &Sequence {
        &self.sequence
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

    /// The length of the context in tokens. With a sliding window, a text may grow past it.
    pub fn n_ctx(&self) -> usize {
        self.sequence.n_ctx()
    }

    /// The number of tokens that still fit; `usize::MAX` with a sliding window.
    pub fn room(&self) -> usize {
        self.sequence.room().saturating_add(self.ahead.len())
    }

    /// The adapters that act on it: those of the engine, unless others were set.
    pub fn adapters(&self) -> &Adapters {
        self.sequence.adapters()
    }

    /// Has `adapters` act on it from now on. If they are others than before, the tokens read so far are read again, with them.
    ///
    /// # Errors
    /// Adapters for another model, or with a factor that is no finite number: nothing has changed then. If tokens are read again, as
    /// [`Session::prefill`].
    pub fn set_adapters(&mut self, adapters: Adapters) -> Result<(), Error> {
        adapters.check(self.engine.config()).map_err(refusal)?;
        if adapters == *self.adapters() {
            return Ok(());
        }
        self.drop_ahead();
        let tokens = self.tokens().to_vec();
        self.clear();
        self.sequence.set_adapters(adapters);
        if tokens.is_empty() { Ok(()) } else { self.prefill(&tokens).map(drop) }
    }

    /// The number of drafts that were read ahead of the position and may still be accepted (see [`Session::decode_ahead`]).
    pub fn n_ahead(&self) -> usize {
        self.ahead.len()
    }

    /// A handle that ends this session's passes from another thread: whatever was asked of the session then returns an error soon, for which
    /// [`Error::is_cancelled`] is true. Tokens read by passes that were complete by then are kept.
    pub fn cancel_handle(&self) -> Cancel {
        self.cancel.clone()
    }

    /// Has passes ended by `cancel` from now on, which several sessions may share.
    pub fn set_cancel_handle(&mut self, cancel: Cancel) {
        self.cancel = cancel;
    }

    /// Logits after the last token read, `[n_vocab]`. `None` where that token's were not computed: before anything is read, after
    /// [`Session::rewind`] has forgotten tokens, and after a prefill that ended early with some of its tokens read.
    pub fn logits(&self) -> Option<&[f32]> {
        (self.logits_at == Some(self.position())).then_some(&self.logits[..])
    }

    /// Takes the memory for a text of `n_tokens` in advance, rather than as it grows: decoding then takes none. Without a window that is no more
    /// than the context holds; with one, keys and values take no more than the window does.
    ///
    /// # Errors
    /// Where the system does not have the memory; some of it may be taken then.
    pub fn reserve(&mut self, n_tokens: usize) -> Result<(), Error> {
        let (n_layers, window) = (self.engine.config().n_layers, self.engine.config().sliding_window);
        let n_tokens = if window.is_some() { n_tokens } else { n_tokens.min(self.n_ctx()) };
        let pool = self.sequence.cache().pool().clone();
        let bytes = KvCache::bytes(pool.layout(), n_layers, n_tokens, window, self.n_ubatch);
        pool.prepare(bytes / pool.page_bytes()).map_err(|error| refusal(SpanError::NoPages(error)))?;
        Ok(self.sequence.reserve(n_tokens)?)
    }

    /// [`Session::logits`] to keep: they do not change when the session reads on. While they are in use, it writes to memory of its own.
    pub fn shared_logits(&self) -> Option<Arc<Vec<f32>>> {
        self.logits().is_some().then(|| Arc::clone(&self.logits))
    }

    /// Reads tokens after those read before, and returns the logits after the last.
    ///
    /// # Errors
    /// For no tokens, tokens that do not fit or are not in the vocabulary: nothing is read then. A pass that fails (activations that are
    /// not finite, no memory, a file that shrank) or is cancelled ends the reading; [`Session::tokens`] tells which tokens were read
    /// before.
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<&[f32], Error> {
        self.prefill_with(tokens, &mut |_| ControlFlow::Continue(()))
    }

    /// [`Session::prefill`] that calls `progress` after each pass with the number of tokens read. `progress` may stop the prefill there; the
    /// logits are then not those of the last token.
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

    /// [`Session::decode`] that also runs `drafts`, guesses at the tokens that follow, through the model in the same pass. Decoding them
    /// afterwards, in this order, takes no further pass; the first token that differs drops the remaining drafts. Logits are those of
    /// [`Session::decode`] without drafts, bit for bit, and only decoded tokens count in [`Session::tokens`].
    ///
    /// If `token` is the next draft of an earlier call, no pass runs and `drafts` are ignored. Otherwise as many drafts are read as fit
    /// in the pass and in the context and, with a sliding window, can be dropped again.
    ///
    /// # Errors
    /// As [`Session::prefill`], and for drafts that are not in the vocabulary. If activations are not finite with the drafts, `token` is
    /// read without them.
    pub fn decode_ahead(&mut self, token: u32, drafts: &[u32]) -> Result<&[f32], Error> {
        self.check_vocabulary(&[token])?;
        self.check_vocabulary(drafts)?;
        if let Some(logits) = self.ahead.take(token) {
            write(&mut self.logits, logits)?;
            self.logits_at = Some(self.position());
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
    /// As [`Session::prefill`]. Tokens of a pass that `each` has seen only a part of count as not read, unless a sliding window has moved
    /// past what came before them.
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

    /// Forgets the tokens from `position` on. If the keys and values that this needs have left the sliding window, the remaining tokens are
    /// read again.
    ///
    /// # Errors
    /// As [`Session::prefill`], if tokens are read again.
    ///
    /// # Panics
    /// If `position` is past the end.
    pub fn rewind(&mut self, position: usize) -> Result<(), Error> {
        assert!(position <= self.position(), "rewinding from {} to {position}", self.position());
        self.drop_ahead();
        if position == self.position() {
            return Ok(());
        }
        if self.sequence.truncate(position) {
            self.logits_at = None;
            return Ok(());
        }
        let tokens = self.tokens()[..position].to_vec();
        self.clear();
        self.prefill(&tokens).map(drop)
    }

    /// Forgets all tokens.
    pub fn clear(&mut self) {
        self.ahead.clear();
        self.sequence.clear();
        self.logits_at = None;
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

    /// The logits after the last token read (`i == 0`) or after the `i`-th draft ahead.
    pub(crate) fn row(&self, i: usize) -> &[f32] {
        match i {
            0 => &self.logits,
            _ => self.ahead.row(i - 1),
        }
    }

    /// Accepts the first `n` drafts ahead.
    pub(crate) fn take_ahead(&mut self, n: usize) -> Result<(), Error> {
        (0..n).try_for_each(|_| match self.ahead.next() {
            Some(draft) => self.decode(draft).map(drop),
            None => Ok(()),
        })
    }

    /// The number of drafts that can be read with one token, and dropped again.
    pub(crate) fn max_drafts(&self) -> usize {
        self.room().saturating_sub(1).min(self.n_ubatch - 1).min(KvCache::SLACK)
    }

    /// Reads a token, and drafts ahead of the position. Returns false, with nothing read, if activations were not finite, or drafts do not fit
    /// under the ceiling on memory.
    fn read_ahead(&mut self, token: u32, drafts: &[u32]) -> Result<bool, Error> {
        let tokens: SmallVec<[u32; 64]> = std::iter::once(token).chain(drafts.iter().copied()).collect();
        let position = self.position();
        match self.read_drafts(&tokens) {
            Ok(()) => Ok(true),
            Err(error) => {
                self.ahead.clear();
                let whole = self.sequence.truncate(position);
                debug_assert!(whole, "more drafts were read than can be dropped");
                if is_not_finite(&error) || is_over_ceiling(&error) { Ok(false) } else { Err(error) }
            }
        }
    }

    fn read_drafts(&mut self, tokens: &[u32]) -> Result<(), Error> {
        self.ahead.reserve(tokens.len() - 1, self.logits.len(), self.engine.budget())?;
        let mut runner = self.engine.shared_runner();
        let mut batch = [Feed { sequence: &mut self.sequence, tokens, output: Output::All }];
        let mut outputs = runner.forward(&mut batch, self.cancel.flag())?;
        self.ahead.set(&tokens[1..]);
        self.logits_at = None;
        while let Some(row) = outputs.next_row()? {
            match row.index {
                0 => write(&mut self.logits, row.values)?,
                _ => self.ahead.push_logits(row.values),
            }
        }
        self.logits_at = Some(self.position());
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
        let mut outputs = runner.forward(&mut batch, self.cancel.flag())?;
        loop {
            match outputs.next_row() {
                Ok(Some(row)) => {
                    if row.index + 1 == n_tokens {
                        write(&mut self.logits, row.values)?;
                        self.logits_at = Some(position + n_tokens);
                    }
                    each(row.index, row.values);
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    // Tokens without logits are of no use to a session.
                    let whole = self.sequence.truncate(position);
                    if !whole && error != ForwardError::Cancelled {
                        self.clear();
                    }
                    return Err(error.into());
                }
            }
        }
    }
}

/// Memory for one row of logits.
fn row_of(n_vocab: usize) -> Result<Vec<f32>, OutOfMemory> {
    let mut row = Vec::new();
    let out_of_memory = OutOfMemory { bytes: 4 * n_vocab, what: "logits" };
    row.try_reserve_exact(n_vocab).map_err(|_| out_of_memory)?;
    row.resize(n_vocab, 0.0);
    Ok(row)
}

/// Overwrites `logits`, or replaces them if [`Session::shared_logits`] are still in use.
fn write(logits: &mut Arc<Vec<f32>>, row: &[f32]) -> Result<(), OutOfMemory> {
    if let Some(logits) = Arc::get_mut(logits) {
        logits.copy_from_slice(row);
        return Ok(());
    }
    let mut other = row_of(row.len())?;
    other.copy_from_slice(row);
    *logits = Arc::new(other);
    Ok(())
}

/// The error for tokens that a session cannot read.
fn refusal(error: SpanError) -> Error {
    ForwardError::Span { span: 0, error }.into()
}

fn is_over_ceiling(error: &Error) -> bool {
    match error {
        Error::OverCeiling(_) | Error::Forward(ForwardError::OverCeiling { .. }) => true,
        Error::Forward(ForwardError::Span { error, .. }) => {
            matches!(error, SpanError::NoPages(PoolError::OverCeiling(_)))
        }
        _ => false,
    }
}

fn is_not_finite(error: &Error) -> bool {
    let Error::Forward(ForwardError::Span { error, .. }) = error else { return false };
    matches!(error, SpanError::NotFinite { .. } | SpanError::LogitsNotFinite { .. })
}

/// Reads one more token in each of several sessions of one engine, together, and calls `each(i, logits)` with the logits of the
/// `i`-th. The results are those of [`Session::decode`] on each alone, bit for bit. `each` may use other sessions of the engine.
///
/// # Errors
/// As [`Session::prefill`], and for sessions of different engines: nothing is read then. Where the activations of some are not finite, the
/// others are read, and the error of the first that failed comes at the end. The handle of any of the sessions ends the pass: none has read
/// its token then, and only the session whose handle it was is cancelled, so that the others can go on without it.
///
/// # Panics
/// Where there is not one token for each session.
pub fn decode_together<S: BorrowMut<Session>>(
    sessions: &mut [S],
    tokens: &[u32],
    each: &mut dyn FnMut(usize, &[f32]),
) -> Result<(), Error> {
    assert_eq!(sessions.len(), tokens.len(), "one token for each session");
    let Some(first) = sessions.first() else { return Ok(()) };
    let engine = first.borrow().engine.clone();
    if sessions.iter().any(|s| !s.borrow().engine.is_same(&engine)) {
        return Err(Error::ForeignSession);
    }
    let cancels: SmallVec<[Cancel; 16]> = sessions.iter().map(|s| s.borrow().cancel.clone()).collect();
    let cancels: SmallVec<[&AtomicBool; 16]> = cancels.iter().map(Cancel::flag).collect();
    let cancels = CancelFlags::from(&cancels[..]);
    if cancels.is_set() {
        return Err(ForwardError::Cancelled.into());
    }
    sessions.iter_mut().for_each(|session| session.borrow_mut().drop_ahead());
    let mut runner = engine.shared_runner();
    let mut batch: SmallVec<[Feed<'_>; 16]> = sessions
        .iter_mut()
        .zip(tokens)
        .map(|(session, token)| Feed {
            sequence: &mut session.borrow_mut().sequence,
            tokens: std::slice::from_ref(token),
            output: Output::Last,
        })
        .collect();
    let mut outputs = runner.forward(&mut batch, cancels)?;
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
                let session = sessions[row.span].borrow_mut();
                write(&mut session.logits, row.values)?;
                session.logits_at = Some(session.position());
                each(row.span, row.values);
            }
            Ok(None) => return failed.map_or(Ok(()), |error| Err(error.into())),
            Err(error) => {
                if let ForwardError::Span { span, .. } = error {
                    sessions[span].borrow_mut().clear();
                }
                failed.get_or_insert(error);
            }
        }
    }
}
