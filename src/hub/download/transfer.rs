//! Brings the bytes of a file that are missing.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::part::Part;
use super::ranges::Ranges;
use super::{Source, disk};
use crate::hub::error::HubError;
use crate::hub::http::{self, Answer, Client, Request};
use crate::hub::progress::{Progress, Watch};
use crate::hub::url;

/// Connections at a time.
const CONNECTIONS: usize = 4;
/// Attempts that brought nothing, one after the other, before it is given up.
const MAX_FAILURES: u32 = 5;
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// Nobody waits longer than this because a server asks for it.
const MAX_DELAY: Duration = Duration::from_secs(120);
/// How often what has arrived is written down.
const SAVE_EVERY: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);

/// Completes `part`. Whatever happens, what has arrived is written down in the end.
///
/// # Errors
/// The network, the server, the disk, or `watch`.
pub fn transfer(
    client: &Client,
    source: &Source<'_>,
    part: &mut Part,
    watch: &mut Watch<'_>,
) -> Result<(), HubError> {
    let at = part.state.done.missing(part.state.size.unwrap_or(1), u64::MAX).first().map_or(0, |gap| gap.0);
    if part.state.size.is_some_and(|size| part.state.done.bytes() == size) {
        return Ok(());
    }
    // A first answer says whether the server has ranges, and how large the file is.
    let first =
        patiently(client, watch, || client.get(&Request { range: Some((at, at)), ..request(source) }));
    let answer = match first {
        Err(HubError::Status { status: 416, .. }) if at > 0 => {
            return Err(HubError::Changed { url: url::shown(&source.url) });
        }
        // Not even the first byte.
        Err(HubError::Status { status: 416, .. }) if source.size.is_none_or(|size| size == 0) => {
            return Ok(());
        }
        answer => answer?,
    };
    let content = source.content.clone().or_else(|| answer.headers.validator());
    if part.state.size.is_some() && part.state.content != content {
        return Err(HubError::Changed { url: url::shown(&source.url) });
    }
    if answer.status != 206 {
        return whole(client, source, part, answer, content, watch);
    }
    let size = answer.headers.content_range().and_then(|(_, _, size)| size).or(source.size);
    let size =
        size.ok_or_else(|| protocol(&answer.url, "found no size in Content-Range, expected bytes A-B/SIZE"))?;
    check_size(&answer.url, source, size)?;
    if part.state.size.is_some_and(|known| known != size) {
        return Err(HubError::Changed { url: url::shown(&source.url) });
    }
    (part.state.size, part.state.content) = (Some(size), content);
    in_parallel(client, source, part, &answer, size, watch)
}

fn request<'a>(source: &'a Source<'_>) -> Request<'a> {
    Request { url: &source.url, token: source.token, ..Request::default() }
}

fn protocol(url: &str, why: impl Into<String>) -> HubError {
    HubError::Protocol { url: url::shown(url), why: why.into() }
}

fn check_size(url: &str, source: &Source<'_>, found: u64) -> Result<(), HubError> {
    match source.size {
        Some(expected) if found != expected => {
            Err(protocol(url, format!("found a file of {found} bytes, expected {expected}")))
        }
        _ => Ok(()),
    }
}

/// Tries again what fails for a reason that may pass.
fn patiently<T>(
    client: &Client,
    watch: &mut Watch<'_>,
    mut attempt: impl FnMut() -> Result<T, HubError>,
) -> Result<T, HubError> {
    let mut failures = 0;
    loop {
        let error = match attempt() {
            Err(error) if error.is_temporary() => error,
            result => return result,
        };
        let Some(delay) = delay(&error, failures) else { return Err(error) };
        debug_assert!(!client.settings().offline);
        let why = error.to_string();
        let until = Instant::now() + delay;
        while Instant::now() < until {
            if watch(Progress::Retrying { why: &why, after: delay }).is_break() {
                return Err(HubError::Cancelled);
            }
            thread::sleep(TICK.min(until.saturating_duration_since(Instant::now())));
        }
        failures += 1;
    }
}

/// How long to wait after a failure; `None` to give up.
fn delay(error: &HubError, failures: u32) -> Option<Duration> {
    let asked = match error {
        HubError::Status { retry_after, .. } => *retry_after,
        _ => None,
    };
    if failures + 1 >= MAX_FAILURES || asked.is_some_and(|asked| asked > MAX_DELAY) {
        return None;
    }
    Some(asked.unwrap_or(FIRST_DELAY * 2u32.pow(failures)))
}

