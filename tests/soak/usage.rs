//! What a process holds.

use std::fs;
use std::process::Child;

/// Memory, files and threads of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// RssAnon and VmSwap, in kB.
    pub anonymous: u64,
    pub n_threads: usize,
    /// Open files, sockets included.
    pub n_files: usize,
    /// Sockets of these.
    pub n_sockets: usize,
}

impl Usage {
    pub fn of(process: &Child) -> Usage {
        let folder = format!("/proc/{}", process.id());
        let status = fs::read_to_string(format!("{folder}/status")).unwrap();
        let kb = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
        };
        let files = fs::read_dir(format!("{folder}/fd")).unwrap().flatten();
        let targets: Vec<_> = files.filter_map(|file| fs::read_link(file.path()).ok()).collect();
        Usage {
            anonymous: kb("RssAnon") + kb("VmSwap"),
            n_threads: fs::read_dir(format!("{folder}/task")).unwrap().count(),
            n_files: targets.len(),
            n_sockets: targets.iter().filter(|path| path.to_string_lossy().starts_with("socket:")).count(),
        }
    }
}
