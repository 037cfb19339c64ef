//! Ctrl-C, signals that end the program, and a model file that shrinks while it is mapped.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use bise::Cancel;

/// What Ctrl-C cancels; without it, Ctrl-C ends the program.
static WRITING: Mutex<Option<(Work, Cancel)>> = Mutex::new(None);

/// What is under way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// A text: the program may go on after Ctrl-C.
    Text,
    /// A file or a measurement: the program ends, and removes what is half written first.
    File,
}

/// What a command says that Ctrl-C ended in an orderly way.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: {0}")]
pub struct Interrupted(pub String);

static COLOURED: AtomicBool = AtomicBool::new(false);

/// The exit code of a program that Ctrl-C ended.
pub const EXIT_INTERRUPTED: u8 = 130;

/// 128 and the number of the signal that was received last.
static EXIT: AtomicU8 = AtomicU8::new(EXIT_INTERRUPTED);

/// The exit code of a program that a signal ended in an orderly way: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
pub fn exit_code() -> ExitCode {
    ExitCode::from(EXIT.load(Ordering::Relaxed))
}

/// Listens for Ctrl-C, SIGTERM and SIGHUP from now on, where there are signals, and lets a write beyond the limit of a file's size fail rather than
/// end the program. To be called before there are other threads.
///
/// # Errors
/// If the system refuses.
pub fn listen() -> Result<()> {
    #[cfg(unix)]
    anyhow::Context::context(listen_for_signals(), "listening for Ctrl-C")?;
    #[cfg(windows)]
    anyhow::Context::context(ctrlc::set_handler(on_interrupt), "listening for Ctrl-C")?;
    Ok(())
}

/// Blocks SIGINT, SIGTERM and SIGHUP in this thread and those it starts, and waits for them in one of its own. SIGTERM and SIGHUP stay ignored
/// where they are, as SIGHUP is below `nohup`; SIGINT does not, because shells ignore it for what they start in the background.
#[cfg(unix)]
fn listen_for_signals() -> std::io::Result<()> {
    // SAFETY: all pointers are to locals, for which zeros are valid, and neither `SIG_IGN` nor `SIG_DFL` runs code of ours.
    let set = unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::signal(libc::SIGINT, libc::SIG_DFL);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGINT);
        for signal in [libc::SIGTERM, libc::SIGHUP] {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &mut action);
            if action.sa_sigaction != libc::SIG_IGN {
                libc::sigaddset(&mut set, signal);
            }
        }
        match libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) {
            0 => set,
            error => return Err(std::io::Error::from_raw_os_error(error)),
        }
    };
    // Little stack, for programs whose address space is limited.
    std::thread::Builder::new().name("signals".into()).stack_size(256 << 10).spawn(move || {
        loop {
            let mut signal = 0;
            // SAFETY: both pointers are to values that live through the call, and the set was filled above.
            match unsafe { libc::sigwait(&set, &mut signal) } {
                0 if signal == libc::SIGINT => on_interrupt(),
                0 => on_termination(128 + signal as u8),
                _ => {}
            }
        }
    })?;
    Ok(())
}

/// Ends the program, at once or after what is half written was removed.
#[cfg(unix)]
fn on_termination(exit: u8) {
    match &*what_is_written() {
        Some((Work::File, cancel)) if !cancel.is_cancelled() => {
            EXIT.store(exit, Ordering::Relaxed);
            cancel.cancel();
        }
        _ => end(exit),
    }
}

/// The handler runs on a thread of its own, so it may lock.
#[cfg_attr(target_family = "wasm", expect(dead_code, reason = "WASI has no signals"))]
fn on_interrupt() {
    match &*what_is_written() {
        Some((_, cancel)) if !cancel.is_cancelled() => cancel.cancel(),
        _ => end(EXIT_INTERRUPTED),
    }
}

/// Ends the program with the terminal as it was.
#[cfg_attr(target_family = "wasm", expect(dead_code, reason = "WASI has no signals"))]
fn end(exit: u8) -> ! {
    if COLOURED.load(Ordering::Relaxed) {
        // Not through `stdout`, whose lock the interrupted thread may hold.
        let _ = std::io::stderr().write_all(b"\x1b[0m\n");
    }
    std::process::exit(i32::from(exit));
}

/// Says that the terminal is in colour and wants to be put back before the program ends.
pub fn set_coloured(coloured: bool) {
    COLOURED.store(coloured, Ordering::Relaxed);
}

/// While this lives, the first Ctrl-C cancels what is under way; the second ends the program.
pub struct Writing(Cancel);

/// Begins a text that Ctrl-C interrupts by cancelling `cancel`. SIGTERM and SIGHUP end the program.
pub fn answering(cancel: Cancel) -> Writing {
    begin(Work::Text, cancel)
}

/// Begins a file or a measurement that Ctrl-C, SIGTERM and SIGHUP end by cancelling `cancel`: the command is to end too, with an error.
pub fn writing(cancel: Cancel) -> Writing {
    begin(Work::File, cancel)
}

fn begin(work: Work, cancel: Cancel) -> Writing {
    *what_is_written() = Some((work, cancel.clone()));
    Writing(cancel)
}

impl Drop for Writing {
    fn drop(&mut self) {
        *what_is_written() = None;
        self.0.reset();
    }
}

fn what_is_written() -> MutexGuard<'static, Option<(Work, Cancel)>> {
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
