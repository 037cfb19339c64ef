//! The folder of a run: the adapter when it is done, and `checkpoint-N` folders on the way.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use bise_models::atomic_file::sync_directory;

use super::error::TrainError;

/// The name of the saved state in a checkpoint.
pub const STATE: &str = "training_state.safetensors";

/// A file that every checkpoint holds beside it.
const ADAPTER: &str = "adapter_model.safetensors";

const CHECKPOINT: &str = "checkpoint-";

/// How the names of folders end that are not whole yet; they begin with a dot.
const PART: &str = ".part";

/// The folder that a run writes to. One run at a time has it.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Held while the run lives. The lock is the system's: it goes when the process does.
    _lock: Option<File>,
}

impl RunFolder {
    /// Takes the folder at `path`, and makes it where there is none.
    ///
    /// # Errors
    /// Where it cannot be made, or another process trains in it.
    pub fn take(path: &Path) -> Result<RunFolder, TrainError> {
        fs::create_dir_all(path).map_err(|error| TrainError::io(path, "create the folder", error))?;
        let folder = RunFolder { path: path.to_owned(), _lock: lock(path)? };
        // What killed runs left.
        for entry in entries(path) {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(&format!(".{CHECKPOINT}")) && name.ends_with(PART) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(folder)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The steps of the checkpoints in the folder at `path` that a run can go on from, in rising order.
    pub fn checkpoints(path: &Path) -> Vec<usize> {
        checkpoints(path, &[STATE])
    }

    /// Where the checkpoint behind step `step` is.
    pub fn checkpoint(&self, step: usize) -> PathBuf {
        self.path.join(format!("{CHECKPOINT}{step}"))
    }

    /// Makes the checkpoint behind step `step` of what `write` puts into the folder it is given. It appears under its name when it is whole and on
    /// the disk; one that is there already stays.
    ///
    /// # Errors
    /// Those of `write`, and a folder that cannot be written. Nothing is left of it then.
    pub fn add<E: From<TrainError>>(
        &self,
        step: usize,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let place = self.checkpoint(step);
        if place.join(STATE).is_file() {
            return Ok(place);
        }
        let aside = self.path.join(format!(".{CHECKPOINT}{step}{PART}"));
        let io = |path: &Path, action| {
            let path = path.to_owned();
            move |error: io::Error| TrainError::io(&path, action, error)
        };
        let _ = fs::remove_dir_all(&aside);
        fs::create_dir(&aside).map_err(io(&aside, "create the folder"))?;
        let written = write(&aside).and_then(|()| {
            sync_directory(&aside.join(STATE)).map_err(io(&aside, "flush the folder"))?;
            // An adapter whose state was removed.
            let _ = fs::remove_dir_all(&place);
            fs::rename(&aside, &place).map_err(io(&place, "create the folder"))?;
            sync_directory(&place).map_err(io(&self.path, "flush the folder"))?;
            Ok(())
        });
        match written {
            Ok(()) => Ok(place),
            Err(error) => {
                let _ = fs::remove_dir_all(&aside);
                Err(error)
            }
        }
    }

    /// Removes all checkpoints.
    ///
    /// # Errors
    /// Where one cannot be removed.
    pub fn remove_checkpoints(&self) -> Result<(), TrainError> {
        for step in checkpoints(&self.path, &[STATE, ADAPTER]) {
            let path = self.checkpoint(step);
            fs::remove_dir_all(&path).map_err(|error| TrainError::io(&path, "remove the folder", error))?;
        }
        Ok(())
    }

    /// Removes the saved states of all checkpoints but the last two, to save space. Their adapters stay.
    ///
    /// # Errors
    /// Where one cannot be removed.
    pub fn remove_old_states(&self) -> Result<(), TrainError> {
        const KEPT: usize = 2;
        for step in RunFolder::checkpoints(&self.path).into_iter().rev().skip(KEPT) {
            let path = self.checkpoint(step).join(STATE);
            fs::remove_file(&path).map_err(|error| TrainError::io(&path, "remove the file", error))?;
        }
        Ok(())
    }
}

/// The steps of the checkpoints in a folder that hold one of `files`, in rising order.
fn checkpoints(path: &Path, files: &[&str]) -> Vec<usize> {
    let step = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let step = name.to_str()?.strip_prefix(CHECKPOINT)?.parse().ok()?;
        files.iter().any(|file| entry.path().join(file).is_file()).then_some(step)
    };
    let mut steps: Vec<usize> = entries(path).filter_map(step).collect();
    steps.sort_unstable();
    steps
}

fn entries(path: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(path).into_iter().flatten().flatten()
}

/// Locks the folder itself, where the system can.
fn lock(path: &Path) -> Result<Option<File>, TrainError> {
    if !cfg!(unix) {
        return Ok(None);
    }
    let folder = File::open(path).map_err(|error| TrainError::io(path, "open the folder", error))?;
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(fs::TryLockError::WouldBlock) => Err(TrainError::State {
            path: path.to_owned(),
            found: "another process that trains into this folder".to_owned(),
            expected: "a folder of its own".to_owned(),
        }),
        // Some network file systems have no locks.
        Err(fs::TryLockError::Error(_)) => Ok(None),
    }
}
