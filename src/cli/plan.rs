//! Writing a planned model file with a progress bar.

use std::path::Path;

use anyhow::Result;
use bise::quantize::{Plan, QuantizeError, Source};
use bise::{Cancel, Threads};

use super::term::console::Log;
use super::term::signals;

/// Writes the planned file to `path`, from `source`. `doing` is what the bar says of MiB.
///
/// # Errors
/// A file that cannot be read or written, weights that do not fit their type, Ctrl-C.
pub fn write(
    doing: &'static str,
    plan: &Plan,
    source: &dyn Source,
    path: &Path,
    threads: &Threads,
    force: bool,
    log: Log,
) -> Result<()> {
    const STEP: u64 = 1 << 20;
    let progress = log.progress(doing, (plan.source_bytes() / STEP) as usize);
    let cancel = Cancel::new();
    let _writing = signals::writing(cancel.clone());
    let written =
        plan.write(source, path, threads, &cancel, force, &mut |done| progress.set((done / STEP) as usize));
    written.map_err(|error| match error {
        QuantizeError::Cancelled => signals::Interrupted("nothing was written".into()).into(),
        error => error.into(),
    })
}
