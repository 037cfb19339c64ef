//! Pages of memory: anonymous ones for copies of files, and what the system is told about those it keeps.

#[cfg(any(unix, windows))]
mod anonymous;
#[cfg(not(any(unix, windows)))]
#[path = "anonymous_vec.rs"]
mod anonymous;
#[cfg(not(any(unix, windows)))]
#[path = "none.rs"]
mod system;
#[cfg(unix)]
#[path = "unix.rs"]
mod system;
#[cfg(windows)]
#[path = "windows.rs"]
mod system;

pub(super) use anonymous::{Anonymous, allocate, protect, unprotect};
pub(super) use system::{LOCKING, ask_for, give_back, lock, prefetch, read_sparsely};
