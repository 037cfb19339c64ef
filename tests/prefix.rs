//! What a text has in common with others is not read again, and no answer shows it.

#![cfg(feature = "builtin-model")]

mod scheduler_support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bise::prefix::{DiskCacheOptions, OnWarning, PrefixOptions};
use bise::scheduler::{Job, Scheduler, SchedulerOptions};
use bise::{CacheType, Engine, SessionOptions};
use scheduler_support::{Log, Random, Told, alone, engine_with_window, greedy, job, run, seeded};

const PAGE: usize = 64;

fn options(n_slots: usize, prefix: PrefixOptions) -> SchedulerOptions {
    let session = SessionOptions { n_ctx: 1024, n_ubatch: 64, ..SessionOptions::default() };
    SchedulerOptions { session, n_slots, prefix, ..SchedulerOptions::default() }
}

fn scheduler(engine: &Engine, n_slots: usize) -> Scheduler {
    Scheduler::new(engine, options(n_slots, PrefixOptions::default())).unwrap()
}

/// Runs one job, and returns its log.
fn answer(scheduler: &mut Scheduler, prompt: &[u32], n: usize) -> Log {
    let (job, log) = job(prompt, &seeded(1, n));
    scheduler.submit(job).unwrap();
    run(scheduler);
    log
}

/// That a job was answered as it is alone, and how many tokens were not read again.
fn n_cached(scheduler: &mut Scheduler, prompt: &[u32]) -> usize {
    let log = answer(scheduler, prompt, 5);
    let session = SessionOptions { n_ctx: 1024, ..SessionOptions::default() };
    assert_eq!(log.text_events(), alone(scheduler.engine(), &session, prompt, &seeded(1, 5)));
    log.stats().n_cached
}

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

// The disk.

struct Disk {
    folder: tempfile::TempDir,
    warnings: Arc<Mutex<Vec<String>>>,
    max_bytes: u64,
    retry: Duration,
}

impl Disk {
    fn new() -> Disk {
        Disk {
            folder: tempfile::tempdir().unwrap(),
            warnings: Arc::default(),
            max_bytes: 1 << 30,
            retry: Duration::from_secs(600),
        }
    }

    fn options(&self, n_slots: usize) -> SchedulerOptions {
        let warnings = Arc::clone(&self.warnings);
        let on_warning = OnWarning::new(move |line| warnings.lock().unwrap().push(line.to_owned()));
        let disk = DiskCacheOptions {
            folder: self.folder.path().join("cache"),
            max_bytes: self.max_bytes,
            retry: self.retry,
            on_warning,
        };
        options(n_slots, PrefixOptions { disk: Some(disk), ..PrefixOptions::default() })
    }

    fn scheduler(&self, engine: &Engine) -> Scheduler {
        Scheduler::new(engine, self.options(2)).unwrap()
    }

    /// All pages, in the order of their use.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        let used = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        files.sort_by_key(|path| (used(path), path.clone()));
        files
    }

    fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.warnings.lock().unwrap())
    }
}

#[test]
fn a_second_start_reads_the_last_page_alone() {
    for window in [Some(0), Some(200)] {
        let engine = engine_with_window(window);
        let disk = Disk::new();
        let prompt = Random(1).tokens(690);
        let mut first = disk.scheduler(&engine);
        assert_eq!(n_cached(&mut first, &prompt), 0);
        drop(first);
        assert_eq!(disk.files().len(), 690 / PAGE);
        let mut second = disk.scheduler(&engine);
        assert_eq!(n_cached(&mut second, &prompt), 690 / PAGE * PAGE);
        // From memory now.
        assert_eq!(n_cached(&mut second, &prompt), 689);
        drop(second);
        // What a prompt shares with it, and with a window what that needs.
        let mut third = disk.scheduler(&engine);
        let mut other = prompt[..500].to_vec();
        other.extend(Random(2).tokens(100));
        assert_eq!(n_cached(&mut third, &other), 500 / PAGE * PAGE);
        assert!(disk.warnings().is_empty());
    }
}

