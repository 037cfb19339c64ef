//! What is done so far, on disk.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bise_models::atomic_file::{AtomicFile, remove_left_over};
use twox_hash::XxHash3_128;

use crate::quantize::error::QuantizeError;

/// A folder with the quantized matrices, a file each, and the hidden states behind the layers that are done. Files appear under their names
/// when they are whole, and end with a checksum. They are not trusted: a disk may damage them, and anyone may change them.
pub(super) struct Folder {
    path: PathBuf,
    /// What tells this run from others.
    fingerprint: u128,
    /// The names of the files of matrices.
    matrices: Vec<String>,
    /// Whether the run made the folder, and may remove it.
    is_own: bool,
    /// Held while the run writes. The lock is the system's: it goes when the process does.
    lock: Option<File>,
}

/// The name of the file that says which run the folder is of: [`MAGIC`], the fingerprint, and 1 where the run made the folder.
const RUN: &str = "run";
/// The name of the file that is locked.
const LOCK: &str = "lock";
/// The name of the hidden states: [`MAGIC`], the fingerprint, the number of steps that are done, the bytes of the notes on them, the notes, the
/// states, and a checksum.
const HIDDEN: &str = "hidden-states";
/// What files begin with.
const MAGIC: &[u8; 8] = b"bisecal2";
/// Bytes before the notes.
const HEAD: usize = 40;
/// Bytes of a checksum: XXH3 of all bytes before it.
const CHECKSUM: usize = 16;

impl Folder {
    /// The folder at `path`, which need not be there, of a run that writes `matrices` (tensors, and which matrix of a stack).
    ///
    /// # Errors
    /// Where it cannot be read, and where what is there belongs to another run.
    pub fn open<'t>(
        path: &Path,
        fingerprint: u128,
        matrices: impl Iterator<Item = (&'t str, usize)>,
    ) -> Result<Folder, QuantizeError> {
        let matrices = matrices.map(|(tensor, matrix)| file_name(tensor, matrix)).collect();
        let mut folder = Folder { path: path.to_owned(), fingerprint, matrices, is_own: false, lock: None };
        if fs::metadata(path).is_ok_and(|found| !found.is_dir()) {
            return Err(folder.refused("", "a file", "a folder for what is done so far".into()));
        }
        folder.read_run()?;
        Ok(folder)
    }

    /// Makes the folder where there is none, and takes it for this run.
    ///
    /// # Errors
    /// Where the system refuses, another process works in it, or it has been taken by another run meanwhile.
    pub fn take(&mut self) -> Result<(), QuantizeError> {
        let is_new = !self.path.exists();
        fs::create_dir_all(&self.path).map_err(|error| self.error("", "create the folder", error))?;
        let file = File::options().write(true).create(true).truncate(false).open(self.path.join(LOCK));
        let file = file.map_err(|error| self.error(LOCK, "create the file", error))?;
        match file.try_lock() {
            Ok(()) => {}
            // Some network file systems have no locks.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(self.error(LOCK, "lock the file", error)),
            Err(TryLockError::WouldBlock) => {
                let expected =
                    "one of its own: wait until that is done, or name another with --calibration-dir";
                return Err(self.refused("", "that another bise works in this folder", expected.into()));
            }
        }
        self.lock = Some(file);
        if !self.read_run()? {
            self.is_own = is_new;
            let write = || {
                let mut file = AtomicFile::create(&self.path.join(RUN))?;
                file.write_all(MAGIC)?;
                file.write_all(&self.fingerprint.to_le_bytes())?;
                file.write_all(&[u8::from(is_new)])?;
                file.commit()
            };
            write().map_err(|error| self.error(RUN, "write the file", error))?;
        }
        Ok(())
    }

