//! What a text has in common with others is not read again, and no answer shows it.

#![cfg(feature = "builtin-model")]

mod prefix_support;
mod scheduler_support;

use std::collections::BTreeMap;

use bise::prefix::PrefixOptions;
use bise::scheduler::{Job, Scheduler, SchedulerOptions};
use bise::{CacheType, Engine, SessionOptions};
use prefix_support::{PAGE, answer, n_cached, options, scheduler};
use scheduler_support::{Log, Random, alone, engine_with_window, greedy, job, run, seeded};

#[test]
fn a_prompt_begins_where_it_parts_from_another() {
    let engine = engine_with_window(Some(0));
    let options = SchedulerOptions { max_pages: Some(100), ..options(1, PrefixOptions::default()) };
    let mut scheduler = Scheduler::new(&engine, options).unwrap();
    let prompt = Random(1).tokens(300);
    assert_eq!(n_cached(&mut scheduler, &prompt), 0);
    // The last token is always read: what follows it is asked for.
    assert_eq!(n_cached(&mut scheduler, &prompt), 299);
    for n in [1, 63, 64, 65, 128, 200, 299] {
        let mut other = prompt[..n].to_vec();
        other.extend(Random(100 + n as u32).tokens(40));
        assert_eq!(n_cached(&mut scheduler, &other), n, "{n} tokens in common");
        // A beginning and nothing else.
        assert_eq!(n_cached(&mut scheduler, &prompt[..n]), n - 1);
    }
    assert_eq!(n_cached(&mut scheduler, &prompt), 299);
    let stats = scheduler.stats();
    assert_eq!(stats.n_pages, stats.n_cached_pages, "no other page is in use");
    assert_eq!(stats.n_cached + stats.n_prompt, 300 * 3 + (1 + 63 + 64 + 65 + 128 + 200 + 299) * 2 + 7 * 40);
}

#[test]
fn the_next_turn_reads_its_own_tokens_alone() {
    let engine = engine_with_window(Some(0));
    let mut scheduler = scheduler(&engine, 2);
    let mut conversation = Random(2).tokens(90);
    for turn in 0..6 {
        let log = answer(&mut scheduler, &conversation, 30);
        let n = conversation.len();
        conversation.extend(log.tokens());
        // The last token of an answer was never read.
        let n_read = conversation.len() - 1;
        let line = Random(50 + turn).tokens(11);
        conversation.extend(&line);
        let before = scheduler.stats().n_prompt;
        assert_eq!(n_cached(&mut scheduler, &conversation), n_read, "turn {turn}, {n} tokens");
        assert_eq!(scheduler.stats().n_prompt - before, 12);
    }
}

#[test]
fn texts_under_way_share_what_they_have_in_common() {
    let engine = engine_with_window(Some(0));
    let mut scheduler = scheduler(&engine, 4);
    let common = Random(3).tokens(5 * PAGE);
    let prompts: Vec<Vec<u32>> =
        (0..4).map(|i| common.iter().copied().chain(Random(60 + i).tokens(20)).collect()).collect();
    let (jobs, logs): (Vec<Job>, Vec<Log>) = prompts.iter().map(|prompt| job(prompt, &seeded(4, 20))).unzip();
    for job in jobs {
        scheduler.submit(job).unwrap();
    }
    run(&mut scheduler);
    for (prompt, log) in prompts.iter().zip(&logs) {
        assert_eq!(log.text_events(), alone(&engine, &SessionOptions::default(), prompt, &seeded(4, 20)));
    }
    // They came at the same time, and still the common part was read about once.
    let n_read = scheduler.stats().n_prompt;
    assert!(n_read < 5 * PAGE + 4 * 20 + 4 * PAGE, "{n_read}");
}

#[test]
fn a_job_may_do_without() {
    let engine = engine_with_window(Some(0));
    let mut scheduler = scheduler(&engine, 1);
    let prompt = Random(5).tokens(200);
    let without = |scheduler: &mut Scheduler| {
        let (mut job, log) = job(&prompt, &greedy(3));
        job.cache_prompt = false;
        scheduler.submit(job).unwrap();
        run(scheduler);
        log.stats().n_cached
    };
    assert_eq!(without(&mut scheduler), 0);
    assert_eq!(scheduler.stats().n_pages, 0, "nothing of it is kept");
    n_cached(&mut scheduler, &prompt);
    assert_eq!(without(&mut scheduler), 0);
    let off = PrefixOptions { max_pages: 0, ..PrefixOptions::default() };
    let mut scheduler = Scheduler::new(&engine, options(1, off)).unwrap();
    assert_eq!((n_cached(&mut scheduler, &prompt), n_cached(&mut scheduler, &prompt)), (0, 0));
    assert_eq!(scheduler.stats().n_pages, 0);
}

