//! Continuing a text, piece by piece.

use std::ffi::{c_char, c_void};

use engine::generation::{Event, Finish, Generation};

use crate::border::{Caller, call, value};
use crate::error::bise_error;
use crate::failure::Failure;
use crate::generation_options::{self, bise_generation_options};
use crate::piece::{bise_chosen, bise_finish, bise_finish::*};
use crate::session::{State, bise_session, no_logits, with};
use crate::status::{bise_status, bise_status::*};

/// Told each piece of a text. Returns 0 to go on, and anything else to stop. `piece` has a NUL behind its `n_bytes` and is valid during the call.
///
/// Runs in the thread of the call that generates, during that call, which keeps the session: to call back with it gives BISE_ERROR_BUSY. It
/// must not throw or longjmp.
pub type bise_piece_callback =
    Option<extern "C" fn(user_data: *mut c_void, piece: *const c_char, n_bytes: usize) -> i32>;

impl State {
    pub fn generation(&mut self) -> Result<&mut Generation, Failure> {
        let missing = || Failure::argument("no generation was started: call bise_session_start first");
        self.generation.as_mut().ok_or_else(missing)
    }

    /// Runs passes until there is a piece, or the generation is over.
    fn next_piece(&mut self) -> Result<bise_status, Failure> {
        self.clear_piece();
        self.generation()?;
        let mut status = BISE_DONE;
        while let Some(generation) = self.generation.as_mut().filter(|g| g.finish().is_none()) {
            if generation.pending().is_some() && self.session.room() == 0 {
                generation.interrupt();
            } else {
                self.session.step(generation)?;
            }
            self.take_step();
            if !self.piece.is_empty() {
                status = BISE_OK;
                break;
            }
        }
        self.piece.push(0);
        Ok(status)
    }

    /// Takes over what the last pass brought.
    pub fn take_step(&mut self) {
        let Some(generation) = &self.generation else { return };
        self.piece.extend_from_slice(generation.text().as_bytes());
        for event in generation.events() {
            if let Event::Token { token, log_prob, top, .. } = event {
                self.chosen.push(bise_chosen { token, log_prob: log_prob.unwrap_or(f32::NAN) });
                self.tops.extend(top.iter().map(|&(token, log_prob)| bise_chosen { token, log_prob }));
                self.top_ends.push(self.tops.len());
            }
        }
        self.finish = match generation.finish() {
            None => BISE_FINISH_NONE,
            Some(Finish::EndToken(_) | Finish::Constraint) => BISE_FINISH_END,
            Some(Finish::StopText(_) | Finish::StopToken(_)) => BISE_FINISH_STOP,
            Some(Finish::Length) => BISE_FINISH_LENGTH,
            Some(Finish::Interrupted) => BISE_FINISH_CONTEXT,
        };
    }

    fn store_piece(&self, caller: &Caller, piece: *mut *const c_char, n_bytes: *mut usize) {
        caller.store(piece, self.piece.as_ptr().cast());
        caller.store(n_bytes, self.piece.len().saturating_sub(1));
    }
}

/// Begins to continue what the session has read. `options` may be NULL for the defaults, and is not used after the call.
///
/// Penalties look back on the whole text. The random numbers begin with the seed, each time. Where an earlier generation has gone before, its
/// text up to the last piece counts as read. One that was saved with the session goes on (bise_session_restore).
///
/// Returns BISE_ERROR_NOT_FOUND where nothing was read to go on from. Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_start(
    session: *mut bise_session,
    options: *const bise_generation_options,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |_caller| {
        let mut options = generation_options::of(options)?;
        with(session, |state| {
            options.sampling = options.sampling.with_context(state.session.n_ctx());
            let n_top = options.log_probs.unwrap_or(0);
            let mut generation = Generation::new(state.session.engine().tokenizer(), options)?;
            if state.generation.is_some() && state.unread().is_some() {
                state.read(&[])?;
            }
            if state.session.logits().is_none() {
                return Err(no_logits());
            }
            match &state.interrupted {
                Some(interrupted) => generation.resume(state.session.tokens(), &interrupted.state),
                None => generation.prime(state.session.tokens()),
            }
            state.leave_generation();
            state.tops.reserve(n_top.saturating_mul(64).min(1 << 16));
            state.generation = Some(generation);
            state.take_step();
            Ok(())
        })
    })
}

