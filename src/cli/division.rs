//! Splitting and merging, as far as users see it.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use bise::Cancel;
use bise::gguf::GgufFile;
use bise::quantize::{Division, QuantizeError};

use super::term::console::Log;
use super::term::signals;

/// Prints what would be written, as llama-gguf-split does.
pub fn print(division: &Division) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "n_split: {}", division.parts.len())?;
    for (i, part) in division.parts.iter().enumerate() {
        let (n, size) = (part.tensors.len(), part.n_bytes()? / 1_000_000);
        writeln!(out, "split {:05}: n_tensors = {n}, total_size = {size}M", i + 1)?;
    }
    Ok(())
}

/// Writes the files with a progress bar, until Ctrl-C.
pub fn write(
    division: &Division,
    file: &GgufFile,
    path: &Path,
    force: bool,
    log: Log,
    what: &'static str,
) -> Result<()> {
    const STEP: u64 = 1 << 20;
    let progress = log.progress(what, (division.tensor_bytes() / STEP) as usize);
    let cancel = Cancel::new();
    let _writing = signals::writing(cancel.clone());
    division.write(file, path, &cancel, force, &mut |done| progress.set((done / STEP) as usize)).map_err(
        |error| match error {
            QuantizeError::Cancelled => signals::Interrupted("nothing was written".into()).into(),
            error => error.into(),
        },
    )
}
