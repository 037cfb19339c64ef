//! Many jobs at a time: each has the answer that it has alone, none harms another, and none waits without end.

#![cfg(feature = "builtin-model")]

mod scheduler_support;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bise::constraint::{Choices, Constraint, TokenMask};
use bise::embedding::{EmbedOptions, Pooling};
use bise::generation::{Finish, GenerationOptions};
use bise::sampling::SamplingParams;
use bise::scheduler::{
    EmbedJob, Job, JobEvent, JobId, Refused, Scheduler, SchedulerOptions, Sink, Worker, WorkerHandle,
};
use bise::speculation::SpeculationOptions;
use bise::{Hook, Projection, Rows, RowsMut, SessionOptions, Site};
use scheduler_support::{
    Log, Random, Told, alone, engine, engine_with_window, greedy, job, options, run, scheduler, seeded,
};

fn random_options(random: &mut Random) -> GenerationOptions {
    let n = random.below(30);
    let seed = random.below(1000) as u32;
    match random.below(6) {
        0 => greedy(n),
        1 => GenerationOptions { log_probs: Some(2), ..seeded(seed, n) },
        2 => GenerationOptions { stop: vec![" the".into(), "\n".into()], ..seeded(seed, n) },
        3 => {
            let sampling =
                SamplingParams { penalty_repeat: 1.3, dry_multiplier: 0.8, ..seeded(seed, 0).sampling };
            GenerationOptions { sampling, ..greedy(n) }
        }
        4 => GenerationOptions { speculation: SpeculationOptions { n_max: 15, always: true }, ..greedy(n) },
        _ => seeded(seed, n),
    }
}

#[test]
fn two_hundred_mixed_jobs_and_random_cancels_equal_each_job_alone() {
    let mut random = Random(7);
    for window in [None, Some(0), Some(70)] {
        let engine = engine_with_window(window);
        for (n_ubatch, n_slots) in [(512, 4), (32, 8), (9, 3)] {
            let options = SchedulerOptions { max_pages: Some(14), ..options(n_ubatch, n_slots) };
            let session = options.session;
            let mut scheduler = Scheduler::new(&engine, options).unwrap();
            let common = random.tokens(150);
            let mut jobs: Vec<(JobId, Log, Vec<u32>, GenerationOptions, usize)> = Vec::new();
            while jobs.len() < 23 || scheduler.step() {
                if jobs.len() < 23 && random.below(3) > 0 {
                    let mut prompt = common[..random.below(150)].to_vec();
                    let n = 1 + random.below(60);
                    prompt.extend(random.tokens(n));
                    let generation = random_options(&mut random);
                    let log = Log::default();
                    let n_most = if random.below(5) == 0 { 1 + random.below(20) } else { usize::MAX };
                    let mut job = Job::new(prompt.clone(), generation.clone(), log.sink(n_most));
                    job.slot = (random.below(4) == 0).then(|| random.below(n_slots));
                    job.cache_prompt = random.below(4) > 0;
                    let id = scheduler.submit(job).unwrap();
                    jobs.push((id, log, prompt, generation, n_most));
                    scheduler.step();
                }
                if random.below(25) == 0 && !jobs.is_empty() {
                    scheduler.cancel(jobs[random.below(jobs.len())].0);
                }
            }
            let mut n_whole = 0;
            for (id, log, prompt, generation, n_most) in jobs {
                let (result, stats) = log.finished().unwrap();
                let expected = alone(&engine, &session, &prompt, &generation);
                let mut got = log.text_events();
                if result == Ok(Finish::Interrupted) {
                    if matches!(got.last(), Some(Told::End(..))) {
                        got.pop();
                    }
                    assert!(expected.starts_with(&got), "job {id} was cut short and differs");
                    assert!(got.len() <= n_most);
                } else {
                    assert_eq!(got, expected, "job {id} of {n_slots}, {n_ubatch} tokens a pass, {window:?}");
                    n_whole += 1;
                }
                assert_eq!(stats.n_prompt, prompt.len());
                assert_eq!(stats.n_generated, log.n_tokens());
            }
            assert!(n_whole > 10);
            let stats = scheduler.stats();
            assert_eq!((stats.n_running, stats.n_waiting, stats.n_finished), (0, 0, 23));
            assert!(scheduler.slots().iter().all(|slot| slot.job.is_none()));
            assert_eq!(stats.n_pages, stats.n_cached_pages);
        }
    }
}

