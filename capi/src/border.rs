//! The border between C and Rust: no panic crosses it, and nothing that C hands over is trusted further than its header says.

use std::any::Any;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, TryLockError};

use crate::error::{bise_error, handle};
use crate::failure::Failure;
use crate::status::{bise_status, bise_status::*};

/// Stands for a call from C, whose pointers are what the header says. It reads and writes them.
pub(crate) struct Caller(());

/// Runs a function's body, which has the [`Caller`], and returns its status; the error goes to where the caller wants it.
macro_rules! call {
    ($error:expr, |$caller:ident| $body:expr) => {{
        // SAFETY: this stands in a function that only C calls, which keeps the promises of its header.
        let caller = unsafe { $crate::border::Caller::new() };
        caller.run($error, |$caller| $body)
    }};
}
pub(crate) use call;

/// Runs the body of a function that returns a value, which is `$default` where the body fails.
macro_rules! value {
    ($default:expr, |$caller:ident| $body:expr) => {{
        // SAFETY: this stands in a function that only C calls, which keeps the promises of its header.
        let caller = unsafe { $crate::border::Caller::new() };
        caller.value($default, |$caller| $body)
    }};
}
pub(crate) use value;

impl Caller {
    /// # Safety
    /// All pointers that are passed to the methods came from C by the function that is being run, and are what its header asks for: NULL, or
    /// valid for as many elements as are said to be there, during the call.
    pub unsafe fn new() -> Caller {
        Caller(())
    }

    pub fn run<S: Into<bise_status>>(
        self,
        error: *mut *mut bise_error,
        body: impl FnOnce(&Caller) -> Result<S, Failure>,
    ) -> bise_status {
        match caught(|| body(&self)) {
            Ok(status) => {
                self.store(error, std::ptr::null_mut());
                status.into()
            }
            Err(failure) => {
                let status = failure.status;
                // Without a place to put it, nobody would free it.
                if !error.is_null() {
                    self.store(error, handle(failure));
                }
                status
            }
        }
    }

    pub fn value<T>(self, default: T, body: impl FnOnce(&Caller) -> Result<T, Failure>) -> T {
        caught(|| body(&self)).unwrap_or(default)
    }

    /// Bytes of a text: so many, or up to a NUL for `usize::MAX`.
    pub fn bytes<'a>(&'a self, text: *const c_char, n_bytes: usize, what: &str) -> Result<&'a [u8], Failure> {
        if n_bytes != usize::MAX {
            return self.slice(text.cast(), n_bytes, what);
        }
        check_pointer(text, what)?;
        // SAFETY: it is not NULL, so it is a text with a NUL at its end, valid during the call.
        Ok(unsafe { CStr::from_ptr(text) }.to_bytes())
    }

    /// A text of so many bytes, or up to a NUL for `usize::MAX`.
    pub fn text<'a>(&'a self, text: *const c_char, n_bytes: usize, what: &str) -> Result<&'a str, Failure> {
        std::str::from_utf8(self.bytes(text, n_bytes, what)?).map_err(|error| {
            let at = error.valid_up_to();
            Failure::new(BISE_ERROR_UTF8, format_args!("{what}: the byte at {at} does not belong to UTF-8"))
        })
    }

    /// A text up to its NUL.
    pub fn name<'a>(&'a self, text: *const c_char, what: &str) -> Result<&'a str, Failure> {
        self.text(text, usize::MAX, what)
    }

    /// A path up to its NUL. On Unix it may have any bytes, elsewhere it is UTF-8.
    pub fn path(&self, path: *const c_char) -> Result<&Path, Failure> {
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            let bytes = self.bytes(path, usize::MAX, "path")?;
            Ok(Path::new(std::ffi::OsStr::from_bytes(bytes)))
        }
        #[cfg(not(unix))]
        self.name(path, "path").map(Path::new)
    }

    /// An array. It may be NULL where it is empty.
    pub fn slice<'a, T>(&'a self, pointer: *const T, n: usize, what: &str) -> Result<&'a [T], Failure> {
        if n == 0 {
            return Ok(&[]);
        }
        check_array(pointer, n, what)?;
        // SAFETY: checked to be aligned, not NULL and of a size that objects can have; by `new`, valid for `n` elements during the call.
        Ok(unsafe { std::slice::from_raw_parts(pointer, n) })
    }

    /// Stores what a call returns in `place`, if there is one.
    pub fn store<T>(&self, place: *mut T, value: T) {
        if !place.is_null() && place.is_aligned() {
            // SAFETY: aligned and not NULL, so by `new` it may be written to; a `T` that C can see has nothing to drop.
            unsafe { place.write(value) };
        }
    }

    /// Errs where there is no place for what the call is to return.
    pub fn check_place<T>(&self, place: *mut T, what: &str) -> Result<(), Failure> {
        check_pointer(place, what)
    }

    /// Copies `values` to a buffer with room for `capacity`, and stores how many there are. A NULL buffer has no room.
    pub fn fill<T: Copy>(
        &self,
        values: &[T],
        buffer: *mut T,
        capacity: usize,
        n: *mut usize,
        what: &str,
    ) -> Result<(), Failure> {
        self.store(n, values.len());
        if values.is_empty() {
            return Ok(());
        }
        if capacity < values.len() {
            let needed = values.len();
            return Err(Failure::new(
                BISE_ERROR_BUFFER,
                format_args!("{what}: found room for {capacity}, expected at least {needed}"),
            ));
        }
        check_array(buffer, capacity, what)?;
        // SAFETY: by `new` the buffer has room for `capacity` elements, and `values` has no more; C's memory and ours do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), buffer, values.len()) };
        Ok(())
    }
}

