//! How many threads an engine has unless it is told.

use super::CpuSet;

/// Performance cores (all physical cores where there is one kind) among `cpus`, or among those that this process may run on; no more than
/// the control groups' quotas allow.
///
/// A second thread on a core has nothing to compute with, and an efficiency core is left to the rest of the system: it adds little, and
/// on a laptop or phone it slows the others by the heat. A number given by hand can still ask for all.
pub fn default_threads(cpus: Option<&CpuSet>) -> usize {
    let quota = super::quota::cpus().map_or(usize::MAX, threads_within);
    let cores = match cpus {
        Some(cpus) => performance_cores(Some(cpus)).unwrap_or(cpus.len()),
        None => performance_cores(None).unwrap_or_else(num_cpus::get_physical).min(available()),
    };
    cores.min(quota).max(1)
}

/// CPUs that this process may run on.
pub fn available() -> usize {
    super::affinity::allowed()
        .map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), |cpus| cpus.len())
}

/// Threads that use up a quota of so many CPUs. They stop together for the rest of each period, which costs less than a thread that is
/// missing: within 1.5 CPUs, two threads were 1.37 (decode) to 1.49 times (prefill) as fast as one.
fn threads_within(quota: f64) -> usize {
    quota.ceil() as usize
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn performance_cores(cpus: Option<&CpuSet>) -> Option<usize> {
    let cpus = cpus.cloned().or_else(super::affinity::allowed)?;
    linux::performance_cores(std::path::Path::new("/sys/devices"), &cpus)
}

/// Apple numbers the levels of its cores from the fastest.
#[cfg(target_vendor = "apple")]
fn performance_cores(_: Option<&CpuSet>) -> Option<usize> {
    let (mut n, mut size) = (0i32, size_of::<i32>());
    let name = c"hw.perflevel0.physicalcpu";
    let nothing = std::ptr::null_mut();
    // SAFETY: the name ends in NUL, and `n` has the `size` bytes that are said to be writable.
    let failed = unsafe { libc::sysctlbyname(name.as_ptr(), (&raw mut n).cast(), &mut size, nothing, 0) };
    usize::try_from(n).ok().filter(|n| failed == 0 && *n > 0)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn performance_cores(_: Option<&CpuSet>) -> Option<usize> {
    None
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::collections::HashSet;
    use std::fs;
    use std::path::Path;

    use super::CpuSet;

    /// Cores among `cpus` that an x86 kernel lists as performance cores, or whose capacity is more than three fifths of the largest one's:
    /// efficiency cores have up to half (Apple M2), the middle ones of a phone mostly four fifths.
    pub fn performance_cores(devices: &Path, cpus: &CpuSet) -> Option<usize> {
        let read = |file: String| fs::read_to_string(devices.join(file)).ok();
        let listed = read("cpu_core/cpus".to_owned())
            .and_then(|list| CpuSet::from_list(&list).ok())
            .unwrap_or_default();
        let capacity = |cpu: usize| -> u32 {
            if !listed.is_empty() {
                return if listed.contains(cpu) { 1024 } else { 0 };
            }
            let capacity = read(format!("system/cpu/cpu{cpu}/cpu_capacity"));
            capacity.and_then(|n| n.trim().parse().ok()).unwrap_or(1024)
        };
        let capacities: Vec<u32> = cpus.iter().map(capacity).collect();
        let largest = *capacities.iter().max()?;
        let mut cores = HashSet::new();
        for (cpu, capacity) in cpus.iter().zip(&capacities) {
            if 5 * capacity > 3 * largest || largest == 0 {
                // The threads of a core have the same list of siblings.
                cores.insert(read(format!("system/cpu/cpu{cpu}/topology/thread_siblings_list"))?);
            }
        }
        Some(cores.len())
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// A machine of `cpus`: each a core and, where the kernel says so, a capacity.
        fn machine(cpus: &[(usize, Option<u32>)], listed: Option<&str>) -> tempfile::TempDir {
            let devices = tempfile::tempdir().unwrap();
            for (cpu, (core, capacity)) in cpus.iter().enumerate() {
                let folder = devices.path().join(format!("system/cpu/cpu{cpu}"));
                fs::create_dir_all(folder.join("topology")).unwrap();
                let siblings = cpus.iter().enumerate().filter(|(_, (other, _))| other == core);
                let siblings: Vec<_> = siblings.map(|(cpu, _)| cpu.to_string()).collect();
                fs::write(folder.join("topology/thread_siblings_list"), siblings.join(",") + "\n").unwrap();
                if let Some(capacity) = capacity {
                    fs::write(folder.join("cpu_capacity"), format!("{capacity}\n")).unwrap();
                }
            }
            if let Some(listed) = listed {
                fs::create_dir(devices.path().join("cpu_core")).unwrap();
                fs::write(devices.path().join("cpu_core/cpus"), listed).unwrap();
            }
            devices
        }

        fn count(cpus: &[(usize, Option<u32>)], listed: Option<&str>, allowed: &[usize]) -> Option<usize> {
            performance_cores(machine(cpus, listed).path(), &allowed.iter().copied().collect())
        }

        #[test]
        fn two_threads_of_a_core_count_once() {
            let server: Vec<_> = (0..8).map(|cpu| (cpu % 4, None)).collect();
            assert_eq!(count(&server, None, &[0, 1, 2, 3, 4, 5, 6, 7]), Some(4));
            assert_eq!(count(&server, None, &[0, 4]), Some(1), "bound to one core");
            assert_eq!(count(&server, None, &[1, 2, 6]), Some(2));
        }

        #[test]
        fn phones_leave_out_their_little_cores() {
            // One prime core, three big ones, four little ones.
            let capacities = [250, 250, 250, 250, 870, 870, 870, 1024];
            let phone: Vec<_> = capacities.iter().enumerate().map(|(cpu, c)| (cpu, Some(*c))).collect();
            assert_eq!(count(&phone, None, &[0, 1, 2, 3, 4, 5, 6, 7]), Some(4));
            assert_eq!(count(&phone, None, &[0, 1, 2]), Some(3), "bound to little cores alone");
        }

        #[test]
        fn alder_lake_leaves_out_its_efficiency_cores() {
            // Six performance cores of two threads each, then four efficiency cores, before the kernel knew capacities and since.
            let cores: Vec<_> = (0..12).map(|cpu| cpu / 2).chain(6..10).collect();
            let old: Vec<_> = cores.iter().map(|core| (*core, None)).collect();
            let all: Vec<_> = (0..16).collect();
            assert_eq!(count(&old, Some("0-11\n"), &all), Some(6));
            assert_eq!(
                count(&old, Some("0-11\n"), &[12, 13, 14]),
                Some(3),
                "bound to efficiency cores alone"
            );
            assert_eq!(count(&old, Some("0,2-11\n"), &all), Some(6));
            let new: Vec<_> =
                cores.iter().map(|core| (*core, Some(if *core < 6 { 1024 } else { 640 }))).collect();
            assert_eq!(count(&new, Some("0-11\n"), &all), Some(6));
        }

        #[test]
        fn a_machine_that_does_not_say_is_not_guessed_at() {
            let devices = tempfile::tempdir().unwrap();
            assert_eq!(performance_cores(devices.path(), &[0, 1].into_iter().collect()), None);
            assert_eq!(performance_cores(devices.path(), &CpuSet::default()), None);
        }

        #[test]
        fn this_machine_has_a_core() {
            let n = super::super::default_threads(None);
            assert!((1..=super::super::available()).contains(&n), "{n} threads");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_cpu_has_a_thread() {
        for (quota, n) in [(0.1, 1), (1.0, 1), (1.5, 2), (2.0, 2), (2.01, 3)] {
            assert_eq!(threads_within(quota), n, "{quota}");
        }
    }
}
