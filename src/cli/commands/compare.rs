//! `bise compare`: several models over one text, how near each is to the first, and what it costs.

mod plot;
mod report;
mod speed;
mod vocabulary;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use bise::compare::{BaseReader, BaseWriter, Divergence, Estimate, Layout, compare_chunk, write_chunk};
use bise::tokenizer::EncodeOptions;
use bise::{Cancel, Engine, SessionOptions, Threads};
use bise_models::atomic_file::{AtomicFile, is_written_through, remove_left_over};
use bise_models::printable::Printable;

use self::report::{Against, Compared, Failed, Report};
use self::speed::{SpeedArgs, Speeds};
use super::perplexity::DEFAULT_N_CTX;
use crate::cli::args::adapter::AdapterArgs;
use crate::cli::args::log::LogArgs;
use crate::cli::args::model::{ContextArgs, LoadMode, ModelArgs, RopeArgs};
use crate::cli::args::numbers::positive_or_all;
use crate::cli::args::prompt::EscapeArgs;
use crate::cli::args::source::SourceArgs;
use crate::cli::args::threads::ThreadArgs;
use crate::cli::compare::{ended, is_interruption};
use crate::cli::describe;
use crate::cli::overwrite::{refuse_existing, refuse_sources};
use crate::cli::score::Score;
use crate::cli::term::console::Log;
use crate::cli::term::printable::printable_json;
use crate::cli::term::signals;
use crate::cli::usage::wrong;
use crate::cli::{load, source, text, threads};

/// Which models, over which text.
#[derive(clap::Args, Debug)]
pub struct CompareArgs {
    /// GGUF files of one vocabulary; the first is what the others are compared with
    #[arg(value_name = "FILE", required = true, num_args = 1..)]
    models: Vec<PathBuf>,

    /// Text to read (one newline at its end is dropped)
    #[arg(short, long, value_name = "TEXT")]
    file: Option<PathBuf>,

    /// Compare all models with the log-probabilities in BASE, from `bise perplexity` or llama-perplexity, which hold the text, too
    #[arg(long, value_name = "BASE", conflicts_with = "file")]
    kl_divergence_base: Option<PathBuf>,

    /// Maximum number of chunks to read; -1: all
    #[arg(long, value_name = "N", default_value = "-1", value_parser = positive_or_all)]
    chunks: usize,

    #[command(flatten)]
    speed: SpeedArgs,

    /// Print JSON, with every number there is
    #[arg(long)]
    json: bool,

    /// Draw quality against size
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,

    /// Overwrite the drawing
    #[arg(long, requires = "plot")]
    force: bool,

    #[command(flatten)]
    escapes: EscapeArgs,
    #[command(flatten)]
    pub log: LogArgs,
    #[command(flatten)]
    adapters: AdapterArgs,

    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    context: ContextArgs,
}

