//! `bise quantize --calibrate`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use bise::gguf::GgufFile;
use bise::quantize::{CalibrateOptions, Calibrated, Calibration, Plan, Prediction, QuantizeError};
use bise::tokenizer::{EncodeOptions, Tokenizer};
use bise::{Cancel, Threads};
use bise_models::printable::Printable;

use crate::cli::args::numbers::{positive, positive_or_all};
use crate::cli::term::console::Log;
use crate::cli::term::signals;
use crate::cli::{describe, text};

/// What to calibrate with.
#[derive(clap::Args, Debug)]
pub struct CalibrateArgs {
    /// Text to calibrate with: the model reads it, and rounding errors are made up for by weights that are rounded later
    #[arg(long, value_name = "FILE", conflicts_with = "imatrix")]
    pub calibrate: Option<PathBuf>,

    /// Tokens of the text that are read from an empty context
    #[arg(short, long, value_name = "N", default_value = "512", value_parser = positive, requires = "calibrate")]
    ctx_size: usize,

    /// Contexts of the text to read at most; -1: all
    #[arg(long, value_name = "N", default_value = "-1", value_parser = positive_or_all, requires = "calibrate")]
    chunks: usize,

    /// Folder for what is done so far, from which an interrupted run goes on (default: OUT.gguf.calibration)
    #[arg(long, value_name = "DIR", requires = "calibrate")]
    calibration_dir: Option<PathBuf>,
}

impl CalibrateArgs {
    /// The tokens of `path`, and the one that each context begins with.
    fn tokens(&self, path: &Path, file: &GgufFile) -> Result<(Vec<u32>, Option<u32>)> {
        let tokenizer = Tokenizer::from_metadata(file.metadata())?;
        let mut text = text::from_file(path)?;
        if text.ends_with('\n') {
            text.pop();
        }
        let mut tokens = tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special: false });
        tokens.truncate(self.chunks.saturating_mul(self.ctx_size));
        Ok((tokens, tokenizer.bos().filter(|_| tokenizer.adds_bos())))
    }

    fn folder(&self, destination: &Path) -> PathBuf {
        self.calibration_dir.clone().unwrap_or_else(|| {
            let mut name = OsString::from(destination);
            name.push(".calibration");
            name.into()
        })
    }

    /// Checks that neither the text nor the new files are in the folder for what is done so far, and that this can be one.
    pub fn check_folder(&self, text: &Path, destination: &Path, outputs: &[PathBuf]) -> Result<()> {
        let folder = self.folder(destination);
        ensure!(
            fs::metadata(&folder).map_or(true, |found| found.is_dir()),
            "{}: found a file, expected a folder for what is done so far (--calibration-dir)",
            Printable(folder.display())
        );
        for path in outputs.iter().map(PathBuf::as_path).chain([text]) {
            ensure!(
                !real(path).starts_with(real(&folder)),
                "{}: found a file in the folder of --calibration-dir, expected one elsewhere: that folder is for what is done so far",
                Printable(path.display())
            );
        }
        Ok(())
    }

    /// Says what calibrating with the text at `path` would take.
    pub fn predict(
        &self,
        path: &Path,
        file: &GgufFile,
        plan: &Plan,
        destination: &Path,
        threads: &Threads,
    ) -> Result<String> {
        let (tokens, bos) = self.tokens(path, file)?;
        let calibration = Calibration::new(file, plan, &tokens, bos, self.options(), threads)?;
        let cancel = Cancel::new();
        let _measuring = signals::writing(cancel.clone());
        let prediction = calibration.predict(&self.folder(destination), &cancel).map_err(said)?;
        Ok(line(&calibration, &prediction, path, threads))
    }

    fn options(&self) -> CalibrateOptions {
        let mut options = CalibrateOptions::default();
        options.n_ctx = self.ctx_size;
        options
    }

    /// Calibrates with the text at `path`.
    pub fn run<'a>(
        &self,
        path: &Path,
        file: &'a GgufFile,
        plan: &Plan,
        destination: &Path,
        threads: &Threads,
        log: Log,
    ) -> Result<Calibrated<'a>> {
        let (tokens, bos) = self.tokens(path, file)?;
        let calibration = Calibration::new(file, plan, &tokens, bos, self.options(), threads)?;
        let folder = self.folder(destination);
        let cancel = Cancel::new();
        let _writing = signals::writing(cancel.clone());
        let prediction = calibration.predict(&folder, &cancel).map_err(said)?;
        log.note(line(&calibration, &prediction, path, threads));
        const PARTS: usize = 1000;
        let bar = log.progress("calibrating (‰)", PARTS);
        let mut layers = prediction.layers;
        let done = calibration.run(&folder, &cancel, &mut |progress| {
            layers = progress.layers;
            bar.set((progress.part * PARTS as f64) as usize);
        });
        drop(bar);
        let calibrated = done.map_err(|error| match error {
            QuantizeError::Cancelled => {
                let (layer, n) = (layers + 1, calibration.n_layers());
                signals::Interrupted(format!("the same command goes on with layer {layer} of {n}")).into()
            }
            error => anyhow::Error::from(error),
        })?;
        for note in calibrated.notes() {
            log.warn(note);
        }
        Ok(calibrated)
    }
}

/// Where a path leads, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let of_parent = || Some(fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?));
    fs::canonicalize(&path).ok().or_else(of_parent).unwrap_or_else(|| path.clone())
}

/// An error as the command says it.
fn said(error: QuantizeError) -> anyhow::Error {
    match error {
        QuantizeError::Cancelled => signals::Interrupted("nothing was written".into()).into(),
        error => error.into(),
    }
}

/// What a run takes, in one line.
fn line(
    calibration: &Calibration<'_, '_>,
    prediction: &Prediction,
    path: &Path,
    threads: &Threads,
) -> String {
    let done = match prediction.layers {
        0 => String::new(),
        n => format!(", {n} of {} layers are done", calibration.n_layers()),
    };
    format!(
        "calibrating with {} tokens of {}{done}: about {} on {} threads, {} of memory, {} on the disk meanwhile",
        calibration.n_tokens(),
        Printable(path.display()),
        duration(prediction.time),
        threads.n(),
        describe::bytes(prediction.memory),
        describe::bytes(prediction.disk),
    )
}

fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        ..100.0 => format!("{seconds:.1} s"),
        ..1200.0 => format!("{} min {} s", seconds.round() as u64 / 60, seconds.round() as u64 % 60),
        ..6000.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}
