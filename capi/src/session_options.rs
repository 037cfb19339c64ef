//! How a session is kept.

use std::ffi::c_char;
use std::sync::Mutex;

use engine::SessionOptions;

use crate::border::{call, try_lock};
use crate::error::bise_error;
use crate::failure::Failure;
use crate::names;
use crate::registry::Registry;
use crate::status::bise_status;

/// How a session is kept.
pub struct bise_session_options {
    options: Mutex<SessionSettings>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct SessionSettings {
    pub engine: SessionOptions,
}

static SESSION_OPTIONS: Registry<bise_session_options> = Registry::new(4, "bise_session_options");

const NAMES: [&str; 4] = ["ctx_size", "ubatch_size", "cache_type_k", "cache_type_v"];

impl SessionSettings {
    /// Those of a handle; what a handle of NULL stands for.
    pub fn of(handle: *const bise_session_options) -> Result<SessionSettings, Failure> {
        let Some(options) = SESSION_OPTIONS.get_if_any(handle)? else {
            return Ok(SessionSettings::default());
        };
        Ok(*try_lock(&options.options, "bise_session_options")?)
    }

    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        let engine = &mut self.engine;
        match &names::plain(name)[..] {
            "ctx_size" | "n_ctx" => engine.n_ctx = names::parse(name, value, "a number of tokens")?,
            "ubatch_size" | "n_ubatch" => {
                let n = names::parse(name, value, "a number of tokens")?;
                engine.n_ubatch =
                    if n > 0 { n } else { return Err(names::unfit(name, value, "at least 1")) };
            }
            "cache_type_k" => engine.k_type = value.parse().map_err(Failure::argument)?,
            "cache_type_v" => engine.v_type = value.parse().map_err(Failure::argument)?,
            _ => return Err(names::unknown(name, &NAMES)),
        }
        Ok(())
    }
}

/// Makes options with their defaults, for bise_session_new.
///
/// Owner: the caller, who frees them by bise_session_options_free. One call at a time may use them. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_options_new(
    options: *mut *mut bise_session_options,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(options, "options")?;
        caller.store(options, SESSION_OPTIONS.insert(bise_session_options { options: Mutex::default() }));
        Ok(())
    })
}

/// Frees options. NULL is allowed and does nothing. Sessions that were made with them are not concerned.
///
/// Returns BISE_ERROR_HANDLE where they were freed already. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_options_free(options: *mut bise_session_options) -> bise_status {
    call!(std::ptr::null_mut(), |_caller| SESSION_OPTIONS.free(options))
}

/// Sets an option by its name, which is that of llama.cpp's flag:
///
/// - "ctx_size": tokens that the session may hold. 0, the default, is the length that the model was trained for. Memory for keys and values is
///   taken as the text grows, not before.
/// - "ubatch_size": tokens read in one pass at most, by default 512. More is a little faster and takes more memory; the results have the same
///   bits.
/// - "cache_type_k", "cache_type_v": how keys and values are stored: "f16" (the default), "f32", "q8_0" or "q4_0".
///
/// "-" in a name counts as "_". Returns BISE_ERROR_ARGUMENT for another name or a value that is none; nothing changes then. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_options_set(
    options: *mut bise_session_options,
    name: *const c_char,
    value: *const c_char,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| set(options, caller.name(name, "name")?, caller.name(value, "value")?))
}

/// bise_session_options_set with a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_options_set_number(
    options: *mut bise_session_options,
    name: *const c_char,
    value: f64,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| set(options, caller.name(name, "name")?, &names::number(value)))
}

fn set(options: *mut bise_session_options, name: &str, value: &str) -> Result<(), Failure> {
    let options = SESSION_OPTIONS.get(options)?;
    try_lock(&options.options, "bise_session_options")?.set(name, value)
}
