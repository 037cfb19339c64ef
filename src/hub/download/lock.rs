//! One process at a time downloads a file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::hub::error::HubError;
use crate::hub::progress::{Progress, Watch};

/// Held while a file is downloaded. The lock is the system's: it goes when the process does.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits until no other process holds it.
    ///
    /// # Errors
    /// If the file of the lock cannot be made, or `watch` ends it.
    pub fn acquire(path: &Path, name: &str, watch: &mut Watch<'_>) -> Result<Self, HubError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| HubError::io(folder, error))?;
        }
        let mut lock = Lock::open(path)?;
        loop {
            match lock.file.try_lock() {
                Ok(()) if lock.is_in_place() => return Ok(lock),
                // Whoever held it has removed its file.
                Ok(()) => {
                    lock = Lock::open(path)?;
                    continue;
                }
                // Some network file systems have no locks.
                Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                    return Ok(lock);
                }
                Err(TryLockError::Error(error)) => return Err(HubError::io(path, error)),
                Err(TryLockError::WouldBlock) => {}
            }
            if watch(Progress::Waiting { file: name }).is_break() {
                return Err(HubError::Cancelled);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Takes it if no other process holds it, and the file system has locks.
    pub fn try_acquire(path: &Path) -> Option<Self> {
        let lock = Lock::open(path).ok()?;
        (lock.file.try_lock().is_ok() && lock.is_in_place()).then_some(lock)
    }

    /// Gives it back and removes its file.
    pub fn remove(self) {
        // Elsewhere, processes that wait for it could not tell.
        if cfg!(unix) && self.is_in_place() {
            let _ = fs::remove_file(&self.path);
        }
    }

    fn open(path: &Path) -> Result<Self, HubError> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| HubError::io(path, error))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Whether the file is still the one that its path leads to.
    fn is_in_place(&self) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let id = |found: &fs::Metadata| (found.dev(), found.ino());
            matches!((self.file.metadata(), fs::metadata(&self.path)), (Ok(a), Ok(b)) if id(&a) == id(&b))
        }
        #[cfg(not(unix))]
        true
    }
}
