//! Who is told what comes of a job, and what that may not break.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::job::{JobEvent, JobStats, Sink};
use crate::Error;
use crate::generation::Finish;

/// A [`Sink`], or one that stays on its thread.
pub(crate) trait Listener {
    fn event(&mut self, event: JobEvent<'_>) -> ControlFlow<()>;

    /// Takes the last event.
    fn finished(&mut self, result: Result<Finish, Error>, stats: &JobStats) {
        let _ = self.event(JobEvent::Finished { result: result.as_ref(), stats });
    }
}

impl Listener for Box<dyn Sink> {
    fn event(&mut self, event: JobEvent<'_>) -> ControlFlow<()> {
        (**self).event(event)
    }
}

/// Tells `listener` of an event; `None` where it panics.
pub(super) fn tell<S: Listener>(listener: &mut S, event: JobEvent<'_>) -> Option<ControlFlow<()>> {
    guarded(|| listener.event(event)).ok()
}

/// Runs `f`; a panic becomes an error.
pub(super) fn guarded<T>(f: impl FnOnce() -> T) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic: Box<dyn Any + Send>| {
        let what = match panic.downcast_ref::<String>() {
            Some(what) => what,
            None => panic.downcast_ref::<&str>().copied().unwrap_or("a panic without a message"),
        };
        let what = what.to_owned();
        // Whatever a panic carries may panic when it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
        Error::Panicked { what }
    })
}

/// Tells a sink of an event. One that panics is told nothing any more, and wants nothing any more.
pub(super) fn tell_or_lose<S: Listener>(sink: &mut Option<S>, event: JobEvent<'_>) -> ControlFlow<()> {
    let flow = sink.as_mut().and_then(|sink| tell(sink, event));
    match flow {
        Some(flow) => flow,
        None => {
            // What panicked once may do so again when it is dropped.
            if let Some(sink) = sink.take() {
                let _ = guarded(|| drop(sink));
            }
            ControlFlow::Break(())
        }
    }
}
