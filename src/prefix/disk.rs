//! Pages in files, for the next start and for other processes.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use bise_kernels::kv_page::PAGE_LEN;
use bise_models::{PagePool, PageRef};
use twox_hash::XxHash3_128;

use super::page_file::{self, ReadError};
use crate::{Engine, SessionOptions};

/// Pages that wait to be written, at most. What does not fit is offered again later.
const MOST_WAITING: usize = 32;
/// How long the end of the program may be put off to write what waits.
const LAST_WRITES: Duration = Duration::from_secs(3);
/// What a process that was killed has left half-written is removed after so long.
const ABANDONED: Duration = Duration::from_secs(3600);

const EXTENSION: &str = "page";

/// Takes a line about something that went wrong, and that others can live with.
#[derive(Clone)]
pub struct OnWarning(Arc<dyn Fn(&str) + Send + Sync>);

impl OnWarning {
    /// Calls `warn` with each line.
    pub fn new(warn: impl Fn(&str) + Send + Sync + 'static) -> OnWarning {
        OnWarning(Arc::new(warn))
    }
}

impl Default for OnWarning {
    /// Says nothing.
    fn default() -> OnWarning {
        OnWarning::new(|_| {})
    }
}

impl std::fmt::Debug for OnWarning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnWarning")
    }
}

/// Where pages are kept on the disk, and how many.
#[derive(Clone, Debug)]
pub struct DiskCacheOptions {
    /// The folder, made if it is not there. Processes may share it, with any models.
    pub folder: PathBuf,
    /// Bytes of all files in it, at most. The least recently used ones are removed.
    pub max_bytes: u64,
    /// How long nothing is written after the disk has refused a page. There may be room again then.
    pub retry: Duration,
    /// Is told of damaged files, and of a disk that is full.
    pub on_warning: OnWarning,
}

impl DiskCacheOptions {
    /// Up to 8 GiB in a folder, a minute until a disk that was full is tried again, and nobody is told of problems.
    pub fn new(folder: impl Into<PathBuf>) -> DiskCacheOptions {
        DiskCacheOptions {
            folder: folder.into(),
            max_bytes: 8 << 30,
            retry: Duration::from_secs(60),
            on_warning: OnWarning::default(),
        }
    }
}

/// The names that the pages of a text have on the disk: each is a hash of what all of them depend on, and of all tokens up to its end.
pub(super) struct Names {
    salt: u128,
    names: Vec<u128>,
}

impl Names {
    /// The name of page number `page` of a text that begins with `tokens`.
    fn of(&mut self, tokens: &[u32], page: usize) -> u128 {
        while self.names.len() <= page {
            let mut hash = XxHash3_128::new();
            hash.write(&self.names.last().unwrap_or(&self.salt).to_le_bytes());
            let start = self.names.len() * PAGE_LEN;
            tokens[start..start + PAGE_LEN].iter().for_each(|token| hash.write(&token.to_le_bytes()));
            self.names.push(hash.finish_128());
        }
        self.names[page]
    }
}

pub(super) struct DiskCache {
    salt: u128,
    pool: PagePool,
    shared: Arc<Shared>,
    /// Names that were given to the writer, or are on the disk.
    known: HashSet<u128>,
    /// Names of files that are of no use.
    bad: HashSet<u128>,
    sender: Option<SyncSender<Write>>,
    writer: Option<JoinHandle<()>>,
}

/// What the writer's thread has too.
struct Shared {
    /// The folder of this model's pages, in that of all.
    folder: PathBuf,
    options: DiskCacheOptions,
    /// Something has gone wrong with the disk: until then nothing is written.
    rests_until: Mutex<Option<Instant>>,
    /// Names of pages that were to be written and were not, or are gone again.
    unwritten: Mutex<Vec<u128>>,
    /// When to end, written or not.
    deadline: Mutex<Option<Instant>>,
    /// Bytes of all files, as far as this process knows.
    n_bytes: AtomicU64,
    n_written: AtomicUsize,
}

struct Write {
    name: u128,
    salt: u128,
    tokens: Vec<u32>,
    page: PageRef,
}

