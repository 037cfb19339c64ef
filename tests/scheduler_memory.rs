//! Texts for which there is no memory. In a process of its own: a ceiling counts what all of it has.

#![cfg(feature = "builtin-model")]

mod scheduler_support;

use bise::memory::MemoryLimit;
use bise::scheduler::{Job, Scheduler, SchedulerOptions};
use bise::{Engine, SessionOptions};
use scheduler_support::{Log, Random, alone, engine_with_window, greedy, job, run, seeded};

#[test]
fn texts_whose_memory_is_taken_wait_for_others_and_come_out_the_same() {
    let session = SessionOptions { n_ubatch: 64, n_ctx: 512, ..SessionOptions::default() };
    let options = SchedulerOptions { session, n_slots: 3, ..SchedulerOptions::default() };
    let limit = MemoryLimit::Bytes(256 << 20);
    let engine = Engine::builder().threads(2).sliding_window(0).max_memory(limit).builtin().unwrap();
    let mut scheduler = Scheduler::new(&engine, options.clone()).unwrap();
    // All that is left but a few pages.
    let other = engine.page_pool(&options.session, usize::MAX);
    let page = engine.page_pool(&options.session, usize::MAX);
    page.prepare(5).unwrap();
    let _ = other.prepare(usize::MAX);
    drop(page);
    let prompts: Vec<Vec<u32>> = (0..3).map(|i| Random(i).tokens(50)).collect();
    let (jobs, logs): (Vec<Job>, Vec<Log>) =
        prompts.iter().map(|prompt| job(prompt, &seeded(3, 100))).unzip();
    for job in jobs {
        scheduler.submit(job).unwrap();
    }
    run(&mut scheduler);
    let without_ceiling = engine_with_window(Some(0));
    for (prompt, log) in prompts.iter().zip(logs) {
        let expected = alone(&without_ceiling, &session, prompt, &seeded(3, 100));
        assert_eq!(log.text_events(), expected);
    }
    // One that is the last and still too long fails, and says why.
    let (job, log) = job(&Random(9).tokens(400), &greedy(5));
    scheduler.submit(job).unwrap();
    run(&mut scheduler);
    let error = log.finished().unwrap().0.unwrap_err();
    assert!(error.contains("ceiling on memory"), "{error}");
}
