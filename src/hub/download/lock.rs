//! One process at a time downloads a file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::hub::error::HubError;
use crate::hub::progress::{Progress, Watch};

/// Held while a file is downloaded. The lock is the system's: it goes when the process does.
#[derive(Debug)]
pub struct Lock {
    _file: File,
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
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| HubError::io(path, error))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                // Some network file systems have no locks.
                Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                    return Ok(Self { _file: file });
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
}
