//! The cache of `huggingface_hub`: `models--USER--NAME/` with `blobs/ETAG`, `snapshots/COMMIT/PATH` that lead to them, and
//! `refs/REVISION` that name commits.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bise_models::atomic_file::AtomicFile;

use super::{Repository, Selection, choice, is_safe_path};
use crate::hub::error::HubError;

/// What the cache has of a repository.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
    folder: PathBuf,
    repository: Repository,
}

/// A model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedModel {
    /// Where it is from.
    pub repository: Repository,
    /// In the snapshot: the file, or its first part.
    pub path: PathBuf,
    /// In the repository.
    pub file: String,
    /// All parts.
    pub files: Vec<PathBuf>,
}

impl Cache {
    /// The part of the cache at `root` that belongs to a repository.
    pub fn new(root: &Path, repository: &Repository) -> Self {
        let folder = root.join(format!("models--{}", repository.as_str().replace('/', "--")));
        Self { root: root.into(), folder, repository: repository.clone() }
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Where the content with an ETag lies.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// The lock that `huggingface_hub` takes as well.
    pub fn lock(&self, etag: &str) -> PathBuf {
        let folder = self.folder.file_name().unwrap_or_default();
        self.root.join(".locks").join(folder).join(format!("{etag}.lock"))
    }

    /// The folder of a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The commit that a revision stood for when somebody last asked.
    pub fn commit(&self, revision: &str) -> Option<String> {
        let is_commit = |text: &str| text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if is_commit(revision) {
            return Some(revision.to_string());
        }
        if !is_safe_path(revision) {
            return None;
        }
        let commit = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        Some(commit.trim().to_string()).filter(|commit| is_commit(commit))
    }

    /// Writes down which commit a revision stands for.
    pub fn set_commit(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if !is_safe_path(revision) || revision == commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        if fs::read_to_string(&path).is_ok_and(|known| known == commit) {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder)
            .and_then(|()| AtomicFile::create(&path))
            .and_then(|mut file| file.write_all(commit.as_bytes()).and_then(|()| file.commit()))
            .map_err(|error| HubError::io(&path, error))
    }

    /// A file of a commit, if it is here.
    pub fn file(&self, commit: &str, path: &str, size: Option<u64>) -> Option<PathBuf> {
        let file = self.snapshot(commit).join(path);
        fs::metadata(&file)
            .ok()
            .filter(|m| m.is_file() && size.is_none_or(|size| size == m.len()))
            .map(|_| file)
    }

    /// Puts a blob into a snapshot, and returns its path there.
    pub fn link(&self, commit: &str, path: &str, etag: &str) -> Result<PathBuf, HubError> {
        let (link, blob) = (self.snapshot(commit).join(path), self.blob(etag));
        if let Some(folder) = link.parent() {
            fs::create_dir_all(folder).map_err(|error| HubError::io(folder, error))?;
        }
        let up = "../".repeat(path.split('/').count() + 1);
        match point(&format!("{up}blobs/{etag}"), &blob, &link) {
            // Somebody was faster, or it points to an older blob.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&link).and_then(|()| point(&format!("{up}blobs/{etag}"), &blob, &link))
            }
            result => result,
        }
        .map_err(|error| HubError::io(&link, error))?;
        Ok(link)
    }

    /// What is selected, if it is here with all its parts.
    pub fn find(&self, selection: &Selection) -> Option<CachedModel> {
        let commit = self.commit(selection.revision())?;
        let folder = self.snapshot(&commit);
        let mut paths = Vec::new();
        walk(&folder, "", &mut paths, 0);
        paths.sort();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let first = choice::choose(&paths, selection).ok()?;
        self.model(&folder, &paths, first)
    }

    /// Every model of the repository, at the newest commit that is known.
    pub fn models(&self) -> Vec<CachedModel> {
        let mut models: Vec<CachedModel> = Vec::new();
        let revisions = fs::read_dir(self.folder.join("snapshots")).into_iter().flatten().flatten();
        let mut commits: Vec<String> =
            revisions.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        commits.sort();
        if let Some(main) = self.commit(super::MAIN) {
            commits.sort_by_key(|commit| *commit != main);
        }
        for commit in commits {
            let folder = self.snapshot(&commit);
            let mut paths = Vec::new();
            walk(&folder, "", &mut paths, 0);
            paths.sort();
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            for first in paths.iter().filter(|path| choice::is_model(path) && choice::is_first(path)) {
                if !models.iter().any(|model| model.file == *first) {
                    models.extend(self.model(&folder, &paths, first));
                }
            }
        }
        models
    }

    fn model(&self, folder: &Path, paths: &[&str], first: &str) -> Option<CachedModel> {
        let files: Vec<PathBuf> =
            choice::parts(paths, first).ok()?.into_iter().map(|part| folder.join(part)).collect();
        // A link may lead nowhere.
        if !files.iter().all(|file| file.is_file()) {
            return None;
        }
        let path = files.first()?.clone();
        Some(CachedModel { repository: self.repository.clone(), path, file: first.to_string(), files })
    }

    /// Removes a file from every snapshot, and its content if nothing else has it.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn remove(&self, file: &str) -> Result<(), HubError> {
        let mut blobs = Vec::new();
        for snapshot in fs::read_dir(self.folder.join("snapshots")).into_iter().flatten().flatten() {
            let link = snapshot.path().join(file);
            if !link.is_symlink() && !link.is_file() {
                continue;
            }
            // Only what lies in the cache is the cache's.
            let blob = fs::canonicalize(&link).ok();
            let folder = fs::canonicalize(self.folder.join("blobs")).ok();
            blobs.extend(blob.filter(|blob| blob.parent() == folder.as_deref()));
            fs::remove_file(&link).map_err(|error| HubError::io(&link, error))?;
        }
        blobs.sort();
        blobs.dedup();
        let used = self.used_blobs();
        for blob in blobs.iter().filter(|blob| !used.contains(blob)) {
            fs::remove_file(blob).map_err(|error| HubError::io(blob, error))?;
        }
        Ok(())
    }

    fn used_blobs(&self) -> Vec<PathBuf> {
        let mut used = Vec::new();
        for snapshot in fs::read_dir(self.folder.join("snapshots")).into_iter().flatten().flatten() {
            let mut paths = Vec::new();
            walk(&snapshot.path(), "", &mut paths, 0);
            used.extend(paths.iter().filter_map(|path| fs::canonicalize(snapshot.path().join(path)).ok()));
        }
        used
    }
}

/// Every repository of models in a cache.
pub fn repositories(root: &Path) -> Vec<Cache> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut repositories: Vec<Repository> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (user, name) = name.strip_prefix("models--")?.split_once("--")?;
            Repository::parse(&format!("{user}/{name}")).ok()
        })
        .collect();
    repositories.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    repositories.iter().map(|repository| Cache::new(root, repository)).collect()
}

/// The files below a folder, by their paths with slashes.
fn walk(folder: &Path, prefix: &str, paths: &mut Vec<String>, depth: usize) {
    const MAX_DEPTH: usize = 8;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        // A link to a folder is not followed.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth < MAX_DEPTH => walk(&entry.path(), &path, paths, depth + 1),
            Ok(kind) if !kind.is_dir() => paths.push(path),
            _ => {}
        }
    }
}

#[cfg(unix)]
fn point(relative: &str, _blob: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(relative, link)
}

/// Links need a privilege on Windows, so the file itself moves, as `huggingface_hub` does it there.
#[cfg(not(unix))]
fn point(_relative: &str, blob: &Path, link: &Path) -> io::Result<()> {
    if link.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(blob, link)
}
