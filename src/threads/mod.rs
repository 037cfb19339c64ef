//! The threads of an engine: how many there are unless it is told, where and how urgently they run, and sharing them with other engines.

mod affinity;
mod count;
mod cpu_set;
mod power;
mod priority;
mod quota;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, mpsc};

use bise_kernels::{Poll, Team, TeamError};

pub use affinity::allowed as allowed_cpus;
pub use count::available as available_threads;
pub(crate) use count::default_threads;
pub use cpu_set::{CpuSet, CpuSetError};
pub use priority::Priority;

/// A team of threads for one engine or several, whose passes take turns. Clones are the same threads.
///
/// The thread that calls for a pass leads it and works like the others; a team of `n` has `n − 1` threads of its own.
///
/// # Fork
/// A forked process has the thread that forked and no other. An engine made before the fork may be used in the child: its first pass starts
/// threads anew. Fork while no other thread of the parent is inside a call of this library, as it could hold a lock at that moment, which
/// then stays locked in the child; and let a child that was forked from within a pass (by a [`Hook`](crate::Hook)) not return to it.
#[derive(Clone)]
pub struct Threads(Arc<Shared>);

struct Shared {
    team: Arc<Team>,
    place: Arc<Place>,
    poll: Poll,
}

/// What the system keeps of each thread.
struct Place {
    /// The CPUs of the team, where it is not free to run on any.
    cpus: Option<CpuSet>,
    strict: bool,
    priority: Priority,
}

/// Why threads cannot be had as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ThreadsError {
    /// The system starts no more threads.
    #[error(transparent)]
    Start(#[from] TeamError),
    /// None of the CPUs is there for this program.
    #[error("there is no CPU {asked} for this program: it may run on {allowed}")]
    NoSuchCpu {
        /// What was asked for.
        asked: CpuSet,
        /// What the system allows.
        allowed: CpuSet,
    },
    /// This system has no way to bind threads to CPUs, or none that is supported.
    #[error("threads cannot be bound to CPUs on this system")]
    CannotBind,
    /// A thread could not be bound.
    #[error("cannot bind a thread to CPU {cpus}: {cause}")]
    Bind {
        /// Where it should run.
        cpus: CpuSet,
        /// What the system says.
        cause: io::Error,
    },
    /// A thread may not have this priority.
    #[error("cannot give threads the priority {priority:?}: {cause}")]
    Priority {
        /// What was asked for.
        priority: Priority,
        /// What the system says.
        cause: io::Error,
    },
}

impl Threads {
    /// `n` threads (at least one), the caller's included.
    ///
    /// # Errors
    /// Where the system refuses to start them.
    pub fn new(n: usize) -> Result<Threads, ThreadsError> {
        Threads::builder().n(n).build()
    }

    /// As many threads as suit this machine, or with options.
    pub fn builder() -> ThreadsBuilder {
        ThreadsBuilder::default()
    }

    /// The number of threads.
    pub fn n(&self) -> usize {
        self.0.team.n_threads()
    }

    /// The CPUs that they are bound to; `None` where they run on any.
    pub fn cpus(&self) -> Option<&CpuSet> {
        self.0.place.cpus.as_ref()
    }

    /// How they wait for each other.
    pub fn poll(&self) -> u8 {
        self.0.poll.level()
    }

    /// Gives the calling thread, which is to lead passes, the CPUs and the priority that the builder gave to the team's own threads, until
    /// the guard is dropped. It is worker 0: with [`ThreadsBuilder::strict`], the lowest CPU of the set is its own.
    ///
    /// Without this, whoever calls for a pass runs where it runs: a library does not move the threads of its host unasked.
    ///
    /// # Errors
    /// As [`ThreadsBuilder::build`].
    pub fn bind_current_thread(&self) -> Result<BoundThread, ThreadsError> {
        let bound = BoundThread {
            cpus: affinity::allowed().filter(|_| self.0.place.cpus.is_some()),
            priority: Some(priority::Before::get()).filter(|_| self.0.place.priority != Priority::Normal),
            thread: PhantomData,
        };
        self.0.place.apply(0)?;
        Ok(bound)
    }

    pub(crate) fn team(&self) -> &Arc<Team> {
        &self.0.team
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Threads").field(&self.n()).finish()
    }
}

