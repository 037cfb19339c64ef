//! What a run may write over, looked at before hours of work.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bise::train::{GGUF_NAME, RunFolder};
use bise_models::atomic_file::is_same_file;
use bise_models::printable::Printable;
use serde_json::Value;

use super::args::TrainArgs;
use super::{Files, curve};
use crate::cli::overwrite::{refuse_existing, refuse_sources};

/// The files of an adapter in the folder of a run.
const ADAPTER: [&str; 3] = ["adapter_config.json", "adapter_model.safetensors", GGUF_NAME];

/// Errs where what is written would replace something that it may not.
pub fn check(args: &TrainArgs, files: &Files) -> Result<()> {
    let folder = &args.output;
    let output = Printable(folder.display());
    ensure!(!folder.exists() || folder.is_dir(), "{output}: found a file, expected a folder or nothing");
    if args.resume {
        newest_checkpoint(folder)?;
    }
    if args.dry_run {
        return Ok(());
    }
    if !args.resume && !args.force {
        let is_there = ADAPTER.iter().any(|name| folder.join(name).exists())
            || !RunFolder::all_checkpoints(folder).is_empty();
        ensure!(
            !is_there,
            "{output}: found an adapter or a checkpoint, expected none: --resume goes on, --force begins anew"
        );
    } else if args.force
        && let Some(init) = &args.adapter.init
        && is_in(init, folder)
    {
        bail!(
            "{output}: found the adapter of --init, which is read here, expected another folder to write to"
        );
    }
    let reports = &args.reports;
    if let (Some(log), Some(plot)) = (&reports.log, &reports.plot) {
        ensure!(!is_same_place(log, plot), "{}: found it in --log and --plot", Printable(log.display()));
    }
    let init = args.adapter.init.as_deref();
    let in_init = ADAPTER.map(|name| init.map(|init| init.join(name)));
    let written = ADAPTER.map(|name| folder.join(name));
    for path in [&reports.log, &reports.plot].into_iter().flatten() {
        let read = [args.model.model.as_deref(), init, args.template.chat_template_file.as_deref()];
        let read = read.into_iter().chain(in_init.iter().map(|path| path.as_deref())).flatten();
        refuse_sources(path, files.paths().chain(read))?;
        let shown = Printable(path.display());
        ensure!(
            !written.iter().any(|adapter| is_same_place(path, adapter)),
            "{shown}: found a file of the adapter that is written, expected another file"
        );
        if !args.resume {
            refuse_existing(path, args.force)?;
        }
    }
    match &reports.plot {
        Some(plot) if args.resume && plot.is_file() => {
            let is_curve = std::fs::read(plot).is_ok_and(|content| curve::is_curve(&content));
            ensure!(
                is_curve,
                "{}: found a file that is no curve of bise train, expected one or none: take another name",
                Printable(plot.display())
            );
        }
        _ => {}
    }
    Ok(())
}

/// The checkpoint that a run goes on from.
pub fn newest_checkpoint(folder: &Path) -> Result<PathBuf> {
    let newest = RunFolder::newest_checkpoint(folder);
    newest.with_context(|| {
        format!("{}: found no checkpoint, expected one to go on from (--resume)", Printable(folder.display()))
    })
}

/// Errs where the file at `path` is something else than a log of the run with these records. The last ones may be missing in `history`.
pub fn check_log(path: &Path, history: &[Value]) -> Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    let is_own = std::fs::read_to_string(path).is_ok_and(|text| {
        let first = text.lines().next().map(serde_json::from_str::<Value>);
        match (first, history.first()) {
            (None, _) => true,
            (Some(Ok(first)), Some(record)) => is_same_record(&first, record),
            // Nothing was reported before the checkpoint.
            (Some(Ok(first)), None) => {
                first["iteration"].is_u64() && LOSSES.iter().any(|loss| !first[*loss].is_null())
            }
            (Some(Err(_)), _) => false,
        }
    });
    ensure!(
        is_own,
        "{}: found a file that is no log of this run, expected its log or no file: take another name",
        Printable(path.display())
    );
    Ok(())
}

const LOSSES: [&str; 3] = ["train_loss", "val_loss", "test_loss"];

/// Whether two records say the same of the same step; how long it took does not matter.
fn is_same_record(a: &Value, b: &Value) -> bool {
    let close = |loss: &str| match (a[loss].as_f64(), b[loss].as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * b.abs(),
        (a, b) => a == b,
    };
    a["iteration"] == b["iteration"] && LOSSES.iter().all(|loss| close(loss))
}

/// Whether a file or folder is `folder` or lies in it.
fn is_in(path: &Path, folder: &Path) -> bool {
    matches!((path.canonicalize(), folder.canonicalize()), (Ok(path), Ok(folder)) if path.starts_with(&folder))
}

/// Whether two paths are of one file, or will be.
fn is_same_place(a: &Path, b: &Path) -> bool {
    let folder = |path: &Path| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
    };
    is_same_file(a, b) || (a.file_name() == b.file_name() && folder(a) == folder(b))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_log_belongs_to_a_run_by_its_first_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let history = [json!({"iteration": 4, "train_loss": 2.5, "tokens_per_second": 7.0})];
        let check = |text: &str, history: &[Value]| {
            std::fs::write(&path, text).unwrap();
            check_log(&path, history).is_ok()
        };
        assert!(check_log(&path, &history).is_ok());
        let own = "{\"iteration\":4,\"train_loss\":2.5,\"tokens_per_second\":9.0}\nmore";
        assert!(check(own, &history) && check(own, &[]) && check("", &history));
        assert!(!check("{\"iteration\":4,\"train_loss\":2.6}\n", &history));
        assert!(!check("{\"iteration\":4,\"val_loss\":2.5}\n", &history));
        assert!(!check("notes", &history) && !check("notes", &[]) && !check("{\"a\": 1}", &[]));
        std::fs::write(&path, b"\xff\n").unwrap();
        assert!(check_log(&path, &history).is_err());
    }

    #[test]
    fn places_are_compared_before_there_are_files() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("a")).unwrap();
        assert!(is_same_place(&at("x"), &at("a/../x")) && !is_same_place(&at("x"), &at("a/x")));
        assert!(is_in(&at("a"), folder.path()) && !is_in(folder.path(), &at("a")));
    }
}
