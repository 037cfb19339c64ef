//! The memory of this process, and how much more it may take, as the system counts them.

#[cfg(any(target_os = "linux", target_os = "android"))]
#[path = "linux.rs"]
mod system;
#[cfg(target_vendor = "apple")]
#[path = "apple.rs"]
mod system;
#[cfg(windows)]
#[path = "windows.rs"]
mod system;
#[cfg(target_family = "wasm")]
#[path = "wasm.rs"]
mod system;
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    windows,
    target_family = "wasm"
)))]
#[path = "unknown.rs"]
mod system;

/// The memory of this process that is resident, in bytes; `None` where the system does not tell.
///
/// `VmRSS` on Linux, the resident size on Apple's systems, the working set on Windows, and the whole memory in WebAssembly.
pub fn resident_bytes() -> Option<usize> {
    system::resident_bytes()
}

/// The memory of this process that belongs to no file, in bytes; `None` where the system does not tell.
///
/// What of it is resident on Linux (`RssAnon`), the footprint on Apple's systems, the private bytes that are committed on Windows, and the
/// whole memory in WebAssembly.
pub fn anonymous_bytes() -> Option<usize> {
    system::anonymous_bytes()
}

/// The memory of this process that holds parts of files, its program among them, in bytes. Where the system does not tell the two apart,
/// what is resident beyond what is anonymous.
pub(crate) fn mapped_bytes() -> Option<usize> {
    system::mapped_bytes()
}

/// The most memory of this process that was resident at one time, in bytes; `None` where the system does not tell.
///
/// On Linux this is `VmHWM`. (`getrusage` starts from what the program that started this one had used.) On Apple's systems it is
/// `ru_maxrss`, which belongs to the program alone there; on Windows the peak working set.
pub fn peak_bytes() -> Option<usize> {
    system::peak_bytes()
}

/// Bytes that this process can take without the system having to swap or kill: what is free, and what holds nothing but copies of files.
/// Less where a limit says so: control groups on Linux, a job on Windows, addresses where those have 32 bits. `None` where the system does
/// not tell.
pub fn available_bytes() -> Option<usize> {
    system::available_bytes()
}

/// Gives memory that the allocator keeps for later back to the system, where it does not do so by itself.
#[cfg(feature = "server")]
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: glibc's own lock guards its heap, and `malloc_trim` may be called at any time by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory() {
        let Some(anonymous) = anonymous_bytes() else { return };
        let block = std::hint::black_box(vec![1_u8; 32 << 20]);
        let grown = anonymous_bytes().unwrap() - anonymous;
        assert!(grown >= block.len() - (1 << 20), "{grown}");
        assert!(resident_bytes().unwrap() >= block.len());
        assert!(peak_bytes().unwrap() >= block.len());
        assert!(mapped_bytes().is_some());
    }
}
