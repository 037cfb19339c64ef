//! `bise imatrix`: which columns of each matrix matter, over a text, like llama-imatrix.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};
use bise::imatrix::{Collector, Imatrix, ImatrixError};
use bise::tokenizer::EncodeOptions;
use bise::{Engine, Feed, Output, Runner, Sequence, SessionOptions};

use crate::cli::args::log::LogArgs;
use crate::cli::args::model::{ContextArgs, ModelArgs};
use crate::cli::args::numbers::positive_or_all;
use crate::cli::args::prompt::EscapeArgs;
use crate::cli::overwrite::refuse_sources;
use crate::cli::score::Score;
use crate::cli::term::console::Log;
use crate::cli::term::signals;
use crate::cli::usage::wrong;
use crate::cli::{load, text};
use bise_models::atomic_file::{AtomicFile, is_same_file, remove_left_over};
use bise_models::printable::Printable;

/// What to read, and where to put the sums.
#[derive(clap::Args, Debug)]
pub struct ImatrixArgs {
    /// Text to read (one newline at its end is dropped)
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// File to write
    #[arg(short, long, alias = "output-file", value_name = "FILE", default_value = "imatrix.gguf")]
    output: PathBuf,

    /// Format to write: gguf, or dat for older versions of llama.cpp
    #[arg(long, value_name = "FORMAT", default_value = "gguf")]
    output_format: Format,

    /// Write the file every N chunks, too
    #[arg(long, alias = "ofreq", value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    output_frequency: u32,

    /// Write a copy that stays, FILE.at_N, every N chunks; 0: none
    #[arg(long, value_name = "N", default_value_t = 0)]
    save_frequency: u32,

    /// Importance matrices to add to; may be repeated. Without --file, they are added up and written
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    in_file: Vec<PathBuf>,

    /// Maximum number of chunks to read; -1: all
    #[arg(long, value_name = "N", default_value = "-1", value_parser = positive_or_all)]
    chunks: usize,

    /// Begin with chunk N of the text, from 0
    #[arg(long, alias = "chunk", value_name = "N", default_value_t = 0)]
    from_chunk: usize,

    /// Sum the input of the last matrix, which makes logits, too
    #[arg(long)]
    process_output: bool,

    /// Read control tokens such as </s> in the text as such
    #[arg(long)]
    parse_special: bool,

    /// Overwrite files
    #[arg(long)]
    force: bool,

    /// Do not compute the perplexity of the text, which takes time
    #[arg(long, overrides_with = "ppl")]
    no_ppl: bool,

    /// Compute the perplexity (the default)
    #[arg(long, hide = true, overrides_with = "no_ppl")]
    ppl: bool,

    #[command(flatten)]
    pub log: LogArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    escapes: EscapeArgs,
}

/// A format of files.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum Format {
    Gguf,
    Dat,
}

/// The default context length of llama-imatrix.
const DEFAULT_N_CTX: usize = 512;

/// Tokens of a pass at most.
const PASS: usize = 512;

/// Runs the command.
///
/// # Errors
/// The text is too short, a pass fails, or a file cannot be read or written.
pub fn run(args: ImatrixArgs) -> Result<()> {
    let log = args.log.log();
    let mut before = Imatrix::default();
    let mut options = args.context.session_options();
    if options.n_ctx == 0 {
        options.n_ctx = DEFAULT_N_CTX;
    }
    let chunk_len = u32::try_from(options.n_ctx).unwrap_or(u32::MAX);
    for path in &args.in_file {
        before
            .add(&Imatrix::open(path)?, chunk_len)
            .map_err(|e| anyhow::anyhow!("{}: {e}", Printable(path.display())))?;
    }
    let Some(path) = &args.file else {
        if args.in_file.is_empty() {
            return Err(wrong(
                "there is no text: expected --file, or --in-file to add up what was written before",
            ));
        }
        args.check_output(&args.output)?;
        warn_of_unseen_experts(&before, log);
        return args.save(&before, &args.output);
    };
    args.refuse_to_overwrite([path.as_path()].into_iter().chain(args.model.model.as_deref()))?;
    args.check_output(&args.output)?;
    let mut text = text::from_file(path)?;
    if text.ends_with('\n') {
        text.pop();
    }
    // Unlike prompts, such texts are taken as they are.
    let text = if args.escapes.escape { args.escapes.meant("--file", text)? } else { text };
    let engine = load::load(&args.model, Some((1, options)), log)?.into_engine(1, &options, log);
    args.refuse_to_overwrite(engine.file().paths())?;
    let n_ctx = options.n_ctx;
    let parse_special = args.parse_special;
    let mut tokens = engine.tokenizer().encode(&text, EncodeOptions { add_special: true, parse_special });
    let skipped = args.from_chunk.saturating_mul(n_ctx);
    ensure!(
        tokens.len() >= skipped.saturating_add(2 * n_ctx),
        "{}: found {} tokens, expected at least {}: two contexts of {n_ctx} (--ctx-size){}",
        Printable(path.display()),
        tokens.len(),
        skipped.saturating_add(2 * n_ctx),
        if skipped > 0 { format!(" behind the {} of --from-chunk", args.from_chunk) } else { String::new() }
    );
    tokens.drain(..skipped);
    before.datasets.push(path.to_string_lossy().into_owned());
    Reading::new(&args, engine, &options, before, log).run(&tokens)
}

