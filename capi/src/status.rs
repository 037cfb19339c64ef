//! What a function returns.

use std::ffi::c_char;

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