#[test]
fn jobs_begin_in_the_order_they_came() {
    let engine = engine();
    let mut scheduler = scheduler(&engine, 64, 2);
    let order = Arc::new(Mutex::new(Vec::new()));
    for i in 0..6 {
        let order = Arc::clone(&order);
        let sink = move |event: JobEvent<'_>| {
            if let JobEvent::Started { slot } = event {
                order.lock().unwrap().push((i, slot));
            }
            ControlFlow::Continue(())
        };
        let mut job = Job::new(vec![1, 400 + i], greedy(3 + 4 * i as usize), sink);
        // The fourth waits for a slot that is taken; the fifth may go first.
        job.slot = (i == 3).then_some(0);
        scheduler.submit(job).unwrap();
    }
    run(&mut scheduler);
    // 0 ends first, which makes room for 2; when 1 ends, 2 is still in slot 0.
    assert_eq!(*order.lock().unwrap(), [(0, 0), (1, 1), (2, 0), (4, 1), (3, 0), (5, 1)]);
}

#[test]
fn a_full_queue_refuses_and_says_how_many_wait() {
    let engine = engine();
    let options = SchedulerOptions { max_queue: 2, ..options(64, 1) };
    let mut scheduler = Scheduler::new(&engine, options).unwrap();
    let submit = |scheduler: &mut Scheduler| scheduler.submit(job(&[1, 400], &greedy(20)).0);
    // One for the slot, two for the queue.
    let ids: Vec<_> = (0..3).map(|_| submit(&mut scheduler).unwrap()).collect();
    assert_eq!(submit(&mut scheduler), Err(Refused::QueueFull { n_waiting: 3 }));
    scheduler.step();
    assert_eq!(scheduler.stats().n_waiting, 2);
    assert_eq!(submit(&mut scheduler), Err(Refused::QueueFull { n_waiting: 2 }));
    scheduler.cancel(ids[1]);
    assert_eq!(scheduler.stats().n_waiting, 1);
    submit(&mut scheduler).unwrap();
    run(&mut scheduler);
    assert_eq!(scheduler.stats().n_finished, 4);
}

#[test]
fn what_cannot_be_done_is_refused_with_numbers() {
    let engine = engine_with_window(Some(0));
    let options = SchedulerOptions { max_pages: Some(4), ..options(64, 2) };
    let mut scheduler = Scheduler::new(&engine, options).unwrap();
    let mut refused = |prompt: &[u32], options: &GenerationOptions, slot| {
        let (mut job, log) = job(prompt, options);
        job.slot = slot;
        let refused = scheduler.submit(job).unwrap_err();
        assert!(log.events().is_empty());
        refused
    };
    assert_eq!(refused(&[], &greedy(1), None), Refused::NoTokens);
    assert_eq!(refused(&[1, 9999], &greedy(1), None), Refused::UnknownToken { token: 9999, n_vocab: 4096 });
    let long = Random(1).tokens(513);
    assert_eq!(refused(&long, &greedy(1), None), Refused::PromptTooLong { n_prompt_tokens: 513, n_ctx: 512 });
    assert_eq!(refused(&[1], &greedy(1), Some(2)), Refused::NoSuchSlot { slot: 2, n_slots: 2 });
    assert_eq!(refused(&[1], &greedy(256), None), Refused::TooFewPages { n_pages: 5, max_pages: 4 });
    let sampling = SamplingParams { mirostat: 9, ..SamplingParams::greedy() };
    let error = refused(&[1], &GenerationOptions { sampling, ..greedy(1) }, None);
    assert!(error.to_string().contains("mirostat"), "{error}");
    let sampling = SamplingParams { logit_bias: vec![(4096, 1.0)], ..SamplingParams::greedy() };
    let error = refused(&[1], &GenerationOptions { sampling, ..greedy(1) }, None);
    assert!(error.to_string().contains("4096"), "{error}");
    assert_eq!(scheduler.stats().n_waiting, 0);
}

