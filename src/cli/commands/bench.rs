//! `bise bench`: speed of prefill and decode, with llama-bench's flags, tests and field names.

mod report;
mod test;

use std::io::BufWriter;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use anyhow::Result;
use bise::memory::MemoryLimit;
use bise::{CacheType, Engine, Isa, Session, SessionOptions, decode_together};

use self::report::{Format, Row, Table};
use self::test::Test;
use crate::cli::args::adapter::AdapterArgs;
use crate::cli::args::log::LogArgs;
use crate::cli::args::model::{LoadMode, ModelArgs, RopeArgs, parse_cache_type};
use crate::cli::args::numbers::positive;
use crate::cli::args::source::SourceArgs;
use crate::cli::args::threads::{PlaceArgs, ThreadArgs};
use crate::cli::describe::Description;
use crate::cli::load;
use crate::cli::source;
use crate::cli::usage::wrong;

/// What to measure: every combination of the listed values.
#[derive(clap::Args, Debug)]
pub struct BenchArgs {
    /// GGUF files, separated by commas; without any, the built-in model
    #[arg(short, long, value_name = "FILES", value_delimiter = ',', env = "LLAMA_ARG_MODEL")]
    model: Vec<PathBuf>,

    #[command(flatten)]
    source: SourceArgs,

    /// Prompt lengths for the prefill tests; 0: none
    #[arg(short = 'p', long, value_name = "N,…", value_parser = parse_numbers, default_value = "512")]
    n_prompt: Vec<Numbers>,

    /// Numbers of tokens for the decode tests; 0: none
    #[arg(short = 'n', long, value_name = "N,…", value_parser = parse_numbers, default_value = "128")]
    n_gen: Vec<Numbers>,

    /// Also test a prompt of PP tokens followed by TG generated ones
    #[arg(long, value_name = "PP,TG", value_parser = parse_pair)]
    pg: Vec<(usize, usize)>,

    /// Number of tokens in the context before each test
    #[arg(short = 'd', long, value_name = "N,…", value_parser = parse_numbers, default_value = "0")]
    n_depth: Vec<Numbers>,

    /// Maximum number of prompt tokens in a batch
    #[arg(short, long, value_name = "N,…", value_parser = parse_numbers, default_value = "2048")]
    batch_size: Vec<Numbers>,

    /// Maximum number of tokens in one forward pass
    #[arg(long, alias = "ub", value_name = "N,…", value_parser = parse_numbers, default_value = "512")]
    ubatch_size: Vec<Numbers>,

    /// Types of the key cache: f32, f16, q8_0, q4_0
    #[arg(long, alias = "ctk", value_name = "TYPE,…", value_delimiter = ',', value_parser = parse_cache_type, default_value = "f16")]
    cache_type_k: Vec<CacheType>,

    /// Types of the value cache: f32, f16, q8_0, q4_0
    #[arg(long, alias = "ctv", value_name = "TYPE,…", value_delimiter = ',', value_parser = parse_cache_type, default_value = "f16")]
    cache_type_v: Vec<CacheType>,

    /// Numbers of threads [default: one per performance core]
    #[arg(short, long, value_name = "N,…", value_parser = parse_numbers)]
    threads: Vec<Numbers>,

    #[command(flatten)]
    adapters: AdapterArgs,

    #[command(flatten)]
    place: PlaceArgs,

    /// Number of sequences decoded together; speeds are their sum
    #[arg(long, alias = "np", value_name = "N", default_value_t = 1, value_parser = positive)]
    parallel: usize,

    /// Number of runs per test
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = positive)]
    repetitions: usize,

    /// Format of the results
    #[arg(short, long, value_name = "FORMAT", default_value = "md")]
    output: Format,

    /// Also print the results to stderr, in this format
    #[arg(long, alias = "oe", value_name = "FORMAT")]
    output_err: Option<Format>,

    /// Skip the warm-up run
    #[arg(long)]
    no_warmup: bool,

    /// Print to stderr which test is running
    #[arg(long)]
    progress: bool,

    /// Attend to the last N tokens only; 0: to all of them [default: as the file says]
    #[arg(long, value_name = "N")]
    sliding_window: Option<usize>,

    /// Keep memory below SIZE, or below what is free (see `bise --help`)
    #[arg(long, value_name = "SIZE|auto", env = "BISE_MAX_MEMORY")]
    max_memory: Option<MemoryLimit>,

    /// Read weights from the disk again for every pass, as far as they do not fit into --max-memory or free memory
    #[arg(long, env = "BISE_STREAM_WEIGHTS")]
    stream_weights: bool,

    /// Use this instruction set instead of the best one the CPU has
    #[arg(long, value_name = "NAME", env = "BISE_ISA")]
    isa: Option<Isa>,

    /// How to load the file: auto and mmap map it, none and dio read it, mlock reads and locks it, mmap+mlock maps and locks it
    #[arg(long, alias = "lm", value_name = "MODE", default_value = "auto", env = "LLAMA_ARG_LOAD_MODE")]
    load_mode: LoadMode,

    /// Whether the file is mapped: 0 or 1
    #[arg(long, alias = "mmp", value_name = "0|1", hide = true, value_parser = clap::value_parser!(u8).range(0..=1))]
    mmap: Option<u8>,

    #[command(flatten)]
    pub log: LogArgs,
}