/// The next piece of the text: often a word, never a part of a character. It has a NUL behind its `n_bytes`, one of which may itself be 0.
///
/// Returns BISE_OK with a piece, and BISE_DONE once there is no more (`bise_session_finish` says why). After BISE_ERROR_CANCELLED the next call
/// goes on where this one was. Once warm it allocates no memory, but what bise_session_reserve takes in advance, and for longer lists of drafts
/// than there were before ("spec_type" "none" has no drafts).
///
/// Owner: the session; the piece is valid until the next call that reads, generates, rewinds or frees. Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_next(
    session: *mut bise_session,
    piece: *mut *const c_char,
    n_bytes: *mut usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.store(piece, c"".as_ptr());
        caller.store(n_bytes, 0);
        with(session, |state| {
            let status = state.next_piece()?;
            state.store_piece(caller, piece, n_bytes);
            Ok(status)
        })
    })
}

/// Generates to the end, and passes each piece to `callback`, with `user_data` as it is.
///
/// Returns BISE_OK once the generation is over, and BISE_ERROR_CANCELLED where the callback stops it: another call, or bise_session_next, goes on
/// behind the last piece. Threads: any, one call at a time; the callback runs in the thread of the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_generate(
    session: *mut bise_session,
    callback: bise_piece_callback,
    user_data: *mut c_void,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |_caller| {
        let callback = callback.ok_or_else(|| Failure::new(BISE_ERROR_NULL, "callback: found NULL"))?;
        with(session, |state| {
            while state.next_piece()? == BISE_OK {
                let n_bytes = state.piece.len() - 1;
                if callback(user_data, state.piece.as_ptr().cast(), n_bytes) != 0 {
                    return Err(Failure::new(BISE_ERROR_CANCELLED, "stopped by the callback"));
                }
            }
            Ok(())
        })
    })
}

/// The piece that the last call of bise_session_next or bise_next_together brought to this session; empty before that, and for NULL, a freed or
/// a busy session. `n_bytes` may be NULL.
///
/// Owner: the session; the piece is valid until the next call that reads, generates, rewinds or frees. Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_piece(
    session: *const bise_session,
    n_bytes: *mut usize,
) -> *const c_char {
    value!(c"".as_ptr(), |caller| {
        caller.store(n_bytes, 0);
        with(session, |state| {
            if state.piece.is_empty() {
                return Ok(c"".as_ptr());
            }
            caller.store(n_bytes, state.piece.len() - 1);
            Ok(state.piece.as_ptr().cast())
        })
    })
}

/// Why the generation is over; BISE_FINISH_NONE while it is not, and for NULL, a freed or a busy session.
///
/// Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_finish(session: *const bise_session) -> bise_finish {
    value!(BISE_FINISH_NONE, |_caller| {
        with(session, |state| Ok(if state.generation.is_some() { state.finish } else { BISE_FINISH_NONE }))
    })
}

/// The tokens that the last piece came of, with their log-probabilities. There may be none, where the piece had been held back.
///
/// Owner: the session; the array is valid until the next call that reads, generates, rewinds or frees. Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_chosen(
    session: *const bise_session,
    chosen: *mut *const bise_chosen,
    n_chosen: *mut usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(chosen, "chosen")?;
        caller.check_place(n_chosen, "n_chosen")?;
        with(session, |state| {
            caller.store(chosen, state.chosen.as_ptr());
            caller.store(n_chosen, state.chosen.len());
            Ok(())
        })
    })
}

/// The tokens that were likeliest in place of the one at `index` of bise_session_chosen, the likeliest first: as many as "n_probs" asks for.
///
/// Returns BISE_ERROR_NOT_FOUND past the end. Owner and threads as there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_chosen_top(
    session: *const bise_session,
    index: usize,
    top: *mut *const bise_chosen,
    n_top: *mut usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(top, "top")?;
        caller.check_place(n_top, "n_top")?;
        with(session, |state| {
            let n = state.top_ends.len();
            let end = *state.top_ends.get(index).ok_or_else(|| {
                Failure::new(
                    BISE_ERROR_NOT_FOUND,
                    format_args!("found no token {index}: there are {n}, from 0"),
                )
            })?;
            let start = index.checked_sub(1).map_or(0, |before| state.top_ends[before]);
            let found = &state.tops[start..end];
            caller.store(top, found.as_ptr());
            caller.store(n_top, found.len());
            Ok(())
        })
    })
}
