//! Lists of hashes, as gguf-hash prints and checks them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::Read;
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
    /// A folder, a pipe or a device.
    #[error("{}: found {found}, expected a manifest in a file", Printable(path.display()))]
    NotAFile {
        /// Its path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// Larger than any manifest is.
    #[error("{}: found more than {MOST_BYTES} bytes, expected a manifest, which has a line for each tensor", Printable(path.display()))]
    TooLarge {
        /// The file.
        path: PathBuf,
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
    /// By names without folders; `None` where several files of that name have different hashes.
    without_folders: HashMap<(HashKind, String), Option<String>>,
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
        // Opening a pipe could wait forever, and a device may have no end.
        let found = std::fs::metadata(path).map_err(io)?;
        if !found.is_file() {
            let found = if found.is_dir() { "a folder" } else { "a pipe or device" };
            return Err(ManifestError::NotAFile { path: path.to_owned(), found });
        }
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes)).map_err(io)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(ManifestError::TooLarge { path: path.to_owned() });
        }
        let manifest = Manifest::parse(&String::from_utf8_lossy(&bytes));
        match manifest.kinds.is_empty() {
            true => Err(ManifestError::Empty { path: path.to_owned() }),
            false => Ok(manifest),
        }
    }

    fn parse(text: &str) -> Manifest {
        let mut manifest =
            Manifest { entries: HashMap::new(), without_folders: HashMap::new(), kinds: Vec::new() };
        for line in text.lines() {
            let Some((kind, rest)) = line.trim_start().split_once(char::is_whitespace) else { continue };
            let Ok(kind) = kind.parse::<HashKind>() else { continue };
            let Some((hash, name)) = rest.trim_start().split_once(char::is_whitespace) else { continue };
            // What a check printed can be a manifest again.
            let name = name.trim().trim_end_matches("  -  Ok");
            if !manifest.kinds.contains(&kind) {
                manifest.kinds.push(kind);
            }
            let (hash, name) = (hash.to_ascii_lowercase(), in_this_folder(name).to_owned());
            // The file may be called from another folder.
            let short = (kind, without_folders(&name).to_owned());
            // The first of two counts, as in gguf-hash.
            if let Entry::Vacant(entry) = manifest.entries.entry((kind, name)) {
                entry.insert(hash.clone());
                let other = manifest.without_folders.entry(short).or_insert_with(|| Some(hash.clone()));
                if other.as_ref().is_some_and(|other| *other != hash) {
                    *other = None;
                }
            }
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
        let exact = self.entries.get(&(hash.kind, name(in_this_folder(file))));
        let short = || self.without_folders.get(&(hash.kind, name(without_folders(file))))?.as_ref();
        match exact.or_else(short) {
            None => Found::Nothing,
            Some(text) if *text == hash.text => Found::Same,
            Some(text) => Found::Other(text.clone()),
        }
    }

    /// Tensors of the file that is called `file` that it has hashes of, and `hashes` has not, in alphabetical order.
    pub fn missing(&self, file: &str, hashes: &[TensorHash]) -> Vec<String> {
        let kinds: HashSet<HashKind> = hashes.iter().map(|hash| hash.kind).collect();
        let there: HashSet<&str> = hashes.iter().filter_map(|hash| hash.tensor.as_deref()).collect();
        let of = |file: &str, names: &mut dyn Iterator<Item = &(HashKind, String)>| -> BTreeSet<String> {
            let names = names.filter(|(kind, _)| kinds.contains(kind));
            names
                .filter_map(|(_, name)| Some(name.strip_prefix(file)?.strip_prefix(':')?.to_owned()))
                .collect()
        };
        let mut tensors = of(in_this_folder(file), &mut self.entries.keys());
        if tensors.is_empty() {
            let certain = self.without_folders.iter().filter(|(_, hash)| hash.is_some());
            tensors = of(without_folders(file), &mut certain.map(|(name, _)| name));
        }
        tensors.into_iter().filter(|tensor| !there.contains(tensor.as_str())).collect()
    }
}

/// A path without `./` before it.
fn in_this_folder(name: &str) -> &str {
    name.strip_prefix("./").unwrap_or(name)
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
    #[test]
    fn exact_names_come_first_and_names_of_several_files_do_not_count() {
        let text = "xxh64 1 a/m.gguf\nxxh64 2 ./m.gguf\nxxh64 3 b/m.gguf\nxxh64 4 a/n.gguf\nxxh64 4 b/n.gguf\n\
                    xxh64 5 a/m.gguf:t\nxxh64 6 a/m.gguf:u\nxxh64 7 a/m.gguf\n";
        let manifest = Manifest::parse(text);
        for (file, expected) in [("a/m.gguf", "1"), ("m.gguf", "2"), ("./m.gguf", "2"), ("b/m.gguf", "3")] {
            assert_eq!(manifest.find(file, &hash(expected, None)), Found::Same, "{file}");
        }
        assert_eq!(manifest.find("c/m.gguf", &hash("1", None)), Found::Nothing);
        assert_eq!(manifest.find("c/n.gguf", &hash("4", None)), Found::Same);
        let there = [hash("1", None), hash("5", Some("t"))];
        for file in ["a/m.gguf", "c/m.gguf"] {
            assert_eq!(manifest.missing(file, &there), ["u"], "{file}");
        }
        assert!(manifest.missing("n.gguf", &there).is_empty());
    }
}