#[test]
fn a_job_can_be_cancelled_wherever_it_is() {
    let engine = engine();
    let mut scheduler = scheduler(&engine, 16, 2);
    let (decoding, decoding_log) = job(&[1, 400], &greedy(200));
    let (reading, reading_log) = job(&Random(2).tokens(300), &greedy(5));
    let (waiting, waiting_log) = job(&[1, 500], &greedy(5));
    let [decoding, reading, waiting] = [decoding, reading, waiting].map(|job| scheduler.submit(job).unwrap());
    (0..5).for_each(|_| assert!(scheduler.step()));
    assert!(decoding_log.n_tokens() > 0 && reading_log.started().is_some());
    assert!(reading_log.n_tokens() == 0 && waiting_log.started().is_none());
    let is_interrupted =
        |log: &Log| log.finished().is_some_and(|(result, _)| result == Ok(Finish::Interrupted));
    scheduler.cancel(waiting);
    assert!(is_interrupted(&waiting_log), "at once");
    for (id, log) in [(decoding, &decoding_log), (reading, &reading_log)] {
        scheduler.cancel(id);
        assert!(log.finished().is_none());
        scheduler.step();
        assert!(is_interrupted(log));
    }
    // Again, and one that never was.
    scheduler.cancel(reading);
    run(&mut scheduler);
    let stats = scheduler.stats();
    assert_eq!((stats.n_finished, stats.n_cancelled, stats.n_failed), (3, 3, 0));
    assert_eq!(stats.n_pages, stats.n_cached_pages);
}

#[test]
fn every_step_has_the_next_token_of_every_text_whatever_is_read_beside_them() {
    let engine = engine();
    let mut scheduler = scheduler(&engine, 32, 4);
    let running: Vec<Log> = (0..2)
        .map(|i| {
            let (job, log) = job(&[1, 400 + i], &greedy(300));
            scheduler.submit(job).unwrap();
            log
        })
        .collect();
    (0..4).for_each(|_| assert!(scheduler.step()));
    let (job, long) = job(&Random(3).tokens(450), &greedy(5));
    scheduler.submit(job).unwrap();
    let mut before = scheduler.stats().n_prompt;
    while long.n_tokens() == 0 {
        let n: Vec<usize> = running.iter().map(Log::n_tokens).collect();
        assert!(scheduler.step());
        running.iter().zip(n).for_each(|(log, n)| assert_eq!(log.n_tokens(), n + 1));
        let read = scheduler.stats().n_prompt - before;
        before += read;
        assert!((1..=30).contains(&read), "{read} tokens of a prompt beside two others, 32 in a pass");
    }
    let progress: Vec<_> = long
        .events()
        .into_iter()
        .filter_map(|told| if let Told::Prompt(p) = told { Some(p) } else { None })
        .collect();
    assert!(progress.windows(2).all(|p| p[0].processed < p[1].processed));
    assert!(progress.iter().all(|p| p.total == 450 && p.cached == 0));
    assert_eq!(progress.last().unwrap().processed, 450);
}

/// They are as likely as a session of its own says, however the prompt is read, whatever is cached, and whoever else is served.
#[test]
fn the_tokens_of_a_prompt_are_scored_once_each() {
    let engine = engine();
    let prompt = Random(11).tokens(200);
    let mut session = engine.session(&SessionOptions::default()).unwrap();
    let mut want = Vec::new();
    let score = &mut |i: usize, logits: &[f32]| {
        let Some(&next) = prompt.get(i + 1) else { return };
        let log_sum = logits.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
        let likeliest = (0u32..).zip(logits).max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
        want.push((f64::from(logits[next as usize]) - log_sum, likeliest.0));
    };
    session.score(&prompt, score).unwrap();
    let scored = |log: &Log| -> Vec<Told> {
        log.events().into_iter().filter(|told| matches!(told, Told::PromptToken(..))).collect()
    };
    let mut scheduler = scheduler(&engine, 32, 4);
    let mut first = None;
    for round in 0..3 {
        let others: Vec<Log> = (0..round)
            .map(|i| {
                let (job, log) = job(&[1, 400 + i], &greedy(40));
                scheduler.submit(job).unwrap();
                log
            })
            .collect();
        let (mut job, log) = job(&prompt, &greedy(3));
        job.prompt_log_probs = Some(2);
        scheduler.submit(job).unwrap();
        while scheduler.step() {}
        assert!(others.iter().all(|log| log.n_tokens() == 40 && scored(log).is_empty()));
        assert_eq!((log.n_tokens(), log.stats().n_cached), (3, 0));
        let scores = scored(&log);
        assert_eq!(scores.len(), prompt.len() - 1);
        for (i, (told, (want, likeliest))) in scores.iter().zip(&want).enumerate() {
            let Told::PromptToken(index, log_prob, top) = told else { unreachable!("no other is kept") };
            assert_eq!((*index, top.len(), top[0].0), (i + 1, 2, *likeliest));
            assert!((f64::from(f32::from_bits(*log_prob)) - want).abs() < 1e-4);
        }
        assert_eq!(*first.get_or_insert_with(|| scores.clone()), scores);
    }
}

