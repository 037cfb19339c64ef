//! The loss of training is that of the model that serves with the same adapter.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bise_kernels::kv_page::{CacheType, PageLayout};
use bise_kernels::{Isa, Team};
use bise_models::train::TrainOptions;
use bise_models::{Adapter, KvCache, Mistral, Output, PagePool, PassContext, Span};

use super::cases::{CASES, EXACT, Text, trainer};

/// `Σ −ln p` over the labels of a text.
fn served(model: &Mistral, adapter: &Arc<Adapter>, text: &Text) -> f64 {
    let config = model.config();
    let layout = PageLayout::new(config.n_kv_heads, config.head_dim, CacheType::F32, CacheType::F32);
    let pool = PagePool::new(layout, config.n_layers, usize::MAX);
    let mut cache = KvCache::new(&pool, text.tokens.len(), config.sliding_window);
    let mut context = PassContext::new(Arc::new(Team::new(2).unwrap()));
    let adapters = [(Arc::clone(adapter), 1.0)];
    let mut batch =
        [Span { cache: &mut cache, tokens: &text.tokens, output: Output::All, adapters: &adapters }];
    let never = AtomicBool::new(false);
    let mut outputs = model.forward(&mut context, &mut batch, &never).unwrap();
    let mut loss = 0.0;
    let mut i = 1;
    while let Some(row) = outputs.next_row().unwrap() {
        if i < text.tokens.len() && text.is_label[i] {
            let largest = row.values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.values.iter().map(|x| f64::from(x - largest).exp()).sum();
            loss += sum.ln() + f64::from(largest) - f64::from(row.values[text.tokens[i] as usize]);
        }
        i += 1;
    }
    loss
}

#[test]
fn the_loss_is_that_of_the_model_that_serves() {
    for case in CASES {
        let model = case.model(Isa::detect());
        let adapter = Arc::new(case.adapter(&model));
        let texts = case.texts(&model);
        let examples: Vec<_> = texts.iter().map(Text::example).collect();
        let options = TrainOptions { exact: false, ..EXACT };
        let loss = trainer(case, &model, &options, 2).loss(&examples).unwrap().sum;
        let served: f64 = texts.iter().map(|text| served(&model, &adapter, text)).sum();
        let off = (loss / served - 1.0).abs();
        // Sums in another order are rounded to other 8-bit activations here and there.
        let room = if case.name == "tiny" { 3e-3 } else { 1e-6 };
        assert!(off < room, "{}: {loss}, served {served}", case.name);
        println!("{}: off by {off:.1e}", case.name);
    }
}