#[test]
fn two_at_once_share_what_either_has_written() {
    let engine = engine_with_window(Some(0));
    let disk = Disk::new();
    let (mut one, mut other) = (disk.scheduler(&engine), disk.scheduler(&engine));
    let prompt = Random(1).tokens(200);
    n_cached(&mut one, &prompt);
    drop(one);
    assert_eq!(n_cached(&mut other, &prompt), 192);
}

#[test]
fn pages_of_another_model_type_or_window_are_left_alone() {
    let disk = Disk::new();
    let prompt = Random(1).tokens(200);
    let engine = engine_with_window(Some(0));
    drop(answer(&mut disk.scheduler(&engine), &prompt, 2));
    let windowed = engine_with_window(Some(150));
    assert_eq!(n_cached(&mut disk.scheduler(&windowed), &prompt), 0);
    let mut options = disk.options(1);
    options.session.v_type = CacheType::Q8_0;
    let mut scheduler = Scheduler::new(&engine, options).unwrap();
    assert_eq!(answer(&mut scheduler, &prompt, 2).stats().n_cached, 0);
    assert_eq!(n_cached(&mut disk.scheduler(&engine), &prompt), 192);
    assert!(disk.warnings().is_empty());
}

#[test]
fn damaged_files_are_dropped_with_a_line_and_written_again() {
    let engine = engine_with_window(Some(0));
    let disk = Disk::new();
    let prompt = Random(1).tokens(400);
    type Damage = fn(&mut Vec<u8>);
    let damage: [(&str, Damage); 5] = [
        ("a bit of the content", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
        }),
        ("cut short", |bytes| bytes.truncate(bytes.len() - 100)),
        ("empty", Vec::clear),
        ("longer", |bytes| bytes.extend([0; 9])),
        ("the checksum", |bytes| *bytes.last_mut().unwrap() ^= 1),
    ];
    for (what, damage) in damage {
        drop(answer(&mut disk.scheduler(&engine), &prompt, 2));
        assert_eq!(disk.files().len(), 6, "{what}");
        // The third page: two remain.
        let names = by_length(&disk.files());
        let mut bytes = fs::read(&names[2]).unwrap();
        damage(&mut bytes);
        fs::write(&names[2], bytes).unwrap();
        let mut scheduler = disk.scheduler(&engine);
        assert_eq!(n_cached(&mut scheduler, &prompt), 2 * PAGE, "{what}");
        let warnings = disk.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains("damaged and dropped"), "{what}: {warnings:?}");
    }
    // A folder in the place of a file.
    drop(answer(&mut disk.scheduler(&engine), &prompt, 2));
    let path = by_length(&disk.files()).remove(0);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(n_cached(&mut disk.scheduler(&engine), &prompt), 0);
}

/// The files of one text, from its first page on.
fn by_length(files: &[PathBuf]) -> Vec<PathBuf> {
    let mut files = files.to_vec();
    files.sort_by_key(|path| fs::metadata(path).unwrap().len());
    files
}

#[test]
fn what_a_killed_process_has_left_half_written_does_no_harm() {
    let engine = engine_with_window(Some(0));
    let disk = Disk::new();
    let prompt = Random(1).tokens(200);
    drop(answer(&mut disk.scheduler(&engine), &prompt, 2));
    let files = disk.files();
    let part = files[0].with_file_name(".0123.abcdef.part");
    fs::write(&part, b"half").unwrap();
    let new = files[0].with_file_name(".0456.abcdef.part");
    fs::write(&new, b"half").unwrap();
    let old = SystemTime::now() - Duration::from_secs(7200);
    fs::File::options().write(true).open(&part).unwrap().set_modified(old).unwrap();
    assert_eq!(n_cached(&mut disk.scheduler(&engine), &prompt), 192);
    assert!(!part.exists() && new.exists(), "another process may still be writing it");
}

