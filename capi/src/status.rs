//! What a function returns, and errors with a message.

use std::ffi::{CStr, CString, c_char};

use engine::sampling::SamplingError;
use engine::{ForwardError, SessionFileError, SpanError, gguf::GgufError};

use crate::border::{call, value};
use crate::registry::Registry;

/// What a function returns.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum bise_status {
    /// It did what it was asked for.
    BISE_OK = 0,
    /// The generation is over: there is no further piece. Not an error.
    BISE_DONE = 1,
    /// A pointer is NULL that must not be.
    BISE_ERROR_NULL = -1,
    /// A handle was freed already, is of another type, or never was one.
    BISE_ERROR_HANDLE = -2,
    /// Another call with the same handle is under way: in another thread, or in this one when a callback calls back.
    BISE_ERROR_BUSY = -3,
    /// An argument is out of range, of an unknown name, or makes no sense.
    BISE_ERROR_ARGUMENT = -4,
    /// A text is not UTF-8.
    BISE_ERROR_UTF8 = -5,
    /// A buffer is too small. The number of elements needed was stored.
    BISE_ERROR_BUFFER = -6,
    /// There is nothing under this name.
    BISE_ERROR_NOT_FOUND = -7,
    /// A file cannot be read or written, is damaged, or was made for something else.
    BISE_ERROR_FILE = -8,
    /// The file, the machine or this build of the library does not support it.
    BISE_ERROR_UNSUPPORTED = -9,
    /// There is not enough memory.
    BISE_ERROR_MEMORY = -10,
    /// The context has no room for so many tokens.
    BISE_ERROR_CONTEXT_FULL = -11,
    /// It was cancelled, or a callback stopped it. What was complete by then is kept.
    BISE_ERROR_CANCELLED = -12,
    /// The model computed numbers that are not finite: its weights are damaged.
    BISE_ERROR_NOT_FINITE = -13,
    /// The chat template cannot be used, or does not take the conversation.
    BISE_ERROR_CHAT = -14,
    /// The system does not let it: no thread, no lock on memory.
    BISE_ERROR_SYSTEM = -15,
    /// A fault in the library. The handle in use can only be freed from now on; the message of the fault is on stderr.
    BISE_ERROR_PANIC = -16,
}

use bise_status::*;

impl From<()> for bise_status {
    fn from((): ()) -> Self {
        BISE_OK
    }
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub status: bise_status,
    pub message: String,
}

impl Failure {
    pub fn new(status: bise_status, message: impl ToString) -> Failure {
        Failure { status, message: message.to_string() }
    }

    pub fn argument(message: impl ToString) -> Failure {
        Failure::new(BISE_ERROR_ARGUMENT, message)
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Failure {
        Failure::new(status_of(&error), error)
    }
}

fn status_of(error: &engine::Error) -> bise_status {
    use engine::Error as E;
    match error {
        E::Gguf(GgufError::OutOfMemory { .. }) | E::OutOfMemory(_) => BISE_ERROR_MEMORY,
        E::OverCeiling(_) | E::DoesNotFit(_) => BISE_ERROR_MEMORY,
        E::SessionFile(SessionFileError::TooLong { .. }) => BISE_ERROR_CONTEXT_FULL,
        E::Gguf(_) | E::Tokenizer(_) | E::SessionFile(_) => BISE_ERROR_FILE,
        E::Forward(error) => forward_status(error),
        E::Sampling(SamplingError::NotFinite { .. }) => BISE_ERROR_NOT_FINITE,
        E::IsaUnavailable { .. } => BISE_ERROR_UNSUPPORTED,
        E::Threads(_) => BISE_ERROR_SYSTEM,
        E::Text { error, .. } => status_of(error),
        _ => BISE_ERROR_ARGUMENT,
    }
}

fn forward_status(error: &ForwardError) -> bise_status {
    match error {
        ForwardError::Cancelled => BISE_ERROR_CANCELLED,
        ForwardError::OutOfMemory(_) => BISE_ERROR_MEMORY,
        ForwardError::Span { error, .. } => match error {
            SpanError::ContextFull { .. } => BISE_ERROR_CONTEXT_FULL,
            SpanError::NoPages(_) => BISE_ERROR_MEMORY,
            SpanError::NotFinite { .. } | SpanError::LogitsNotFinite => BISE_ERROR_NOT_FINITE,
            _ => BISE_ERROR_ARGUMENT,
        },
        _ => BISE_ERROR_ARGUMENT,
    }
}

impl From<SamplingError> for Failure {
    fn from(error: SamplingError) -> Failure {
        engine::Error::from(error).into()
    }
}

impl From<engine::chat::ChatError> for Failure {
    fn from(error: engine::chat::ChatError) -> Failure {
        Failure::new(BISE_ERROR_CHAT, error)
    }
}

/// Why a call failed: a status and a message of one line.
pub struct bise_error {
    status: bise_status,
    message: CString,
}

static ERRORS: Registry<bise_error> = Registry::new(1, "bise_error");

/// A handle for the caller. A NUL in a message (from a file's text) would end it early, so it becomes a space.
pub(crate) fn handle(failure: Failure) -> *mut bise_error {
    let message = CString::new(failure.message.replace('\0', " ")).unwrap_or_default();
    ERRORS.insert(bise_error { status: failure.status, message })
}

/// The name of a status, such as "BISE_ERROR_BUSY"; "unknown status" for any other number.
///
/// Threads: any. The text is a constant.
#[unsafe(no_mangle)]
pub extern "C" fn bise_status_name(status: i32) -> *const c_char {
    macro_rules! names {
        ($($name:ident)*) => {
            match status {
                $(status if status == $name as i32 => concat!(stringify!($name), "\0"),)*
                _ => "unknown status\0",
            }
        };
    }
    let name = names!(
        BISE_OK BISE_DONE BISE_ERROR_NULL BISE_ERROR_HANDLE BISE_ERROR_BUSY BISE_ERROR_ARGUMENT BISE_ERROR_UTF8
        BISE_ERROR_BUFFER BISE_ERROR_NOT_FOUND BISE_ERROR_FILE BISE_ERROR_UNSUPPORTED BISE_ERROR_MEMORY
        BISE_ERROR_CONTEXT_FULL BISE_ERROR_CANCELLED BISE_ERROR_NOT_FINITE BISE_ERROR_CHAT BISE_ERROR_SYSTEM
        BISE_ERROR_PANIC
    );
    name.as_ptr().cast()
}

/// The status of an error: that which the failed call returned. BISE_ERROR_HANDLE for NULL or a freed error.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_error_status(error: *const bise_error) -> bise_status {
    value!(BISE_ERROR_HANDLE, |_caller| Ok(ERRORS.get(error)?.status))
}

/// The message of an error, one line of UTF-8 that says what was found, what was expected and where. Empty for NULL or a freed error.
///
/// Owner: the error; the text is valid until bise_error_free. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_error_message(error: *const bise_error) -> *const c_char {
    const NONE: &CStr = c"";
    value!(NONE.as_ptr(), |_caller| Ok(ERRORS.get(error)?.message.as_ptr()))
}

/// Frees an error. NULL is allowed and does nothing.
///
/// Returns BISE_ERROR_HANDLE where it was freed already. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_error_free(error: *mut bise_error) -> bise_status {
    call!(std::ptr::null_mut(), |_caller| ERRORS.free(error))
}
