//! `mlock`, `madvise` and `posix_fadvise`.

use std::fs::File;
use std::io;
use std::ops::Range;

use memmap2::{Advice, Mmap};

/// What [`lock`] attempts, and what helps where it fails.
pub const LOCKING: &str = "lock the file in memory (is `ulimit -l` large enough?)";

/// Bytes asked for at a time: Linux cuts a longer request down to the disk's read-ahead.
const ASK_BYTES: usize = 128 << 10;

/// Keeps the pages of `bytes` in memory until they are unmapped.
///
/// # Errors
/// If the system refuses.
pub fn lock(bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the call changes nothing but where the bytes are kept.
    match unsafe { libc::mlock(bytes.as_ptr().cast(), bytes.len()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Tells the system that little of a range is read at a time, here and there: it then reads nothing around it.
pub fn read_sparsely(map: &Mmap, range: Range<usize>) {
    let _ = map.advise_range(Advice::Random, range.start, range.len());
}

/// Asks the system to read all of a file.
pub fn prefetch(map: &Mmap) {
    let _ = map.advise(Advice::WillNeed);
}

/// Asks the system to read a range of a file. Returns before it is there.
pub fn ask_for(map: &Mmap, range: Range<usize>) {
    let mut start = range.start;
    while start < range.end {
        // Multiples of it, so that the disk is asked for whole blocks.
        let end = ((start / ASK_BYTES + 1) * ASK_BYTES).min(range.end);
        let _ = map.advise_range(Advice::WillNeed, start, end - start);
        start = end;
    }
}

/// Drops the whole pages of a range from this process's memory, and with `file` from the system's page cache, too, unless somebody else uses them.
///
/// # Safety
/// `map` is a read-only map of a file, which is `file`, from its beginning.
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android", target_os = "freebsd")),
    allow(unused_variables)
)]
pub unsafe fn give_back(file: Option<&File>, map: &Mmap, range: Range<usize>) {
    // SAFETY: `sysconf` only reads its argument.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page = usize::try_from(page).unwrap_or(4096).max(1);
    // Pages at the ends hold bytes of neighbours.
    let (start, end) = (range.start.next_multiple_of(page), range.end / page * page);
    if start >= end {
        return;
    }
    let (advice, n) = (memmap2::UncheckedAdvice::DontNeed, end - start);
    // The map is still whole where the kernel declines.
    // SAFETY: the map is read-only, so pages that are given back hold the same bytes when they are read from the file again.
    let _ = unsafe { map.unchecked_advise_range(advice, start, n) };
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    {
        use std::os::fd::AsRawFd;

        let Some(file) = file else { return };
        // Where offsets have 32 bits, all of a map is below 4 GB but not all of it below 2.
        let (Ok(start), Ok(n)) = (libc::off_t::try_from(start), libc::off_t::try_from(end - start)) else {
            return;
        };
        // SAFETY: the descriptor is open as long as `file` is borrowed, and the call only drops clean pages from the page cache.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), start, n, libc::POSIX_FADV_DONTNEED) };
    }
}
