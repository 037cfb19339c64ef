//! Adapters that PEFT trained and wrote, beside the models they were made for: PEFT's logits (`adapter/make.py`).

#![cfg(feature = "convert")]

use std::path::{Path, PathBuf};

use bise::adapter::Adapters;
use bise::{CacheType, Engine, SessionOptions};

const N_IDS: usize = 24;
/// Tokens after which there are logits.
const ROWS: [usize; 4] = [0, 7, 15, 23];

/// Folders of adapters, each with a factor on its scale.
type Scaled = &'static [(&'static str, f32)];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adapter").join(name)
}

/// The float32 payload of a `.npy` file.
fn npy(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let header = 10 + u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    bytes[header..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// The logits of a case's rows, in chunks of `n_ubatch`.
fn logits(engine: &Engine, adapters: Adapters, n_ubatch: usize) -> Vec<f32> {
    let f32s = CacheType::F32;
    let options = SessionOptions { k_type: f32s, v_type: f32s, n_ubatch, ..SessionOptions::default() };
    let mut session = engine.session(&options).unwrap();
    session.set_adapters(adapters).unwrap();
    let n_vocab = engine.config().n_vocab;
    let ids: Vec<u32> = (0..N_IDS).map(|i| ((7 * i * i + 3 * i + 1) % n_vocab) as u32).collect();
    let mut rows = Vec::new();
    session
        .score(&ids, &mut |i, logits| {
            if ROWS.contains(&i) {
                rows.extend_from_slice(logits)
            }
        })
        .unwrap();
    rows
}

#[test]
fn logits_are_those_of_peft() {
    // Every projection and the output; rslora; ranks and alphas by pattern; all of these at once with factors; a window; one head of keys,
    // wider than its share; tied embeddings.
    let cases: [(&str, &str, Scaled); 7] = [
        ("plain_every", "plain_f32", &[("every", 1.0)]),
        ("plain_rslora", "plain_f32", &[("rslora", 1.0)]),
        ("plain_patterns", "plain_f32", &[("patterns", 1.0)]),
        ("plain_together", "plain_f32", &[("every", 0.75), ("rslora", -0.5), ("patterns", 1.0)]),
        ("window_every", "window_5", &[("every", 1.0)]),
        ("mqa_wide_mqa", "mqa_wide", &[("mqa", 1.0)]),
        ("narrow_tied_narrow", "mha_narrow_tied", &[("narrow", 1.0)]),
    ];
    for (name, model, adapters) in cases {
        let oracles = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/oracles");
        let engine = Engine::builder().threads(2).open(oracles.join(model).with_extension("gguf")).unwrap();
        let load = |(folder, scale): &(&str, f32)| (engine.load_adapter(fixture(folder)).unwrap(), *scale);
        let adapters = Adapters::new(adapters.iter().map(load));
        let expected = npy(&fixture(name).with_extension("npy"));
        assert_eq!(expected.len(), ROWS.len() * engine.config().n_vocab);
        let distance =
            |found: &[f32]| found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let found = logits(&engine, adapters.clone(), 512);
        assert_eq!(found.len(), expected.len());
        assert!(distance(&found) < 1e-3, "{name}: off by {}", distance(&found));
        println!("{name}: off by {:.1e}", distance(&found));
        assert!(logits(&engine, adapters, 5) == found, "{name}, in parts");
        assert!(distance(&logits(&engine, Adapters::none(), 512)) > 0.1, "{name}: the adapters do nothing");
    }
}