impl ImatrixArgs {
    /// Errs where the file that is written would replace one of `sources`.
    fn refuse_to_overwrite<'a>(&self, sources: impl IntoIterator<Item = &'a Path>) -> Result<()> {
        refuse_sources(&self.output, sources)
    }

    /// Errs where `path` cannot be written, or has something that is to be kept, before hours of work.
    fn check_output(&self, path: &Path) -> Result<()> {
        let goes_on = self.in_file.iter().any(|before| is_same_file(before, path));
        let found = std::fs::metadata(path).ok();
        let is_there = found.as_ref().is_some_and(|found| found.is_file());
        ensure!(
            self.force || goes_on || !is_there,
            "{}: found a file, expected none: --force overwrites it",
            Printable(path.display())
        );
        // A pipe is opened once.
        if found.is_some_and(|found| !found.is_file() && !found.is_dir()) {
            return Ok(());
        }
        remove_left_over(path);
        let action = "create the file";
        AtomicFile::create(path).map_err(|error| ImatrixError::Io {
            path: path.to_owned(),
            action,
            error,
        })?;
        Ok(())
    }

    fn save(&self, imatrix: &Imatrix, path: &Path) -> Result<()> {
        match self.output_format {
            Format::Gguf => imatrix.save(path)?,
            Format::Dat => imatrix.save_dat(path)?,
        }
        Ok(())
    }

    /// Where the copy after `n_chunks` is kept.
    fn copy_path(&self, n_chunks: u32) -> PathBuf {
        let mut path = self.output.clone().into_os_string();
        path.push(format!(".at_{n_chunks}"));
        path.into()
    }
}

fn warn_of_unseen_experts(imatrix: &Imatrix, log: Log) {
    for (name, entry) in &imatrix.entries {
        let unseen = entry.counts.iter().filter(|count| **count == 0).count();
        if unseen > 0 {
            log.warn(format_args!("{name}: no token visited {unseen} of {} experts", entry.counts.len()));
        }
    }
}

/// A text that is read chunk by chunk.
struct Reading<'a> {
    args: &'a ImatrixArgs,
    runner: Runner,
    sequence: Sequence,
    collector: Arc<Collector>,
    /// What was summed before, and from the chunks that have been read to their end.
    whole: Imatrix,
    before: Imatrix,
    n_ctx: usize,
    log: Log,
}

impl<'a> Reading<'a> {
    fn new(
        args: &'a ImatrixArgs,
        engine: Engine,
        options: &SessionOptions,
        before: Imatrix,
        log: Log,
    ) -> Self {
        let is_tied = engine.file().tensor("output.weight").is_none();
        let collector = Arc::new(Collector::new(engine.config(), args.process_output, is_tied));
        let mut runner = engine.runner();
        runner.set_hook(Some(collector.clone()));
        let sequence = engine.sequence(options);
        let whole = before.clone();
        Reading { args, runner, sequence, collector, whole, before, n_ctx: options.n_ctx, log }
    }

