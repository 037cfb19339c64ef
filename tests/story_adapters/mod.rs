//! Adapters for the built-in model, strong enough to change what it writes.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::Path;

use bise::adapter::peft::{PeftConfig, PeftWriteOptions};
use bise::adapter::{LowRank, Target, gguf};
use bise::gguf::GgufFile;
use bise::{MistralConfig, Projection, Site};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// The file that the built-in model is made from.
const MODEL_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny/bise-tiny.Q4_K_M.gguf");

fn config() -> MistralConfig {
    MistralConfig::from_metadata(GgufFile::open(Path::new(MODEL_FILE)).unwrap().metadata()).unwrap()
}

/// Parts beside every projection of every layer, other ones for each seed.
fn parts(config: &MistralConfig, seed: u64) -> Vec<(Target, LowRank)> {
    use Projection::*;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut numbers = |n: usize, size: f32| -> Vec<f32> {
        (0..n).map(|_| ((rng.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0) * size).collect()
    };
    let (rank, mut parts) = (3 + seed as usize % 3, Vec::new());
    for layer in 0..config.n_layers {
        for projection in [AttnQ, AttnK, AttnV, AttnOutput, FfnGate, FfnUp, FfnDown] {
            let site = Site { layer, projection, expert: None };
            let Some([n_rows, k]) = site.shape(config) else { continue };
            let (a, b) = (numbers(rank * k, 1.0 / (k as f32).sqrt()), numbers(n_rows * rank, 0.4));
            parts.push((Target::Matrix(site), LowRank { rank, scale: 1.0, a, b }));
        }
    }
    parts
}

fn by_reference(parts: &[(Target, LowRank)]) -> impl Iterator<Item = (Target, &LowRank)> {
    parts.iter().map(|(target, part)| (*target, part))
}

/// Writes an adapter as a GGUF file.
pub fn write_gguf(path: &Path, seed: u64) {
    let config = config();
    let parts = parts(&config, seed);
    gguf::write(path, &config, by_reference(&parts), &gguf::GgufWriteOptions::default()).unwrap();
}

/// Writes an adapter as a folder of PEFT.
pub fn write_peft(folder: &Path, seed: u64) {
    let config = config();
    let parts = parts(&config, seed);
    let peft = PeftConfig::of_parts(by_reference(&parts));
    peft.write(folder, &config, by_reference(&parts), &PeftWriteOptions::default()).unwrap();
}
