//! How much memory a model takes: foretold, kept below a ceiling, and as the system counts it.

mod available;
mod fit;
mod limit;
mod plan;

pub use available::available_bytes;
pub use fit::{Change, DoesNotFit, Remedy, format_bytes};
pub use limit::{MemoryLimit, ParseLimitError};
pub use plan::MemoryPlan;
pub(crate) use plan::{HEAP_GROWTH_BYTES, Program, Streamed, WeightsPlan};

/// The memory of this process that is resident, in bytes; `None` where the system does not tell.
pub fn resident_bytes() -> Option<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return status_bytes("VmRSS:");
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    None
}

/// The memory of this process that is resident and belongs to no file, in bytes; `None` where the system does not tell.
pub fn anonymous_bytes() -> Option<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return status_bytes("RssAnon:");
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    None
}

/// The memory of this process that holds parts of files, its program among them.
pub(crate) fn mapped_bytes() -> Option<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return status_bytes("RssFile:");
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    None
}

/// Parts of the program that are read only when a model runs.
pub(crate) const PROGRAM_GROWTH_BYTES: usize = 1 << 20;

/// The most memory of this process that was resident at one time, in bytes; `None` where the system does not tell.
///
/// On Linux this is `VmHWM`. (`getrusage` starts from what the program that started this one had used.) On Apple's systems it is
/// `ru_maxrss`, which belongs to the program alone there.
pub fn peak_bytes() -> Option<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return status_bytes("VmHWM:");
    #[cfg(target_vendor = "apple")]
    {
        // SAFETY: an all-zero `rusage` is a valid one, and `getrusage` only fills in the one it is given.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::getrusage(libc::RUSAGE_SELF, &mut usage) == 0).then_some(usage)
        }?;
        usize::try_from(usage.ru_maxrss).ok()
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    None
}

/// A line of `/proc/self/status`, which counts in kibibytes.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn status_bytes(key: &str) -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
}
