//! Lists of hashes, as gguf-hash prints and checks them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bise_models::printable::Printable;

use super::hash::{HashKind, TensorHash};

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The system.
    #[error("{}: cannot read the manifest: {error}", Printable(path.display()))]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// It has no line of a hash.
    #[error(
        "{}: found no hash, expected lines as `bise inspect --hash` and gguf-hash print them (xxh64, sha1, sha256 or uuid, the hash, a name)",
        Printable(path.display())
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// What a manifest says of a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is the same.
    Same,
    /// It is another, this one.
    Other(String),
    /// Nothing.
    Nothing,
}

/// The hashes of a file, by kind and name.
#[derive(Debug)]
pub struct Manifest {
    entries: HashMap<(HashKind, String), String>,
    kinds: Vec<HashKind>,
}

/// Manifests of files larger than this are none.
const MOST_BYTES: u64 = 64 << 20;

impl Manifest {
    /// Reads a manifest. Lines that are none of a hash are passed over, as gguf-hash does.
    ///
    /// # Errors
    /// If it cannot be read, or has no hash.
    pub fn open(path: &Path) -> Result<Manifest, ManifestError> {
        let io = |error| ManifestError::Io { path: path.to_owned(), error };
        let found = std::fs::metadata(path).map_err(io)?;
        if found.len() > MOST_BYTES {
            return Err(ManifestError::Empty { path: path.to_owned() });
        }
        let bytes = std::fs::read(path).map_err(io)?;
        let manifest = Manifest::parse(&String::from_utf8_lossy(&bytes));
        match manifest.kinds.is_empty() {
            true => Err(ManifestError::Empty { path: path.to_owned() }),
            false => Ok(manifest),
        }
    }

    fn parse(text: &str) -> Manifest {
        let mut manifest = Manifest { entries: HashMap::new(), kinds: Vec::new() };
        for line in text.lines() {
            let Some((kind, rest)) = line.trim_start().split_once(char::is_whitespace) else { continue };
            let Ok(kind) = kind.parse::<HashKind>() else { continue };
            let Some((hash, name)) = rest.trim_start().split_once(char::is_whitespace) else { continue };
            // What a check printed can be a manifest again.
            let name = name.trim().trim_end_matches("  -  Ok");
            if !manifest.kinds.contains(&kind) {
                manifest.kinds.push(kind);
            }
            // The first of two counts, as in gguf-hash.
            let hash = || hash.to_ascii_lowercase();
            manifest.entries.entry((kind, name.to_owned())).or_insert_with(hash);
            // The file may be called from another folder.
            manifest.entries.entry((kind, without_folders(name).to_owned())).or_insert_with(hash);
        }
        manifest.kinds.sort_unstable();
        manifest
    }

    /// The kinds of its hashes.
    pub fn kinds(&self) -> &[HashKind] {
        &self.kinds
    }

    /// The kind that is hardest to forge, of those it has.
    pub fn strongest(&self) -> HashKind {
        let order = [HashKind::Sha256, HashKind::Sha1, HashKind::Xxh64, HashKind::Uuid];
        order.into_iter().find(|kind| self.kinds.contains(kind)).expect("a manifest has hashes")
    }

    /// What it says of a hash of the file that is called `file`.
    pub fn find(&self, file: &str, hash: &TensorHash) -> Found {
        let name = |file: &str| match &hash.tensor {
            Some(tensor) => format!("{file}:{tensor}"),
            None => file.to_owned(),
        };
        let entry =
            [file, without_folders(file)].iter().find_map(|file| self.entries.get(&(hash.kind, name(file))));
        match entry {
            None => Found::Nothing,
            Some(text) if *text == hash.text => Found::Same,
            Some(text) => Found::Other(text.clone()),
        }
    }
}

/// The last part of a path; names of tensors have no slashes.
fn without_folders(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str, tensor: Option<&str>) -> TensorHash {
        TensorHash { kind: HashKind::Xxh64, text: text.to_owned(), tensor: tensor.map(str::to_owned) }
    }

    #[test]
    fn lines_of_gguf_hash_are_read() {
        let text = "manifest  x\n\nxxh64     f66e9cd66a4396a0  a/my model.gguf:t 0  -  Ok\nxxh64     AB  a/my model.gguf\n\
                    uuid      12  x\nmd5  1  x\nxxh64 only\n";
        let manifest = Manifest::parse(text);
        assert_eq!(manifest.kinds(), [HashKind::Xxh64, HashKind::Uuid]);
        assert_eq!(manifest.strongest(), HashKind::Xxh64);
        for file in ["a/my model.gguf", "/elsewhere/my model.gguf", "my model.gguf"] {
            assert_eq!(manifest.find(file, &hash("f66e9cd66a4396a0", Some("t 0"))), Found::Same, "{file}");
            assert_eq!(manifest.find(file, &hash("ab", None)), Found::Same, "{file}");
            assert_eq!(manifest.find(file, &hash("ac", None)), Found::Other("ab".into()), "{file}");
        }
        assert_eq!(manifest.find("other.gguf", &hash("ab", None)), Found::Nothing);
        assert_eq!(manifest.find("my model.gguf", &hash("ab", Some("t"))), Found::Nothing);
    }
}
