//! What may be written over: no file that is read, and others with `--force` only.

use std::path::Path;

#[cfg(any(feature = "compare", feature = "eval"))]
use anyhow::bail;
use anyhow::{Result, ensure};
use bise_models::atomic_file::is_same_file;
use bise_models::printable::Printable;

/// Errs where `destination` is one of the files that are read, whatever flags say.
pub fn refuse_sources<'a>(destination: &Path, sources: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    for source in sources {
        ensure!(
            !is_same_file(source, destination),
            "{}: found a file that is read here, expected another file to write to",
            Printable(destination.display())
        );
    }
    Ok(())
}

/// Errs where there is a file at `destination`, unless `force` allows to replace it.
#[cfg(any(feature = "compare", feature = "eval"))]
pub fn refuse_existing(destination: &Path, force: bool) -> Result<()> {
    if !force && std::fs::metadata(destination).is_ok_and(|found| found.is_file()) {
        bail!("{}: found a file, expected none: --force overwrites it", Printable(destination.display()));
    }
    Ok(())
}
