//! Room on the disk.

use std::path::Path;

/// Bytes that a program may still write where `path` is, if the system says so.
#[cfg(unix)]
#[allow(clippy::unnecessary_cast, reason = "the fields have other widths elsewhere")]
pub fn free_bytes(path: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;

    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: an all-zero `statvfs` is a valid one; the path ends in a zero, and both live through the call.
    let (found, stat) = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut stat), stat)
    };
    (found == 0).then(|| (stat.f_bavail as u64).saturating_mul(stat.f_frsize as u64))
}

/// Bytes that a program may still write where `path` is, if the system says so.
#[cfg(not(unix))]
pub fn free_bytes(_path: &Path) -> Option<u64> {
    None
}
