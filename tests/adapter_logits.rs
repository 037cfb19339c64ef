//! Adapters of PEFT beside their model: logits are those of PEFT.

#![cfg(feature = "convert")]

mod adapter_support;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use adapter_support::{Fixture, names};
use bise::adapter::{self, Adapter, AdapterFile};
use bise::gguf::GgufFile;
use bise_kernels::kv_page::{CacheType, PageLayout};
use bise_kernels::{KernelTable, Team};
use bise_models::{KvCache, Mistral, MistralConfig, Output, PagePool, PassContext, Span};

/// Logits at all positions.
fn logits(model: &Mistral, adapter: Arc<Adapter>, tokens: &[u32]) -> Vec<Vec<f32>> {
    let config = model.config();
    let layout = PageLayout::new(config.n_kv_heads, config.head_dim, CacheType::F32, CacheType::F32);
    let pool = PagePool::new(layout, config.n_layers, usize::MAX);
    let mut cache = KvCache::new(&pool, tokens.len(), config.sliding_window);
    let mut context = PassContext::new(Arc::new(Team::new(1).unwrap()));
    let adapters = [(adapter, 1.0)];
    let mut batch = [Span { cache: &mut cache, tokens, output: Output::All, adapters: &adapters }];
    let never = AtomicBool::new(false);
    let mut outputs = model.forward(&mut context, &mut batch, &never).unwrap();
    let mut rows = Vec::new();
    while let Some(row) = outputs.next_row().unwrap() {
        rows.push(row.values.to_vec());
    }
    rows
}

#[test]
fn folders_and_files_act_as_in_peft() {
    let mut n_compared = 0;
    for name in names(false) {
        let (fixture, folder) = (Fixture::load(&name), tempfile::tempdir().unwrap());
        fixture.write(folder.path());
        let file = GgufFile::open(fixture.base()).unwrap();
        let config = MistralConfig::from_metadata(file.metadata()).unwrap();
        let model = Mistral::load(&file, config, KernelTable::detect()).unwrap();
        let gguf = folder.path().join("a.gguf");
        let read = AdapterFile::open(folder.path(), model.config()).unwrap();
        let parts = read.parts.iter().map(|(target, part)| (*target, part));
        adapter::gguf::write(&gguf, model.config(), parts, &Default::default()).unwrap();
        if name.contains("embedding") {
            for path in [folder.path(), &gguf] {
                let error = adapter::load(path, &model).unwrap_err().to_string();
                assert!(error.contains("embed_tokens") || error.contains("token_embd"), "{error}");
            }
            continue;
        }
        for path in [folder.path(), &gguf] {
            let adapter = Arc::new(adapter::load(path, &model).unwrap());
            let found = logits(&model, adapter, &fixture.tokens());
            let expected = fixture.logits();
            assert_eq!(found.len(), expected.len());
            let pairs = found.iter().zip(&expected).flat_map(|(found, expected)| found.iter().zip(expected));
            let error = pairs.map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max);
            assert!(error < 1e-3, "{name}, {}: {error}", path.display());
        }
        n_compared += 1;
    }
    assert_eq!(n_compared, 11);
}