/// Conversations that branch, go back and go on, in whatever memory there is.
fn random_conversations(engine: &Engine, scheduler: &mut Scheduler, seed: u32, n_jobs: usize) -> usize {
    let session = SessionOptions { n_ctx: 1024, ..SessionOptions::default() };
    let mut random = Random(seed);
    let mut texts: Vec<Vec<u32>> = vec![random.tokens(150), random.tokens(30)];
    let mut expected = BTreeMap::new();
    let mut pending: Vec<(Vec<u32>, u32, Log)> = Vec::new();
    let mut n_cached = 0;
    for i in 0..n_jobs {
        let base = &texts[random.below(texts.len())];
        let mut prompt = base[..1 + random.below(base.len())].to_vec();
        let n = random.below(80);
        prompt.extend(random.tokens(n));
        prompt.truncate(600);
        let seed = random.below(3) as u32;
        let (job, log) = job(&prompt, &seeded(seed, 8));
        scheduler.submit(job).unwrap();
        pending.push((prompt, seed, log));
        (0..random.below(4)).for_each(|_| _ = scheduler.step());
        if random.below(3) == 0 || i + 1 == n_jobs {
            run(scheduler);
            for (prompt, seed, log) in pending.drain(..) {
                let want = expected
                    .entry((prompt.clone(), seed))
                    .or_insert_with(|| alone(engine, &session, &prompt, &seeded(seed, 8)));
                assert_eq!(
                    log.text_events(),
                    *want,
                    "{} tokens, {} cached",
                    prompt.len(),
                    log.stats().n_cached
                );
                n_cached += log.stats().n_cached;
                let mut text = prompt;
                text.extend(log.tokens());
                texts.push(text);
            }
            texts.drain(..texts.len().saturating_sub(12));
        }
    }
    n_cached
}

#[test]
fn conversations_come_out_the_same_whatever_is_kept_and_given_up() {
    for (window, k_type) in [
        (Some(0), CacheType::F16),
        (Some(100), CacheType::F16),
        (Some(1), CacheType::F32),
        (None, CacheType::Q8_0),
    ] {
        let engine = engine_with_window(window);
        for (n_slots, max_pages, kept) in [(1, None, usize::MAX), (3, Some(24), usize::MAX), (2, Some(40), 5)]
        {
            let prefix = PrefixOptions { max_pages: kept, ..PrefixOptions::default() };
            let mut options = SchedulerOptions { max_pages, ..options(n_slots, prefix) };
            options.session.k_type = k_type;
            let bound = max_pages.unwrap_or(usize::MAX);
            let mut scheduler = Scheduler::new(&engine, options).unwrap();
            let n_cached = if k_type == CacheType::Q8_0 {
                q8_conversations(&engine, &mut scheduler)
            } else if k_type == CacheType::F32 {
                0
            } else {
                random_conversations(&engine, &mut scheduler, 11 + n_slots as u32, 30)
            };
            if k_type == CacheType::F16 {
                assert!(n_cached > 500, "{n_cached}");
            }
            let stats = scheduler.stats();
            assert_eq!(stats.n_pages, stats.n_cached_pages);
            assert!(stats.n_cached_pages <= kept.min(bound), "{stats:?}");
        }
    }
}

fn q8_conversations(engine: &Engine, scheduler: &mut Scheduler) -> usize {
    let prompt = Random(8).tokens(200);
    let session = SessionOptions { n_ctx: 1024, k_type: CacheType::Q8_0, ..SessionOptions::default() };
    let expected = alone(engine, &session, &prompt, &seeded(1, 5));
    (0..3)
        .map(|_| {
            let log = answer(scheduler, &prompt, 5);
            assert_eq!(log.text_events(), expected);
            log.stats().n_cached
        })
        .sum()
}

#[test]
fn with_a_window_pages_that_are_no_longer_seen_are_not_needed() {
    let engine = engine_with_window(Some(100));
    // Pages for little more than what a window sees of one text.
    let prefix = PrefixOptions { max_pages: 3, ..PrefixOptions::default() };
    let mut scheduler = Scheduler::new(&engine, options(1, prefix)).unwrap();
    let prompt = Random(6).tokens(700);
    assert_eq!(n_cached(&mut scheduler, &prompt), 0);
    assert!(scheduler.stats().n_cached_pages <= 3);
    let mut longer = prompt.clone();
    longer.extend(Random(7).tokens(30));
    assert_eq!(n_cached(&mut scheduler, &longer), 700);
    // What is seen from here has gone.
    assert_eq!(n_cached(&mut scheduler, &longer[..300]), 0);
}

#[test]
fn pages_are_given_up_when_texts_need_them_and_the_least_used_first() {
    let engine = engine_with_window(Some(0));
    let mut options = options(1, PrefixOptions::default());
    options.max_pages = Some(10);
    let mut scheduler = Scheduler::new(&engine, options).unwrap();
    let [a, b, c] = [1, 2, 3].map(|seed| Random(seed).tokens(3 * PAGE));
    // Each takes three pages and a part of a fourth.
    for prompt in [&a, &b] {
        assert_eq!(n_cached(&mut scheduler, prompt), 0);
    }
    assert_eq!(n_cached(&mut scheduler, &a), 3 * PAGE - 1, "used more lately than b");
    assert_eq!(n_cached(&mut scheduler, &c), 0);
    assert_eq!(n_cached(&mut scheduler, &a), 3 * PAGE - 1);
    assert!(n_cached(&mut scheduler, &b) < 3 * PAGE - 1);
    assert!(scheduler.stats().n_pages <= 10);
}