/// Runs the command.
///
/// # Errors
/// Models of different vocabularies, a text that is too short, a model that cannot be run (the others are compared nevertheless), or a file
/// that cannot be written.
pub fn run(args: CompareArgs) -> Result<()> {
    let log = args.log.log();
    check_usage(&args)?;
    let paths = args
        .models
        .iter()
        .map(|path| source::model_path(Some(path), &SourceArgs::default(), log))
        .collect::<Result<Vec<_>>>()?;
    for path in paths.iter().flatten() {
        signals::guard_mapped_file(path);
    }
    let files = vocabulary::check(&paths)?;
    if let Some(path) = &args.plot {
        let read = files.iter().chain(&args.file).chain(&args.kl_divergence_base);
        refuse_sources(path, read.map(PathBuf::as_path))?;
        check_plot(path)?;
    }
    if let (Some(_), Some(flag)) = (&args.kl_divergence_base, args.escapes.given()) {
        log.warn(format_args!("{flag} has no effect with --kl-divergence-base, which holds tokens"));
    }
    let threads = threads::start(&args.threads, log)?;
    let mut comparison = Comparison::new(&args, threads, log)?;
    let (mut models, mut measured, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    let mut stopped = None;
    for path in &paths {
        match comparison.model(path.as_ref()) {
            Ok(model) => {
                models.push(model);
                measured.push(path.as_ref());
            }
            Err(error) if is_interruption(&error) => {
                stopped = Some(error);
                break;
            }
            Err(error) => {
                failed.push(Failed { name: name(path.as_ref()), error: format!("{error:#}") });
                // Nothing can be compared with it.
                if matches!(comparison.base, Base::Text(_)) {
                    break;
                }
            }
        }
    }
    comparison.drop_base();
    if stopped.is_none() && failed.len() < paths.len() && !models.is_empty() {
        let mut speeds = vec![Speeds::default(); models.len()];
        stopped = args.speed.measure(|i, log| comparison.open(measured[i], log), log, &mut speeds).err();
        models.iter_mut().zip(speeds).for_each(|(model, speeds)| model.speeds = speeds);
    }
    let report = comparison.report(models, failed);
    if !report.models.is_empty() {
        let mut out = BufWriter::new(std::io::stdout().lock());
        match args.json {
            true => writeln!(out, "{}", printable_json(&format!("{:#}", report.json())))?,
            false => report.print(&mut out)?,
        }
        out.flush()?;
    }
    if let Some(error) = stopped {
        return Err(error);
    }
    if let Some(path) = args.plot.as_ref().filter(|_| !report.models.is_empty()) {
        let svg = plot::svg(&report);
        let failed = |error| anyhow!("{}: cannot write the file: {error}", Printable(path.display()));
        let mut file = AtomicFile::create(path).map_err(failed)?;
        file.write_all(svg.as_bytes()).and_then(|()| file.commit()).map_err(failed)?;
    }
    match report.failed.as_slice() {
        [] => Ok(()),
        failed => bail!("{}", failed.iter().map(Failed::line).collect::<Vec<_>>().join("; ")),
    }
}

/// Errs where the drawing cannot be written, before anything is computed.
fn check_plot(path: &Path) -> Result<()> {
    // A pipe is opened once.
    if is_written_through(path) {
        return Ok(());
    }
    remove_left_over(path);
    AtomicFile::create(path)
        .map_err(|error| anyhow!("{}: cannot create the file: {error}", Printable(path.display())))?;
    Ok(())
}

fn name(path: Option<&PathBuf>) -> String {
    path.map_or("built-in model".to_owned(), |path| path.display().to_string())
}

fn check_usage(args: &CompareArgs) -> Result<()> {
    if args.file.is_none() && args.kl_divergence_base.is_none() {
        return Err(wrong("there is no text: expected --file or --kl-divergence-base"));
    }
    match &args.plot {
        Some(path) => refuse_existing(path, args.force),
        None => Ok(()),
    }
}

/// What all models are compared with.
enum Base {
    /// The first model, which is yet to read the text.
    Text(String),
    /// Its log-probabilities, or those of a file.
    File(BaseReader),
    /// Those are no longer needed.
    Gone,
}

struct Comparison<'a> {
    args: &'a CompareArgs,
    threads: Threads,
    options: SessionOptions,
    base: Base,
    /// Chunks, once the text has been cut.
    n_chunks: usize,
    /// Whether the first model is the base.
    first_is_base: bool,
    log: Log,
}

