//! Which library this is.

use std::ffi::c_char;

/// The number of the binary interface that this header describes. It grows with every change that a program built before would notice; new
/// functions and new names of options are none.
pub const BISE_ABI_VERSION: u32 = 1;

/// The binary interface of the library that is loaded. A program should compare it with BISE_ABI_VERSION, with which it was built.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn bise_abi_version() -> u32 {
    BISE_ABI_VERSION
}

/// The version of the library that is loaded, such as "0.1.0".
///
/// Threads: any. The text is a constant.
#[unsafe(no_mangle)]
pub extern "C" fn bise_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