/// A thread that was given a team's CPUs and priority; dropped, it has its own again. (A thread without the right to raise its priority
/// stays at a low one.)
#[must_use]
pub struct BoundThread {
    cpus: Option<CpuSet>,
    priority: Option<priority::Before>,
    /// It belongs to the thread that was bound.
    thread: PhantomData<*const ()>,
}

impl Drop for BoundThread {
    fn drop(&mut self) {
        if let Some(cpus) = &self.cpus {
            let _ = affinity::bind(cpus);
        }
        if let Some(priority) = &self.priority {
            priority.restore();
        }
    }
}

/// Options of [`Threads`].
///
/// ```
/// let threads = bise::Threads::builder().n(2).poll(0).build()?;
/// assert_eq!((threads.n(), threads.poll()), (2, 0));
/// # Ok::<(), bise::ThreadsError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ThreadsBuilder {
    n: Option<usize>,
    cpus: Option<CpuSet>,
    strict: bool,
    priority: Priority,
    poll: Option<u8>,
}

impl ThreadsBuilder {
    /// The number of threads, at least one and the caller's included. By default one for each performance core (each physical core where
    /// there is one kind) among the CPUs, as far as affinity and the control groups' quotas allow.
    pub fn n(mut self, n: usize) -> Self {
        self.n = Some(n);
        self
    }

    /// Binds the team's own threads to these CPUs; those that the calling thread may not run on are left out. See
    /// [`Threads::bind_current_thread`] for the thread that leads. Linux and Android only.
    pub fn cpus(mut self, cpus: CpuSet) -> Self {
        self.cpus = Some(cpus);
        self
    }

    /// Binds each thread to one CPU of the set (of all that the calling thread may run on, if no set was given), in rising order, rather
    /// than to all of them. Threads beyond their number begin at the first CPU again.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// How urgent the team's own threads are.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// How eagerly threads wait for each other, from 0 (they sleep at once, in a pass and between passes, which saves power) to 100 (they
    /// look out for each other the longest). By default 50, and 0 where the machine runs on battery now.
    pub fn poll(mut self, level: u8) -> Self {
        self.poll = Some(level);
        self
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// Where the system refuses to start them, none of the CPUs may be used or threads cannot be bound, and where the priority may not be
    /// had.
    pub fn build(self) -> Result<Threads, ThreadsError> {
        let cpus = match self.cpus {
            None if !self.strict => None,
            asked => {
                let allowed = affinity::allowed().ok_or(ThreadsError::CannotBind)?;
                let asked = asked.unwrap_or_else(|| allowed.clone());
                let cpus = asked.intersection(&allowed);
                if cpus.is_empty() {
                    return Err(ThreadsError::NoSuchCpu { asked, allowed });
                }
                Some(cpus)
            }
        };
        let n = self.n.unwrap_or_else(|| count::default_threads(cpus.as_ref())).max(1);
        let poll = match self.poll {
            Some(level) => Poll::new(level),
            None if power::on_battery() => Poll::SLEEP,
            None => Poll::default(),
        };
        let place = Arc::new(Place { cpus, strict: self.strict, priority: self.priority });
        let (sender, outcomes) = mpsc::channel();
        let begin = {
            let place = Arc::clone(&place);
            // In a forked process, nobody listens.
            move |worker| _ = sender.send(place.apply(worker))
        };
        let team = Arc::new(Team::start(n, poll, begin)?);
        outcomes.iter().take(n - 1).collect::<Result<(), _>>()?;
        Ok(Threads(Arc::new(Shared { team, place, poll })))
    }
}

impl Place {
    /// Gives the calling thread its place as this worker.
    fn apply(&self, worker: usize) -> Result<(), ThreadsError> {
        if let Some(cpus) = &self.cpus {
            let cpus = match self.strict {
                true => cpus.iter().nth(worker % cpus.len()).into_iter().collect(),
                false => cpus.clone(),
            };
            affinity::bind(&cpus).map_err(|cause| ThreadsError::Bind { cpus, cause })?;
        }
        let priority = self.priority;
        priority.apply().map_err(|cause| ThreadsError::Priority { priority, cause })
    }
}