impl<'a> Comparison<'a> {
    fn new(args: &'a CompareArgs, threads: Threads, log: Log) -> Result<Comparison<'a>> {
        let mut options = args.context.session_options();
        let (base, n_chunks) = match (&args.kl_divergence_base, &args.file) {
            (Some(path), _) => {
                let base = BaseReader::open(path)?;
                let layout = base.layout();
                if options.n_ctx != 0 && options.n_ctx != layout.n_ctx {
                    return Err(wrong(format_args!(
                        "--ctx-size: found {}, expected {}, the chunks of {}",
                        options.n_ctx,
                        layout.n_ctx,
                        Printable(path.display())
                    )));
                }
                options.n_ctx = layout.n_ctx;
                (Base::File(base), layout.n_chunks.min(args.chunks))
            }
            (None, Some(path)) => {
                if options.n_ctx == 0 {
                    options.n_ctx = DEFAULT_N_CTX;
                }
                if options.n_ctx < 3 {
                    return Err(wrong(format_args!(
                        "--ctx-size: found {}, expected at least 3",
                        options.n_ctx
                    )));
                }
                (Base::Text(args.escapes.meant("--file", text::without_last_newline(path)?)?), 0)
            }
            (None, None) => unreachable!("it was checked before"),
        };
        let first_is_base = matches!(base, Base::Text(_));
        Ok(Comparison { args, threads, options, base, n_chunks, first_is_base, log })
    }

    fn open(&self, path: Option<&PathBuf>, log: Log) -> Result<Engine> {
        let model = ModelArgs {
            model: path.cloned(),
            source: SourceArgs::default(),
            adapters: self.args.adapters.clone(),
            threads: self.args.threads.clone(),
            load_mode: LoadMode::Auto,
            mlock: false,
            no_mmap: false,
            mmap: false,
            max_memory: None,
            stream_weights: false,
            sliding_window: None,
            isa: None,
            override_kv: Vec::new(),
            rope: RopeArgs::default(),
        };
        let loaded = load::load_on(&model, Some((1, self.options)), || Ok(self.threads.clone()), log)?;
        Ok(loaded.into_engine(1, &self.options, log))
    }

    /// Opens a model, has it read the text, and closes it.
    fn model(&mut self, path: Option<&PathBuf>) -> Result<Compared> {
        let engine = self.open(path, self.log)?;
        let name = name(path);
        let mut compared = Compared::of(&name, &engine, &self.options);
        match &self.base {
            Base::Text(_) => compared.ppl = self.read_as_base(&engine)?,
            Base::File(_) => {
                let divergence = self.read(&engine)?;
                let statistics = divergence.statistics();
                compared.ppl = statistics.running.ppl;
                compared.against = Some(Against::of(statistics));
            }
            Base::Gone => unreachable!("models read the text before it is gone"),
        }
        self.log.note(compared.in_short());
        Ok(compared)
    }

    /// Reads the text and leaves log-probabilities in a file that vanishes with this program.
    fn read_as_base(&mut self, engine: &Engine) -> Result<Estimate> {
        let Base::Text(text) = &self.base else { unreachable!("the first model reads the text") };
        let n_ctx = self.options.n_ctx;
        let tokens =
            engine.tokenizer().encode(text, EncodeOptions { add_special: true, parse_special: false });
        ensure!(
            tokens.len() >= 2 * n_ctx,
            "found {} tokens, expected at least {}: two contexts of {n_ctx} (--ctx-size)",
            tokens.len(),
            2 * n_ctx
        );
        let n_chunks = (tokens.len() / n_ctx).min(self.args.chunks);
        let layout = Layout { n_ctx, n_vocab: engine.config().n_vocab, n_chunks };
        let n_bytes = layout.n_bytes().ok_or_else(|| anyhow!("{n_chunks} chunks are too many"))?;
        let folder = std::env::temp_dir();
        let path = folder.join("log-probabilities");
        self.log.note(format_args!(
            "compare: {n_chunks} chunks of {n_ctx} tokens; log-probabilities take {} in {} (TMPDIR) for a while",
            describe::bytes(n_bytes),
            Printable(folder.display())
        ));
        let file = tempfile::tempfile().with_context(|| format!("a file in {}", folder.display()))?;
        let again = file.try_clone().with_context(|| path.display().to_string())?;
        let tokens = &tokens[..n_chunks * n_ctx];
        let mut writer = BaseWriter::start(BufWriter::with_capacity(1 << 20, file), &path, layout, tokens)?;
        let mut session = engine.session(&self.options)?;
        let bos = bos(engine);
        let cancel = Cancel::new();
        session.set_cancel_handle(cancel.clone());
        let _writing = signals::writing(cancel);
        let progress = self.log.progress("reading the text", n_chunks);
        let mut score = Score::default();
        for (i, chunk) in tokens.chunks_exact(n_ctx).enumerate() {
            write_chunk(&mut session, chunk, bos, &mut writer, &mut |nll| score.add(-nll)).map_err(ended)?;
            progress.set(i + 1);
        }
        writer
            .finish()
            .into_inner()
            .map_err(|e| e.into_error())
            .with_context(|| path.display().to_string())?;
        self.base = Base::File(BaseReader::new(again, &path)?);
        self.n_chunks = n_chunks;
        let (value, error) = score.estimate();
        Ok(Estimate { value, error })
    }

    fn read(&mut self, engine: &Engine) -> Result<Divergence> {
        let Base::File(base) = &mut self.base else { unreachable!("there is a base") };
        let mut session = engine.session(&self.options)?;
        let bos = bos(engine);
        let cancel = Cancel::new();
        session.set_cancel_handle(cancel.clone());
        let _writing = signals::writing(cancel);
        let progress = self.log.progress("comparing", self.n_chunks);
        let mut divergence = Divergence::default();
        for i in 0..self.n_chunks {
            compare_chunk(&mut session, base, i, bos, &mut divergence).map_err(ended)?;
            progress.set(i + 1);
        }
        Ok(divergence)
    }

    /// Gives back the space on the disk.
    fn drop_base(&mut self) {
        self.base = Base::Gone;
    }

    fn report(&self, models: Vec<Compared>, failed: Vec<Failed>) -> Report {
        let text = self.args.kl_divergence_base.as_ref().or(self.args.file.as_ref());
        Report {
            text: text.map(|path| path.display().to_string()).unwrap_or_default(),
            n_ctx: self.options.n_ctx,
            n_chunks: self.n_chunks,
            first_is_base: self.first_is_base,
            n_threads: self.threads.n(),
            speed: self.args.speed.clone(),
            models,
            failed,
        }
    }
}

fn bos(engine: &Engine) -> Option<u32> {
    let tokenizer = engine.tokenizer();
    tokenizer.bos().filter(|_| tokenizer.adds_bos())
}
