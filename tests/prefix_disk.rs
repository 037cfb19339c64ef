//! Prefixes on the disk: what earlier processes and others have read is not read again, whatever happens to the files.

#![cfg(feature = "builtin-model")]

mod prefix_support;
mod scheduler_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bise::prefix::{DiskCacheOptions, OnWarning, PrefixOptions};
use bise::scheduler::{Scheduler, SchedulerOptions};
use bise::{CacheType, Engine, SessionOptions};
use prefix_support::{PAGE, answer, n_cached, options};
use scheduler_support::{Random, Told, alone, engine_with_window, job, run, seeded};

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
