//! Reading texts and tokens.

use std::ffi::c_char;
use std::ops::ControlFlow;

use engine::tokenizer::EncodeOptions;

use crate::border::call;
use crate::error::bise_error;
use crate::failure::Failure;
use crate::session::{State, bise_session, with};
use crate::status::{bise_status, bise_status::*};
use crate::tokenizer::encode_options;

impl State {
    /// Reads tokens behind the text, which ends with the last piece of a generation.
    pub fn read(&mut self, tokens: &[u32]) -> Result<(), Failure> {
        let before = self.session.position();
        let result = match self.unread() {
            Some(token) => self.prefill(&[&[token], tokens].concat()),
            None => self.prefill(tokens),
        };
        // A call that has read nothing leaves everything as it was.
        if result.is_ok() || self.session.position() != before {
            self.leave_generation();
        }
        result
    }

    fn prefill(&mut self, tokens: &[u32]) -> Result<(), Failure> {
        let Some(progress) = self.progress else { return Ok(self.session.prefill(tokens).map(drop)?) };
        let mut stopped_at = None;
        self.session.prefill_with(tokens, &mut |n_done| {
            if (progress.function)(progress.user_data, n_done, tokens.len()) == 0 {
                return ControlFlow::Continue(());
            }
            stopped_at = Some(n_done);
            ControlFlow::Break(())
        })?;
        // Told to stop after the last token, there is nothing left to leave out.
        match stopped_at.filter(|n_done| *n_done < tokens.len()) {
            Some(n_done) => Err(Failure::new(
                BISE_ERROR_CANCELLED,
                format_args!("stopped by the progress callback after {n_done} of {} tokens", tokens.len()),
            )),
            None => Ok(()),
        }
    }

    /// Makes the text these tokens, of which those that it begins with already are not read again. Returns how many.
    pub fn read_prompt(&mut self, tokens: &[u32]) -> Result<usize, Failure> {
        if tokens.is_empty() {
            return Err(engine::Error::NoTokens.into());
        }
        let read = self.session.tokens();
        let mut n_kept = read.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        if n_kept == tokens.len() {
            if n_kept == read.len() && self.session.logits().is_some() {
                self.leave_generation();
                return Ok(n_kept);
            }
            // The logits after the last one are wanted.
            n_kept -= 1;
        }
        let room = self.session.room().saturating_add(read.len() - n_kept);
        let n_rest = tokens.len() - n_kept;
        if n_rest > room {
            return Err(Failure::new(
                BISE_ERROR_CONTEXT_FULL,
                format_args!(
                    "{} tokens do not fit the context: it has room for {}",
                    tokens.len(),
                    n_kept + room
                ),
            ));
        }
        self.leave_generation();
        self.session.rewind(n_kept)?;
        self.prefill(&tokens[n_kept..])?;
        Ok(n_kept)
    }
}

/// Reads a text of `n_bytes` of UTF-8 (or BISE_NUL_TERMINATED) behind what was read before. `flags` is a sum of BISE_ADD_SPECIAL, which counts at
/// the start of a session only, and BISE_PARSE_SPECIAL, or 0.
///
/// Where a generation has gone before, its text up to the last piece counts as read. It is over then.
///
/// Returns BISE_ERROR_CONTEXT_FULL where it does not fit, and BISE_ERROR_ARGUMENT for a text without tokens: nothing is read then. After
/// BISE_ERROR_CANCELLED the tokens of whole passes are read: see bise_session_position. Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_feed(
    session: *mut bise_session,
    text: *const c_char,
    n_bytes: usize,
    flags: u32,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        let text = caller.text(text, n_bytes, "text")?;
        let options = encode_options(flags)?;
        with(session, |state| {
            let is_start = state.session.position() == 0;
            let options = EncodeOptions { add_special: options.add_special && is_start, ..options };
            let tokens = state.session.engine().tokenizer().encode(text, options);
            state.read(&tokens)
        })
    })
}

/// Reads tokens behind what was read before. One at a time allocates no memory: to choose tokens yourself, look at bise_session_logits and
/// feed what you choose.
///
/// As bise_session_feed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_feed_tokens(
    session: *mut bise_session,
    tokens: *const u32,
    n_tokens: usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        let tokens = caller.slice(tokens, n_tokens, "tokens")?;
        with(session, |state| state.read(tokens))
    })
}

/// Makes the text of the session these tokens, such as the next prompt of a conversation: what it begins with already is kept, the rest is
/// forgotten, and only what is new is read. A generation is over then.
///
/// `n_kept` may be NULL; else it gets the number of tokens that were kept. Returns BISE_ERROR_CONTEXT_FULL where the tokens do not fit: nothing
/// changes then. Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_prompt(
    session: *mut bise_session,
    tokens: *const u32,
    n_tokens: usize,
    n_kept: *mut usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.store(n_kept, 0);
        let tokens = caller.slice(tokens, n_tokens, "tokens")?;
        caller.store(n_kept, with(session, |state| state.read_prompt(tokens))?);
        Ok(())
    })
}
