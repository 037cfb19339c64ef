//! The counts of Windows: of the process, the machine, and the job that the process may be in.

use std::mem::size_of;
use std::ptr::null_mut;

use windows_sys::Win32::System::JobObjects::{
    JOB_OBJECT_LIMIT_JOB_MEMORY, JOB_OBJECT_LIMIT_PROCESS_MEMORY, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectExtendedLimitInformation, QueryInformationJobObject,
};
use windows_sys::Win32::System::ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS_EX};
use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

pub fn resident_bytes() -> Option<usize> {
    Some(counters()?.WorkingSetSize)
}

/// Private bytes that are committed, resident or not: what the system refuses more of when it is short.
pub fn anonymous_bytes() -> Option<usize> {
    Some(counters()?.PrivateUsage)
}

pub fn mapped_bytes() -> Option<usize> {
    let counters = counters()?;
    Some(counters.WorkingSetSize.saturating_sub(counters.PrivateUsage))
}

pub fn peak_bytes() -> Option<usize> {
    Some(counters()?.PeakWorkingSetSize)
}

/// Free physical memory, or what may still be committed where that is less; for a process in a job (a container is one), no more than the
/// job's limits leave.
pub fn available_bytes() -> Option<usize> {
    let mut status = MEMORYSTATUSEX { dwLength: size_of::<MEMORYSTATUSEX>() as u32, ..Default::default() };
    // SAFETY: `status` says how large it is.
    if unsafe { GlobalMemoryStatusEx(&mut status) } == 0 {
        return None;
    }
    let machine = status.ullAvailPhys.min(status.ullAvailPageFile).min(status.ullAvailVirtual);
    let machine = usize::try_from(machine).unwrap_or(usize::MAX);
    let used = anonymous_bytes().unwrap_or(0);
    Some(job_limit().map_or(machine, |limit| machine.min(limit.saturating_sub(used))))
}

/// The most that the process, or all of its job, may commit.
fn job_limit() -> Option<usize> {
    let mut info = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    let n_bytes = size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32;
    // SAFETY: without a handle it is this process's job that is asked about, and `info` has the size that is said.
    let told = unsafe {
        QueryInformationJobObject(
            null_mut(),
            JobObjectExtendedLimitInformation,
            (&raw mut info).cast(),
            n_bytes,
            null_mut(),
        )
    };
    let has = |flag| told != 0 && info.BasicLimitInformation.LimitFlags & flag != 0;
    let process = has(JOB_OBJECT_LIMIT_PROCESS_MEMORY).then_some(info.ProcessMemoryLimit);
    let job = has(JOB_OBJECT_LIMIT_JOB_MEMORY).then_some(info.JobMemoryLimit);
    process.into_iter().chain(job).min()
}

fn counters() -> Option<PROCESS_MEMORY_COUNTERS_EX> {
    let n_bytes = size_of::<PROCESS_MEMORY_COUNTERS_EX>() as u32;
    let mut counters = PROCESS_MEMORY_COUNTERS_EX { cb: n_bytes, ..Default::default() };
    // SAFETY: a system call without arguments.
    let process = unsafe { GetCurrentProcess() };
    let out = (&raw mut counters).cast();
    // The call knows the longer struct by its size.
    // SAFETY: `process` stands for this process, and `out` has room for the `n_bytes` that are said.
    let told = unsafe { K32GetProcessMemoryInfo(process, out, n_bytes) };
    (told != 0).then_some(counters)
}