/// A list of numbers, as typed.
#[derive(Clone, Debug)]
pub struct Numbers(Vec<usize>);

/// Parses `1,2,16-64*2,100-120+10`.
fn parse_numbers(text: &str) -> Result<Numbers, String> {
    let wrong = || format!("found '{text}', expected numbers or ranges as in 1,8-32+8,64-512*2");
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (range, multiply, step) = match part.split_once(['+', '*']) {
            Some((range, step)) => (range, part.contains('*'), step.parse().map_err(|_| wrong())?),
            None => (part, false, 1_usize),
        };
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) =
            (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        let mut number = first;
        while number <= last {
            numbers.push(number);
            let next = if multiply { number.checked_mul(step) } else { number.checked_add(step) };
            number = next.filter(|&next| next > number || first == last).ok_or_else(wrong)?;
            if first == last || numbers.len() > 10_000 {
                break;
            }
        }
    }
    Ok(Numbers(numbers))
}

fn parse_pair(text: &str) -> Result<(usize, usize), String> {
    let pair = text.split_once(',').and_then(|(pp, tg)| Some((pp.parse().ok()?, tg.parse().ok()?)));
    pair.ok_or_else(|| format!("found '{text}', expected two numbers as in 512,128"))
}

/// Runs the command.
///
/// # Errors
/// The model cannot be opened, or a pass fails.
pub fn run(args: BenchArgs) -> Result<()> {
    let log = args.log.log();
    let tests = tests(&args);
    if tests.is_empty() {
        return Err(wrong("there is nothing to measure: expected --n-prompt, --n-gen or --pg above 0"));
    }
    let downloaded = source::model_path(None, &args.source, log)?;
    let models: Vec<_> = args.model.iter().chain(&downloaded).map(Some).collect();
    let models = if models.is_empty() { vec![None] } else { models };
    let threads: Vec<i32> = match flat(&args.threads) {
        none if none.is_empty() => vec![-1],
        some => some.into_iter().map(|n| i32::try_from(n).unwrap_or(i32::MAX)).collect(),
    };
    let mut table = Table::new(args.output, std::io::stdout());
    let mut table_err = args.output_err.map(|format| Table::new(format, BufWriter::new(std::io::stderr())));
    for model in models {
        for &n_threads in &threads {
            let (n, options) = (args.parallel, longest_session(&args, &tests));
            let loaded = load::load(&model_args(&args, model, n_threads), Some((n, options)), log)?;
            let engine = loaded.into_engine(n, &options, log);
            let about = Description::of(engine.file());
            for (options, n_batch) in session_options(&args) {
                for test in &tests {
                    let test_name = test.name(args.parallel);
                    if args.progress {
                        log.note(format_args!(
                            "bise bench: {} with {} threads",
                            test_name,
                            engine.n_threads()
                        ));
                    }
                    let started = SystemTime::now();
                    let samples = measure(&engine, &options, *test, &args)?;
                    let row = Row {
                        engine: &engine,
                        about: &about,
                        options,
                        n_batch,
                        n_parallel: args.parallel,
                        test: *test,
                        started,
                        samples_ns: samples,
                    };
                    table.add(&row)?;
                    if let Some(table) = &mut table_err {
                        table.add(&row)?;
                    }
                }
            }
        }
    }
    table.finish()?;
    table_err.map_or(Ok(()), Table::finish)
}

fn flat(lists: &[Numbers]) -> Vec<usize> {
    lists.iter().flat_map(|list| list.0.iter().copied()).collect()
}

/// The tests in llama-bench's order: for each depth prefill, decode, both.
fn tests(args: &BenchArgs) -> Vec<Test> {
    let mut tests = Vec::new();
    for n_depth in flat(&args.n_depth) {
        let test = |(n_prompt, n_gen)| Test { n_prompt, n_gen, n_depth };
        let kinds = flat(&args.n_prompt).into_iter().map(|n| (n, 0));
        let kinds = kinds.chain(flat(&args.n_gen).into_iter().map(|n| (0, n))).chain(args.pg.iter().copied());
        tests.extend(kinds.filter(|&kind| kind != (0, 0)).map(test));
    }
    tests
}

