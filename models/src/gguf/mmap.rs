//! The bytes of a file: mapped, read into memory, or built into the program. They are reference-counted.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use memmap2::Mmap;

use super::error::GgufError;
use super::pages::{self, Anonymous};
use crate::printable::Printable;

/// What holds the bytes of one part.
pub(super) enum Storage {
    /// A read-only mapping of the file.
    Mapped(MappedFile),
    /// A copy of the file (`mmap: false`, where files cannot be mapped, and big-endian files after swapping).
    Copied(Anonymous),
    /// Bytes that the caller had in memory.
    Owned(Vec<u8>),
    /// Built into the program.
    Static(&'static [u8]),
}

impl Deref for Storage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Storage::Mapped(file) => &file.map,
            Storage::Copied(copy) => copy,
            Storage::Owned(bytes) => bytes,
            Storage::Static(bytes) => bytes,
        }
    }
}

/// A mapped file, open as long as it is mapped.
pub(super) struct MappedFile {
    pub(super) map: Mmap,
    pub(super) file: File,
    /// From before it was mapped.
    stamp: Stamp,
}

/// The data of a tensor: a range of the file, which stays mapped while this lives.
///
/// Cloning is cheap (a reference count). The bytes may have any alignment.
#[derive(Clone)]
pub struct TensorBytes {
    storage: Arc<Storage>,
    range: Range<usize>,
}

impl TensorBytes {
    /// `range` of `storage`.
    ///
    /// # Panics
    /// If the range is out of bounds; checked once here rather than at each use.
    pub(super) fn new(storage: Arc<Storage>, range: Range<usize>) -> TensorBytes {
        assert!(range.start <= range.end && range.end <= storage.len());
        TensorBytes { storage, range }
    }

    /// A part of the data.
    ///
    /// # Panics
    /// If `range` is not inside.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> TensorBytes {
        assert!(range.start <= range.end && range.end <= self.range.len());
        let start = self.range.start;
        TensorBytes::new(self.storage.clone(), start + range.start..start + range.end)
    }

    /// Where they are.
    pub(super) fn place(&self) -> (&Arc<Storage>, Range<usize>) {
        (&self.storage, self.range.clone())
    }
}

impl Deref for TensorBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage[self.range.clone()]
    }
}

impl std::fmt::Debug for TensorBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TensorBytes({:?})", self.range)
    }
}

/// Size and modification time, by which an in-place change is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    n_bytes: u64,
    /// `None` if the file system does not record it.
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(file: &File) -> io::Result<Stamp> {
        let metadata = file.metadata()?;
        Ok(Stamp { n_bytes: metadata.len(), modified: metadata.modified().ok() })
    }
}

/// One opened file: its bytes, and what is needed to notice that it was changed since.
pub(super) struct Part {
    /// The file's name, for messages.
    pub name: Arc<str>,
    /// Where it was opened, if it is a file.
    pub path: Option<PathBuf>,
    /// Its bytes.
    pub storage: Arc<Storage>,
    is_locked: AtomicBool,
}

impl Part {
    /// Opens `path` and maps it, or reads it into memory if `mmap` is false or the system cannot map files.
    ///
    /// # Errors
    /// If it is missing, unreadable, empty, does not fit in memory, or is anything but a regular file (opening a
    /// pipe could wait forever).
    pub fn open(path: &Path, mmap: bool) -> Result<Part, GgufError> {
        let name = name_of(path);
        let io = |action| {
            let file = name.clone();
            move |error| GgufError::Io { file, action, error }
        };
        let not_a_model =
            |found: String, advice: String| GgufError::NotAModel { file: name.clone(), found, advice };
        let kind = fs::metadata(path).map_err(|error| match dangling_link(path) {
            Some(target) => not_a_model(
                format!("a symbolic link to {target}, which does not exist"),
                "download the file that it stands for".into(),
            ),
            None => io("open")(error),
        })?;
        if kind.is_dir() {
            return Err(not_a_model("a directory".into(), advice_for_directory(path)));
        }
        if !kind.is_file() {
            return Err(not_a_model("a pipe or device".into(), "write it to a file first".into()));
        }
        let mut file = File::open(path).map_err(io("open"))?;
        let stamp = Stamp::of(&file).map_err(io("read the size of the file"))?;
        if stamp.n_bytes == 0 {
            return Err(not_a_model("an empty file".into(), "download the file again".into()));
        }
        if isize::try_from(stamp.n_bytes).is_err() {
            return Err(GgufError::TooLarge { file: name, n_bytes: stamp.n_bytes });
        }
        if mmap && cfg!(any(unix, windows)) {
            // Another process may still change the file. Changed bytes are harmless as such: the header is read once
            // and checked, its strings are bytes whose lengths are checked at each use, and any bytes are valid
            // blocks of weights. Pages that are gone raise SIGBUS, which ends the process but reads nothing it
            // should not; `check_unchanged` looks for that before each pass.
            // SAFETY: the mapping is read-only, and code that reads it takes any bytes.
            let map = unsafe { Mmap::map(&file) }.map_err(io("map the file"))?;
            return Ok(Part::new(Storage::Mapped(MappedFile { map, file, stamp }), name, Some(path)));
        }
        let copy = copied(&name, stamp.n_bytes as usize, |copy| {
            file.read_exact(copy).map_err(io("read the file"))?;
            let now = Stamp::of(&file).map_err(io("read the size of the file"))?;
            unchanged(&name, stamp, now)
        })?;
        Ok(Part::new(Storage::Copied(copy), name, Some(path)))
    }

