//! Times candle's quantized llama with the flags and the JSON of llama-bench.
//!
//! ```text
//! RUSTFLAGS="-C target-cpu=native" cargo build --release --manifest-path benches/candle/Cargo.toml
//! ```
//!
//! candle 0.11 picks its products of quantized weights at run time: AMX, AVX-512 VNNI, AVX-VNNI or AVX2 for
//! Q4_K, Q6_K and Q8_0, which it copies for them on first use; AVX2 for Q4_0, Q2_K, Q3_K and Q5_K; none for
//! Q4_1, Q5_0 and Q5_1. `target-cpu=native` is for all the rest.

use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::time::Instant;

use candle_core::quantized::gguf_file;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
Times candle as llama-bench would: one test for -p, one for -n, each after -d tokens.

  -m, --model <file>      GGUF of the architecture llama
  -p, --n-prompt <n>      tokens read in one call (512; 0: no such test)
  -n, --n-gen <n>         tokens written one by one (128; 0: no such test)
  -d, --n-depth <n>       tokens before them (0)
  -t, --threads <n>       threads (all)
  -r, --repetitions <n>   (5)
  -o, --output json       the only one";

/// Tokens of the depth that are read in one call: its scores grow with the square of them.
const N_UBATCH: usize = 512;

/// Tokens of the warm-up: candle copies weights on first use, once for 32 rows and more, once for fewer.
const N_WARM_UP: usize = 32;

struct Args {
    model: String,
    n_prompt: usize,
    n_gen: usize,
    n_depth: usize,
    n_threads: usize,
    repetitions: usize,
}

impl Args {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Args> {
        let n_threads = std::thread::available_parallelism()?.get();
        let model = String::new();
        let mut args = Args { model, n_prompt: 512, n_gen: 128, n_depth: 0, n_threads, repetitions: 5 };
        while let Some(flag) = words.next() {
            if matches!(flag.as_str(), "-h" | "--help") {
                println!("{USAGE}");
                std::process::exit(0);
            }
            let value = words.next().ok_or_else(|| format!("{flag} has no value\n\n{USAGE}"))?;
            match flag.as_str() {
                "-m" | "--model" => args.model = value,
                "-p" | "--n-prompt" => args.n_prompt = value.parse()?,
                "-n" | "--n-gen" => args.n_gen = value.parse()?,
                "-d" | "--n-depth" => args.n_depth = value.parse()?,
                "-t" | "--threads" => args.n_threads = value.parse()?,
                "-r" | "--repetitions" => args.repetitions = value.parse()?,
                "-o" | "--output" if value == "json" => {}
                _ => return Err(format!("unknown: {flag} {value}\n\n{USAGE}").into()),
            }
        }
        Ok(args)
    }
}

/// A model and a source of random ids.
struct Bench {
    model: ModelWeights,
    n_vocab: u64,
    state: u64,
}

impl Bench {
    fn load(path: &str) -> Result<Bench> {
        let mut file = BufReader::new(File::open(path)?);
        let content = gguf_file::Content::read(&mut file)?;
        let embeddings = content.tensor_infos.get("token_embd.weight").ok_or("no token_embd.weight")?;
        let n_vocab = embeddings.shape.dims()[0] as u64;
        let model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
        Ok(Bench { model, n_vocab, state: 1 })
    }

    /// Reads `n` random ids in one call, at `position`. Logits are computed for the last.
    fn forward(&mut self, n: usize, position: usize) -> Result<()> {
        let id = || {
            self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((self.state >> 33) % self.n_vocab) as u32
        };
        let ids: Vec<u32> = std::iter::repeat_with(id).take(n).collect();
        self.model.forward(&Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?, position)?;
        Ok(())
    }

    /// Seconds of each repetition of `calls` calls with `n` ids each, after `n_depth` ids.
    fn time(&mut self, n: usize, calls: usize, args: &Args) -> Result<Vec<f64>> {
        self.forward(n.min(N_WARM_UP), 0)?;
        for position in (0..args.n_depth).step_by(N_UBATCH) {
            self.forward(N_UBATCH.min(args.n_depth - position), position)?;
        }
        let at_depth = self.model.clone();
        let mut seconds = Vec::new();
        for _ in 0..args.repetitions {
            self.model = at_depth.clone();
            let start = Instant::now();
            for call in 0..calls {
                self.forward(n, args.n_depth + n * call)?;
            }
            seconds.push(start.elapsed().as_secs_f64());
        }
        Ok(seconds)
    }
}

fn main() {
    if let Err(error) = run() {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let args = Args::parse(std::env::args().skip(1))?;
    let end = args.n_depth + args.n_prompt.max(args.n_gen);
    if end > MAX_SEQ_LEN {
        return Err(format!("{end} tokens: candle's rotations end at {MAX_SEQ_LEN}").into());
    }
    // SAFETY: no other thread runs yet. Both pools of candle, its own and rayon's, start on first use.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", args.n_threads.to_string()) };
    let mut bench = Bench::load(&args.model)?;
    let mut rows = Vec::new();
    for (n_prompt, n_gen) in [(args.n_prompt, 0), (0, args.n_gen)] {
        let (n, calls) = if n_prompt > 0 { (n_prompt, 1) } else { (1, n_gen) };
        if calls == 0 {
            continue;
        }
        let samples: Vec<f64> =
            bench.time(n, calls, &args)?.iter().map(|seconds| (n * calls) as f64 / seconds).collect();
        rows.push(serde_json::json!({
            "model_filename": args.model, "n_threads": args.n_threads,
            "n_prompt": n_prompt, "n_gen": n_gen, "n_depth": args.n_depth,
            "avg_ts": samples.iter().sum::<f64>() / samples.len() as f64, "samples_ts": samples,
        }));
    }
    println!("{}", serde_json::to_string_pretty(&rows)?);
    Ok(())
}
