//! A session as the threads of a program share it: one uses it at a time, and it can be taken away.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

use bise::{Cancel, Error, Session};
use pyo3::prelude::*;

use crate::errors::{BusyError, ClosedError, to_python};
use crate::passes::{self, Length};

/// A step that took less is likely to be followed by one that a person does not notice either.
const NOTICED: Duration = Duration::from_millis(40);

/// A session that may be in use, or closed.
pub struct Slot {
    /// Held by the thread that changes the session: another one is refused, where one that only looks is waited for.
    turn: Mutex<()>,
    session: RwLock<Option<Session>>,
    cancel: Cancel,
    closed: AtomicBool,
    /// Counts what was done to the session, so that a generation notices when others did something.
    changes: AtomicU64,
    /// The last step took long, or there was none.
    is_slow: AtomicBool,
}

/// What a caller is about to do with a session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Read many tokens.
    Prefill,
    /// Read one token.
    Step,
}

impl Slot {
    pub fn new(session: Session) -> Slot {
        Slot {
            cancel: session.cancel_handle(),
            turn: Mutex::new(()),
            session: RwLock::new(Some(session)),
            closed: AtomicBool::new(false),
            changes: AtomicU64::new(0),
            is_slow: AtomicBool::new(true),
        }
    }

    /// Does something with the session that does not change it. Raises `BusyError` while another thread has it.
    pub fn look<T>(&self, look: impl FnOnce(&Session) -> T) -> PyResult<T> {
        let session = match self.session.try_read() {
            Ok(session) => session,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(busy()),
        };
        session.as_ref().map(look).ok_or_else(closed)
    }

    /// Does something that changes the session, without the GIL; `is_cancelled` is asked once cancelling works. Raises `BusyError` while
    /// another thread has the session.
    pub fn work<T: Send>(
        &self,
        py: Python<'_>,
        use_: Use,
        is_cancelled: &(dyn Fn() -> bool + Sync),
        work: impl FnOnce(&mut Session) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        let length = match use_ {
            Use::Step if !self.is_slow.load(SeqCst) => Length::Short,
            Use::Step | Use::Prefill => Length::Long,
        };
        let start = Instant::now();
        let result = passes::run(py, &self.cancel, length, || {
            let _turn = match self.turn.try_lock() {
                Ok(turn) => turn,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return Err(Refused::Busy),
            };
            let mut session = self.session.write().unwrap_or_else(PoisonError::into_inner);
            // Who cancels sets the mark that is looked at below first, so nothing that was asked for is forgotten here.
            self.cancel.reset();
            if self.closed.load(SeqCst) {
                *session = None;
            }
            if is_cancelled() {
                self.cancel.cancel();
            }
            let session = session.as_mut().ok_or(Refused::Closed)?;
            self.changes.fetch_add(1, SeqCst);
            work(session).map_err(Refused::Failed)
        })?;
        if use_ == Use::Step {
            self.is_slow.store(start.elapsed() > NOTICED, SeqCst);
        }
        result.map_err(|refused| match refused {
            Refused::Busy => busy(),
            Refused::Closed => closed(),
            Refused::Failed(_) if self.closed.load(SeqCst) => closed(),
            Refused::Failed(error) => to_python(error),
        })
    }

    /// Counts what was done to the session.
    pub fn changes(&self) -> u64 {
        self.changes.load(SeqCst)
    }

    /// Ends the pass under way, if there is one.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    /// Ends the pass under way and gives back the session's memory.
    pub fn close(&self, py: Python<'_>) {
        self.closed.store(true, SeqCst);
        self.cancel.cancel();
        py.detach(|| *self.session.write().unwrap_or_else(PoisonError::into_inner) = None);
    }
}

enum Refused {
    Busy,
    Closed,
    Failed(Error),
}

fn busy() -> PyErr {
    BusyError::new_err("the session is in use: one thread at a time can read or generate with it")
}

fn closed() -> PyErr {
    ClosedError::new_err("the session or its model is closed")
}