/// Not a test by itself: writes pages until it is killed, where a folder is given.
#[test]
fn a_process_to_be_killed() {
    let Some(folder) = std::env::var_os("BISE_TEST_CACHE") else { return };
    let engine = engine_with_window(Some(0));
    let disk = DiskCacheOptions::new(folder);
    let prefix = PrefixOptions { disk: Some(disk), ..PrefixOptions::default() };
    let mut scheduler = Scheduler::new(&engine, options(1, prefix)).unwrap();
    for seed in 0.. {
        answer(&mut scheduler, &Random(seed).tokens(300), 2);
    }
}

#[test]
fn a_process_that_is_killed_leaves_nothing_but_whole_pages() {
    let engine = engine_with_window(Some(0));
    let disk = Disk::new();
    let folder = disk.folder.path().join("cache");
    for n_wanted in [1, 6, 13] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["a_process_to_be_killed", "--exact"])
            .env("BISE_TEST_CACHE", &folder)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let start = std::time::Instant::now();
        while disk.files().len() < n_wanted {
            assert!(start.elapsed() < Duration::from_secs(60), "nothing is written");
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let mut scheduler = disk.scheduler(&engine);
        let n: usize = (0..3).map(|seed| n_cached(&mut scheduler, &Random(seed).tokens(300))).sum();
        assert!(n > 0 || n_wanted == 1, "{n}");
        assert_eq!(disk.warnings(), [""; 0]);
    }
}

#[test]
fn the_disk_is_bounded_and_what_was_used_last_stays() {
    let engine = engine_with_window(Some(0));
    let mut disk = Disk::new();
    let [a, b] = [1, 2].map(|seed| Random(seed).tokens(200));
    drop(answer(&mut disk.scheduler(&engine), &a, 2));
    let n_bytes: u64 = disk.files().iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    let total =
        |disk: &Disk| -> u64 { disk.files().iter().map(|path| fs::metadata(path).unwrap().len()).sum() };
    // Room for two texts and a half.
    disk.max_bytes = n_bytes / 2 * 5;
    age(&disk.files(), 1000);
    drop(answer(&mut disk.scheduler(&engine), &b, 2));
    assert_eq!(total(&disk), 2 * n_bytes);
    age(&disk.files(), 1000);
    assert_eq!(n_cached(&mut disk.scheduler(&engine), &a), 192, "read, so that it stays");
    for seed in 3..7 {
        drop(answer(&mut disk.scheduler(&engine), &Random(seed).tokens(200), 2));
        assert!(total(&disk) <= disk.max_bytes);
        assert_eq!(n_cached(&mut disk.scheduler(&engine), &a), 192, "{seed}");
    }
    assert!(n_cached(&mut disk.scheduler(&engine), &b) < 192);
}

#[test]
fn what_the_disk_has_lost_is_written_again() {
    let engine = engine_with_window(Some(0));
    let mut disk = Disk::new();
    let [a, b] = [1, 2].map(|seed| Random(seed).tokens(200));
    drop(answer(&mut disk.scheduler(&engine), &a, 2));
    let n_bytes: u64 = disk.files().iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    // Room for a text and a half: each drives the other out, until one alone is asked for.
    disk.max_bytes = n_bytes / 2 * 3;
    age(&disk.files(), 1000);
    let mut scheduler = disk.scheduler(&engine);
    for prompt in [&b, &a, &b, &a, &a, &a] {
        drop(answer(&mut scheduler, prompt, 2));
        std::thread::sleep(Duration::from_millis(300));
    }
    drop(scheduler);
    assert_eq!(n_cached(&mut disk.scheduler(&engine), &a), 192);
    assert_eq!(disk.warnings(), [""; 0]);
}

#[test]
fn a_disk_that_has_room_again_is_written_to_again() {
    let engine = engine_with_window(Some(0));
    let mut disk = Disk::new();
    disk.retry = Duration::from_millis(100);
    let mut scheduler = disk.scheduler(&engine);
    let cache = disk.folder.path().join("cache");
    let folder = fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir_all(&cache).unwrap();
    let prompt = Random(1).tokens(200);
    drop(answer(&mut scheduler, &prompt, 2));
    std::thread::sleep(Duration::from_millis(500));
    fs::create_dir_all(&folder).unwrap();
    drop(answer(&mut scheduler, &prompt, 2));
    drop(scheduler);
    assert_eq!(n_cached(&mut disk.scheduler(&engine), &prompt), 192);
    assert_eq!(disk.warnings().len(), 1);
}

