//! `bise split`: one model in several files, like llama-gguf-split.

use std::path::PathBuf;

use anyhow::Result;
use bise::gguf::GgufFile;
use bise::quantize::{Division, SplitLimit};
use bise_models::printable::Printable;

use super::merge;
use crate::cli::args::log::LogArgs;
use crate::cli::describe;
use crate::cli::division::{print, write};
use crate::cli::term::signals;
use crate::cli::usage::wrong;

/// What to split, and where.
#[derive(clap::Args, Debug)]
pub struct SplitArgs {
    /// Model to split; the first of several files is split anew
    #[arg(value_name = "IN.gguf")]
    source: PathBuf,

    /// Beginning of the names of the new files, which end in -00001-of-00003.gguf and so on
    #[arg(value_name = "OUT-PREFIX")]
    prefix: PathBuf,

    /// Tensors in a file at most (default: 128)
    #[arg(long, value_name = "N", conflicts_with = "split_max_size", value_parser = clap::value_parser!(u32).range(1..))]
    split_max_tensors: Option<u32>,

    /// Size of the tensors in a file at most, in millions (M) or billions (G) of bytes
    #[arg(long, value_name = "N(M|G)", value_parser = size)]
    split_max_size: Option<u64>,

    /// Put the metadata alone into the first file
    #[arg(long)]
    no_tensor_first_split: bool,

    /// Print how many files there would be, and how large, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// Overwrite files
    #[arg(long)]
    force: bool,

    /// Split, as without it
    #[arg(long, hide = true, conflicts_with = "merge")]
    split: bool,

    /// Merge instead, as `bise merge` does
    #[arg(long, hide = true, conflicts_with_all = ["split_max_tensors", "split_max_size", "no_tensor_first_split"])]
    merge: bool,

    /// With --merge: remove the files that were merged
    #[arg(long, hide = true, requires = "merge")]
    delete_splits: bool,

    #[command(flatten)]
    pub log: LogArgs,
}

/// `4G` or `300M`.
fn size(text: &str) -> Result<u64, String> {
    let unit = match text.chars().last() {
        Some('M') => 1_000_000,
        Some('G') => 1_000_000_000,
        _ => 0,
    };
    let number = text.get(..text.len().saturating_sub(1)).and_then(|number| number.parse::<u32>().ok());
    match number.map(u64::from) {
        Some(n) if n > 0 && unit > 0 => Ok(n * unit),
        _ => Err(format!("found '{text}', expected a whole number of M or G, as in 4G")),
    }
}

/// The limit of llama-gguf-split where none is given.
const DEFAULT_TENSORS: usize = 128;

/// Runs the command.
///
/// # Errors
/// A file that cannot be read or written.
pub fn run(args: SplitArgs) -> Result<()> {
    if args.merge {
        return merge::run(merge::MergeArgs {
            first: args.source,
            merged: args.prefix,
            dry_run: args.dry_run,
            delete_splits: args.delete_splits,
            force: args.force,
            log: args.log,
        });
    }
    let log = args.log.log();
    signals::guard_mapped_file(&args.source);
    let file = GgufFile::open(&args.source)?;
    for warning in file.warnings() {
        log.warn(warning);
    }
    if args.prefix.file_name().is_none() {
        let prefix = Printable(args.prefix.display());
        return Err(wrong(format_args!("OUT-PREFIX: found '{prefix}', expected the beginning of a name")));
    }
    let limit = match (args.split_max_tensors, args.split_max_size) {
        (_, Some(n_bytes)) => SplitLimit::Bytes(n_bytes),
        (Some(n), None) => SplitLimit::Tensors(n as usize),
        (None, None) => SplitLimit::Tensors(DEFAULT_TENSORS),
    };
    let division = Division::split(&file, limit, args.no_tensor_first_split)?;
    for note in &division.notes {
        log.warn(note);
    }
    if args.dry_run {
        return print(&division);
    }
    write(&division, &file, &args.prefix, args.force, log, "splitting (MiB)")?;
    let paths = division.paths(&args.prefix);
    let (first, n) = (Printable(paths[0].display()), paths.len());
    log.note(format_args!("{first}: {} in {n} files", describe::bytes(division.tensor_bytes())));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_whole_numbers_of_millions_or_billions() {
        assert_eq!(size("300M"), Ok(300_000_000));
        assert_eq!(size("4G"), Ok(4_000_000_000));
        for text in ["", "4", "G", "0M", "-1G", "1.5G", "4GB", "4g", "4K", "é"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
