//! What `bise inspect` does besides describing a file: hashes, a walk through all weights, differences, histograms.

mod diff;
mod hash;
mod histogram;
mod verify;

use std::path::{Path, PathBuf};

use anyhow::Result;
use bise::gguf::{GgufFile, OpenOptions};
use bise::inspect::HashKind;
use bise::{Cancel, EngineOptions, Error, ForwardError, Threads};

use crate::cli::load;
use crate::cli::term::console::Log;
use crate::cli::term::signals;
use crate::cli::usage::wrong;

/// Flags of each.
#[derive(clap::Args, Debug)]
pub struct ModeArgs {
    /// Print hashes of every tensor and of all together, as gguf-hash does: xxh64 (the default), sha1, sha256, uuid or all
    #[arg(long, value_name = "KIND,…", num_args = 0..=1, require_equals = true, default_missing_value = "xxh64", value_delimiter = ',', group = "mode")]
    hash: Vec<HashArg>,

    /// Check the tensors against a list of hashes, from --hash or gguf-hash; with --hash, those kinds only
    #[arg(short = 'c', long, value_name = "MANIFEST", conflicts_with_all = ["verify", "diff", "histogram"])]
    check: Option<PathBuf>,

    /// Hash all tensors together only, not each
    #[arg(long)]
    no_layer: bool,

    /// Read every block and report what is unsound: NaN and infinities, weights beyond half precision, missing parts, shapes that do not fit the architecture
    #[arg(long, group = "mode")]
    verify: bool,

    /// Compare the file with OTHER: keys, tensors, weights
    #[arg(long, value_name = "OTHER", group = "mode")]
    diff: Option<PathBuf>,

    /// Print how large the scales of blocks are, by type or by tensor
    #[arg(long, value_name = "type|tensor", num_args = 0..=1, require_equals = true, default_missing_value = "type", group = "mode")]
    histogram: Option<By>,
}

/// A kind of hash, or all of them.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashArg {
    Xxh64,
    Sha1,
    Sha256,
    Uuid,
    /// The first three, as in gguf-hash
    All,
}

impl HashArg {
    fn kinds(self) -> &'static [HashKind] {
        match self {
            HashArg::Xxh64 => &[HashKind::Xxh64],
            HashArg::Sha1 => &[HashKind::Sha1],
            HashArg::Sha256 => &[HashKind::Sha256],
            HashArg::Uuid => &[HashKind::Uuid],
            HashArg::All => &[HashKind::Xxh64, HashKind::Sha1, HashKind::Sha256],
        }
    }
}

/// What a histogram is of.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Type,
    Tensor,
}

/// What the modes have in common.
struct Context {
    threads: Threads,
    cancel: Cancel,
    json: bool,
    log: Log,
}

impl ModeArgs {
    /// Runs the mode that the flags name, if they name one. `path` is the file, as it was given; without one, the built-in model.
    ///
    /// # Errors
    /// A file that cannot be read; what a check finds.
    pub fn run(&self, path: Option<&Path>, check_tensors: bool, json: bool, log: Log) -> Option<Result<()>> {
        let is_hash = !self.hash.is_empty() || self.check.is_some();
        let is_mode = is_hash || self.verify || self.diff.is_some() || self.histogram.is_some();
        if self.no_layer && !is_hash {
            return Some(Err(wrong("--no-layer has no effect without --hash or --check")));
        }
        if is_mode && check_tensors {
            return Some(Err(wrong(
                "--check-tensors has no effect with --hash, --check, --verify, --diff or --histogram (--verify checks the same)",
            )));
        }
        if !is_mode {
            return None;
        }
        Some(self.run_mode(path, json, log))
    }

    fn run_mode(&self, path: Option<&Path>, json: bool, log: Log) -> Result<()> {
        let context = Context { threads: Threads::builder().build()?, cancel: Cancel::new(), json, log };
        let _writing = signals::writing(context.cancel.clone());
        let is_hash = !self.hash.is_empty() || self.check.is_some();
        // gguf-hash takes bytes as they are stored.
        let opened = Opened::open(path, is_hash)?;
        let file = opened.file();
        let name = path.map_or_else(|| file.name().to_owned(), |path| path.to_string_lossy().into_owned());
        if is_hash {
            hash::run(&context, file, &name, self)
        } else if self.verify {
            verify::run(&context, file)
        } else if let Some(other) = &self.diff {
            let other = Opened::open(Some(other), false)?;
            diff::run(&context, file, other.file())
        } else {
            histogram::run(&context, file, self.histogram == Some(By::Tensor))
        }
    }
}

enum Opened {
    File(Box<GgufFile>),
    Builtin(bise::Engine),
}

impl Opened {
    fn open(path: Option<&Path>, as_stored: bool) -> Result<Opened> {
        let Some(path) = path else {
            return Ok(Opened::Builtin(load::builtin(&EngineOptions::default())?));
        };
        signals::guard_mapped_file(path);
        Ok(Opened::File(Box::new(match as_stored {
            true => GgufFile::open_as_stored(path, OpenOptions::default())?,
            false => GgufFile::open(path)?,
        })))
    }

    fn file(&self) -> &GgufFile {
        match self {
            Opened::File(file) => file,
            Opened::Builtin(engine) => engine.file(),
        }
    }
}

impl Context {
    /// Runs `work`, which is told where to say how many bytes are done, with a bar.
    fn with_progress<T>(
        &self,
        what: &'static str,
        file: &GgufFile,
        work: impl FnOnce(&mut dyn FnMut(u64)) -> Option<T>,
    ) -> Result<T> {
        const STEP: u64 = 1 << 20;
        let n_bytes: u64 = file.tensors().map(|tensor| tensor.n_bytes as u64).sum();
        let progress = self.log.progress(what, (n_bytes / STEP) as usize);
        let done = work(&mut |done| progress.set((done / STEP) as usize));
        let Some(done) = done else { return Err(Error::from(ForwardError::Cancelled).into()) };
        file.check_unchanged()?;
        Ok(done)
    }
}
