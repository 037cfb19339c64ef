//! `VirtualLock`, `VirtualUnlock` and `PrefetchVirtualMemory`.

use std::fs::File;
use std::io;
use std::ops::Range;

use memmap2::Mmap;
use windows_sys::Win32::System::Memory::{
    PrefetchVirtualMemory, VirtualLock, VirtualUnlock, WIN32_MEMORY_RANGE_ENTRY,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetProcessWorkingSetSize, SetProcessWorkingSetSize,
};

/// What [`lock`] attempts, and what helps where it fails.
pub const LOCKING: &str = "lock the file in memory (is that much of it free?)";

/// Added to the working set beside what is locked: the pages that describe it.
const SPARE_BYTES: usize = 1 << 20;

/// Keeps the pages of `bytes` in memory until they are unmapped.
///
/// # Errors
/// If the system refuses.
pub fn lock(bytes: &[u8]) -> io::Result<()> {
    // A process may lock no more than the minimum of its working set, which is some 200 KB unless it is raised.
    let more = bytes.len().saturating_add(SPARE_BYTES);
    let (mut least, mut most) = (0, 0);
    // SAFETY: the handle is the constant that stands for this process, and both numbers may be written.
    let known = unsafe { GetProcessWorkingSetSize(GetCurrentProcess(), &mut least, &mut most) } != 0;
    let raised = known && {
        let (least, most) = (least.saturating_add(more), most.saturating_add(more));
        // SAFETY: numbers, for this process.
        unsafe { SetProcessWorkingSetSize(GetCurrentProcess(), least, most) != 0 }
    };
    if !raised {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call changes nothing but where the bytes are kept.
    match unsafe { VirtualLock(bytes.as_ptr().cast(), bytes.len()) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Nothing: views of a file have no such advice.
pub fn read_sparsely(_map: &Mmap, _range: Range<usize>) {}

/// Asks the system to read all of a file.
pub fn prefetch(map: &Mmap) {
    ask_for(map, 0..map.len());
}

/// Asks the system to read a range of a file. Returns before it is there.
pub fn ask_for(map: &Mmap, range: Range<usize>) {
    let bytes = &map[range];
    let entry = WIN32_MEMORY_RANGE_ENTRY {
        VirtualAddress: bytes.as_ptr().cast_mut().cast(),
        NumberOfBytes: bytes.len(),
    };
    // SAFETY: one entry, which describes bytes of this process; they are read from the file, never written.
    unsafe { PrefetchVirtualMemory(GetCurrentProcess(), 1, &entry, 0) };
}

/// Takes a range out of the working set: its pages stay in the system's cache of files until that is short of memory.
///
/// # Safety
/// `map` is a read-only map of `file`, from its beginning.
pub unsafe fn give_back(_file: Option<&File>, map: &Mmap, range: Range<usize>) {
    let bytes = &map[range];
    // Unlocking pages that are not locked removes them from the working set; the call then fails, as documented.
    // SAFETY: the call changes nothing but where the bytes are kept.
    unsafe { VirtualUnlock(bytes.as_ptr().cast(), bytes.len()) };
}