/// What the content of a page depends on, beside the tokens.
fn salt(engine: &Engine, session: &SessionOptions) -> u128 {
    let config = engine.config();
    let mut hash = XxHash3_128::new();
    hash.write(&engine.fingerprint().to_le_bytes());
    let rest = format!(
        "{:?} {:?} {} {} {PAGE_LEN} {}",
        config.sliding_window,
        config.rope,
        session.k_type,
        session.v_type,
        std::env::consts::ARCH,
    );
    hash.write(rest.as_bytes());
    hash.finish_128()
}

impl DiskCache {
    /// Opens the folder, and starts the thread that writes.
    ///
    /// # Errors
    /// Where the folder cannot be made, or no thread started.
    pub fn open(
        engine: &Engine,
        session: &SessionOptions,
        pool: &PagePool,
        options: &DiskCacheOptions,
    ) -> io::Result<DiskCache> {
        let salt = salt(engine, session);
        let folder = options.folder.join(format!("{salt:032x}"));
        fs::create_dir_all(&folder)?;
        let shared = Arc::new(Shared {
            folder,
            options: options.clone(),
            rests_until: Mutex::new(None),
            unwritten: Mutex::default(),
            deadline: Mutex::new(None),
            n_bytes: AtomicU64::new(0),
            n_written: AtomicUsize::new(0),
        });
        let (sender, receiver) = sync_channel(MOST_WAITING);
        let (for_writer, n_layers) = (Arc::clone(&shared), pool.n_layers());
        let writer = std::thread::Builder::new()
            .name("bise-cache".to_owned())
            .spawn(move || for_writer.run(n_layers, &receiver))?;
        Ok(DiskCache {
            salt,
            pool: pool.clone(),
            shared,
            known: HashSet::new(),
            bad: HashSet::new(),
            sender: Some(sender),
            writer: Some(writer),
        })
    }

    /// The names of the pages of a text; `adapters` tells its adapters from others, and is 0 for none.
    pub fn names(&self, adapters: u128) -> Names {
        let salt = match adapters {
            0 => self.salt,
            _ => {
                let mut hash = XxHash3_128::new();
                hash.write(&self.salt.to_le_bytes());
                hash.write(&adapters.to_le_bytes());
                hash.finish_128()
            }
        };
        Names { salt, names: Vec::new() }
    }

    fn path(&self, name: u128) -> PathBuf {
        self.shared.path(name)
    }

    /// Whether there is a file for page number `page`. It may still turn out to be of no use.
    pub fn has(&self, names: &mut Names, tokens: &[u32], page: usize) -> bool {
        let name = names.of(tokens, page);
        !self.bad.contains(&name) && self.path(name).is_file()
    }

    /// Reads page number `page`. A damaged file is removed, and not looked at again.
    ///
    /// # Errors
    /// Where it is missing or damaged, or there is no page in memory for it.
    pub fn read(&mut self, names: &mut Names, tokens: &[u32], page: usize) -> Result<PageRef, ReadError> {
        let name = names.of(tokens, page);
        let path = self.path(name);
        let read = page_file::read(&path, names.salt, &tokens[..(page + 1) * PAGE_LEN], &self.pool);
        let error = match read {
            Ok(page) => {
                self.known.insert(name);
                return Ok(page);
            }
            Err(error) => error,
        };
        let warning = match &error {
            ReadError::NoPage => return Err(error),
            ReadError::Missing | ReadError::Other => None,
            ReadError::Damaged(what) => Some(format!("a cached page is damaged and dropped: {what}")),
            ReadError::Io(error) => Some(format!("a cached page cannot be read and is dropped: {error}")),
        };
        warning.into_iter().for_each(|line| self.shared.warn(&format!("{}: {line}", path.display())));
        self.known.remove(&name);
        if let ReadError::Missing = error {
            return Err(error);
        }
        self.bad.insert(name);
        // Where it cannot be removed, others will say the same of it.
        let _ = fs::remove_file(&path);
        Err(error)
    }

