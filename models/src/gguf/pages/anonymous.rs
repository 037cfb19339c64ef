//! Pages that belong to no file, read-only once they are filled.

use std::io;

use memmap2::{Mmap, MmapMut};

/// Bytes that can only be read.
pub type Anonymous = Mmap;

/// Bytes that are being written.
pub type Writable = MmapMut;

/// `n_bytes` of zeros; `None` where the system does not have them.
pub fn allocate(n_bytes: usize) -> Option<Writable> {
    MmapMut::map_anon(n_bytes).ok()
}

/// Ends the writing.
///
/// # Errors
/// If the system refuses.
pub fn protect(bytes: Writable) -> io::Result<Anonymous> {
    bytes.make_read_only()
}

/// Begins another writing.
///
/// # Errors
/// If the system refuses.
pub fn unprotect(bytes: Anonymous) -> io::Result<Writable> {
    bytes.make_mut()
}
