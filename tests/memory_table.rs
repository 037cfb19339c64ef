//! Predicted against measured: the most memory that a process takes, for many shapes of cache and model.
//!
//! Each case runs in a process of its own, this one started again, under a ceiling of what is predicted: what takes more fails.
//! The large ones: `BISE_MODELS=folder cargo test --release --test memory_table -- --ignored --nocapture`, where the folder holds
//! `m7b.gguf` (a Mistral 7B in Q4_K_M, its window of 4096), and `m7b-4l.gguf` and `m7b-4l-q8.gguf` (four layers of it in Q4_K_M and Q8_0).

#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use bise::memory::{MemoryLimit, anonymous_bytes, format_bytes, peak_bytes};
use bise::{CacheType, Engine, Feed, Output, Sequence, SessionOptions};

/// The variable that tells a process started by these tests which case it is.
const CASE: &str = "BISE_MEMORY_CASE";

static NEVER: AtomicBool = AtomicBool::new(false);

/// What is run.
#[derive(Clone, Copy, Debug)]
struct Case {
    model: &'static str,
    n_ctx: usize,
    cache: CacheType,
    n_sequences: usize,
    n_ubatch: usize,
    /// Whether every token of the context is read, or its pages are touched and one pass of each kind is made.
    reads_all: bool,
}

/// Bytes, predicted and measured.
#[derive(Debug)]
struct Outcome {
    anonymous: [usize; 2],
    all: [usize; 2],
}

impl Case {
    /// Runs in a process of its own.
    fn run(&self, path: &Path) -> Outcome {
        let case = format!(
            "{} {} {} {} {}",
            self.n_ctx, self.cache, self.n_sequences, self.n_ubatch, self.reads_all
        );
        let this = std::env::current_exe().unwrap();
        let mut command = Command::new(this);
        command.args(["--exact", "one_case", "--ignored", "--nocapture"]);
        let output = command.env(CASE, format!("{case} {}", path.display())).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find_map(|line| Some(line.split_once("outcome: ")?.1));
        let Some(line) = line.filter(|_| output.status.success()) else {
            panic!("{self:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        };
        let numbers: Vec<usize> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        Outcome { anonymous: [numbers[0], numbers[1]], all: [numbers[2], numbers[3]] }
    }

    /// Runs, prints a row of the table, and returns what is wrong with the prediction: too low, or too high by more than `tolerance` and
    /// `slack` bytes.
    fn check(&self, path: &Path, tolerance: f64, slack: usize) -> Vec<String> {
        let outcome = self.run(path);
        let row = |[predicted, measured]: [usize; 2]| {
            let over = predicted as f64 / measured as f64 - 1.0;
            format!("{:>9} | {:>9} | {:+.2}%", format_bytes(predicted), format_bytes(measured), 100.0 * over)
        };
        let how = if self.reads_all { "read" } else { "touched" };
        println!(
            "| {} | {} | {} | {} | {how} | {} | {} |",
            self.model,
            self.n_ctx,
            self.cache,
            self.n_sequences,
            row(outcome.anonymous),
            row(outcome.all)
        );
        let both = [("anonymous", outcome.anonymous), ("all", outcome.all)];
        let wrong = both.into_iter().filter(|(_, [predicted, measured])| {
            let most = (*measured as f64 * (1.0 + tolerance)) as usize + slack;
            predicted < measured || *predicted > most
        });
        wrong.map(|(what, bytes)| format!("{self:?}: {what} {bytes:?}")).collect()
    }
}

/// One case, named by a variable; nothing to do without it.
#[test]
#[ignore = "started by the others"]
fn one_case() {
    let Ok(case) = std::env::var(CASE) else { return };
    let mut words = case.splitn(6, ' ');
    let mut word = || words.next().unwrap();
    let (n_ctx, cache) = (word().parse().unwrap(), word().parse().unwrap());
    let (n_sequences, n_ubatch): (usize, usize) = (word().parse().unwrap(), word().parse().unwrap());
    let (reads_all, path) = (word() == "true", word().to_owned());
    let options = SessionOptions { n_ctx, k_type: cache, v_type: cache, n_ubatch };

    let plan = Engine::builder().threads(2).plan(&path, n_sequences, &options).unwrap();
    // Making the plan has read a part of the program that was not in memory before.
    let limit = MemoryLimit::Bytes(plan.full() + (4 << 20));
    let engine = Engine::builder().threads(2).max_memory(limit).sessions(n_sequences, &options);
    let engine = engine.open(&path).unwrap();
    let plan = engine.memory(&options).for_sequences(n_sequences).without_drafts();

    let mut runner = engine.runner();
    let pool = engine.page_pool(&options, usize::MAX);
    let window = engine.config().sliding_window;
    let mut sequences: Vec<Sequence> =
        (0..n_sequences).map(|_| Sequence::new(&pool, n_ctx, window)).collect();
    if !reads_all {
        pool.prepare(plan.n_pages(n_ctx)).unwrap();
        // The rows that the tokens would be looked up in.
        let file = engine.file();
        let embedding = file.bytes(file.tensor("token_embd.weight").unwrap());
        let row = embedding.len() / engine.config().n_vocab;
        let rows = (0..n_ctx * n_sequences).map(|i| i * 7919 % engine.config().n_vocab);
        let sum: usize = rows.map(|i| usize::from(embedding[i * row])).sum();
        std::hint::black_box(sum);
    }
    // The last token of each is read together with the others'.
    let n_prompt = if reads_all { n_ctx - 1 } else { n_ubatch.min(n_ctx - 1) };
    let n_vocab = engine.config().n_vocab;
    let tokens: Vec<u32> = (0..n_prompt).map(|i| (i * 7919 % n_vocab) as u32).collect();
    for sequence in &mut sequences {
        for tokens in tokens.chunks(n_ubatch) {
            let mut batch = [Feed { sequence: &mut *sequence, tokens, output: Output::Last }];
            runner.forward(&mut batch, &NEVER).unwrap();
        }
    }
    let mut batch: Vec<Feed<'_>> =
        sequences.iter_mut().map(|sequence| Feed { sequence, tokens: &[1], output: Output::Last }).collect();
    runner.forward(&mut batch, &NEVER).unwrap();
    println!(
        "outcome: {} {} {} {}",
        plan.anonymous_at(n_ctx),
        anonymous_bytes().unwrap(),
        plan.full(),
        peak_bytes().unwrap()
    );
}

/// The anonymous memory after 500 steps of decoding with a window of 64, and after 10,500.
#[test]
#[ignore = "started by another"]
fn many_steps() {
    if std::env::var_os(CASE).is_none() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny/bise-tiny.Q4_K_M.gguf");
    let engine = Engine::builder().threads(1).sliding_window(64).open(path).unwrap();
    let mut session = engine.session(&SessionOptions { n_ctx: 512, ..SessionOptions::default() }).unwrap();
    let mut decode = |n: u32| {
        for i in 0..n {
            session.decode(300 + i % 1000).unwrap();
        }
        anonymous_bytes().unwrap()
    };
    let (before, after) = (decode(500), decode(10_000));
    println!("outcome: {before} {after} {} 0", session.position());
}

#[test]
fn ten_thousand_steps_past_a_window_take_no_more_memory() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "many_steps", "--ignored", "--nocapture"]).env(CASE, "many steps");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| Some(line.split_once("outcome: ")?.1)).expect("it succeeds");
    let numbers: Vec<usize> = line.split(' ').map(|number| number.parse().unwrap()).collect();
    println!("{} after 500 steps, {} after 10,500", format_bytes(numbers[0]), format_bytes(numbers[1]));
    assert_eq!(numbers[2], 10_500);
    // The list of tokens grows, by four bytes a token and in doubles.
    assert!(numbers[1] <= numbers[0] + (192 << 10), "{numbers:?}");
}