#[test]
fn a_short_prompt_does_not_wait_for_a_long_one() {
    let engine = engine();
    let mut scheduler = scheduler(&engine, 16, 4);
    let (long, long_log) = job(&Random(4).tokens(480), &greedy(2));
    scheduler.submit(long).unwrap();
    scheduler.step();
    let (short, short_log) = job(&Random(5).tokens(20), &greedy(2));
    scheduler.submit(short).unwrap();
    let mut n_steps = 0;
    while short_log.n_tokens() == 0 {
        assert!(scheduler.step());
        n_steps += 1;
    }
    assert_eq!(n_steps, 2, "12 tokens a step");
    assert_eq!(long_log.n_tokens(), 0);
    // And a long one is read at a quarter of the speed at least, however many short ones come.
    let mut n_steps = 0;
    while long_log.n_tokens() == 0 {
        let (short, _) = job(&Random(n_steps).tokens(20), &greedy(1));
        scheduler.submit(short).unwrap();
        assert!(scheduler.step());
        n_steps += 1;
    }
    assert!(n_steps <= 480 / 4, "{n_steps}");
}

/// Says that it can never go on.
struct Panicking;

impl Constraint for Panicking {
    fn mask(&mut self, _: &mut TokenMask) {
        panic!("a constraint that fails");
    }

    fn accept(&mut self, _: u32) {}

    fn can_end(&self) -> bool {
        false
    }
}

struct BadSink {
    n_left: usize,
    drops_badly: bool,
}

impl Sink for BadSink {
    fn event(&mut self, _: JobEvent<'_>) -> ControlFlow<()> {
        self.n_left = self.n_left.checked_sub(1).expect("a sink that fails");
        ControlFlow::Continue(())
    }
}

impl Drop for BadSink {
    fn drop(&mut self) {
        assert!(!self.drops_badly || std::thread::panicking(), "a sink that is dropped badly");
    }
}

#[test]
fn what_panics_harms_no_other_job() {
    let engine = engine();
    let session = options(64, 8).session;
    let worker = Worker::start(scheduler(&engine, 64, 8)).unwrap();
    let good = || job(&[1, 400, 500], &greedy(30));
    let expected = alone(&engine, &session, &[1, 400, 500], &greedy(30));
    let mut logs = Vec::new();
    let mut submit_good = |worker: &WorkerHandle| {
        let (job, log) = good();
        worker.submit(job).unwrap().detach();
        logs.push(log);
    };
    for n_left in 0..6 {
        submit_good(&worker);
        for drops_badly in [false, true] {
            let sink = BadSink { n_left, drops_badly };
            worker.submit(Job::new(vec![1, 600], greedy(2), sink)).unwrap().detach();
        }
    }
    let (mut bad, bad_log) = good();
    bad.constraint = Some(Box::new(Panicking));
    worker.submit(bad).unwrap().detach();
    submit_good(&worker);
    let done = Box::new(|_| panic!("a callback that fails"));
    let texts = vec![vec![1, 2, 3]];
    worker.embed(EmbedJob { texts, pooling: None, normalize: false, adapters: None, done }).unwrap().detach();
    submit_good(&worker);
    assert!(worker.wait(Duration::from_secs(60)));
    for log in &logs {
        assert_eq!(log.text_events(), expected);
    }
    let error = bad_log.finished().unwrap().0.unwrap_err();
    assert_eq!(error, "an internal error: a constraint that fails");
    assert!(worker.slots().iter().all(|slot| slot.job.is_none()));
    let stats = worker.stats();
    assert_eq!(stats.n_pages, stats.n_cached_pages);
}

/// Calls a function with the rows of every first product of a pass.
struct AtPass<F>(F);

impl<F: Fn(usize) + Send + Sync> Hook for AtPass<F> {
    fn product(&self, site: Site, x: Rows<'_>, _: RowsMut<'_>) {
        if site.layer == 0 && site.projection == Projection::AttnQ {
            (self.0)(x.n());
        }
    }
}

