//! One text, read and continued.

use std::ffi::c_void;
use std::sync::Mutex;

use engine::generation::{Finish, Generation, GenerationState};
use engine::{Cancel, Session};

use crate::border::{call, try_lock, value};
use crate::error::bise_error;
use crate::failure::Failure;
use crate::model::{MODELS, bise_model};
use crate::piece::{bise_chosen, bise_finish};
use crate::registry::Registry;
use crate::session_options::{SessionSettings, bise_session_options};
use crate::status::{bise_status, bise_status::*};

/// One text: the tokens read so far, their keys and values, and the logits after the last.
///
/// Any thread may use it, but one call at a time: a second one returns BISE_ERROR_BUSY, from another thread or from a callback.
/// bise_session_cancel and bise_session_free are the exceptions.
pub struct bise_session {
    pub(crate) state: Mutex<State>,
    cancel: Cancel,
}

/// What one call at a time may use.
pub(crate) struct State {
    pub session: Session,
    /// From bise_session_start until something else is read.
    pub generation: Option<Generation>,
    /// A generation that was under way when the session was saved, until it is started again or something else is read.
    pub interrupted: Option<Interrupted>,
    pub finish: bise_finish,
    /// What the last call brought, with a NUL behind it.
    pub piece: Vec<u8>,
    /// The tokens of it.
    pub chosen: Vec<bise_chosen>,
    /// The likeliest tokens in place of each of `chosen`, and where those of each end.
    pub tops: Vec<bise_chosen>,
    pub top_ends: Vec<usize>,
    pub progress: Option<Progress>,
}

/// How far a generation was.
pub(crate) struct Interrupted {
    pub state: GenerationState,
    /// The token that was chosen last, while it has not been read.
    pub unread: Option<u32>,
}

/// Told, while tokens are being read, how many of them are done. Returns 0 to go on, and anything else to stop.
///
/// Runs in the thread of the call that reads, during that call, which keeps the session: to call back with it gives BISE_ERROR_BUSY. It must
/// not throw or longjmp.
pub type bise_progress_callback =
    Option<extern "C" fn(user_data: *mut c_void, n_done: usize, n_total: usize) -> i32>;

#[derive(Clone, Copy)]
pub(crate) struct Progress {
    pub function: extern "C" fn(*mut c_void, usize, usize) -> i32,
    pub user_data: *mut c_void,
}

// SAFETY: the pointer is only passed back to the caller's function, which the header says runs in whatever thread makes the call.
unsafe impl Send for Progress {}

pub(crate) static SESSIONS: Registry<bise_session> = Registry::new(6, "bise_session");

impl bise_session {
    pub fn new(session: Session, interrupted: Option<Interrupted>) -> bise_session {
        let cancel = session.cancel_handle();
        let state = State {
            session,
            generation: None,
            interrupted,
            finish: bise_finish::BISE_FINISH_NONE,
            piece: Vec::with_capacity(4096),
            chosen: Vec::with_capacity(64),
            tops: Vec::new(),
            top_ends: Vec::with_capacity(64),
            progress: None,
        };
        bise_session { state: Mutex::new(state), cancel }
    }

    /// Passes a call's result on. If it was cancelled, the next call is not.
    pub fn settle<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        if matches!(&result, Err(failure) if failure.status == BISE_ERROR_CANCELLED) {
            self.cancel.reset();
        }
        result
    }
}

/// Runs `body` with what a session's handle stands for.
pub(crate) fn with<T>(
    handle: *const bise_session,
    body: impl FnOnce(&mut State) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let session = SESSIONS.get(handle)?;
    let mut state = try_lock(&session.state, "bise_session")?;
    session.settle(body(&mut state))
}

impl State {
    /// Whether there is a generation that can go on, or could if it were longer.
    pub fn is_under_way(&self) -> bool {
        self.generation.as_ref().is_some_and(|generation| {
            !matches!(
                generation.finish(),
                Some(Finish::EndToken(_) | Finish::StopToken(_) | Finish::StopText(_))
            )
        })
    }

    /// The token that was chosen but not read, if the text up to the last piece holds it.
    pub fn unread(&self) -> Option<u32> {
        match &self.generation {
            Some(generation) => generation.pending().filter(|_| self.is_under_way()),
            None => self.interrupted.as_ref()?.unread,
        }
    }

    /// Leaves the generation: its text is over.
    pub fn leave_generation(&mut self) {
        self.generation = None;
        self.interrupted = None;
        self.clear_piece();
    }

    pub fn clear_piece(&mut self) {
        self.piece.clear();
        self.chosen.clear();
        self.tops.clear();
        self.top_ends.clear();
    }
}

