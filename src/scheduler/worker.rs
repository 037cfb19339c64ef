//! A thread that owns a scheduler.

use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::intake::Intake;
use super::job::{EmbedJob, Job, JobId, Sink};
use super::listener::guarded;
use super::refused::Refused;
use super::snapshot::{SchedulerStats, SlotState};
use super::{Scheduler, Work, work};
use crate::Engine;

/// A thread that runs a [`Scheduler`] as long as there is work.
pub struct Worker;

impl Worker {
    /// Starts the thread. It ends when the last handle is gone, or after [`WorkerHandle::drain`] or [`WorkerHandle::stop`] when nothing is
    /// left to do. It leads the passes of the engine's threads, and has their CPUs and their priority.
    ///
    /// # Errors
    /// Where no thread can be started, or it may not have that place.
    pub fn start(scheduler: Scheduler) -> io::Result<WorkerHandle> {
        let mut core = scheduler.core;
        let (intake, engine) = (Arc::clone(core.intake()), core.engine().clone());
        let threads = engine.threads().clone();
        let (sender, placed) = mpsc::channel();
        let run = move || {
            let intake = Arc::clone(core.intake());
            let _place = match threads.bind_current_thread() {
                Ok(place) => place,
                Err(error) => {
                    // The caller waits for it.
                    _ = sender.send(Err(error));
                    return;
                }
            };
            intake.set_thread(true);
            _ = sender.send(Ok(()));
            loop {
                // Sinks, constraints and passes are guarded one by one; this is for what nobody has thought of.
                let goes_on = guarded(|| core.step()).unwrap_or_else(|panic| {
                    core.fail_all(&panic);
                    true
                });
                if !goes_on && !intake.wait() {
                    break;
                }
            }
            // What the prefix cache still has to write is written here.
            drop(core);
            intake.set_thread(false);
        };
        std::thread::Builder::new().name("bise-scheduler".to_owned()).spawn(run)?;
        placed.recv().map_err(io::Error::other)?.map_err(io::Error::other)?;
        Ok(WorkerHandle(Arc::new(Handle { intake, engine })))
    }
}

/// Gives a [`Worker`] something to do. Clones are the same worker. Nothing here ever waits for a pass, but for [`WorkerHandle::wait`].
#[derive(Clone)]
pub struct WorkerHandle(Arc<Handle>);

struct Handle {
    intake: Arc<Intake<Box<dyn Sink>>>,
    engine: Engine,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.intake.stop();
    }
}

impl WorkerHandle {
    /// The model.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Takes a job into the queue. Dropping the ticket cancels it.
    ///
    /// # Errors
    /// As [`Scheduler::submit`].
    pub fn submit(&self, job: Job) -> Result<Ticket, Refused> {
        self.ticket(work(job))
    }

    /// Takes texts to embed into the queue. Dropping the ticket cancels them.
    ///
    /// # Errors
    /// As [`Scheduler::embed`].
    pub fn embed(&self, job: EmbedJob) -> Result<Ticket, Refused> {
        self.ticket(Work::Embed(job))
    }

    fn ticket(&self, work: Work<Box<dyn Sink>>) -> Result<Ticket, Refused> {
        let id = self.0.intake.submit(work)?;
        Ok(Ticket { id, intake: Some(Arc::clone(&self.0.intake)) })
    }

    /// What each slot is doing.
    pub fn slots(&self) -> Vec<SlotState> {
        self.0.intake.slots()
    }

    /// Counts since the scheduler was made.
    pub fn stats(&self) -> SchedulerStats {
        self.0.intake.stats()
    }

    /// Takes no more jobs. Those that were taken run to their end.
    pub fn drain(&self) {
        self.0.intake.close();
    }

    /// Takes no more jobs, and cancels those that were taken.
    pub fn stop(&self) {
        self.0.intake.stop();
    }

    /// Waits until every job is over and its sink was told, for `timeout` at most; after [`WorkerHandle::drain`] and [`WorkerHandle::stop`] also until
    /// the thread has ended, and with it whatever pages are still to be written to the disk. Returns whether it came to that.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.0.intake.wait_idle(timeout)
    }
}

/// A job of a [`Worker`]. Dropping it cancels the job, unless that is over.
#[must_use = "dropping a ticket cancels its job"]
pub struct Ticket {
    id: JobId,
    /// `None` once the job is to run whatever happens.
    intake: Option<Arc<Intake<Box<dyn Sink>>>>,
}

impl Ticket {
    /// The job.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Lets the job run to its end.
    pub fn detach(mut self) {
        self.intake = None;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(intake) = &self.intake {
            intake.cancel(self.id);
        }
    }
}