    /// Checks that the folder is of this run, or of none: whether it is.
    fn read_run(&mut self) -> Result<bool, QuantizeError> {
        let other = || QuantizeError::OtherCalibration { path: self.path.clone() };
        let mut found = Vec::new();
        match File::open(self.path.join(RUN)) {
            Ok(file) => {
                let read = file.take(64).read_to_end(&mut found);
                read.map_err(|error| self.error(RUN, "read the file", error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut names = self.matrices.iter().map(String::as_str).chain([HIDDEN]);
                return match names.any(|name| self.path.join(name).exists()) {
                    true => Err(other()),
                    false => Ok(false),
                };
            }
            Err(error) => return Err(self.error(RUN, "open the file", error)),
        }
        let rest =
            found.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(&self.fingerprint.to_le_bytes()));
        match rest {
            Some(&[is_own]) => {
                self.is_own = is_own == 1;
                Ok(true)
            }
            _ => Err(other()),
        }
    }

    /// The path of the bytes of matrix `matrix` of a tensor.
    pub fn matrix(&self, tensor: &str, matrix: usize) -> PathBuf {
        self.path.join(file_name(tensor, matrix))
    }

    /// Checks that there is a file for `len` bytes of a matrix.
    ///
    /// # Errors
    /// Where there is none, or one of another size.
    pub fn check_size(&self, tensor: &str, matrix: usize, len: usize) -> Result<(), QuantizeError> {
        let name = file_name(tensor, matrix);
        match fs::metadata(self.path.join(&name)) {
            Ok(found) => self.check_len(&name, found.len(), (len + CHECKSUM) as u64),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(self.damaged(&name, "no file", "what was written there"))
            }
            Err(error) => Err(self.error(&name, "read the size of the file", error)),
        }
    }

    /// Checks that the `len` bytes of a matrix are those that were written.
    ///
    /// # Errors
    /// Where they are not, or cannot be read.
    pub fn check_bytes(&self, tensor: &str, matrix: usize, len: usize) -> Result<(), QuantizeError> {
        let name = file_name(tensor, matrix);
        self.check_size(tensor, matrix, len)?;
        let mut hash = XxHash3_128::new();
        let mut buffer = vec![0; 1 << 20];
        let mut checksum = [0; CHECKSUM];
        let mut read = || -> io::Result<()> {
            let mut file = File::open(self.path.join(&name))?;
            let mut left = len;
            while left > 0 {
                let piece = &mut buffer[..left.min(1 << 20)];
                file.read_exact(piece)?;
                hash.write(piece);
                left -= piece.len();
            }
            file.read_exact(&mut checksum)
        };
        read().map_err(|error| self.error(&name, "read the file", error))?;
        self.check_sum(&name, &hash, checksum)
    }

    /// Writes the bytes of a matrix.
    ///
    /// # Errors
    /// Where the disk does not take them.
    pub fn write_matrix(&self, tensor: &str, matrix: usize, bytes: &[u8]) -> Result<(), QuantizeError> {
        let name = file_name(tensor, matrix);
        self.write(&name, &[bytes])
    }

    /// Writes the hidden states behind the first `n_steps` steps, and the notes on these.
    ///
    /// # Errors
    /// Where the disk does not take them.
    pub fn write_hidden(&self, n_steps: usize, notes: &[String], x: &[f32]) -> Result<(), QuantizeError> {
        let notes = notes.join("\n");
        let fingerprint = self.fingerprint.to_le_bytes();
        let [n_steps, n_notes] = [n_steps, notes.len()].map(|n| (n as u64).to_le_bytes());
        // Resumed on the same machine, if anywhere: in its own byte order.
        let x = bytemuck::cast_slice(x);
        self.write(HIDDEN, &[MAGIC, &fingerprint, &n_steps, &n_notes, notes.as_bytes(), x])
    }

    fn write(&self, name: &str, parts: &[&[u8]]) -> Result<(), QuantizeError> {
        let write = || {
            let mut file = AtomicFile::create(&self.path.join(name))?;
            let mut hash = XxHash3_128::new();
            for part in parts {
                hash.write(part);
                file.write_all(part)?;
            }
            file.write_all(&hash.finish_128().to_le_bytes())?;
            file.commit()
        };
        write().map_err(|error| self.error(name, "write the file", error))
    }

    /// How many steps the hidden states are behind; `None` where there are none.
    ///
    /// # Errors
    /// Where they cannot be read, or are damaged.
    pub fn n_steps(&self) -> Result<Option<usize>, QuantizeError> {
        let Some((_, _, n_steps, _)) = self.read_head()? else { return Ok(None) };
        Ok(Some(usize::try_from(n_steps).unwrap_or(usize::MAX)))
    }

