//! Several sessions whose tokens pass through the model together: the weights are read once for all of them.

use std::sync::{Arc, MutexGuard};

use engine::generation::Generation;
use engine::{Session, decode_together};
use smallvec::SmallVec;

use crate::border::{Caller, call, try_lock};
use crate::error::bise_error;
use crate::failure::Failure;
use crate::session::{SESSIONS, State, bise_session};
use crate::status::{bise_status, bise_status::*};

/// Sessions for which no list is allocated.
const FEW: usize = 16;

/// Runs `body` with what the handles stand for.
fn with_all<T>(
    caller: &Caller,
    sessions: *const *mut bise_session,
    n: usize,
    body: impl FnOnce(&mut [MutexGuard<'_, State>]) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let handles = caller.slice(sessions, n, "sessions")?;
    let sessions = handles.iter().map(|handle| SESSIONS.get(*handle));
    let sessions: SmallVec<[Arc<bise_session>; FEW]> = sessions.collect::<Result<_, _>>()?;
    // One that is there twice is busy the second time.
    let states = sessions.iter().map(|session| try_lock(&session.state, "bise_session"));
    let mut states: SmallVec<[MutexGuard<'_, State>; FEW]> = states.collect::<Result<_, _>>()?;
    sessions.iter().fold(body(&mut states), |result, session| session.settle(result))
}

/// Reads one token in each of several sessions of one model, in one pass. What each gets has the same bits as by bise_session_feed_tokens.
///
/// `sessions` and `tokens` have `n` elements. Generations are over then, as by bise_session_feed_tokens. Returns the error of the first session
/// that failed; bise_session_position tells which have read their token: none has where one of them is cancelled.
///
/// Threads: any, one call at a time with each session. A session may be in the list once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_decode_together(
    sessions: *const *mut bise_session,
    tokens: *const u32,
    n: usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        let tokens = caller.slice(tokens, n, "tokens")?;
        with_all(caller, sessions, n, |states| {
            if let Some(i) = states.iter().position(|state| state.unread().is_some()) {
                return Err(Failure::argument(format_args!(
                    "session {i} has a token of its generation to read first: call bise_session_feed_tokens"
                )));
            }
            let mut batch: SmallVec<[&mut Session; FEW]> =
                states.iter_mut().map(|state| &mut state.session).collect();
            decode_together(&mut batch, tokens, &mut |_, _| {})?;
            drop(batch);
            states.iter_mut().for_each(|state| state.leave_generation());
            Ok(())
        })
    })
}

/// Goes on with the generations of several sessions of one model by a token each, in one pass. Each gets the text that bise_session_next would
/// give it, bit for bit, in pieces that may be empty: bise_session_piece has them.
///
/// `statuses` may be NULL; else it gets `n` statuses: BISE_OK, or BISE_DONE for a generation that was over before, or an error. Returns BISE_DONE
/// once all are over, and the error of the first session that failed; the others have gone on. Where one is cancelled (bise_session_cancel), it
/// alone gets BISE_ERROR_CANCELLED; the others get BISE_OK and an empty piece, and go on by the next call.
///
/// Threads: any, one call at a time with each session. A session may be in the list once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_next_together(
    sessions: *const *mut bise_session,
    n: usize,
    statuses: *mut bise_status,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        with_all(caller, sessions, n, |states| {
            let mut found: SmallVec<[bise_status; FEW]> = SmallVec::from_elem(BISE_DONE, n);
            let result = next_together(states, &mut found);
            if !statuses.is_null() {
                caller.fill(&found, statuses, n, std::ptr::null_mut(), "statuses")?;
            }
            result?;
            Ok(if found.iter().all(|status| *status == BISE_DONE) { BISE_DONE } else { BISE_OK })
        })
    })
}

fn next_together(states: &mut [MutexGuard<'_, State>], found: &mut [bise_status]) -> Result<(), Failure> {
    for (i, state) in states.iter_mut().enumerate() {
        state.clear_piece();
        state.generation().map_err(|failure| {
            found[i] = failure.status;
            Failure::new(failure.status, format_args!("session {i}: {}", failure.message))
        })?;
    }
    let mut sessions: SmallVec<[&mut Session; FEW]> = SmallVec::new();
    let mut generations: SmallVec<[(usize, &mut Generation); FEW]> = SmallVec::new();
    let mut tokens: SmallVec<[u32; FEW]> = SmallVec::new();
    let mut failed: Option<Failure> = None;
    let mut fail = |i: usize, found: &mut [bise_status], failure: Failure| {
        found[i] = failure.status;
        failed.get_or_insert(failure);
    };
    for (i, state) in states.iter_mut().enumerate() {
        let State { session, generation, .. } = &mut **state;
        let Some(generation) = generation.as_mut().filter(|g| g.finish().is_none()) else { continue };
        found[i] = BISE_OK;
        match generation.next_tokens(0).first().copied() {
            Some(_) if session.room() == 0 => generation.interrupt(),
            Some(token) => {
                tokens.push(token);
                sessions.push(session);
                generations.push((i, generation));
            }
            // The logits after the prompt are there.
            None => {
                let advanced = session.logits().map(|logits| generation.advance([logits]));
                if let Some(Err(error)) = advanced {
                    fail(i, found, error.into());
                }
            }
        }
    }
    let positions: SmallVec<[usize; FEW]> = sessions.iter().map(|session| session.position()).collect();
    let decoded = decode_together(&mut sessions, &tokens, &mut |at, logits| {
        let (i, generation) = &mut generations[at];
        if let Err(error) = generation.advance([logits]) {
            fail(*i, found, error.into());
        }
    });
    // Sessions for which nothing happened, as another one was cancelled.
    let mut waiting: SmallVec<[usize; FEW]> = SmallVec::new();
    if let Err(error) = decoded {
        let is_cancelled = error.is_cancelled();
        let failure = Failure::from(error);
        for (at, (i, _)) in generations.iter().enumerate() {
            if sessions[at].position() != positions[at] {
                continue;
            }
            if is_cancelled && !sessions[at].cancel_handle().is_cancelled() {
                waiting.push(*i);
            } else {
                fail(*i, found, Failure::new(failure.status, &failure.message));
            }
        }
        // An error that belongs to no session.
        failed.get_or_insert(failure);
    }
    drop((sessions, generations));
    for (i, state) in states.iter_mut().enumerate() {
        if found[i] == BISE_OK {
            if !waiting.contains(&i) {
                state.take_step();
            }
            state.piece.push(0);
        }
    }
    failed.map_or(Ok(()), Err)
}
