//! Texts that the library hands over.

use std::collections::BTreeMap;
use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};

use crate::border::{Caller, call};
use crate::error::bise_error;
use crate::failure::Failure;
use crate::status::{bise_status, bise_status::BISE_ERROR_HANDLE};

/// Bytes of each text that was handed over and not freed yet, its NUL included, by address. The address is inverted, so that a program that
/// looks for leaks does not take the text for one in use.
static LIVE: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

/// Hands over a text, with a NUL behind it, and its length without that.
pub(crate) fn hand_over(
    caller: &Caller,
    text: impl Into<Vec<u8>>,
    place: *mut *mut c_char,
    n_bytes: *mut usize,
) {
    let mut text: Vec<u8> = text.into();
    caller.store(n_bytes, text.len());
    text.push(0);
    let text = Box::leak(text.into_boxed_slice());
    let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
    live.insert(!text.as_mut_ptr().expose_provenance(), text.len());
    caller.store(place, text.as_mut_ptr().cast());
}

/// Frees a text that a function of this library handed over. NULL is allowed and does nothing.
///
/// Returns BISE_ERROR_HANDLE, and does nothing, for any other pointer: one that was freed already (unless its memory has become another such
/// text by then), or that is not the library's to free. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_string_free(text: *mut c_char) -> bise_status {
    call!(std::ptr::null_mut::<*mut bise_error>(), |_caller| {
        if text.is_null() {
            return Ok(());
        }
        let removed = LIVE.lock().unwrap_or_else(PoisonError::into_inner).remove(&!text.addr());
        let Some(len) = removed else {
            return Err(Failure::new(BISE_ERROR_HANDLE, "found no text that was handed over"));
        };
        let text = std::ptr::slice_from_raw_parts_mut(text.cast::<u8>(), len);
        // SAFETY: the address was in the list, so it is that of a boxed slice of `len` bytes that `hand_over` leaked and nobody freed.
        drop(unsafe { Box::from_raw(text) });
        Ok(())
    })
}