/// From a server without ranges: the whole file, from its beginning, on one connection.
fn whole(
    client: &Client,
    source: &Source<'_>,
    part: &mut Part,
    first: Answer,
    content: Option<String>,
    watch: &mut Watch<'_>,
) -> Result<(), HubError> {
    let mut answer = Some(first);
    let mut failures = 0;
    loop {
        part.restart()?;
        let mut current = match answer.take() {
            Some(answer) => answer,
            None => patiently(client, watch, || client.get(&request(source)))?,
        };
        let total = current.headers.get("content-length").and_then(|n| n.parse().ok());
        if let Some(found) = total {
            check_size(&current.url, source, found)?;
        }
        let validator = source.content.clone().or_else(|| current.headers.validator());
        if validator != content {
            return Err(HubError::Changed { url: url::shown(&source.url) });
        }
        let total = total.or(source.size);
        check_room(part, total.unwrap_or(0))?;
        let mut done = 0;
        let result = copy(&mut current, |bytes| {
            part.write_at(bytes, done)?;
            done += bytes.len() as u64;
            let progress =
                Progress::Downloading { file: &source.name, digest: source.content.as_deref(), done, total };
            if watch(progress).is_break() { Err(HubError::Cancelled) } else { Ok(()) }
        });
        let cut = match result {
            Ok(()) if total.is_none_or(|total| total == done) => return Ok(()),
            Ok(()) => http::broken(&current.url, &io::Error::from(io::ErrorKind::UnexpectedEof)),
            Err(error) => error,
        };
        let delay = if cut.is_temporary() { delay(&cut, failures) } else { None };
        let Some(delay) = delay else { return Err(cut) };
        let why = format!("{cut}; this server has no ranges, so the file is fetched from its beginning");
        if watch(Progress::Retrying { why: &why, after: delay }).is_break() {
            return Err(HubError::Cancelled);
        }
        thread::sleep(delay);
        failures += 1;
    }
}

/// Hands the bytes of an answer to `write`.
fn copy(answer: &mut Answer, mut write: impl FnMut(&[u8]) -> Result<(), HubError>) -> Result<(), HubError> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match answer.body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => write(&buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(http::broken(&answer.url, &error)),
        }
    }
}

fn check_room(part: &Part, needed: u64) -> Result<(), HubError> {
    let folder = part.path.parent().unwrap_or(&part.path);
    match disk::free_bytes(folder) {
        Some(free) if free < needed => Err(HubError::NoRoom { path: part.path.clone(), needed, free }),
        _ => Ok(()),
    }
}

/// What the threads of a transfer share.
struct Shared<'a> {
    client: &'a Client,
    source: &'a Source<'a>,
    part: &'a Part,
    size: u64,
    /// Of the first answer, which all others must agree with.
    validator: Option<String>,
    /// Where the file really is, as long as that server gives it without being sent there again.
    direct: Mutex<Option<String>>,
    state: Mutex<Progressing>,
    changed: Condvar,
    stop: AtomicBool,
}

struct Progressing {
    done: Ranges,
    missing: std::vec::IntoIter<(u64, u64)>,
    n_running: usize,
    /// A line each, not shown yet.
    retries: Vec<(String, Duration)>,
    error: Option<HubError>,
}

fn in_parallel(
    client: &Client,
    source: &Source<'_>,
    part: &mut Part,
    first: &Answer,
    size: u64,
    watch: &mut Watch<'_>,
) -> Result<(), HubError> {
    check_room(part, size - part.state.done.bytes())?;
    let pieces = part.state.done.missing(size, (size / 16).clamp(1 << 20, 32 << 20));
    let n_threads = pieces.len().min(CONNECTIONS);
    let shared = Shared {
        client,
        source,
        part,
        size,
        validator: first.headers.validator(),
        direct: Mutex::new((first.url != source.url).then(|| first.url.clone())),
        state: Mutex::new(Progressing {
            done: part.state.done.clone(),
            missing: pieces.into_iter(),
            n_running: n_threads,
            retries: Vec::new(),
            error: None,
        }),
        changed: Condvar::new(),
        stop: AtomicBool::new(false),
    };
    let saved = thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| shared.work());
        }
        shared.supervise(watch)
    });
    let state = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let result = match (state.error, saved) {
        (Some(error), _) => Err(error),
        (None, result) => result,
    };
    let kept = part.save(&state.done);
    part.state.done = state.done;
    result.and(kept)
}

