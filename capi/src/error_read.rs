//! What C may ask of an error.

use std::ffi::{CStr, c_char};

use crate::border::{call, value};
use crate::error::{ERRORS, bise_error};
use crate::status::{bise_status, bise_status::*};

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
