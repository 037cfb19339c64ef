//! The sliding window at work: a long text through a cyclic table of pages gives what keeping everything gives.

use std::path::{Path, PathBuf};

use bise_kernels::kv_page::{CacheType, PageLayout};
use bise_kernels::{Isa, KernelTable, Team};
use bise_models::gguf::GgufFile;
use bise_models::{KvCache, Mistral, MistralConfig, Scratch, Span, Wanted};

fn open(path: PathBuf) -> Mistral {
    let file = GgufFile::open(path).unwrap();
    let config = MistralConfig::from_metadata(file.metadata()).unwrap();
    Mistral::load(&file, config, KernelTable::for_isa(Isa::detect()).unwrap()).unwrap()
}

fn ids(n: usize, n_vocab: usize) -> Vec<u32> {
    (0..n).map(|i| ((31 * i * i + 17 * i + 5) % n_vocab) as u32).collect()
}

/// Reads `ids` in chunks, and calls `each(i, logits)` with the logits that are wanted of chunk `i`.
fn read(
    model: &Mistral,
    cache: &mut KvCache,
    ids: &[u32],
    chunk: usize,
    wanted: Wanted,
    each: &mut dyn FnMut(usize, &[f32]),
) {
    let team = Team::new(1).unwrap();
    let mut scratch = Scratch::new(model.config(), &team, chunk);
    for (i, tokens) in ids.chunks(chunk).enumerate() {
        let mut batch = [Span { cache, tokens, wanted }];
        each(i, model.forward(&team, &mut batch, &mut scratch).unwrap());
    }
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|l| l.to_bits()).collect()
}

/// Logits of the same ids from a cyclic table, which reads the window's pages alone, and from one that keeps every page.
fn compare(model: &Mistral, cache_type: CacheType, n: usize, chunks: [usize; 2], wanted: Wanted) {
    let config = model.config();
    let layout = PageLayout::new(config.n_kv_heads, config.head_dim, cache_type, cache_type);
    let ids = ids(n, config.n_vocab);
    let window = config.sliding_window;
    assert!(window.is_some_and(|w| w + 400 < n), "the window is much shorter than the text");

    let mut everything = Vec::new();
    let mut cache = KvCache::keeping_all(layout, config.n_layers, n, window);
    read(model, &mut cache, &ids, chunks[0], wanted, &mut |_, logits| everything.push(bits(logits)));
    assert!(cache.rewind(1), "every page is kept");
    if chunks[0] != chunks[1] {
        everything = everything.concat().chunks(config.n_vocab * chunks[1]).map(<[u32]>::to_vec).collect();
    }

    let mut cache = KvCache::new(layout, config.n_layers, n, window);
    read(model, &mut cache, &ids, chunks[1], wanted, &mut |i, logits| {
        assert!(bits(logits) == everything[i], "{cache_type:?}, chunk {i} of {}", chunks[1]);
    });
    assert!(!cache.rewind(1), "the first pages were written over");
}

#[test]
fn a_long_text_through_the_built_in_model_is_as_if_everything_was_kept() {
    let model = open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tiny/bise-tiny.Q4_K_M.gguf"));
    compare(&model, CacheType::F16, 5000, [40, 40], Wanted::Last);
}

#[test]
fn every_position_of_a_long_text_is_as_if_everything_was_kept() {
    let oracles = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles");
    for name in ["window_1", "window_5", "window_70_f16"] {
        let model = open(oracles.join(name).with_extension("gguf"));
        for cache_type in [CacheType::F16, CacheType::F32, CacheType::Q8_0, CacheType::Q4_0] {
            for chunks in [[160, 1], [7, 480]] {
                compare(&model, cache_type, 480, chunks, Wanted::All);
            }
        }
    }
}
