//! Bytes that belong to no file, where the system has no pages to protect.

use std::io;

/// Bytes that are only read.
pub type Anonymous = Vec<u8>;

/// Bytes that are being written.
pub type Writable = Vec<u8>;

/// `n_bytes` of zeros; `None` where the system does not have them.
pub fn allocate(n_bytes: usize) -> Option<Writable> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(n_bytes).ok()?;
    bytes.resize(n_bytes, 0);
    Some(bytes)
}

/// Ends the writing.
///
/// # Errors
/// Never, here.
pub fn protect(bytes: Writable) -> io::Result<Anonymous> {
    Ok(bytes)
}

/// Begins another writing.
///
/// # Errors
/// Never, here.
pub fn unprotect(bytes: Anonymous) -> io::Result<Writable> {
    Ok(bytes)
}
