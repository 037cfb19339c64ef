//! Errors with a message, which C holds by a handle.

use std::ffi::CString;

use crate::failure::Failure;
use crate::registry::Registry;
use crate::status::bise_status;

/// Why a call failed: a status and a message of one line.
pub struct bise_error {
    pub(crate) status: bise_status,
    pub(crate) message: CString,
}

pub(crate) static ERRORS: Registry<bise_error> = Registry::new(1, "bise_error");

/// A handle for the caller. A NUL in a message (from a file's text) would end it early, so it becomes a space.
pub(crate) fn handle(failure: Failure) -> *mut bise_error {
    let message = CString::new(failure.message.replace('\0', " ")).unwrap_or_default();
    ERRORS.insert(bise_error { status: failure.status, message })
}
