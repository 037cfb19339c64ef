//! Sessions in files.

use std::ffi::c_char;

use engine::generation::{Generation, GenerationOptions};

use crate::border::call;
use crate::error::bise_error;
use crate::model::{MODELS, bise_model};
use crate::session::{Interrupted, SESSIONS, bise_session, with};
use crate::session_options::{SessionSettings, bise_session_options};
use crate::status::bise_status;

/// Saves a session to a file: its tokens, keys and values, logits, and how far a generation is that is not over. The file is written aside and
/// takes its place when it is complete. `path` as for bise_model_open.
///
/// Returns BISE_ERROR_FILE where it cannot be written. Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_save(
    session: *const bise_session,
    path: *const c_char,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        let path = caller.path(path)?;
        with(session, |state| {
            let generation =
                state.generation.as_ref().filter(|_| state.is_under_way()).map(Generation::state);
            let interrupted = state.interrupted.as_ref().map(|interrupted| interrupted.state);
            Ok(state.session.save_with(path, generation.or(interrupted).as_ref())?)
        })
    })
}

/// Makes a session of what bise_session_save has saved: it goes on as if it had never been away, bit for bit. `options` are those of
/// bise_session_new, with the cache types that the session was saved with and a context that holds its tokens.
///
/// Where a generation was under way, bise_session_start goes on with it, random numbers included, if the options are those that it had
/// ("n_predict" counts anew).
///
/// Returns BISE_ERROR_FILE for a file that is no session, is damaged, or was saved by another version, for another model, window or cache type;
/// BISE_ERROR_CONTEXT_FULL where the context is too short. Owner: the caller, as by bise_session_new. On failure `*session` is NULL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_restore(
    model: *const bise_model,
    path: *const c_char,
    options: *const bise_session_options,
    session: *mut *mut bise_session,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(session, "session")?;
        caller.store(session, std::ptr::null_mut());
        let model = MODELS.get(model)?;
        let path = caller.path(path)?;
        let settings = SessionSettings::of(options)?;
        let restored = model.engine.restore_session_with(path, &settings.engine)?;
        let interrupted = match restored.state {
            Some(state) => {
                let mut generation = Generation::new(model.engine.tokenizer(), GenerationOptions::default())?;
                generation.resume(restored.session.tokens(), &state);
                Some(Interrupted { unread: generation.pending(), state })
            }
            None => None,
        };
        let new = bise_session::new(restored.session, interrupted);
        caller.store(session, SESSIONS.insert(new));
        Ok(())
    })
}