    /// Has page number `page` of a text written, unless it was before.
    pub fn offer(
        &mut self,
        names: &mut Names,
        tokens: &[u32],
        page: usize,
        content: impl FnOnce() -> Option<PageRef>,
    ) {
        let name = names.of(tokens, page);
        if self.shared.rests() {
            return;
        }
        for name in self.shared.unwritten().drain(..) {
            self.known.remove(&name);
        }
        if self.known.contains(&name) {
            return;
        }
        let (Some(content), Some(sender)) = (content(), &self.sender) else { return };
        let tokens = tokens[..(page + 1) * PAGE_LEN].to_vec();
        match sender.try_send(Write { name, salt: names.salt, tokens, page: content }) {
            Ok(()) => {
                self.known.insert(name);
                self.bad.remove(&name);
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Pages written by this process.
    pub fn n_written(&self) -> usize {
        self.shared.n_written.load(Relaxed)
    }
}

impl Drop for DiskCache {
    /// Waits until what waits is written, but not for long.
    fn drop(&mut self) {
        let deadline = Some(Instant::now() + LAST_WRITES);
        *self.shared.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
        self.sender = None;
        let _ = self.writer.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn path(&self, name: u128) -> PathBuf {
        self.folder.join(format!("{name:032x}.{EXTENSION}"))
    }

    fn warn(&self, line: &str) {
        (self.options.on_warning.0)(line);
    }

    /// Whether nothing is to be written now.
    fn rests(&self) -> bool {
        let until = *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn unwritten(&self) -> MutexGuard<'_, Vec<u128>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's thread.
    fn run(&self, n_layers: usize, receiver: &Receiver<Write>) {
        self.make_room();
        let mut is_broken = false;
        while let Ok(write) = receiver.recv() {
            let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return;
            }
            let path = self.path(write.name);
            if self.rests() {
                self.unwritten().push(write.name);
                continue;
            }
            if path.exists() {
                // Somebody else has written it, and it is in use.
                page_file::touch(&path);
                continue;
            }
            match page_file::write(&path, write.salt, &write.tokens, &write.page, n_layers) {
                Ok(()) => {
                    is_broken = false;
                    self.n_written.fetch_add(1, Relaxed);
                    let n = fs::metadata(&path).map_or(0, |metadata| metadata.len());
                    if self.n_bytes.fetch_add(n, Relaxed) + n > self.options.max_bytes {
                        self.make_room();
                    }
                }
                Err(error) => {
                    self.unwritten().push(write.name);
                    let until = Instant::now() + self.options.retry;
                    *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
                    // Once, until it is well again.
                    if !std::mem::replace(&mut is_broken, true) {
                        let folder = self.options.folder.display();
                        self.warn(&format!("{folder}: for now no pages are written to the cache: {error}"));
                    }
                }
            }
        }
    }

    /// Removes the files that were not used for the longest time, until a tenth of the space is free. Others may do the same meanwhile.
    fn make_room(&self) {
        let mut files = Vec::new();
        for folder in folders(&self.options.folder) {
            collect(&folder, &mut files);
        }
        files.sort_unstable();
        let mut n_bytes: u64 = files.iter().map(|(_, n, _)| n).sum();
        if n_bytes > self.options.max_bytes {
            let wanted = self.options.max_bytes / 10 * 9;
            for (_, n, path) in files {
                if n_bytes <= wanted {
                    break;
                }
                // One that somebody else has removed is gone as well.
                let _ = fs::remove_file(&path);
                self.unwritten().extend(name_of(&path));
                n_bytes -= n;
            }
        }
        self.n_bytes.store(n_bytes, Relaxed);
    }
}

/// The name of the page in a file.
fn name_of(path: &Path) -> Option<u128> {
    u128::from_str_radix(path.file_stem()?.to_str()?, 16).ok()
}

/// The folders of all models.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) && path.is_dir()
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_ours).collect()
}

/// The pages in a folder: when they were used, their bytes, their names. Removes what was abandoned half-written.
fn collect(folder: &Path, files: &mut Vec<(SystemTime, u64, PathBuf)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
        let used = page_file::last_used(&metadata);
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(EXTENSION) => files.push((used, metadata.len(), path)),
            Some("part") if used.elapsed().is_ok_and(|age| age > ABANDONED) => {
                let _ = fs::remove_file(path);
            }
            _ => {}
        }
    }
}
