//! The kernel's counts on macOS and iOS.

use std::mem::{MaybeUninit, size_of};

pub fn resident_bytes() -> Option<usize> {
    usize::try_from(usage()?.ri_resident_size).ok()
}

/// The footprint: what was written to and belongs to no file, compressed or not.
pub fn anonymous_bytes() -> Option<usize> {
    usize::try_from(usage()?.ri_phys_footprint).ok()
}

pub fn mapped_bytes() -> Option<usize> {
    let usage = usage()?;
    usize::try_from(usage.ri_resident_size.saturating_sub(usage.ri_phys_footprint)).ok()
}

pub fn peak_bytes() -> Option<usize> {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` has room for what is written.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: numbers, which the call has filled in.
    let usage = unsafe { usage.assume_init() };
    usize::try_from(usage.ru_maxrss).ok()
}

/// What the activity monitor calls neither used nor compressed: free pages, and those that hold copies of files or may be purged.
pub fn available_bytes() -> Option<usize> {
    let mut n =
        (size_of::<libc::vm_statistics64>() / size_of::<libc::integer_t>()) as libc::mach_msg_type_number_t;
    let mut pages = MaybeUninit::<libc::vm_statistics64>::zeroed();
    #[expect(deprecated, reason = "libc wants to be rid of Mach, but the crate it names is not among ours")]
    // SAFETY: a system call without arguments.
    let host = unsafe { libc::mach_host_self() };
    let info = pages.as_mut_ptr().cast();
    // SAFETY: `info` has room for the `n` integers that are said to be writable.
    let code = unsafe { libc::host_statistics64(host, libc::HOST_VM_INFO64, info, &mut n) };
    if code != libc::KERN_SUCCESS {
        return None;
    }
    // SAFETY: numbers, for which the zeros that an older kernel leaves are values too.
    let pages = unsafe { pages.assume_init() };
    // What was read ahead is counted as free, and as a copy of a file.
    let (free, read_ahead) = (u64::from(pages.free_count), u64::from(pages.speculative_count));
    let n = free.saturating_sub(read_ahead)
        + u64::from(pages.external_page_count)
        + u64::from(pages.purgeable_count);
    // SAFETY: a number that is set before the program starts.
    let page_bytes = unsafe { libc::vm_page_size } as u64;
    usize::try_from(n.saturating_mul(page_bytes)).ok()
}

fn usage() -> Option<libc::rusage_info_v2> {
    let mut usage = MaybeUninit::<libc::rusage_info_v2>::zeroed();
    // SAFETY: a system call without arguments.
    let process = unsafe { libc::getpid() };
    let info = usage.as_mut_ptr().cast();
    // SAFETY: `info` points to what this flavour of the call fills in.
    let code = unsafe { libc::proc_pid_rusage(process, libc::RUSAGE_INFO_V2, info) };
    // SAFETY: numbers, for which the zeros from before the call are values too.
    let usage = unsafe { usage.assume_init() };
    (code == 0).then_some(usage)
}