/// Makes files look older.
fn age(files: &[PathBuf], seconds: u64) {
    for path in files {
        let file = fs::File::options().write(true).open(path).unwrap();
        let time = file.metadata().unwrap().modified().unwrap();
        file.set_modified(time - Duration::from_secs(seconds)).unwrap();
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_that_names_it() {
    let engine = engine_with_window(Some(0));
    let disk = Disk::new();
    fs::write(disk.folder.path().join("cache"), b"a file").unwrap();
    let error = Scheduler::new(&engine, disk.options(1)).err().unwrap().to_string();
    assert!(error.contains("cache: the cache of prompts cannot be made"), "{error}");
}

/// A folder that is gone takes no files, as a full disk takes none.
#[test]
fn a_disk_that_takes_no_more_costs_one_line() {
    let engine = engine_with_window(Some(0));
    let disk = Disk::new();
    let mut scheduler = disk.scheduler(&engine);
    fs::remove_dir_all(disk.folder.path().join("cache")).unwrap();
    for seed in 0..3 {
        assert_eq!(n_cached(&mut scheduler, &Random(seed).tokens(200)), 0);
        assert_eq!(n_cached(&mut scheduler, &Random(seed).tokens(200)), 199, "memory is not concerned");
    }
    drop(scheduler);
    let warnings = disk.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("for now no pages are written"), "{warnings:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_costs_one_line() {
    // A file system of a few pages, where one may be mounted; nothing to be seen otherwise.
    let engine = engine_with_window(Some(0));
    let mut disk = Disk::new();
    let at = disk.folder.path().to_path_buf();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(&at)
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        eprintln!("skipped: no file system can be mounted here");
        return;
    }
    struct Unmount(PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg(&self.0).status();
        }
    }
    let _unmount = Unmount(at);
    disk.max_bytes = 1 << 30;
    let mut scheduler = disk.scheduler(&engine);
    assert_eq!(n_cached(&mut scheduler, &Random(1).tokens(1000)), 0);
    assert_eq!(n_cached(&mut scheduler, &Random(1).tokens(1000)), 999);
    drop(scheduler);
    let warnings = disk.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("for now no pages are written"), "{warnings:?}");
    // What was written before is whole.
    let n = n_cached(&mut disk.scheduler(&engine), &Random(1).tokens(1000));
    assert!(n > 0 && n < 960 && n.is_multiple_of(PAGE), "{n}");
}

#[test]
fn texts_go_on_while_pages_are_read_from_the_disk_and_a_job_can_be_cancelled_meanwhile() {
    let engine = engine_with_window(Some(0));
    let disk = Disk::new();
    let prompt = Random(1).tokens(900);
    drop(answer(&mut disk.scheduler(&engine), &prompt, 2));
    let mut scheduler = disk.scheduler(&engine);
    let (running, running_log) = job(&[1, 400], &seeded(2, 60));
    scheduler.submit(running).unwrap();
    (0..3).for_each(|_| assert!(scheduler.step()));
    let (restored, restored_log) = job(&prompt, &seeded(1, 5));
    scheduler.submit(restored).unwrap();
    while restored_log.finished().is_none() {
        let n = running_log.n_tokens();
        assert!(scheduler.step());
        assert_eq!(running_log.n_tokens(), n + 1);
    }
    assert_eq!(restored_log.stats().n_cached, 14 * PAGE);
    let session = SessionOptions::default();
    assert_eq!(restored_log.text_events(), alone(&engine, &session, &prompt, &seeded(1, 5)));
    run(&mut scheduler);
    let events: Vec<Told> = running_log.text_events();
    assert_eq!(events, alone(&engine, &session, &[1, 400], &seeded(2, 60)));
    assert!(Path::new(disk.folder.path()).exists());
}
