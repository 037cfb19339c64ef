//! Ctrl-C, and a model file that shrinks while it is mapped.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use bise::Cancel;

/// What Ctrl-C cancels; without it, Ctrl-C ends the program.
static WRITING: Mutex<Option<Cancel>> = Mutex::new(None);

/// What a command says that Ctrl-C ended in an orderly way.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: {0}")]
pub struct Interrupted(pub String);

static COLOURED: AtomicBool = AtomicBool::new(false);

/// The exit code of a program that Ctrl-C ended.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Listens for Ctrl-C from now on, where there are signals.
///
/// # Errors
/// If the system refuses.
pub fn listen() -> Result<()> {
    #[cfg(not(target_family = "wasm"))]
    anyhow::Context::context(ctrlc::set_handler(on_interrupt), "listening for Ctrl-C")?;
    Ok(())
}

/// The handler runs on a thread of its own, so it may lock.
#[cfg_attr(target_family = "wasm", expect(dead_code, reason = "WASI has no signals"))]
fn on_interrupt() {
    match &*what_is_written() {
        Some(cancel) if !cancel.is_cancelled() => cancel.cancel(),
        _ => {
            if COLOURED.load(Ordering::Relaxed) {
                // Not through `stdout`, whose lock the interrupted thread may hold.
                let _ = std::io::stderr().write_all(b"\x1b[0m\n");
            }
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
    }
}

/// Says that the terminal is in colour and wants to be put back before the program ends.
pub fn set_coloured(coloured: bool) {
    COLOURED.store(coloured, Ordering::Relaxed);
}

/// While this lives, the first Ctrl-C cancels the passes that write a text; the second ends the program.
pub struct Writing(Cancel);

/// Begins a text that Ctrl-C interrupts by cancelling `cancel`.
pub fn writing(cancel: Cancel) -> Writing {
    *what_is_written() = Some(cancel.clone());
    Writing(cancel)
}

impl Drop for Writing {
    fn drop(&mut self) {
        *what_is_written() = None;
        self.0.reset();
    }
}

fn what_is_written() -> MutexGuard<'static, Option<Cancel>> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Turns the signal that a mapped file sends when it has shrunk into one line and exit code 1.
#[cfg(unix)]
pub fn guard_mapped_file(path: &std::path::Path) {
    use std::sync::OnceLock;

    static MESSAGE: OnceLock<String> = OnceLock::new();

    extern "C" fn on_sigbus(_signal: libc::c_int) {
        let message = MESSAGE.get().map_or("bise: error: a mapped file shrank\n", String::as_str);
        // SAFETY: both calls are async-signal-safe, as is `OnceLock::get`, and the string is never freed.
        unsafe {
            libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len());
            libc::_exit(1);
        }
    }

    let file = bise_models::printable::Printable(path.display());
    let _ = MESSAGE.set(format!(
        "bise: error: {file}: found the file shorter than when it was opened, expected it to stay as it was (it is mapped into memory)\n"
    ));
    // The handler never returns, so it cannot resume the faulting load.
    // SAFETY: an all-zero `sigaction` is a valid one (no flags, an empty mask), and the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_sigbus as extern "C" fn(libc::c_int) as usize;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

/// Windows does not let a mapped file shrink, and WASI has no mappings.
#[cfg(not(unix))]
pub fn guard_mapped_file(_path: &std::path::Path) {}