fn model_args(args: &BenchArgs, model: Option<&PathBuf>, threads: i32) -> ModelArgs {
    ModelArgs {
        model: model.cloned(),
        source: SourceArgs::default(),
        adapters: args.adapters.clone(),
        threads: ThreadArgs { threads, threads_batch: None, place: args.place.clone() },
        load_mode: args.load_mode,
        mlock: false,
        no_mmap: args.mmap == Some(0),
        mmap: false,
        max_memory: args.max_memory,
        stream_weights: args.stream_weights,
        sliding_window: args.sliding_window,
        isa: args.isa,
        override_kv: Vec::new(),
        rope: RopeArgs::default(),
    }
}

/// Every combination of batch sizes and cache types, each with its `--batch-size`.
fn session_options(args: &BenchArgs) -> Vec<(SessionOptions, usize)> {
    let mut all = Vec::new();
    for n_batch in flat(&args.batch_size) {
        for n_ubatch in flat(&args.ubatch_size) {
            for &k_type in &args.cache_type_k {
                for &v_type in &args.cache_type_v {
                    let n_ubatch = n_ubatch.min(n_batch).max(1);
                    all.push((
                        SessionOptions { n_ubatch, k_type, v_type, ..SessionOptions::default() },
                        n_batch,
                    ));
                }
            }
        }
    }
    all
}

/// The sessions of the longest test, in the first of all combinations.
fn longest_session(args: &BenchArgs, tests: &[Test]) -> SessionOptions {
    let n_ctx = tests.iter().map(Test::n_ctx).max().unwrap_or(1);
    let (options, _) = session_options(args).swap_remove(0);
    SessionOptions { n_ctx, ..options }
}

/// Runs a test and returns the nanoseconds of each repetition.
fn measure(engine: &Engine, options: &SessionOptions, test: Test, args: &BenchArgs) -> Result<Vec<u64>> {
    let options = SessionOptions { n_ctx: test.n_ctx(), ..*options };
    let mut tokens = Tokens::new(engine);
    let mut sessions = (0..args.parallel).map(|_| engine.session(&options)).collect::<Result<Vec<_>, _>>()?;
    if !args.no_warmup {
        // A whole prompt, as llama-bench does, but one token where only writing is measured.
        let once = Test { n_gen: test.n_gen.min(1), n_depth: 0, ..test };
        run_once(&mut sessions, once, &mut tokens)?;
    }
    for session in &mut sessions {
        session.clear();
        if test.n_depth > 0 {
            session.prefill(&tokens.take(test.n_depth))?;
        }
    }
    let mut samples = Vec::with_capacity(args.repetitions);
    for _ in 0..args.repetitions {
        for session in &mut sessions {
            session.rewind(test.n_depth)?;
        }
        let start = Instant::now();
        run_once(&mut sessions, test, &mut tokens)?;
        samples.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(samples)
}

/// Prefills every session in turn, then decodes all of them together.
fn run_once(sessions: &mut [Session], test: Test, tokens: &mut Tokens) -> Result<()> {
    if test.n_prompt > 0 {
        for session in sessions.iter_mut() {
            session.prefill(&tokens.take(test.n_prompt))?;
        }
    }
    for _ in 0..test.n_gen {
        if let [session] = sessions {
            session.decode(tokens.next())?;
        } else {
            let next: Vec<u32> = sessions.iter().map(|_| tokens.next()).collect();
            decode_together(sessions, &next, &mut |_, _| {})?;
        }
    }
    Ok(())
}

/// Pseudo-random tokens, the same in every run.
struct Tokens {
    n_vocab: u32,
    state: u64,
}

impl Tokens {
    fn new(engine: &Engine) -> Self {
        Self { n_vocab: engine.config().n_vocab as u32, state: 1 }
    }

    fn next(&mut self) -> u32 {
        // Knuth's linear congruential generator (MMIX); its high bits are good enough.
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 33) % u64::from(self.n_vocab)) as u32
    }

    fn take(&mut self, n: usize) -> Vec<u32> {
        (0..n).map(|_| self.next()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_those_of_llama_bench() {
        let numbers = |text: &str| parse_numbers(text).map(|n| n.0);
        assert_eq!(numbers("512").unwrap(), [512]);
        assert_eq!(numbers("0,1,2").unwrap(), [0, 1, 2]);
        assert_eq!(numbers("1-4").unwrap(), [1, 2, 3, 4]);
        assert_eq!(numbers("8-32+8,64").unwrap(), [8, 16, 24, 32, 64]);
        assert_eq!(numbers("16-128*2").unwrap(), [16, 32, 64, 128]);
        for wrong in ["", "x", "1-", "1-8*1", "1-8+0", "-1", "1,,2", "0-8*2"] {
            assert!(numbers(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pairs_are_two_numbers() {
        assert_eq!(parse_pair("512,128"), Ok((512, 128)));
        assert!(parse_pair("512").is_err());
    }
}
