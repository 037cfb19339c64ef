//! A pass of training over a model's file, forward and backward, beside the most that the cores can do.
//!
//! ```text
//! BENCH_FILE=m.gguf cargo bench --bench training                   one example of 512 tokens
//! BENCH_FILE=m.gguf BENCH_ROWS=2048 BENCH_THREADS=8 BENCH_EXACT=1 cargo bench --bench training
//! BENCH_FILE=m.gguf BENCH_CHECKPOINTING=0 cargo bench --bench training    activations are kept: the backward pass alone
//! ```
//!
//! Rank 16 beside queries, keys, values and output of every layer. Operations are two for each term of a sum; the peak is twelve independent
//! chains of fused multiply-adds in registers on every thread, before and after.

#[path = "limits/fma.rs"]
mod fma;
#[allow(dead_code)]
mod limits;

use std::sync::Arc;
use std::time::Instant;

use bise_kernels::{KernelTable, Team};
use bise_models::gguf::GgufFile;
use bise_models::train::{Example, Flops, Targets, TrainOptions, Trainer};
use bise_models::{Adapter, LowRank, MemoryBudget, Mistral, MistralConfig, Projection, Site};

const RANK: usize = 16;

fn main() {
    let Some(path) = std::env::var_os("BENCH_FILE") else {
        println!("left out: BENCH_FILE names no model");
        return;
    };
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<usize>().expect("a number"));
    let n_threads = number("BENCH_THREADS")
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let n_rows = number("BENCH_ROWS").unwrap_or(512);
    let exact = number("BENCH_EXACT").is_some_and(|exact| exact != 0);
    let checkpointing = number("BENCH_CHECKPOINTING").is_none_or(|on| on != 0);
    let file = GgufFile::open(path).expect("a model");
    let config = MistralConfig::from_metadata(file.metadata()).expect("a model");
    let model = Mistral::load(&file, config, KernelTable::detect()).expect("a model");
    let config = model.config();

    use Projection::*;
    let targets = Targets { projections: vec![AttnQ, AttnK, AttnV, AttnOutput], n_layers: config.n_layers };
    let sites = targets.sites(config).expect("matrices of every layer");
    let small = |n: usize| (0..n).map(|i| ((i * 7919) % 251) as f32 / 1e5 - 0.00125).collect();
    let parts = sites.iter().map(|(site, [n, k])| {
        (*site, LowRank { rank: RANK, scale: 2.0, a: small(RANK * k), b: small(n * RANK) })
    });
    let initial = Adapter::new("initial".into(), &model, parts).expect("shapes of the model");
    let ranks: Vec<(Site, usize)> = sites.iter().map(|(site, _)| (*site, RANK)).collect();
    let options = TrainOptions { dropout: 0.05, exact, max_rows: n_rows, checkpointing };
    let team = Arc::new(Team::new(n_threads).expect("threads can be started"));
    let peak = peak(&team);
    println!(
        "{}; {}; {n_threads} threads; commit {}",
        limits::cpu_name(),
        model.kernels().isa(),
        limits::commit()
    );
    println!("{:<10} {peak:>8.1} GFLOP/s", "peak");

    let bytes = Trainer::bytes(config, &ranks, &options, n_threads).expect("matrices that can be trained");
    let flops = Flops::of(config, &ranks, &options, n_rows, n_rows).expect("matrices that can be trained");
    let budget = MemoryBudget::unlimited();
    let mut trainer = Trainer::new(&model, &initial, &options, Arc::clone(&team), &budget).expect("memory");
    let tokens: Vec<u32> = (0..=n_rows).map(|i| (i * i % config.n_vocab) as u32).collect();
    let example = Example { tokens: &tokens, is_label: &vec![true; n_rows + 1], seed: 1 };
    trainer.backward(&[example]).expect("a pass");
    let (before, begin) = (trainer.times(), Instant::now());
    let loss = trainer.backward(&[example]).expect("a pass");
    let took = begin.elapsed().as_secs_f64();
    let times = trainer.times();
    let report = |what: &str, flops: f64, seconds: f64| {
        let rate = flops / seconds / 1e9;
        println!(
            "{what:<10} {rate:>8.1} GFLOP/s {:>6.1} % of the peak  {seconds:>8.3} s",
            100.0 * rate / peak
        );
    };
    report("forward", flops.forward, (times.forward - before.forward).as_secs_f64());
    report("backward", flops.backward + flops.recomputed, (times.backward - before.backward).as_secs_f64());
    println!(
        "{:.1} tokens/s, {} MB of buffers, a loss of {:.3}",
        n_rows as f64 / took,
        bytes >> 20,
        loss.mean()
    );
}

/// Billions of operations a second, the best of some tries.
fn peak(team: &Team) -> f64 {
    const ROUNDS: u64 = 10_000_000;
    let isa = KernelTable::detect().isa();
    let ops = fma::fma(isa, 1).expect("an instruction set with a fused multiply-add") * ROUNDS;
    let once = |_| {
        let begin = Instant::now();
        team.together(|| {
            team.run(team.n_threads(), |_, _| {
                fma::fma(isa, ROUNDS);
            })
        });
        ops as f64 * team.n_threads() as f64 / begin.elapsed().as_nanos() as f64
    };
    (0..5).map(once).fold(0.0, f64::max)
}