    /// Reads the hidden states, which are there, to `x`, and returns the notes.
    ///
    /// # Errors
    /// Where they cannot be read, or are damaged.
    pub fn read_hidden(&self, x: &mut [f32]) -> Result<Vec<String>, QuantizeError> {
        let Some((mut file, head, _, n_notes)) = self.read_head()? else {
            return Err(self.damaged(HIDDEN, "no file", "what was written there"));
        };
        let io = |error| self.error(HIDDEN, "read the file", error);
        let len = file.metadata().map_err(io)?.len();
        let expected = ((HEAD + CHECKSUM + size_of_val(x)) as u64).saturating_add(n_notes);
        self.check_len(HIDDEN, len, expected)?;
        let mut notes = vec![0; n_notes as usize];
        let mut checksum = [0; CHECKSUM];
        file.read_exact(&mut notes).map_err(io)?;
        file.read_exact(bytemuck::cast_slice_mut(x)).map_err(io)?;
        file.read_exact(&mut checksum).map_err(io)?;
        let mut hash = XxHash3_128::new();
        [&head[..], &notes, bytemuck::cast_slice(x)].iter().for_each(|part| hash.write(part));
        self.check_sum(HIDDEN, &hash, checksum)?;
        if !x.iter().all(|x| x.is_finite()) {
            return Err(self.damaged(HIDDEN, "what is infinite or not a number", "finite hidden states"));
        }
        Ok(String::from_utf8_lossy(&notes).lines().map(str::to_owned).collect())
    }

    /// The file of the hidden states, its first bytes, and the number of steps and of the notes' bytes.
    #[allow(clippy::type_complexity)]
    fn read_head(&self) -> Result<Option<(File, [u8; HEAD], u64, u64)>, QuantizeError> {
        let mut file = match File::open(self.path.join(HIDDEN)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.error(HIDDEN, "open the file", error)),
        };
        let mut head = [0; HEAD];
        file.read_exact(&mut head).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(HIDDEN, "a file that was cut off", "a whole one"),
            _ => self.error(HIDDEN, "read the file", error),
        })?;
        if head[..8] != MAGIC[..] || head[8..24] != self.fingerprint.to_le_bytes() {
            return Err(self.damaged(HIDDEN, "other bytes at the beginning", "those of this run"));
        }
        let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
        let (n_steps, n_notes) = (number(24), number(32));
        Ok(Some((file, head, n_steps, n_notes)))
    }

    fn check_len(&self, name: &str, found: u64, expected: u64) -> Result<(), QuantizeError> {
        match found == expected {
            true => Ok(()),
            false => Err(self.damaged(name, &format!("{found} bytes"), &expected.to_string())),
        }
    }

    fn check_sum(&self, name: &str, hash: &XxHash3_128, found: [u8; CHECKSUM]) -> Result<(), QuantizeError> {
        match hash.finish_128().to_le_bytes() == found {
            true => Ok(()),
            false => {
                Err(self.damaged(name, "damaged bytes (the checksum differs)", "those that were written"))
            }
        }
    }

    /// Says that the hidden states claim to be behind `n_steps` steps of `all`.
    pub fn too_many_steps(&self, n_steps: usize, all: usize) -> QuantizeError {
        self.damaged(HIDDEN, &format!("{n_steps} layers"), &format!("at most {all}"))
    }

    /// Removes the files of the run, and the folder if the run made it and nothing else is in it.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn remove(mut self) -> Result<(), QuantizeError> {
        let names = std::mem::take(&mut self.matrices);
        // Last what says whose they are, so that one that is killed meanwhile can be told.
        let names = names.iter().map(String::as_str).chain([HIDDEN, RUN]);
        let remove = |name: &str| match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.error(name, "remove the file", error))
            }
            _ => Ok(()),
        };
        for name in names.clone() {
            remove(name)?;
        }
        for name in names {
            // What a killed run was writing.
            remove_left_over(&self.path.join(name));
        }
        // Windows does not remove an open file.
        drop(self.lock.take());
        let path = self.path.join(LOCK);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.error(LOCK, "remove the file", error));
            }
            _ => {}
        }
        if !self.is_own {
            return Ok(());
        }
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => {
                Err(self.error("", "remove the folder", error))
            }
            _ => Ok(()),
        }
    }

    fn error(&self, name: &str, action: &'static str, error: io::Error) -> QuantizeError {
        QuantizeError::File { path: self.named(name), action, error }
    }

    fn damaged(&self, name: &str, found: &str, expected: &str) -> QuantizeError {
        let folder = bise_models::printable::Printable(self.path.display());
        self.refused(name, found, format!("{expected}: remove the folder {folder} to begin again"))
    }

    fn refused(&self, name: &str, found: &str, expected: String) -> QuantizeError {
        QuantizeError::CalibrationFolder { path: self.named(name), found: found.to_owned(), expected }
    }

    fn named(&self, name: &str) -> PathBuf {
        match name.is_empty() {
            true => self.path.clone(),
            false => self.path.join(name),
        }
    }
}

fn file_name(tensor: &str, matrix: usize) -> String {
    format!("{tensor}.{matrix}")
}
