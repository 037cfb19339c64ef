//! Files of other formats, mapped like models.

use std::path::{Path, PathBuf};

use super::error::GgufError;
use super::foreign::identify;
use super::mmap::{Part, TensorBytes};

/// A mapped file of any format. Where files cannot be mapped, it is read into memory.
pub struct WholeFile {
    part: Part,
    path: PathBuf,
}

impl WholeFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// If it is missing, unreadable, empty, too large for the address space, or no regular file.
    pub fn open(path: &Path) -> Result<WholeFile, GgufError> {
        Ok(WholeFile { part: Part::open(path, true)?, path: path.to_owned() })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of its bytes.
    pub fn bytes(&self) -> TensorBytes {
        TensorBytes::new(self.part.storage.clone(), 0..self.part.storage.len())
    }

    /// What it is and what to do about it, where its first bytes show that it is none of the formats that hold weights safely: a git-lfs
    /// pointer, an HTML page, an archive and the like.
    pub fn mistaken_for(&self) -> Option<(String, String)> {
        identify(&self.part.storage, &self.path).map(|foreign| (foreign.found, foreign.advice))
    }

    /// Checks that the file is what it was when it was opened.
    ///
    /// # Errors
    /// If its size or its time of modification is another.
    pub fn check_unchanged(&self) -> Result<(), GgufError> {
        self.part.check_unchanged()
    }
}

impl std::fmt::Debug for WholeFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WholeFile({:?})", self.path)
    }
}
