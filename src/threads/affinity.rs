//! The CPUs that a thread may run on.

use std::io;

use super::CpuSet;

/// The CPUs that the calling thread may run on; `None` where the system does not tell.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn allowed() -> Option<CpuSet> {
    // SAFETY: a set of bits, for which all zeros is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is as large as is said. (With more than its 1024 CPUs the call fails.)
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) } != 0 {
        return None;
    }
    // SAFETY: `cpu` is below the number of bits.
    Some((0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// Keeps the calling thread on `cpus`.
///
/// # Errors
/// The system's, above all where it may run on none of them.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn bind(cpus: &CpuSet) -> io::Result<()> {
    // SAFETY: a set of bits, for which all zeros is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus.iter().filter(|cpu| *cpu < libc::CPU_SETSIZE as usize) {
        // SAFETY: `cpu` is below the number of bits.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: `set` is as large as is said.
    match unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `None`: these systems do not tell.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn allowed() -> Option<CpuSet> {
    None
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn bind(_: &CpuSet) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
