//! Starts the threads that the flags ask for.

use std::cell::Cell;

use anyhow::Result;
use bise::threads::{BoundThread, CpuSet, Priority, allowed_cpus, available_threads};
use bise::{Threads, ThreadsError};

use super::args::threads::ThreadArgs;
use super::term::console::Log;

thread_local! {
    /// This thread, which leads the passes of the command's engine.
    static LEADER: Cell<Option<BoundThread>> = const { Cell::new(None) };
}

/// The threads for an engine whose passes the calling thread will lead. That thread gets the place and priority of the others, until this
/// is called again.
///
/// # Errors
/// Threads cannot be started, or may run on none of the CPUs.
pub fn start(args: &ThreadArgs, log: Log) -> Result<Threads> {
    drop(LEADER.take());
    let place = &args.place;
    let mut builder = Threads::builder().strict(place.cpu_strict == 1);
    if let Some(level) = place.poll.max(place.poll_batch) {
        builder = builder.poll(level);
    }
    let cpus = cpus(place.cpus(), log);
    if let Some(n) = n_threads(args, cpus.as_ref(), log) {
        builder = builder.n(n);
    }
    if let Some(cpus) = cpus {
        builder = builder.cpus(cpus);
    }
    let priority = place.prio.max(place.prio_batch.unwrap_or(place.prio));
    let asked = builder.clone().priority(priority);
    let started = asked.build().and_then(|threads| Ok((threads.bind_current_thread()?, threads)));
    let (leader, threads) = match started {
        // The text is the same, only later.
        Err(ThreadsError::Priority { cause, .. }) => {
            log.warn(format_args!("--prio {} had no effect: {cause}", priority.level()));
            let threads = builder.priority(Priority::Normal).build()?;
            (threads.bind_current_thread()?, threads)
        }
        started => started?,
    };
    LEADER.set(Some(leader));
    Ok(threads)
}

/// The CPUs that were asked for, with a line if this program may not use some of them, or has no way to choose.
fn cpus(asked: Option<CpuSet>, log: Log) -> Option<CpuSet> {
    let asked = asked?;
    let Some(allowed) = allowed_cpus() else {
        log.warn("--cpu-mask and --cpu-range have no effect: threads cannot be bound to CPUs on this system");
        return None;
    };
    let missing = asked.difference(&allowed);
    if !missing.is_empty() && missing != asked {
        log.warn(format_args!(
            "--cpu-mask or --cpu-range: this program may not use CPU {missing}, only {allowed}"
        ));
    }
    Some(asked)
}

/// The number of threads from the flags, capped at the cores they may use: more would only wait for each other.
fn n_threads(args: &ThreadArgs, cpus: Option<&CpuSet>, log: Log) -> Option<usize> {
    let asked = args.threads.max(args.threads_batch.unwrap_or(-1));
    let asked = usize::try_from(asked).ok().filter(|&n| n > 0)?;
    let allowed = cpus.and_then(|cpus| Some(cpus.intersection(&allowed_cpus()?).len()));
    let cores = allowed.filter(|n| *n > 0).unwrap_or_else(available_threads);
    if asked > cores {
        log.warn(format_args!(
            "--threads {asked}: this program may use {cores} cores; taking {cores} threads"
        ));
    }
    Some(asked.min(cores))
}
