//! Running the engine without the GIL, and with Ctrl-C obeyed in the middle of a pass.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use bise::Cancel;
use pyo3::prelude::*;

/// How often Python is asked whether a signal has come.
const ASK_EVERY: Duration = Duration::from_millis(40);

/// How long what is to be run may take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// No longer than a person waits without noticing.
    Short,
    /// Perhaps minutes.
    Long,
}

/// Runs `work` without the GIL. What is long runs in a thread of its own, while this one lets Python handle signals: if a handler
/// raises, as that of Ctrl-C does, `cancel` ends the pass under way, and the exception is the result.
///
/// Python handles signals in its main thread only, so that is the thread that has to be free to ask.
pub fn run<T: Send>(
    py: Python<'_>,
    cancel: &Cancel,
    length: Length,
    work: impl FnOnce() -> T + Send,
) -> PyResult<T> {
    if length == Length::Short {
        let result = py.detach(work);
        py.check_signals()?;
        return Ok(result);
    }
    py.detach(|| {
        thread::scope(|scope| {
            let (done, is_done) = channel();
            let worker = scope.spawn(move || {
                let result = work();
                // The receiver lives until the worker is joined.
                let _ = done.send(());
                result
            });
            let mut interrupted = None;
            while is_done.recv_timeout(ASK_EVERY) == Err(RecvTimeoutError::Timeout) {
                if interrupted.is_none()
                    && let Err(error) = Python::attach(|py| py.check_signals())
                {
                    cancel.cancel();
                    interrupted = Some(error);
                }
            }
            let result = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            interrupted.map_or(Ok(result), Err)
        })
    })
}
