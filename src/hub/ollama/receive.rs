//! Blobs that arrive piece by piece.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use bise_models::atomic_file::AtomicFile;

use super::store::Store;
use crate::hub::digest::{Hasher, Sha256};
use crate::hub::download::free_bytes;
use crate::hub::error::HubError;

/// A blob on its way. Dropped before [`IncomingBlob::finish`], nothing is left of it.
#[derive(Debug)]
pub struct IncomingBlob {
    file: AtomicFile,
    path: PathBuf,
    digest: Sha256,
    hasher: Hasher,
}

impl Store {
    /// Begins a blob of `length` bytes, if that is known.
    ///
    /// # Errors
    /// If the disk has no room, or refuses.
    pub fn receive(&self, digest: Sha256, length: Option<u64>) -> Result<IncomingBlob, HubError> {
        let path = self.blob(&digest);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| HubError::io(folder, error))?;
            if let (Some(needed), Some(free)) = (length, free_bytes(folder))
                && needed > free
            {
                return Err(HubError::NoRoom { path, needed, free });
            }
        }
        let file = AtomicFile::create(&path).map_err(|error| HubError::io(&path, error))?;
        Ok(IncomingBlob { file, path, digest, hasher: Hasher::default() })
    }
}

impl IncomingBlob {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|error| HubError::io(&self.path, error))
    }

    /// Gives the blob its name, if it is what its digest says; else it goes, and the answer is false.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn finish(self) -> Result<bool, HubError> {
        if self.hasher.finish() != self.digest {
            return Ok(false);
        }
        self.file.commit().map_err(|error| HubError::io(&self.path, error))?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_has_its_name_only_when_it_is_whole_and_right() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::own(folder.path());
        let digest = Sha256::of(b"whole");
        let names = || fs::read_dir(folder.path().join("blobs")).unwrap().count();
        let mut blob = store.receive(digest, Some(5)).unwrap();
        blob.write(b"who").unwrap();
        drop(blob);
        assert_eq!(names(), 0);
        let mut blob = store.receive(digest, None).unwrap();
        blob.write(b"wrong").unwrap();
        assert!(!blob.finish().unwrap());
        assert_eq!(names(), 0);
        let mut blob = store.receive(digest, Some(5)).unwrap();
        blob.write(b"who").unwrap();
        blob.write(b"le").unwrap();
        assert!(blob.finish().unwrap());
        assert_eq!(fs::read(store.blob(&digest)).unwrap(), b"whole");
        assert_eq!(names(), 1);
        assert!(matches!(store.receive(digest, Some(u64::MAX)), Err(HubError::NoRoom { .. })));
    }
}