    fn new(storage: Storage, name: Arc<str>, path: Option<&Path>) -> Part {
        let path = path.map(Path::to_owned);
        Part { name, path, storage: Arc::new(storage), is_locked: AtomicBool::new(false) }
    }

    /// A part without a file. Messages call it `name`.
    pub fn in_memory(storage: Storage, name: &str) -> Part {
        Part::new(storage, name.into(), None)
    }

    /// Replaces the bytes by a copy modified by `change`, and closes the file. What is a copy already is modified in place.
    ///
    /// # Panics
    /// If the bytes are in use.
    pub fn rewrite(&mut self, change: impl FnOnce(&mut [u8])) -> Result<(), GgufError> {
        let storage = std::mem::replace(&mut self.storage, Arc::new(Storage::Static(&[])));
        let storage = match Arc::into_inner(storage).expect("nobody has seen the bytes yet") {
            Storage::Copied(bytes) => {
                let mut bytes = pages::unprotect(bytes).map_err(protecting(&self.name))?;
                change(&mut bytes);
                Storage::Copied(pages::protect(bytes).map_err(protecting(&self.name))?)
            }
            Storage::Owned(mut bytes) => {
                change(&mut bytes);
                Storage::Owned(bytes)
            }
            file => Storage::Copied(copied(&self.name, file.len(), |copy| {
                copy.copy_from_slice(&file);
                change(copy);
                Ok(())
            })?),
        };
        self.storage = Arc::new(storage);
        Ok(())
    }

    /// Fails if the size or modification time of a mapped file is not what it was when the file was opened. One system
    /// call.
    pub fn check_unchanged(&self) -> Result<(), GgufError> {
        let Storage::Mapped(MappedFile { file, stamp, .. }) = &*self.storage else { return Ok(()) };
        let now = Stamp::of(file).map_err(|error| GgufError::Io {
            file: self.name.clone(),
            action: "read the size of the file",
            error,
        })?;
        unchanged(&self.name, *stamp, now)
    }

    /// Asks the system to read the file ahead of use. Only a hint: errors are ignored.
    pub fn prefetch(&self) {
        if let Storage::Mapped(file) = &*self.storage {
            pages::prefetch(&file.map);
        }
    }

    /// Bytes of a copy of the file in memory.
    pub fn n_copied_bytes(&self) -> usize {
        match &*self.storage {
            Storage::Copied(bytes) => bytes.len(),
            Storage::Owned(bytes) => bytes.len(),
            Storage::Mapped(_) | Storage::Static(_) => 0,
        }
    }

    /// Bytes that stay in memory, used or not.
    pub fn n_resident_bytes(&self) -> usize {
        if self.is_locked.load(Relaxed) { self.storage.len() } else { self.n_copied_bytes() }
    }

    /// Locks the file in memory, whether mapped or read. The caller's own bytes are not locked.
    pub fn mlock(&self) -> Result<(), GgufError> {
        if let Storage::Mapped(_) | Storage::Copied(_) = &*self.storage {
            pages::lock(&self.storage).map_err(|error| GgufError::Io {
                file: self.name.clone(),
                action: pages::LOCKING,
                error,
            })?;
            self.is_locked.store(true, Relaxed);
        }
        Ok(())
    }
}

/// The name of `path` for messages, with control characters escaped.
pub(super) fn name_of(path: &Path) -> Arc<str> {
    Printable(path.display()).to_string().into()
}

/// A copy of a file, which `fill` writes; fails if the memory is not available.
fn copied(
    name: &Arc<str>,
    n_bytes: usize,
    fill: impl FnOnce(&mut [u8]) -> Result<(), GgufError>,
) -> Result<Anonymous, GgufError> {
    let mut bytes = pages::allocate(n_bytes).ok_or_else(|| GgufError::OutOfMemory {
        file: name.clone(),
        what: "reading the file into memory".into(),
        n_bytes: n_bytes as u64,
    })?;
    fill(&mut bytes)?;
    pages::protect(bytes).map_err(protecting(name))
}

fn protecting(name: &Arc<str>) -> impl Fn(io::Error) -> GgufError {
    move |error| GgufError::Io { file: name.clone(), action: "protect the copy of the file", error }
}

fn unchanged(name: &Arc<str>, opened: Stamp, now: Stamp) -> Result<(), GgufError> {
    if now == opened {
        return Ok(());
    }
    let (found, expected) = if now.n_bytes != opened.n_bytes {
        (format!("{} bytes", now.n_bytes), opened.n_bytes.to_string())
    } else {
        (format!("modification time {}", seconds(now.modified)), seconds(opened.modified))
    };
    Err(GgufError::Changed { file: name.clone(), found, expected })
}

/// Seconds since 1970, to the nanosecond: what `stat` prints.
fn seconds(time: Option<SystemTime>) -> String {
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or("unknown".into(), |t| format!("{}.{:09}", t.as_secs(), t.subsec_nanos()))
}

/// Where a symbolic link leads, if `path` is one.
fn dangling_link(path: &Path) -> Option<String> {
    fs::read_link(path).ok().map(|target| Printable(target.display()).to_string())
}

/// What to give instead of the directory at `path`.
fn advice_for_directory(path: &Path) -> String {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    let with = |end: &str| names.iter().find(|name| name.to_ascii_lowercase().ends_with(end));
    match (with(".gguf"), with(".safetensors").or_else(|| with("config.json"))) {
        (Some(model), _) => format!("give the file in it, as in {}", name_of(&path.join(model))),
        (None, Some(_)) => "convert the model in it with `bise convert FOLDER -o FILE.gguf`".into(),
        (None, None) => "give the path of a .gguf file".into(),
    }
}