    fn run(mut self, tokens: &[u32]) -> Result<()> {
        let n_chunks = (tokens.len() / self.n_ctx).min(self.args.chunks);
        self.log.note(format_args!("imatrix: reading {n_chunks} chunks of {} tokens", self.n_ctx));
        let tokenizer = self.runner.engine().tokenizer();
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        let mut score = Score::default();
        let mut out = std::io::stdout().lock();
        // On a terminal the numbers are progress enough, and a bar would be drawn over them.
        let has_bar = self.args.no_ppl || !out.is_terminal();
        let progress = has_bar.then(|| self.log.progress("reading", n_chunks));
        let cancel = bise::Cancel::new();
        let _writing = signals::writing(cancel.clone());
        if self.args.save_frequency > 0 {
            let step = self.args.save_frequency;
            let n_chunks = u32::try_from(n_chunks).unwrap_or(u32::MAX);
            for n in (1..=n_chunks / step).map(|i| i * step) {
                self.args.check_output(&self.args.copy_path(self.before.n_chunks.saturating_add(n)))?;
            }
        }
        let mut n_saved = 0;
        for (i, chunk) in tokens.chunks_exact(self.n_ctx).take(n_chunks).enumerate() {
            if let Err(error) = self.read(chunk, bos, &cancel, &mut score) {
                let is_interrupted = error.downcast_ref().is_some_and(bise::Error::is_cancelled);
                if is_interrupted && !self.args.no_ppl {
                    writeln!(out)?;
                }
                drop(progress);
                return Err(if is_interrupted { self.interrupted(i, n_chunks, n_saved) } else { error });
            }
            self.add_up()?;
            if !self.args.no_ppl {
                write!(out, "[{}]{:.4},", i + 1, score.mean().exp())?;
                out.flush()?;
            }
            if let Some(progress) = &progress {
                progress.set(i + 1);
            }
            let done = u32::try_from(i + 1).unwrap_or(u32::MAX);
            if done.is_multiple_of(self.args.output_frequency) || i + 1 == n_chunks {
                self.args.save(&self.whole, &self.args.output)?;
                n_saved = i + 1;
            }
            if self.args.save_frequency > 0 && done.is_multiple_of(self.args.save_frequency) {
                self.args.save(&self.whole, &self.args.copy_path(self.whole.n_chunks))?;
            }
        }
        drop(progress);
        if !self.args.no_ppl {
            let (perplexity, error) = score.estimate();
            writeln!(out, "\nFinal estimate: PPL = {perplexity:.4} +/- {error:.5}")?;
        }
        warn_of_unseen_experts(&self.whole, self.log);
        let output = Printable(self.args.output.display());
        self.log.note(format_args!("{output}: {} matrices over {n_chunks} chunks", self.whole.entries.len()));
        Ok(())
    }

    /// Saves what is not saved yet, and returns the error that ends the run after `n_read` chunks.
    fn interrupted(&self, n_read: usize, n_chunks: usize, n_saved: usize) -> anyhow::Error {
        if n_read == 0 {
            return signals::Interrupted("no chunk was read to its end".into()).into();
        }
        if n_read > n_saved
            && let Err(error) = self.args.save(&self.whole, &self.args.output)
        {
            return error;
        }
        let output = Printable(self.args.output.display());
        let next = self.args.from_chunk + n_read;
        signals::Interrupted(format!(
            "{output} has {n_read} of {n_chunks} chunks; --in-file {output} --from-chunk {next} goes on"
        ))
        .into()
    }

    /// Adds up what was summed before and since. What a chunk has summed that is not read to its end must not count.
    fn add_up(&mut self) -> Result<()> {
        let chunk_len = u32::try_from(self.n_ctx).unwrap_or(u32::MAX);
        let mut now = self.collector.imatrix();
        now.chunk_len = chunk_len;
        let mut whole = self.before.clone();
        whole.add(&now, chunk_len)?;
        self.whole = whole;
        Ok(())
    }

    /// Reads a chunk from an empty context, its first token as `bos` where there is one.
    fn read(
        &mut self,
        chunk: &[u32],
        bos: Option<u32>,
        cancel: &bise::Cancel,
        score: &mut Score,
    ) -> Result<()> {
        let mut tokens = chunk.to_vec();
        if let Some(bos) = bos {
            tokens[0] = bos;
        }
        self.sequence.clear();
        let with_logits = !self.args.no_ppl || self.args.process_output;
        let output = if with_logits { Output::All } else { Output::Hidden };
        let mut first = 0;
        for tokens in tokens.chunks(PASS) {
            let mut batch = [Feed { sequence: &mut self.sequence, tokens, output }];
            let mut outputs = self.runner.forward(&mut batch, cancel.flag())?;
            while let Some(row) = outputs.next_row()? {
                let position = first + row.index;
                // The second half counts, as in llama-perplexity.
                if !self.args.no_ppl && position >= self.n_ctx / 2 && position + 1 < chunk.len() {
                    score.add_logits(row.values, chunk[position + 1]);
                }
            }
            first += tokens.len();
        }
        Ok(())
    }
}
