//! Symbolic links.

use std::fs;
use std::path::{Path, PathBuf};

/// The number of links that Linux follows.
const MAX_LINKS: usize = 40;

/// `path` and, if it is a symbolic link, the paths it leads to, one by one. The last may not exist, and is itself a link if there are more
/// than Linux follows.
pub(crate) fn links(path: &Path) -> Vec<PathBuf> {
    let mut paths = vec![path.to_owned()];
    while let Some(last) = paths.last()
        && paths.len() <= MAX_LINKS
        && let Ok(target) = fs::read_link(last)
    {
        let next = last.parent().unwrap_or(Path::new("")).join(target);
        paths.push(next);
    }
    paths
}
