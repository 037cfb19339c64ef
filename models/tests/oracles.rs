//! The forward pass against `transformers`, on small models of awkward shapes (`oracles/make.py`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bise_kernels::kv_page::{CacheType, PageLayout};
use bise_kernels::{Isa, KernelTable, Team};
use bise_models::gguf::GgufFile;
use bise_models::{KvCache, Mistral, MistralConfig, Output, PagePool, PassContext, Span};

const N_IDS: usize = 96;

fn oracles() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles");
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "gguf")).collect();
    paths.sort();
    assert_eq!(paths.len(), 13);
    paths
}

fn open(path: &Path, isa: Isa) -> Mistral {
    let file = GgufFile::open(path).unwrap();
    let config = MistralConfig::from_metadata(file.metadata()).unwrap();
    Mistral::load(&file, config, KernelTable::for_isa(isa).unwrap()).unwrap()
}

/// Logits of the oracle's ids, read in chunks.
fn read(model: &Mistral, team: &Arc<Team>, cache_type: CacheType, chunk: usize, output: Output) -> Vec<f32> {
    let config = model.config();
    let layout = PageLayout::new(config.n_kv_heads, config.head_dim, cache_type, cache_type);
    let pool = PagePool::new(layout, config.n_layers, usize::MAX);
    let mut cache = KvCache::new(&pool, N_IDS, config.sliding_window);
    let mut context = PassContext::new(Arc::clone(team));
    let ids: Vec<u32> = (0..N_IDS).map(|i| ((7 * i * i + 3 * i + 1) % config.n_vocab) as u32).collect();
    let mut logits = Vec::new();
    for tokens in ids.chunks(chunk) {
        let mut batch = [Span { cache: &mut cache, tokens, output, adapters: &[] }];
        logits.extend(forward(model, &mut context, &mut batch));
    }
    logits
}

/// One pass, and all the outputs it was asked for.
fn forward(model: &Mistral, context: &mut PassContext, batch: &mut [Span<'_>]) -> Vec<f32> {
    let never = AtomicBool::new(false);
    let mut outputs = model.forward(context, batch, &never).unwrap();
    let mut values = Vec::new();
    while let Some(row) = outputs.next_row().unwrap() {
        values.extend_from_slice(row.values);
    }
    values
}

/// The float32 payload of a `.npy` file.
fn npy(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[header..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
    let sum: f64 = logits.iter().map(|l| (f64::from(*l) - max).exp()).sum();
    logits.iter().map(|l| f64::from(*l) - max - sum.ln()).collect()
}

fn argmax(values: &[f64]) -> usize {
    (0..values.len()).max_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap()
}

/// The largest difference of log-probabilities; the likeliest token must agree except in near ties.
fn distance(name: &str, ours: &[f32], theirs: &[f32], n_vocab: usize) -> f64 {
    let mut worst = 0.0;
    for (i, (ours, theirs)) in ours.chunks(n_vocab).zip(theirs.chunks(n_vocab)).enumerate() {
        let (ours, theirs) = (log_probabilities(ours), log_probabilities(theirs));
        worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(worst, f64::max);
        let (a, b) = (argmax(&ours), argmax(&theirs));
        assert!(a == b || theirs[b] - theirs[a] < 0.03, "{name}, position {i}: token {a} rather than {b}");
    }
    worst
}

#[test]
fn log_probabilities_are_those_of_transformers() {
    let team = Arc::new(Team::new(2).unwrap());
    for path in oracles() {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let model = open(&path, Isa::detect());
        let theirs = npy(&path.with_extension("npy"));
        let n_vocab = model.config().n_vocab;
        assert_eq!(theirs.len(), N_IDS * n_vocab);
        let exact = distance(name, &read(&model, &team, CacheType::F32, 64, Output::All), &theirs, n_vocab);
        assert!(exact < 1e-3, "{name}, f32 cache: off by {exact}");
        let half = distance(name, &read(&model, &team, CacheType::F16, 64, Output::All), &theirs, n_vocab);
        assert!(half < 0.03, "{name}, f16 cache: off by {half}");
        println!("{name}: off by {exact:.1e} with an f32 cache, {half:.1e} with f16");
    }
}

#[test]
fn bits_do_not_depend_on_chunks_threads_or_instruction_set() {
    let solo = Arc::new(Team::new(1).unwrap());
    for path in oracles() {
        for cache_type in [CacheType::F16, CacheType::Q8_0] {
            let golden = read(&open(&path, Isa::Scalar), &solo, cache_type, N_IDS, Output::All);
            for isa in Isa::available() {
                let model = open(&path, isa);
                for (threads, chunk) in [(1, 1), (2, 7), (3, 64), (2, N_IDS)] {
                    let team = Arc::new(Team::new(threads).unwrap());
                    let logits = read(&model, &team, cache_type, chunk, Output::All);
                    let same = logits.iter().zip(&golden).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(
                        same,
                        "{}, {cache_type:?}, {isa}, {threads} threads, chunks of {chunk}",
                        path.display()
                    );
                }
            }
        }
    }
}

#[test]
fn the_last_logits_are_those_of_all() {
    let team = Arc::new(Team::new(2).unwrap());
    let model = open(&oracles()[0], Isa::detect());
    let all = read(&model, &team, CacheType::F16, N_IDS, Output::All);
    let last = read(&model, &team, CacheType::F16, N_IDS, Output::Last);
    assert_eq!(all[all.len() - last.len()..], last);
}

#[test]
fn sequences_read_together_are_as_if_alone() {
    let team = Arc::new(Team::new(2).unwrap());
    for path in oracles() {
        let model = open(&path, Isa::detect());
        let config = model.config();
        let layout = PageLayout::new(config.n_kv_heads, config.head_dim, CacheType::F16, CacheType::F16);
        let pool = PagePool::new(layout, config.n_layers, usize::MAX);
        let cache = || KvCache::new(&pool, N_IDS, config.sliding_window);
        let mut context = PassContext::new(Arc::clone(&team));
        let texts: [&[u32]; 3] = [&[1, 50, 60, 70, 80], &[1, 90], &[1, 100, 110, 120, 5, 6, 7]];
        let mut alone = Vec::new();
        for tokens in texts {
            let mut batch = [Span { cache: &mut cache(), tokens, output: Output::Last, adapters: &[] }];
            alone.extend(forward(&model, &mut context, &mut batch));
        }
        let mut caches = texts.map(|_| cache());
        let mut batch: Vec<Span<'_>> = caches
            .iter_mut()
            .zip(texts)
            .map(|(cache, tokens)| Span { cache, tokens, output: Output::Last, adapters: &[] })
            .collect();
        let together = forward(&model, &mut context, &mut batch);
        assert!(together == alone, "{}", path.display());
    }
}
