//! What tests of the prefix cache share: small contexts, and how much of a prompt was not read again.

#![allow(dead_code, reason = "no test uses all of it")]

use bise::prefix::PrefixOptions;
use bise::scheduler::{Scheduler, SchedulerOptions};
use bise::{Engine, SessionOptions};

use crate::scheduler_support::{Log, alone, job, run, seeded};

pub const PAGE: usize = 64;

pub fn options(n_slots: usize, prefix: PrefixOptions) -> SchedulerOptions {
    let session = SessionOptions { n_ctx: 1024, n_ubatch: 64, ..SessionOptions::default() };
    SchedulerOptions { session, n_slots, prefix, ..SchedulerOptions::default() }
}

pub fn scheduler(engine: &Engine, n_slots: usize) -> Scheduler {
    Scheduler::new(engine, options(n_slots, PrefixOptions::default())).unwrap()
}

/// Runs one job, and returns its log.
pub fn answer(scheduler: &mut Scheduler, prompt: &[u32], n: usize) -> Log {
    let (job, log) = job(prompt, &seeded(1, n));
    scheduler.submit(job).unwrap();
    run(scheduler);
    log
}

/// That a job was answered as it is alone, and how many tokens were not read again.
pub fn n_cached(scheduler: &mut Scheduler, prompt: &[u32]) -> usize {
    let log = answer(scheduler, prompt, 5);
    let session = SessionOptions { n_ctx: 1024, ..SessionOptions::default() };
    assert_eq!(log.text_events(), alone(scheduler.engine(), &session, prompt, &seeded(1, 5)));
    log.stats().n_cached
}
