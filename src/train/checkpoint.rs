//! The folder of a run: the adapter when it is done, and `checkpoint-N` folders on the way.

use std::fs::{self, File};
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use bise_models::atomic_file::sync_directory;

use super::error::TrainError;
use super::model::GGUF_NAME;

/// The name of the saved state in a checkpoint.
pub const STATE: &str = "training_state.safetensors";

/// All files of a checkpoint. The state of older ones is removed; no other program writes [`GGUF_NAME`].
const FILES: [&str; 4] = ["adapter_config.json", "adapter_model.safetensors", GGUF_NAME, STATE];

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
        numbered(path).filter(|(_, folder)| folder.join(STATE).is_file()).map(|(step, _)| step).collect()
    }

    /// The last checkpoint in the folder at `path` that a run can go on from.
    pub fn newest_checkpoint(path: &Path) -> Option<PathBuf> {
        let newest = |(_, folder): &(usize, PathBuf)| folder.join(STATE).is_file();
        numbered(path).filter(newest).last().map(|(_, folder)| folder)
    }

    /// The steps of all folders at `path` that are called like checkpoints, whoever wrote them, in rising order.
    pub fn all_checkpoints(path: &Path) -> Vec<usize> {
        numbered(path).map(|(step, _)| step).collect()
    }

    /// Errs where a checkpoint behind one of `steps` would meet a folder that holds something else than a checkpoint of such a run.
    ///
    /// # Errors
    /// [`TrainError::State`] names the first.
    pub fn check_free(&self, steps: RangeInclusive<usize>) -> Result<(), TrainError> {
        let mut others = numbered(&self.path).filter(|(step, path)| steps.contains(step) && !is_own(path));
        others.next().map_or(Ok(()), |(_, path)| Err(not_own(path)))
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
            if is_own(&place) {
                let _ = fs::remove_dir_all(&place);
            } else if place.exists() {
                return Err(not_own(place.clone()).into());
            }
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

    /// Removes all checkpoints. Folders of that name with anything else in them stay.
    ///
    /// # Errors
    /// Where one cannot be removed.
    pub fn remove_checkpoints(&self) -> Result<(), TrainError> {
        for (_, path) in numbered(&self.path).filter(|(_, path)| is_own(path)) {
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

/// The folders called `checkpoint-N` in a folder, with N, in rising order.
fn numbered(path: &Path) -> impl Iterator<Item = (usize, PathBuf)> {
    let step = |entry: fs::DirEntry| {
        let step = entry.file_name().to_str()?.strip_prefix(CHECKPOINT)?.parse().ok()?;
        Some((step, entry.path()))
    };
    let mut steps: Vec<(usize, PathBuf)> = entries(path).filter_map(step).collect();
    steps.sort_unstable();
    steps.into_iter()
}

/// Whether all that is in a checkpoint was written by a run like this. Other programs have folders of the same name.
fn is_own(checkpoint: &Path) -> bool {
    let is_folder = fs::symlink_metadata(checkpoint).is_ok_and(|found| found.is_dir());
    let has = |file: &str| checkpoint.join(file).is_file();
    let is_known = |entry: fs::DirEntry| FILES.iter().any(|file| entry.file_name() == *file);
    is_folder && (has(GGUF_NAME) || has(STATE)) && entries(checkpoint).all(is_known)
}

fn not_own(path: PathBuf) -> TrainError {
    TrainError::State {
        path,
        found: "a folder with files of something else".to_owned(),
        expected: "none: a checkpoint of this run would take its place (-o takes another folder)".to_owned(),
    }
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