/// Begins an empty text. `options` may be NULL for the defaults, and is not used after the call.
///
/// Owner: the caller, who frees the session by bise_session_free, before or after the model. On failure `*session` is NULL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_new(
    model: *const bise_model,
    options: *const bise_session_options,
    session: *mut *mut bise_session,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(session, "session")?;
        caller.store(session, std::ptr::null_mut());
        let model = MODELS.get(model)?;
        let new = model.engine.session(&SessionSettings::of(options)?.engine)?;
        caller.store(session, SESSIONS.insert(bise_session::new(new, None)));
        Ok(())
    })
}

/// Frees a session. NULL is allowed and does nothing. A call that is under way in another thread goes on to its end.
///
/// Returns BISE_ERROR_HANDLE where it was freed already. Threads: any, also from a callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_free(session: *mut bise_session) -> bise_status {
    call!(std::ptr::null_mut(), |_caller| SESSIONS.free(session))
}

/// Ends the call that is under way with this session, within a layer of the model: it returns BISE_ERROR_CANCELLED, and what it has read by
/// then stays read. Where no call is under way, the next that would run the model returns so instead. Either uses the request up.
///
/// Threads: any, also from a callback. Not from a signal handler: it takes a lock.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_cancel(session: *const bise_session) -> bise_status {
    call!(std::ptr::null_mut(), |_caller| {
        SESSIONS.get(session)?.cancel.cancel();
        Ok(())
    })
}

/// Takes the memory for a text of `n_tokens` in advance, rather than as it grows, so that bise_session_next takes none: for programs that must
/// not run out of memory in the middle. Without a sliding window that is no more than the context holds; with one, keys and values take no more
/// than the window does.
///
/// Returns BISE_ERROR_MEMORY where there is not enough. Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_reserve(
    session: *mut bise_session,
    n_tokens: usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |_caller| with(session, |state| Ok(state.session.reserve(n_tokens)?)))
}

/// Has `callback` told how far the reading of a prompt is, after each pass. NULL tells nobody, which is the default.
///
/// `user_data` is passed on as it is. Threads: any, one call at a time; the callback runs in the thread that reads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_set_progress(
    session: *mut bise_session,
    callback: bise_progress_callback,
    user_data: *mut c_void,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |_caller| {
        with(session, |state| {
            state.progress = callback.map(|function| Progress { function, user_data });
            Ok(())
        })
    })
}

/// The number of tokens read so far; 0 for NULL, a freed or a busy session.
///
/// Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_position(session: *const bise_session) -> usize {
    value!(0, |_caller| with(session, |state| Ok(state.session.position())))
}

/// The number of tokens that the session may hold; 0 for NULL, a freed or a busy session. With a sliding window it may go past that.
///
/// Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_n_ctx(session: *const bise_session) -> usize {
    value!(0, |_caller| with(session, |state| Ok(state.session.n_ctx())))
}

/// The tokens read so far.
///
/// Owner: the session; the array is valid until the next call that reads, generates, rewinds or frees. Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_tokens(
    session: *const bise_session,
    tokens: *mut *const u32,
    n_tokens: *mut usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(tokens, "tokens")?;
        caller.check_place(n_tokens, "n_tokens")?;
        with(session, |state| {
            let found = state.session.tokens();
            caller.store(tokens, found.as_ptr());
            caller.store(n_tokens, found.len());
            Ok(())
        })
    })
}

/// The logits after the last token read, one for each token of the vocabulary: what the model makes of it, before anything in the chain of
/// samplers.
///
/// Returns BISE_ERROR_NOT_FOUND where they were not computed: before anything was read, after bise_session_rewind, and after a reading that was
/// stopped. Owner: the session; the array is valid until the next call that reads, generates, rewinds or frees. Threads: any, one call at a
/// time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_logits(
    session: *const bise_session,
    logits: *mut *const f32,
    n_logits: *mut usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(logits, "logits")?;
        caller.check_place(n_logits, "n_logits")?;
        caller.store(logits, std::ptr::null());
        caller.store(n_logits, 0);
        with(session, |state| {
            let found = state.session.logits().ok_or_else(no_logits)?;
            caller.store(logits, found.as_ptr());
            caller.store(n_logits, found.len());
            Ok(())
        })
    })
}

pub(crate) fn no_logits() -> Failure {
    Failure::new(BISE_ERROR_NOT_FOUND, "there are no logits to go on from: feed the session some text first")
}

/// Forgets the tokens from a position on, and a generation with them. Where they reach back beyond a sliding window, what remains is read
/// again.
///
/// Returns BISE_ERROR_ARGUMENT for a position that lies ahead. Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_rewind(
    session: *mut bise_session,
    position: usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |_caller| {
        with(session, |state| {
            let now = state.session.position();
            if position > now {
                return Err(Failure::argument(format_args!(
                    "position: found {position}, expected at most {now}"
                )));
            }
            state.leave_generation();
            Ok(state.session.rewind(position)?)
        })
    })
}

/// Forgets all tokens, and a generation with them. Memory is kept for the next text.
///
/// Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_clear(
    session: *mut bise_session,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |_caller| {
        with(session, |state| {
            state.leave_generation();
            state.session.clear();
            Ok(())
        })
    })
}
