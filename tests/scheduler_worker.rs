//! A worker: the scheduler on a thread of its own, asked and cancelled from others.

#![cfg(feature = "builtin-model")]

mod scheduler_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bise::generation::Finish;
use bise::scheduler::{Job, Refused, Worker, WorkerHandle};
use bise::{Engine, Hook, Rows, RowsMut, Site};
use scheduler_support::{Log, Random, Told, alone, engine, greedy, job, options, scheduler, seeded};

/// A worker whose passes wait at every product for as long as they are told.
fn slow_worker(engine: &Engine, n_slots: usize, pause: Arc<AtomicUsize>) -> (WorkerHandle, Arc<AtomicUsize>) {
    struct Slow(Arc<AtomicUsize>, Arc<AtomicUsize>);
    impl Hook for Slow {
        fn product(&self, _: Site, _: Rows<'_>, _: RowsMut<'_>) {
            self.1.fetch_add(1, SeqCst);
            std::thread::sleep(Duration::from_millis(self.0.load(SeqCst) as u64));
        }
    }
    let n_products = Arc::new(AtomicUsize::new(0));
    let mut scheduler = scheduler(engine, 512, n_slots);
    scheduler.set_hook(Some(Arc::new(Slow(pause, Arc::clone(&n_products)))));
    (Worker::start(scheduler).unwrap(), n_products)
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn dropping_a_ticket_ends_the_pass_that_is_about_its_job_alone() {
    let engine = engine();
    let (worker, n_products) = slow_worker(&engine, 2, Arc::new(AtomicUsize::new(10)));
    let n_whole = 7 * engine.config().n_layers + 1;
    let (job, log) = job(&Random(1).tokens(300), &greedy(5));
    let ticket = worker.submit(job).unwrap();
    wait_until(|| n_products.load(SeqCst) > 3);
    drop(ticket);
    wait_until(|| log.finished().is_some());
    assert!(n_products.load(SeqCst) < n_whole, "{} of {n_whole}", n_products.load(SeqCst));
    assert_eq!(log.finished().unwrap().0, Ok(Finish::Interrupted));
    assert!(worker.wait(Duration::from_secs(10)));
}

#[test]
fn dropping_a_ticket_costs_a_neighbour_no_pass_that_is_nearly_over() {
    let engine = engine();
    let pause = Arc::new(AtomicUsize::new(0));
    let (worker, _) = slow_worker(&engine, 2, Arc::clone(&pause));
    let (neighbour, neighbour_log) = job(&[1, 400], &greedy(400));
    let neighbour = worker.submit(neighbour).unwrap();
    wait_until(|| neighbour_log.n_tokens() > 20);
    let (other, other_log) = job(&[1, 500], &greedy(400));
    let other = worker.submit(other).unwrap();
    wait_until(|| other_log.n_tokens() > 3);
    drop(other);
    wait_until(|| other_log.finished().is_some());
    drop(neighbour);
    wait_until(|| neighbour_log.finished().is_some());
    let expected = alone(&engine, &options(512, 2).session, &[1, 400], &greedy(400));
    let mut got = neighbour_log.text_events();
    got.retain(|told| matches!(told, Told::Token(..)));
    assert!(expected.starts_with(&got));
}

#[test]
fn a_worker_answers_while_a_pass_runs() {
    let engine = engine();
    let pause = Arc::new(AtomicUsize::new(50));
    let (worker, n_products) = slow_worker(&engine, 1, Arc::clone(&pause));
    let (first, log) = job(&Random(1).tokens(20), &greedy(2));
    worker.submit(first).unwrap().detach();
    wait_until(|| n_products.load(SeqCst) > 0);
    let start = Instant::now();
    let slots = worker.slots();
    assert_eq!((slots.len(), slots[0].n_prompt, slots[0].n_processed), (1, 20, 0));
    assert!(slots[0].job.is_some());
    let (second, second_log) = job(&[1, 2], &greedy(1));
    let ticket = worker.submit(second).unwrap();
    assert_eq!((worker.stats().n_running, worker.stats().n_waiting), (1, 1));
    drop(ticket);
    assert_eq!(second_log.finished().unwrap().0, Ok(Finish::Interrupted));
    // A pass takes more than two seconds.
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(log.n_tokens() == 0 && n_products.load(SeqCst) < 7 * engine.config().n_layers);
    pause.store(0, SeqCst);
    assert!(worker.wait(Duration::from_secs(60)));
}

#[test]
fn a_worker_drains_stops_and_goes_when_nobody_has_it() {
    let engine = engine();
    let worker = Worker::start(scheduler(&engine, 64, 1)).unwrap();
    let (jobs, logs): (Vec<Job>, Vec<Log>) = (0..3).map(|i| job(&[1, 400 + i], &greedy(10))).unzip();
    for job in jobs {
        worker.submit(job).unwrap().detach();
    }
    worker.drain();
    assert!(matches!(worker.submit(job(&[1], &greedy(1)).0), Err(Refused::ShuttingDown)));
    assert!(worker.wait(Duration::from_secs(60)));
    assert!(logs.iter().all(|log| log.finished().unwrap().0 == Ok(Finish::Length)));

    let worker = Worker::start(scheduler(&engine, 64, 1)).unwrap();
    let (jobs, logs): (Vec<Job>, Vec<Log>) = (0..3).map(|i| job(&[1, 400 + i], &greedy(400))).unzip();
    for job in jobs {
        worker.submit(job).unwrap().detach();
    }
    wait_until(|| logs[0].n_tokens() > 0);
    let (another, another_log) = job(&[1, 2], &greedy(400));
    worker.clone().submit(another).unwrap().detach();
    worker.stop();
    assert!(worker.wait(Duration::from_secs(60)));
    for log in logs.iter().chain([&another_log]) {
        assert_eq!(log.finished().unwrap().0, Ok(Finish::Interrupted));
    }

    let worker = Worker::start(scheduler(&engine, 64, 1)).unwrap();
    let (long, log) = job(&[1, 400], &greedy(400));
    worker.submit(long).unwrap().detach();
    wait_until(|| log.n_tokens() > 0);
    drop(worker);
    wait_until(|| log.finished().is_some());
}

#[test]
fn many_threads_submit_and_cancel_at_will() {
    let engine = engine();
    let worker = Worker::start(scheduler(&engine, 64, 4)).unwrap();
    let session = options(64, 4).session;
    let prompts: Vec<Vec<u32>> = (0..6).map(|i| Random(i).tokens(10 + 9 * i as usize)).collect();
    let expected: Vec<_> =
        prompts.iter().map(|prompt| alone(&engine, &session, prompt, &seeded(8, 15))).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (worker, prompts, expected) = (worker.clone(), &prompts, &expected);
            scope.spawn(move || {
                let mut random = Random(100 + thread);
                for _ in 0..12 {
                    let i = random.below(prompts.len());
                    let (job, log) = job(&prompts[i], &seeded(8, 15));
                    let ticket = worker.submit(job).unwrap();
                    if random.below(2) == 0 {
                        std::thread::sleep(Duration::from_millis(random.below(30) as u64));
                        drop(ticket);
                        wait_until(|| log.finished().is_some());
                    } else {
                        wait_until(|| log.finished().is_some());
                        assert_eq!(log.text_events(), expected[i]);
                        drop(ticket);
                    }
                }
            });
        }
    });
    assert!(worker.wait(Duration::from_secs(10)));
    let stats = worker.stats();
    assert_eq!((stats.n_finished, stats.n_running, stats.n_failed), (48, 0, 0));
    assert_eq!(stats.n_pages, stats.n_cached_pages);
}
