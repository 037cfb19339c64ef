//! Where a process has memory but no pages, as in WebAssembly.

use std::fs::File;
use std::io;
use std::ops::Range;

use memmap2::Mmap;

/// What [`lock`] is asked for.
pub const LOCKING: &str = "lock the file in memory";

/// Cannot.
///
/// # Errors
/// Always.
pub fn lock(_bytes: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Nothing: files cannot be mapped.
pub fn read_sparsely(_map: &Mmap, _range: Range<usize>) {}

/// Nothing: files cannot be mapped.
pub fn prefetch(_map: &Mmap) {}

/// Nothing: files cannot be mapped.
pub fn ask_for(_map: &Mmap, _range: Range<usize>) {}

/// Nothing: files cannot be mapped.
///
/// # Safety
/// None is needed.
pub unsafe fn give_back(_file: Option<&File>, _map: &Mmap, _range: Range<usize>) {}
