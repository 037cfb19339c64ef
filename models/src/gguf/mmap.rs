//! The bytes of a file: mapped, read into memory, or built in; shared by reference count.

use std::fs::File;
use std::io::{self, Read};
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::error::{GgufError, on_one_line};

/// Where the bytes of one part live.
pub(super) enum Storage {
    /// A read-only mapping of the file.
    Mapped(Mmap),
    /// A copy in memory: `--no-mmap`, or a big-endian file after swapping.
    Owned(Vec<u8>),
    /// Part of the program.
    Static(&'static [u8]),
}

impl Deref for Storage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Storage::Mapped(map) => map,
            Storage::Owned(bytes) => bytes,
            Storage::Static(bytes) => bytes,
        }
    }
}

/// The data of a tensor: a range of the file, which stays mapped for as long as this lives.
///
/// Cloning costs a reference count. The bytes have no alignment beyond that of a byte.
#[derive(Clone)]
pub struct TensorBytes {
    storage: Arc<Storage>,
    range: Range<usize>,
}

impl TensorBytes {
    /// `range` of `storage`.
    ///
    /// # Panics
    /// If the range is not inside the storage: here, once, rather than at each use.
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

/// One opened file: its bytes, and the handle that tells whether it shrank.
pub(super) struct Part {
    /// The file's name, for messages.
    pub name: Arc<str>,
    /// Its bytes.
    pub storage: Arc<Storage>,
    /// The open file behind a mapping; `None` where the bytes do not depend on it.
    mapped_file: Option<File>,
}

impl Part {
    /// Opens `path` and maps it, or reads it into memory if `mmap` is false.
    ///
    /// # Errors
    /// If it is missing, unreadable, empty, or anything but a regular file (opening a pipe could wait for ever).
    pub fn open(path: &Path, mmap: bool) -> Result<Part, GgufError> {
        let name = name_of(path);
        let io = |action| {
            let file = name.clone();
            move |error| GgufError::Io { file, action, error }
        };
        let kind = std::fs::metadata(path).map_err(io("open"))?;
        let not_a_model = |found: &str| GgufError::Header {
            file: name.clone(),
            what: "file".into(),
            found: found.into(),
            expected: "a GGUF file".into(),
        };
        if kind.is_dir() {
            return Err(not_a_model("a directory"));
        }
        if !kind.is_file() {
            return Err(not_a_model("a pipe or device"));
        }
        let mut file = File::open(path).map_err(io("open"))?;
        let n_bytes = file.metadata().map_err(io("read the size of the file"))?.len();
        if n_bytes == 0 {
            return Err(not_a_model("an empty file"));
        }
        if mmap {
            // SAFETY: the mapping is private to this process and read-only. Another process may still change the
            // file: the numbers read then change too, which every reader of weights can bear (any bytes are valid
            // blocks, and the header is read once). A file that shrinks would raise SIGBUS; `check_unchanged`
            // looks for that before each pass.
            let map = unsafe { Mmap::map(&file) }.map_err(io("map the file"))?;
            return Ok(Part { name, storage: Arc::new(Storage::Mapped(map)), mapped_file: Some(file) });
        }
        let mut bytes = Vec::new();
        reserve(&mut bytes, n_bytes).map_err(io("hold the file in memory"))?;
        file.by_ref().take(n_bytes).read_to_end(&mut bytes).map_err(io("read the file"))?;
        Ok(Part { name, storage: Arc::new(Storage::Owned(bytes)), mapped_file: None })
    }

    /// A part that no file is behind; `name` stands for the file in messages.
    pub fn in_memory(storage: Storage, name: &str) -> Part {
        Part { name: name.into(), storage: Arc::new(storage), mapped_file: None }
    }

    /// Replaces the bytes by a copy that `change` was applied to, and lets go of the file.
    pub fn rewrite(&mut self, change: impl FnOnce(&mut [u8])) -> Result<(), GgufError> {
        let mut bytes = Vec::new();
        reserve(&mut bytes, self.storage.len() as u64).map_err(|error| GgufError::Io {
            file: self.name.clone(),
            action: "hold the file in memory",
            error,
        })?;
        bytes.extend_from_slice(&self.storage);
        change(&mut bytes);
        self.storage = Arc::new(Storage::Owned(bytes));
        self.mapped_file = None;
        Ok(())
    }

    /// Errs if the file behind a mapping is now shorter than the mapping. One system call.
    pub fn check_unchanged(&self) -> Result<(), GgufError> {
        let Some(file) = &self.mapped_file else { return Ok(()) };
        let now_bytes = file
            .metadata()
            .map_err(|error| GgufError::Io {
                file: self.name.clone(),
                action: "read the size of the file",
                error,
            })?
            .len();
        let opened_bytes = self.storage.len() as u64;
        if now_bytes < opened_bytes {
            return Err(GgufError::Shrank { file: self.name.clone(), opened_bytes, now_bytes });
        }
        Ok(())
    }

    /// Asks the system to start reading a mapped file. Advice only: a refusal changes nothing but speed.
    pub fn prefetch(&self) {
        #[cfg(unix)]
        if let Storage::Mapped(map) = &*self.storage {
            let _ = map.advise(memmap2::Advice::WillNeed);
        }
    }

    /// Keeps a mapped file in memory. Bytes that are not mapped are left to the system.
    pub fn mlock(&self) -> Result<(), GgufError> {
        #[cfg(unix)]
        if let Storage::Mapped(map) = &*self.storage {
            return map.lock().map_err(|error| GgufError::Io {
                file: self.name.clone(),
                action: "lock the file in memory (is `ulimit -l` large enough?)",
                error,
            });
        }
        Ok(())
    }
}

/// The name of `path` in messages: on one line, whatever the path holds.
pub(super) fn name_of(path: &Path) -> Arc<str> {
    on_one_line(&path.to_string_lossy()).into()
}

/// Room for `n_bytes`, or an error where the machine does not have it.
fn reserve(bytes: &mut Vec<u8>, n_bytes: u64) -> io::Result<()> {
    let n = usize::try_from(n_bytes).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    bytes.try_reserve_exact(n).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))
}
