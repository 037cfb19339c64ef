//! `bise merge`: the files of a split model as one, like llama-gguf-split.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use bise::gguf::GgufFile;
use bise::quantize::Division;
use bise_models::atomic_file::is_written_through;
use bise_models::printable::Printable;

use crate::cli::args::log::LogArgs;
use crate::cli::describe;
use crate::cli::division::{print, write};
use crate::cli::term::signals;

/// What to merge, and where.
#[derive(clap::Args, Debug)]
pub struct MergeArgs {
    /// The first of the files, NAME-00001-of-…; the others are found beside it
    #[arg(value_name = "FIRST.gguf")]
    pub first: PathBuf,

    /// File to write
    #[arg(value_name = "OUT.gguf")]
    pub merged: PathBuf,

    /// Print how large the file would be, and write nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Remove the files that were merged, once the new one is on the disk
    #[arg(long)]
    pub delete_splits: bool,

    /// Overwrite files
    #[arg(long)]
    pub force: bool,

    #[command(flatten)]
    pub log: LogArgs,
}

/// Runs the command.
///
/// # Errors
/// A file that cannot be read, written or removed; `--delete-splits` where the model does not go to a file.
pub fn run(args: MergeArgs) -> Result<()> {
    let log = args.log.log();
    signals::guard_mapped_file(&args.first);
    let file = GgufFile::open(&args.first)?;
    for warning in file.warnings() {
        log.warn(warning);
    }
    let division = Division::merge(&file)?;
    for note in &division.notes {
        log.warn(note);
    }
    ensure!(
        !args.delete_splits || !is_written_through(&args.merged),
        "{}: found a pipe, a device or an open file, expected the name of a file with --delete-splits: nothing would be left of the model",
        Printable(args.merged.display())
    );
    if args.dry_run {
        return print(&division);
    }
    write(&division, &file, &args.merged, args.force, log, "merging (MiB)")?;
    let merged = Printable(args.merged.display());
    log.note(format_args!(
        "{merged}: {} of {} files",
        describe::bytes(division.tensor_bytes()),
        file.n_parts()
    ));
    if args.delete_splits {
        let paths: Vec<PathBuf> = file.paths().map(PathBuf::from).collect();
        drop(file);
        for path in paths {
            std::fs::remove_file(&path).with_context(|| Printable(path.display()).to_string())?;
        }
    }
    Ok(())
}