#[test]
fn a_pass_that_panics_costs_no_more_than_the_job_it_is_about() {
    let engine = engine();
    // All in one pass.
    let options = SchedulerOptions { max_gap: None, ..options(64, 8) };
    let mut scheduler = Scheduler::new(&engine, options.clone()).unwrap();
    let session = options.session;
    // A prompt of 40 tokens is more than the program can stand.
    scheduler.set_hook(Some(Arc::new(AtPass(|n_rows| assert!(n_rows < 40, "too many rows")))));
    let prompts: Vec<Vec<u32>> = [5, 40, 17, 30].iter().map(|n| Random(*n as u32).tokens(*n)).collect();
    let (jobs, logs): (Vec<Job>, Vec<Log>) = prompts.iter().map(|prompt| job(prompt, &seeded(3, 12))).unzip();
    for job in jobs {
        scheduler.submit(job).unwrap();
    }
    run(&mut scheduler);
    for (prompt, log) in prompts.iter().zip(logs) {
        let (result, _) = log.finished().unwrap();
        if prompt.len() == 40 {
            assert_eq!(result, Err("an internal error: too many rows".to_owned()));
        } else {
            assert_eq!(log.text_events(), alone(&engine, &session, prompt, &seeded(3, 12)));
        }
    }
    // One that is over by the time it is tried again costs none.
    let once = AtomicBool::new(true);
    scheduler.set_hook(Some(Arc::new(AtPass(move |_| assert!(!once.swap(false, SeqCst), "just once")))));
    let (jobs, logs): (Vec<Job>, Vec<Log>) =
        prompts[2..].iter().map(|prompt| job(prompt, &seeded(3, 12))).unzip();
    for job in jobs {
        scheduler.submit(job).unwrap();
    }
    run(&mut scheduler);
    for (prompt, log) in prompts[2..].iter().zip(logs) {
        assert_eq!(log.text_events(), alone(&engine, &session, prompt, &seeded(3, 12)));
    }
}

#[test]
fn a_text_ends_where_its_context_is_full_and_says_so() {
    let engine = engine_with_window(Some(0));
    let mut options = options(64, 2);
    options.session.n_ctx = 80;
    let mut scheduler = Scheduler::new(&engine, options).unwrap();
    let unbounded = GenerationOptions { max_tokens: None, ..greedy(0) };
    let (full, full_log) = job(&Random(1).tokens(70), &unbounded);
    let (other, other_log) = job(&[1, 400], &greedy(30));
    scheduler.submit(full).unwrap();
    scheduler.submit(other).unwrap();
    run(&mut scheduler);
    let (result, stats) = full_log.finished().unwrap();
    // The last token needs no room: nothing is read after it.
    assert_eq!((result, stats.context_full, stats.n_generated), (Ok(Finish::Interrupted), true, 11));
    let (result, stats) = other_log.finished().unwrap();
    assert_eq!((result, stats.context_full, stats.n_generated), (Ok(Finish::Length), false, 30));
}

#[test]
fn a_text_by_itself_is_read_with_drafts_and_comes_out_the_same() {
    let engine = engine();
    let mut scheduler = scheduler(&engine, 64, 2);
    // One token again and again, or one of a few.
    for temp in [0.0, 1.0] {
        let bias = (0..2).map(|i| (500 + i, 1e6)).collect();
        let sampling = SamplingParams { logit_bias: bias, temp, ..seeded(6, 0).sampling };
        let without = GenerationOptions { sampling, ..greedy(150) };
        let speculation = SpeculationOptions { n_max: 15, always: true };
        let (job, log) = job(&[1, 400], &GenerationOptions { speculation, ..without.clone() });
        let before = scheduler.stats().n_passes;
        scheduler.submit(job).unwrap();
        run(&mut scheduler);
        let without = GenerationOptions { speculation: SpeculationOptions::off(), ..without };
        assert_eq!(log.text_events(), alone(&engine, &SessionOptions::default(), &[1, 400], &without));
        let stats = log.stats();
        assert!(stats.n_accepted > 20 && stats.n_drafted >= stats.n_accepted, "{stats:?}");
        assert_eq!(scheduler.stats().n_passes - before, 150 - stats.n_accepted, "{stats:?}");
    }
}

/// The vectors of texts.
type Embedded = Result<Vec<Vec<f32>>, bise::Error>;