/// Small enough for every run of the tests; what does not depend on the model weighs more here.
#[test]
fn small_models_take_what_is_predicted() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny/bise-tiny.Q4_K_M.gguf");
    let case = |n_ctx, cache, n_sequences, n_ubatch| Case {
        model: "tiny",
        n_ctx,
        cache,
        n_sequences,
        n_ubatch,
        reads_all: true,
    };
    println!("{HEADER}");
    let cases = [
        case(256, CacheType::F16, 1, 512),
        case(1024, CacheType::F32, 4, 64),
        case(512, CacheType::Q8_0, 8, 256),
        case(700, CacheType::Q4_0, 2, 100),
    ];
    let wrong: Vec<String> = cases.iter().flat_map(|case| case.check(&path, 0.03, 8 << 20)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

const HEADER: &str = "| model | context | cache | sequences | pages | anonymous, predicted | measured | | all, predicted | measured | |\n\
    |---|---:|---|---:|---|---:|---:|---:|---:|---:|---:|";

fn models(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("BISE_MODELS").expect("BISE_MODELS names the folder of models")).join(name)
}

#[test]
#[ignore = "needs BISE_MODELS"]
fn a_7b_takes_what_is_predicted() {
    use CacheType::{F16, F32, Q4_0, Q8_0};
    let case = |model, n_ctx, cache, n_sequences| Case {
        model,
        n_ctx,
        cache,
        n_sequences,
        n_ubatch: 512,
        reads_all: model != "m7b.gguf" && n_ctx * n_sequences <= 8192,
    };
    let (whole, four, four_q8) = ("m7b.gguf", "m7b-4l.gguf", "m7b-4l-q8.gguf");
    let cases = [
        case(whole, 512, F16, 1),
        case(whole, 2048, F16, 1),
        case(whole, 4096, F16, 1),
        case(whole, 4096, F32, 1),
        case(whole, 4096, Q8_0, 1),
        case(whole, 4096, Q4_0, 1),
        case(whole, 4096, F16, 4),
        case(whole, 4096, Q8_0, 8),
        case(whole, 32_768, F16, 2),
        case(whole, 1024, Q4_0, 8),
        case(four, 1024, F16, 1),
        case(four, 4096, F16, 1),
        case(four, 4096, F32, 2),
        case(four, 4096, Q8_0, 1),
        case(four, 8192, Q4_0, 1),
        case(four, 4096, F16, 8),
        case(four, 2048, F32, 4),
        case(four_q8, 4096, F16, 1),
        case(four_q8, 2048, Q8_0, 4),
        case(four_q8, 4096, F32, 8),
    ];
    println!("{HEADER}");
    let wrong: Vec<String> = cases.iter().flat_map(|case| case.check(&models(case.model), 0.03, 0)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