impl Shared<'_> {
    fn lock(&self) -> MutexGuard<'_, Progressing> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports and saves until every thread is done.
    fn supervise(&self, watch: &mut Watch<'_>) -> Result<(), HubError> {
        let mut result = Ok(());
        let mut last_save = Instant::now();
        loop {
            let state = self.lock();
            let (mut state, _) = self
                .changed
                .wait_timeout_while(state, TICK, |state| state.n_running > 0)
                .unwrap_or_else(PoisonError::into_inner);
            let (finished, done) = (state.n_running == 0, state.done.clone());
            let retries = std::mem::take(&mut state.retries);
            drop(state);
            let mut wants_more = true;
            for (why, after) in &retries {
                wants_more &= watch(Progress::Retrying { why, after: *after }).is_continue();
            }
            let progress = Progress::Downloading {
                file: &self.source.name,
                digest: self.source.content.as_deref(),
                done: done.bytes(),
                total: Some(self.size),
            };
            wants_more &= watch(progress).is_continue();
            if !wants_more && result.is_ok() {
                result = Err(HubError::Cancelled);
                self.stop.store(true, Ordering::Relaxed);
            }
            if finished {
                return result;
            }
            if last_save.elapsed() >= SAVE_EVERY {
                if let Err(error) = self.part.save(&done)
                    && result.is_ok()
                {
                    result = Err(error);
                    self.stop.store(true, Ordering::Relaxed);
                }
                last_save = Instant::now();
            }
        }
    }

    /// One thread: takes pieces until there are none.
    fn work(&self) {
        loop {
            let piece = self.lock().missing.next();
            let result = match piece {
                Some(piece) if !self.stopped() => self.bring(piece),
                _ => break,
            };
            // Those that end because they were told to are not the reason.
            if let Err(error) = result
                && !self.stopped()
            {
                self.lock().error.get_or_insert(error);
                self.stop.store(true, Ordering::Relaxed);
            }
        }
        self.lock().n_running -= 1;
        self.changed.notify_all();
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Brings a piece, however often the connection breaks.
    fn bring(&self, (mut at, end): (u64, u64)) -> Result<(), HubError> {
        let mut failures = 0;
        while at < end && !self.stopped() {
            let before = at;
            let error = match self.attempt(&mut at, end) {
                Ok(()) => continue,
                Err(error) if error.is_temporary() => error,
                Err(error) => return Err(error),
            };
            if at > before {
                failures = 0;
            }
            let Some(delay) = delay(&error, failures) else { return Err(error) };
            self.lock().retries.push((error.to_string(), delay));
            let until = Instant::now() + delay;
            while Instant::now() < until && !self.stopped() {
                thread::sleep(TICK);
            }
            failures += 1;
        }
        Ok(())
    }

    /// Asks for `at..end` once, and moves `at` by what came.
    fn attempt(&self, at: &mut u64, end: u64) -> Result<(), HubError> {
        let range = Some((*at, end - 1));
        let direct = self.direct.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = match &direct {
            Some(url) => match self.client.get(&Request { url, range, ..Request::default() }) {
                // Its signature has run out.
                Err(HubError::Status { status: 400..=404 | 410, .. }) => {
                    let answer = self.client.get(&Request { range, ..request(self.source) })?;
                    *self.direct.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer.url.clone());
                    answer
                }
                answer => answer?,
            },
            None => self.client.get(&Request { range, ..request(self.source) })?,
        };
        let mut answer = answer;
        let changed = || HubError::Changed { url: url::shown(&self.source.url) };
        if answer.headers.validator() != self.validator {
            return Err(changed());
        }
        match (answer.status, answer.headers.content_range()) {
            (206, Some((first, _, size))) if first == *at => {
                if size.is_some_and(|size| size != self.size) {
                    return Err(changed());
                }
            }
            (206, found) => {
                let found =
                    found.map_or("no Content-Range".into(), |(first, ..)| format!("bytes from {first}"));
                return Err(protocol(&answer.url, format!("found {found}, expected bytes from {at}")));
            }
            // It had ranges a moment ago.
            _ => return Err(changed()),
        }
        copy(&mut answer, |bytes| {
            if self.stopped() {
                return Err(HubError::Cancelled);
            }
            // Never more than was asked for.
            let bytes = &bytes[..bytes.len().min((end - *at) as usize)];
            self.part.write_at(bytes, *at)?;
            let next = *at + bytes.len() as u64;
            self.lock().done.insert(*at, next);
            *at = next;
            Ok(())
        })?;
        if *at < end {
            return Err(http::broken(&self.source.url, &io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        Ok(())
    }
}
