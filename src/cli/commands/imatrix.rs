//! `bise imatrix`: which columns of each matrix matter, over a text, like llama-imatrix.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};
use bise::imatrix::{Collector, Imatrix};
use bise::tokenizer::EncodeOptions;
use bise::{Engine, Feed, Output, Runner, Sequence, SessionOptions};

use crate::cli::args::log::LogArgs;
use crate::cli::args::model::{ContextArgs, ModelArgs};
use crate::cli::args::numbers::positive_or_all;
use crate::cli::args::prompt::EscapeArgs;
use crate::cli::score::Score;
use crate::cli::term::console::Log;
use crate::cli::term::signals;
use crate::cli::usage::wrong;
use crate::cli::{load, text};
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
        return save(&args, &before, &args.output, log);
    };
    let mut text = text::from_file(path)?;
    if text.ends_with('\n') {
        text.pop();
    }
    // Unlike prompts, such texts are taken as they are.
    let text = if args.escapes.escape { args.escapes.meant("--file", text)? } else { text };
    let engine = load::load(&args.model, Some((1, options)), log)?.into_engine(1, &options, log);
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

fn save(args: &ImatrixArgs, imatrix: &Imatrix, path: &Path, log: Log) -> Result<()> {
    for (name, entry) in &imatrix.entries {
        let unseen = entry.counts.iter().filter(|count| **count == 0).count();
        if unseen > 0 {
            log.warn(format_args!("{name}: no token visited {unseen} of {} experts", entry.counts.len()));
        }
    }
    match args.output_format {
        Format::Gguf => imatrix.save(path)?,
        Format::Dat => imatrix.save_dat(path)?,
    }
    Ok(())
}

/// A text that is read chunk by chunk.
struct Reading<'a> {
    args: &'a ImatrixArgs,
    runner: Runner,
    sequence: Sequence,
    collector: Arc<Collector>,
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
        Reading { args, runner, sequence, collector, before, n_ctx: options.n_ctx, log }
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
        for (i, chunk) in tokens.chunks_exact(self.n_ctx).take(n_chunks).enumerate() {
            self.read(chunk, bos, &cancel, &mut score)?;
            if !self.args.no_ppl {
                write!(out, "[{}]{:.4},", i + 1, score.mean().exp())?;
                out.flush()?;
            }
            if let Some(progress) = &progress {
                progress.set(i + 1);
            }
            let done = u32::try_from(i + 1).unwrap_or(u32::MAX);
            if done.is_multiple_of(self.args.output_frequency) || i + 1 == n_chunks {
                save(self.args, &self.imatrix()?, &self.args.output, self.log)?;
            }
            if self.args.save_frequency > 0 && done.is_multiple_of(self.args.save_frequency) {
                let imatrix = self.imatrix()?;
                let mut path = self.args.output.clone().into_os_string();
                path.push(format!(".at_{}", imatrix.n_chunks));
                save(self.args, &imatrix, Path::new(&path), self.log)?;
            }
        }
        drop(progress);
        if !self.args.no_ppl {
            let (perplexity, error) = score.estimate();
            writeln!(out, "\nFinal estimate: PPL = {perplexity:.4} +/- {error:.5}")?;
        }
        let output = Printable(self.args.output.display());
        self.log.note(format_args!(
            "{output}: {} matrices over {n_chunks} chunks",
            self.imatrix()?.entries.len()
        ));
        Ok(())
    }

    /// What has been summed so far, this time and before.
    fn imatrix(&self) -> Result<Imatrix> {
        let chunk_len = u32::try_from(self.n_ctx).unwrap_or(u32::MAX);
        let mut imatrix = self.before.clone();
        let mut now = self.collector.imatrix();
        now.chunk_len = chunk_len;
        imatrix.add(&now, chunk_len)?;
        Ok(imatrix)
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
