//! Where the files of a dataset lie.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::EvalError;

/// A part of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Train,
    Validation,
    Test,
    /// MMLU's examples.
    Dev,
}

impl Split {
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
            Split::Dev => "dev",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A dataset of the Hugging Face Hub, and how else it was published.
#[derive(Debug)]
pub struct Dataset {
    /// `owner/name`.
    pub repo: &'static str,
    /// The folders that a split's files may lie in, the first that has some counts. Empty: the dataset's own folder.
    pub folders: Vec<&'static str>,
    /// What `hf download` is to include, if not everything.
    pub include: Option<&'static str>,
    /// Files of the original publication with a JSON object a line, for each split, relative to the dataset's folder.
    pub originals: &'static [(Split, &'static [&'static str])],
}

/// The files of a split.
#[derive(Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    /// The folder of [`Dataset::folders`] that they are in.
    pub folder: Option<&'static str>,
}

impl Files {
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The first of them, to name in messages.
    pub fn first(&self) -> &Path {
        &self.paths[0]
    }
}

impl Dataset {
    fn name(&self) -> &'static str {
        self.repo.rsplit('/').next().unwrap_or(self.repo)
    }

    /// The files of a split below `data`, for `task`.
    ///
    /// # Errors
    /// There are none, or not all of them.
    pub fn find(&self, data: &Path, split: Split, task: &str) -> Result<Files, EvalError> {
        for (root, is_own) in self.roots(data) {
            for &folder in &self.folders {
                if folder.is_empty() && !is_own {
                    continue;
                }
                let paths = files_of(&root.join(folder), split)?;
                if !paths.is_empty() {
                    return Ok(Files { paths, folder: Some(folder) });
                }
            }
            let originals =
                self.originals.iter().filter(|(of, _)| *of == split).flat_map(|(_, paths)| *paths);
            if let Some(path) = originals.map(|path| root.join(path)).find(|path| path.is_file()) {
                return Ok(Files { paths: vec![path], folder: None });
            }
        }
        Err(EvalError::NoData {
            folder: data.to_owned(),
            task: task.to_owned(),
            split: split.name(),
            expected: self.expected(split),
            download: self.download(data),
        })
    }

    /// The command that downloads what is read of the dataset.
    pub fn download(&self, data: &Path) -> String {
        let folder = data.join(self.name()).display().to_string();
        let folder = match folder.contains(|c: char| !(c.is_alphanumeric() || "-_./".contains(c))) {
            true => format!("'{}'", folder.replace('\'', r"'\''")),
            false => folder,
        };
        let include = self.include.map_or(String::new(), |include| format!(" --include '{include}'"));
        format!("hf download {} --repo-type dataset{include} --local-dir {folder}", self.repo)
    }

    /// Where files are looked for, in words.
    fn expected(&self, split: Split) -> Vec<String> {
        let name = self.name();
        let folders = self.folders.iter().filter(|folder| !folder.is_empty());
        let hub = folders.map(|folder| format!("{name}/{folder}/{split}-*.parquet"));
        let originals = self.originals.iter().filter(|(of, _)| *of == split);
        hub.chain(originals.filter_map(|(_, paths)| Some((*paths.first()?).to_owned()))).collect()
    }

    /// The folders that may be the dataset's, and whether they are for sure.
    fn roots(&self, data: &Path) -> Vec<(PathBuf, bool)> {
        let cached = self.repo.replace('/', "--");
        let mut roots: Vec<_> = [self.repo, self.name(), &cached].map(|name| (data.join(name), true)).into();
        let cache = format!("datasets--{cached}");
        for cache in [data.join(&cache), data.join("hub").join(&cache)] {
            roots.extend(snapshot(&cache).map(|root| (root, true)));
        }
        let is_named = data.file_name().is_some_and(|name| name == self.name());
        roots.push((data.to_owned(), is_named));
        roots
    }
}

/// The newest snapshot of a dataset in the cache of `huggingface_hub`.
fn snapshot(cache: &Path) -> Option<PathBuf> {
    let snapshots = cache.join("snapshots");
    if let Ok(revision) = fs::read_to_string(cache.join("refs/main")) {
        let main = snapshots.join(revision.trim());
        if main.is_dir() {
            return Some(main);
        }
    }
    listed(&snapshots).pop()
}

/// The paths in a folder, sorted; none where there is no such folder.
fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// `SPLIT-00000-of-00002.parquet` and so on, or `SPLIT.parquet`, or `SPLIT/*.parquet` as on the Hub's branch of converted datasets, or the
/// same as `.jsonl`.
fn files_of(folder: &Path, split: Split) -> Result<Vec<PathBuf>, EvalError> {
    for extension in ["parquet", "jsonl"] {
        let name_of = |path: &Path| {
            let name = path.file_name()?.to_str()?.strip_suffix(extension)?.strip_suffix('.')?;
            Some(name.to_owned())
        };
        let is_part = |path: &PathBuf| {
            let name = name_of(path);
            let rest = name.as_deref().and_then(|name| name.strip_prefix(split.name()));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let paths: Vec<_> = listed(folder).into_iter().filter(is_part).collect();
        if let Some(first) = paths.first() {
            let n_parts = name_of(first).and_then(|name| name.rsplit_once("-of-")?.1.parse().ok());
            if let Some(expected) = n_parts.filter(|n| *n != paths.len()) {
                let (file, found) = (first.clone(), paths.len());
                return Err(EvalError::MissingPart { file, found, expected });
            }
            return Ok(paths);
        }
        let inside = listed(&folder.join(split.name()));
        let paths: Vec<_> = inside.into_iter().filter(|path| name_of(path).is_some()).collect();
        if !paths.is_empty() {
            return Ok(paths);
        }
    }
    Ok(Vec::new())
}
