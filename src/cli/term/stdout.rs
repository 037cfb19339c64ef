//! Standard output that cannot be written to.

use std::io::{self, Write};

use anyhow::{Context, Result, ensure};

/// Checks that standard output is open. Rust's runtime opens `/dev/null` in place of a closed one, so that writing to it
/// would look like success.
///
/// # Errors
/// If the program was started without one (`>&-`).
pub fn require_open() -> Result<()> {
    ensure!(
        !at_start::WAS_CLOSED.load(std::sync::atomic::Ordering::Relaxed),
        "standard output: it is closed"
    );
    Ok(())
}

/// Writes what is still buffered.
///
/// # Errors
/// If it cannot be written, as on a full disk.
pub fn flush() -> Result<()> {
    io::stdout().flush().context("standard output")
}

/// What standard output was before Rust's runtime began.
mod at_start {
    use std::sync::atomic::AtomicBool;

    /// Whether there was none.
    pub static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "macos"))]
    mod hook {
        use std::sync::atomic::Ordering;

        extern "C" fn look() {
            // It needs no runtime, so it may be called before `main`.
            // SAFETY: `fcntl` with F_GETFD only reads the flags of a descriptor, and returns -1 for one that is not open.
            let closed = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) } == -1;
            super::WAS_CLOSED.store(closed, Ordering::Relaxed);
        }

        // SAFETY: the section holds pointers to functions that the loader calls before `main`; `look` is one of the type it
        // expects (it ignores the arguments it may be passed, which the C calling convention allows), and uses nothing that
        // `main` or Rust's runtime sets up.
        #[used]
        #[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
        #[cfg_attr(not(target_os = "macos"), unsafe(link_section = ".init_array"))]
        static HOOK: extern "C" fn() = look;
    }
}