/// Runs `body`; a panic is a failure.
fn caught<T>(body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let message = panic_message(&*panic).to_owned();
        // What a panic carries may panic itself when dropped.
        std::mem::forget(panic);
        Err(Failure::new(BISE_ERROR_PANIC, format_args!("fault in the library: {message}")))
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

fn check_pointer<T>(pointer: *const T, what: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::new(BISE_ERROR_NULL, format_args!("{what}: found NULL")));
    }
    if !pointer.is_aligned() {
        let align = align_of::<T>();
        return Err(Failure::argument(format_args!(
            "{what}: found {pointer:p}, expected a multiple of {align}"
        )));
    }
    Ok(())
}

fn check_array<T>(pointer: *const T, n: usize, what: &str) -> Result<(), Failure> {
    check_pointer(pointer, what)?;
    match n.checked_mul(size_of::<T>()) {
        Some(n_bytes) if isize::try_from(n_bytes).is_ok() => Ok(()),
        _ => Err(Failure::argument(format_args!("{what}: found {n} elements, which no memory has room for"))),
    }
}

/// The lock of an object that one call at a time may use.
pub(crate) fn try_lock<'a, T>(object: &'a Mutex<T>, what: &str) -> Result<MutexGuard<'a, T>, Failure> {
    object.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => Failure::new(
            BISE_ERROR_BUSY,
            format_args!("the {what} is in use by another call, which has to return first"),
        ),
        TryLockError::Poisoned(_) => Failure::new(
            BISE_ERROR_PANIC,
            format_args!(
                "an earlier call ended by a fault in the library and left the {what} unfit for use: free it"
            ),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ERRORS;

    /// A message whose end panics as well.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("twice");
        }
    }

    fn run(body: impl FnOnce(&Caller) -> Result<(), Failure>) -> (bise_status, String) {
        let mut error = std::ptr::null_mut();
        let status = call!(&raw mut error, |caller| body(caller));
        let message = ERRORS.get(error).map(|error| error.message.to_string_lossy().into_owned());
        let _ = ERRORS.free(error);
        (status, message.unwrap_or_default())
    }

    #[test]
    fn a_panic_becomes_an_error() {
        assert_eq!(run(|_| panic!("no {}", 5)), (BISE_ERROR_PANIC, "fault in the library: no 5".to_owned()));
        assert_eq!(run(|_| panic!("text")), (BISE_ERROR_PANIC, "fault in the library: text".to_owned()));
        let (status, _) = run(|_| std::panic::panic_any(Bomb));
        assert_eq!(status, BISE_ERROR_PANIC);
        assert_eq!(value!(7, |_caller| panic!("no number")), 7);
    }

    #[test]
    fn an_object_left_by_a_panic_is_not_used_again() {
        let object = Mutex::new(1);
        let (status, _) = run(|_| {
            let _guard = try_lock(&object, "session")?;
            panic!("in the middle");
        });
        assert_eq!(status, BISE_ERROR_PANIC);
        let (status, message) = run(|_| try_lock(&object, "session").map(drop));
        assert_eq!(status, BISE_ERROR_PANIC);
        assert!(message.contains("left the session unfit for use"), "{message}");
    }

    #[test]
    fn an_object_in_use_is_busy() {
        let object = Mutex::new(1);
        let _guard = object.lock().unwrap();
        assert_eq!(run(|_| try_lock(&object, "session").map(drop)).0, BISE_ERROR_BUSY);
    }

    #[test]
    fn texts_and_arrays_are_checked() {
        assert_eq!(run(|c| c.name(std::ptr::null(), "name").map(drop)).0, BISE_ERROR_NULL);
        assert_eq!(run(|c| c.text(std::ptr::null(), 0, "text").map(drop)).0, BISE_OK);
        assert_eq!(run(|c| c.text(std::ptr::null(), 3, "text").map(drop)).0, BISE_ERROR_NULL);
        let (status, message) = run(|c| c.name(c"ab\xff".as_ptr(), "prompt").map(drop));
        assert_eq!(
            (status, &message[..]),
            (BISE_ERROR_UTF8, "prompt: the byte at 2 does not belong to UTF-8")
        );
        let numbers = [1u32, 2];
        assert_eq!(run(|c| c.slice(numbers.as_ptr(), usize::MAX / 2, "n").map(drop)).0, BISE_ERROR_ARGUMENT);
        let odd = numbers.as_ptr().wrapping_byte_add(1);
        assert_eq!(run(|c| c.slice(odd, 1, "n").map(drop)).0, BISE_ERROR_ARGUMENT);
        let (mut buffer, mut n) = ([0u32; 1], 0);
        let status = run(|c| c.fill(&numbers, buffer.as_mut_ptr(), 1, &raw mut n, "tokens")).0;
        assert_eq!((status, n, buffer), (BISE_ERROR_BUFFER, 2, [0]));
    }
}
