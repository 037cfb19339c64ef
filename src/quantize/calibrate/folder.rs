//! What is done so far, on disk.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bise_models::atomic_file::AtomicFile;

use crate::quantize::error::QuantizeError;

/// A folder with the quantized matrices, a file each, and the hidden states behind the layers that are done. Files appear under their names
/// when they are whole.
pub(super) struct Folder {
    path: PathBuf,
    /// What tells this run from others.
    fingerprint: u128,
}

/// The name of the hidden states.
const HIDDEN: &str = "hidden-states";
/// What their file begins with: this, the fingerprint, and the number of steps that are done.
const MAGIC: &[u8; 8] = b"bisecal1";

impl Folder {
    /// The folder at `path`, which need not be there.
    ///
    /// # Errors
    /// Where it cannot be read, and where what is there belongs to another run.
    pub fn open(path: &Path, fingerprint: u128) -> Result<Folder, QuantizeError> {
        let folder = Folder { path: path.to_owned(), fingerprint };
        match folder.read_head()? {
            Some((found, _, _)) if found != fingerprint => {
                Err(QuantizeError::OtherCalibration { path: path.to_owned() })
            }
            _ => Ok(folder),
        }
    }

    /// Makes the folder where there is none.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn create(&self) -> Result<(), QuantizeError> {
        fs::create_dir_all(&self.path).map_err(|error| self.error("", "create the folder", error))
    }

    /// The path of the bytes of matrix `matrix` of a tensor.
    pub fn matrix(&self, tensor: &str, matrix: usize) -> PathBuf {
        self.path.join(format!("{tensor}.{matrix}"))
    }

    /// Whether that file has `len` bytes.
    pub fn has_matrix(&self, tensor: &str, matrix: usize, len: usize) -> bool {
        fs::metadata(self.matrix(tensor, matrix)).is_ok_and(|found| found.len() == len as u64)
    }

    /// Writes the bytes of a matrix.
    ///
    /// # Errors
    /// Where the disk does not take them.
    pub fn write_matrix(&self, tensor: &str, matrix: usize, bytes: &[u8]) -> Result<(), QuantizeError> {
        let path = self.matrix(tensor, matrix);
        let write = || {
            let mut file = AtomicFile::create(&path)?;
            file.write_all(bytes)?;
            file.commit()
        };
        write().map_err(|error| QuantizeError::File { path: path.clone(), action: "write the file", error })
    }

    /// Writes the hidden states behind the first `n_steps` steps.
    ///
    /// # Errors
    /// Where the disk does not take them.
    pub fn write_hidden(&self, n_steps: usize, x: &[f32]) -> Result<(), QuantizeError> {
        let write = || {
            let mut file = AtomicFile::create(&self.path.join(HIDDEN))?;
            file.write_all(MAGIC)?;
            file.write_all(&self.fingerprint.to_le_bytes())?;
            file.write_all(&(n_steps as u64).to_le_bytes())?;
            // Resumed on the same machine, if anywhere: in its own byte order.
            file.write_all(bytemuck::cast_slice(x))?;
            file.commit()
        };
        write().map_err(|error| self.error(HIDDEN, "write the file", error))
    }

    /// How many steps the hidden states are behind; `None` where there are none.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn n_steps(&self) -> Result<Option<usize>, QuantizeError> {
        Ok(self.read_head()?.map(|(_, n_steps, _)| n_steps))
    }

    /// Reads the hidden states, which are there, to `x`.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn read_hidden(&self, x: &mut [f32]) -> Result<(), QuantizeError> {
        match self.read_head()? {
            Some((_, _, mut file)) => file
                .read_exact(bytemuck::cast_slice_mut(x))
                .map_err(|error| self.error(HIDDEN, "read the file", error)),
            None => Err(self.error(HIDDEN, "open the file", io::ErrorKind::NotFound.into())),
        }
    }

    fn read_head(&self) -> Result<Option<(u128, usize, File)>, QuantizeError> {
        let mut file = match File::open(self.path.join(HIDDEN)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.error(HIDDEN, "open the file", error)),
        };
        let mut head = [0; 32];
        file.read_exact(&mut head).map_err(|error| self.error(HIDDEN, "read the file", error))?;
        let (magic, rest) = head.split_first_chunk::<8>().expect("32 bytes");
        let (fingerprint, n_steps) = rest.split_first_chunk::<16>().expect("24 bytes");
        if magic != MAGIC {
            return Err(QuantizeError::OtherCalibration { path: self.path.clone() });
        }
        let n_steps = u64::from_le_bytes(n_steps.try_into().expect("8 bytes"));
        Ok(Some((u128::from_le_bytes(*fingerprint), n_steps as usize, file)))
    }

    /// Removes the files of a run, and the folder if nothing else is in it.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn remove(self) -> Result<(), QuantizeError> {
        let remove = || -> io::Result<()> {
            for entry in fs::read_dir(&self.path)? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                // What a killed run was writing has a dot before its name.
                let name = name.strip_prefix('.').filter(|name| name.ends_with(".part")).unwrap_or(&name);
                if ["blk.", "output.weight.", HIDDEN].iter().any(|own| name.starts_with(own)) {
                    fs::remove_file(&path)?;
                }
            }
            match fs::remove_dir(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
                result => result,
            }
        };
        remove().map_err(|error| self.error("", "remove the folder", error))
    }

    fn error(&self, name: &str, action: &'static str, error: io::Error) -> QuantizeError {
        let path = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        QuantizeError::File { path, action, error }
    }
}