fn embed(texts: &[Vec<u32>], pooling: Option<Pooling>) -> (EmbedJob, mpsc::Receiver<Embedded>) {
    let (sender, receiver) = mpsc::channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    (EmbedJob { texts: texts.to_vec(), pooling, normalize: true, adapters: None, done }, receiver)
}

#[test]
fn texts_are_embedded_beside_others_with_the_same_bits() {
    let engine = engine();
    let texts: Vec<Vec<u32>> = [3, 130, 1, 64, 20, 7].iter().map(|n| Random(*n as u32).tokens(*n)).collect();
    for (n_ubatch, n_slots) in [(512, 4), (20, 2), (3, 2)] {
        let mut scheduler = scheduler(&engine, n_ubatch, n_slots);
        let (running, log) = job(&[1, 400], &seeded(5, 40));
        scheduler.submit(running).unwrap();
        (0..3).for_each(|_| assert!(scheduler.step()));
        for pooling in [Pooling::Mean, Pooling::First, Pooling::Last] {
            let (job, receiver) = embed(&texts, Some(pooling));
            scheduler.embed(job).unwrap();
            let mut vectors = receiver.try_recv();
            while vectors.is_err() {
                let n = log.n_tokens();
                assert!(scheduler.step());
                assert!(log.finished().is_some() || log.n_tokens() == n + 1, "the text goes on");
                vectors = receiver.try_recv();
            }
            let options = EmbedOptions { pooling: Some(pooling), ..EmbedOptions::default() };
            assert_eq!(vectors.unwrap().unwrap(), engine.embed_tokens(&texts, &options).unwrap());
        }
        let (job, receiver) = embed(&texts[..1], None);
        scheduler.embed(job).unwrap();
        run(&mut scheduler);
        let states = receiver.recv().unwrap().unwrap().remove(0);
        assert_eq!(states.len(), 3 * engine.config().n_embd);
        let options = EmbedOptions { pooling: Some(Pooling::Last), ..EmbedOptions::default() };
        let last = engine.embed_tokens(&texts[..1], &options).unwrap().remove(0);
        assert_eq!(states[2 * last.len()..], last);
        assert_eq!(
            log.text_events(),
            alone(&engine, &self::options(512, 1).session, &[1, 400], &seeded(5, 40))
        );
        assert_eq!(scheduler.stats().n_running, 0);
    }
}

#[test]
fn embeddings_are_refused_cancelled_and_none_at_all() {
    let engine = engine_with_window(Some(0));
    let mut scheduler = scheduler(&engine, 16, 2);
    let (job, _) = embed(&[vec![1], vec![]], None);
    assert_eq!(scheduler.embed(job), Err(Refused::EmptyText { index: 1 }));
    let (job, _) = embed(&[Random(1).tokens(600)], None);
    assert_eq!(scheduler.embed(job), Err(Refused::PromptTooLong { n_prompt_tokens: 600, n_ctx: 512 }));
    let (job, receiver) = embed(&[], None);
    scheduler.embed(job).unwrap();
    run(&mut scheduler);
    assert!(receiver.recv().unwrap().unwrap().is_empty());
    let (job, receiver) = embed(&[Random(1).tokens(300), vec![5]], Some(Pooling::Mean));
    let id = scheduler.embed(job).unwrap();
    scheduler.step();
    scheduler.cancel(id);
    run(&mut scheduler);
    assert!(receiver.recv().unwrap().unwrap_err().is_cancelled());
    assert_eq!(scheduler.stats().n_pages, 0);
}

#[test]
fn a_constraint_holds_for_its_own_text() {
    let engine = engine();
    let mut scheduler = scheduler(&engine, 64, 2);
    let (mut chosen, chosen_log) = job(&[1, 400, 401], &greedy(20));
    chosen.constraint = Some(Box::new(Choices::new(engine.tokenizer(), [" yes", " no"]).unwrap()));
    let (free, free_log) = job(&[1, 400, 401], &greedy(20));
    scheduler.submit(chosen).unwrap();
    scheduler.submit(free).unwrap();
    run(&mut scheduler);
    assert_eq!(chosen_log.finished().unwrap().0, Ok(Finish::Constraint));
    assert_eq!(free_log.text_events(), alone(&engine, &options(64, 1).session, &[1, 400, 401], &greedy(20)));
}
