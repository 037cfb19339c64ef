//! The sliding window at work: a long text in the pages of its window gives what keeping everything gives.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bise_kernels::kv_page::{CacheType, PageLayout};
use bise_kernels::{Isa, KernelTable, Team};
use bise_models::gguf::GgufFile;
use bise_models::{KvCache, Mistral, MistralConfig, Output, PagePool, PassContext, Span};

fn open(path: PathBuf) -> Mistral {
    let file = GgufFile::open(path).unwrap();
    let config = MistralConfig::from_metadata(file.metadata()).unwrap();
    Mistral::load(&file, config, KernelTable::for_isa(Isa::detect()).unwrap()).unwrap()
}

fn ids(n: usize, n_vocab: usize) -> Vec<u32> {
    (0..n).map(|i| ((31 * i * i + 17 * i + 5) % n_vocab) as u32).collect()
}

/// Reads `ids` in chunks, and calls `each(i, logits)` with the outputs of chunk `i`.
fn read(
    model: &Mistral,
    cache: &mut KvCache,
    ids: &[u32],
    chunk: usize,
    output: Output,
    each: &mut dyn FnMut(usize, &[f32]),
) {
    let (never, mut context) = (AtomicBool::new(false), PassContext::new(Arc::new(Team::new(1).unwrap())));
    for (i, tokens) in ids.chunks(chunk).enumerate() {
        let mut batch = [Span { cache, tokens, output, adapters: &[] }];
        let mut outputs = model.forward(&mut context, &mut batch, &never).unwrap();
        let mut values = Vec::new();
        while let Some(row) = outputs.next_row().unwrap() {
            values.extend_from_slice(row.values);
        }
        each(i, &values);
    }
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|l| l.to_bits()).collect()
}

/// Logits of the same ids from a cache that gives pages back once they are out of sight, and from one that keeps them all.
fn compare(model: &Mistral, cache_type: CacheType, n: usize, chunks: [usize; 2], output: Output) {
    let config = model.config();
    let layout = PageLayout::new(config.n_kv_heads, config.head_dim, cache_type, cache_type);
    let ids = ids(n, config.n_vocab);
    let window = config.sliding_window;
    assert!(window.is_some_and(|w| w + 400 < n), "the window is much shorter than the text");

    let mut everything = Vec::new();
    let pool = PagePool::new(layout, config.n_layers, usize::MAX);
    let mut cache = KvCache::new(&pool, n, window).keeping_all();
    read(model, &mut cache, &ids, chunks[0], output, &mut |_, logits| everything.push(bits(logits)));
    assert!(cache.truncate(1), "every page is kept");
    if chunks[0] != chunks[1] {
        everything = everything.concat().chunks(config.n_vocab * chunks[1]).map(<[u32]>::to_vec).collect();
    }

    let mut cache = KvCache::new(&pool, n, window);
    read(model, &mut cache, &ids, chunks[1], output, &mut |i, logits| {
        assert!(bits(logits) == everything[i], "{cache_type:?}, chunk {i} of {}", chunks[1]);
    });
    assert!(!cache.truncate(1), "the first pages were given back");
}

#[test]
fn a_long_text_through_the_built_in_model_is_as_if_everything_was_kept() {
    let model = open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tiny/bise-tiny.Q4_K_M.gguf"));
    compare(&model, CacheType::F16, 5000, [40, 40], Output::Last);
}

#[test]
fn every_position_of_a_long_text_is_as_if_everything_was_kept() {
    let oracles = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles");
    for name in ["window_1", "window_5", "window_70_f16"] {
        let model = open(oracles.join(name).with_extension("gguf"));
        for cache_type in [CacheType::F16, CacheType::F32, CacheType::Q8_0, CacheType::Q4_0] {
            for chunks in [[160, 1], [7, 480]] {
                compare(&model, cache_type, 480, chunks, Output::All);
            }
        }
    }
}
