//! `/proc/self/status`, and what control groups leave.

#[path = "cgroup.rs"]
mod cgroup;

use std::path::Path;

/// What a process with addresses of 32 bits has of them; a 64-bit kernel gives it more.
const ADDRESS_SPACE: u64 = 3 << 30;

pub fn resident_bytes() -> Option<usize> {
    status_bytes("VmRSS:")
}

pub fn anonymous_bytes() -> Option<usize> {
    status_bytes("RssAnon:")
}

pub fn mapped_bytes() -> Option<usize> {
    status_bytes("RssFile:")
}

pub fn peak_bytes() -> Option<usize> {
    status_bytes("VmHWM:")
}

pub fn available_bytes() -> Option<usize> {
    let mut free = cgroup::free_bytes(Path::new("/"))?;
    if cfg!(target_pointer_width = "32") {
        // Not what is mapped: an emulator has all of the addresses mapped from the start.
        let taken = resident_bytes().unwrap_or(0) as u64;
        free = free.min(ADDRESS_SPACE.saturating_sub(taken));
    }
    Some(usize::try_from(free).unwrap_or(usize::MAX))
}

/// A line of `/proc/self/status`, which counts in kibibytes.
fn status_bytes(key: &str) -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib = line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?;
    Some(usize::try_from(kib.saturating_mul(1024)).unwrap_or(usize::MAX))
}
