//! Embeddings: pooled from the hidden states of each text by itself, whatever else is in the pass.

#![cfg(feature = "builtin-model")]

use std::sync::atomic::AtomicBool;

use bise::embedding::{EmbedOptions, Pooling};
use bise::gguf::Value;
use bise::{Engine, EngineOptions, Error, Feed, Output, SessionOptions};

const TEXTS: [&str; 6] = [
    "Once upon a time there was a little boy named Hugo.",
    "The cat",
    "",
    "One day the wind came down from the mountains and blew the hat of the old man into the lake.",
    "The cat",
    "a",
];

fn engine_with(overrides: &[(&str, Value)]) -> Engine {
    let overrides = overrides.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    Engine::builtin_with(&EngineOptions { threads: Some(2), overrides, ..EngineOptions::default() }).unwrap()
}

fn raw(pooling: Pooling) -> EmbedOptions {
    EmbedOptions { pooling: Some(pooling), normalize: false, ..EmbedOptions::default() }
}

/// The hidden states of a text, read alone in one pass.
fn states(engine: &Engine, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut runner = engine.runner();
    let mut sequence = engine.sequence(&SessionOptions::default());
    let never = AtomicBool::new(false);
    let mut batch = [Feed { sequence: &mut sequence, tokens, output: Output::Hidden }];
    let mut outputs = runner.forward(&mut batch, &never).unwrap();
    let mut states = Vec::new();
    while let Some(row) = outputs.next_row().unwrap() {
        states.push(row.values.to_vec());
    }
    states
}

#[test]
fn a_vector_is_pooled_from_the_hidden_states_of_its_text() {
    let engine = engine_with(&[]);
    let n_embd = engine.config().n_embd;
    let [mean, first, last] =
        [Pooling::Mean, Pooling::First, Pooling::Last].map(|p| engine.embed(&TEXTS, &raw(p)).unwrap());
    for (i, text) in TEXTS.iter().enumerate() {
        let states = states(&engine, &engine.embedding_tokens(text));
        let mean_of = |d: usize| {
            let sum: f64 = states.iter().map(|state| f64::from(state[d])).sum();
            (sum / states.len() as f64) as f32
        };
        assert_eq!(mean[i], (0..n_embd).map(mean_of).collect::<Vec<_>>(), "{text}");
        assert_eq!(first[i], states[0], "{text}");
        assert_eq!(&last[i], states.last().unwrap(), "{text}");
    }
    assert_ne!(mean[0], last[0]);
}

#[test]
fn the_same_text_has_the_same_bits_alone_and_among_others_in_any_pass() {
    let engine = engine_with(&[]);
    let long = TEXTS[3].repeat(12);
    let texts: Vec<&str> = TEXTS.into_iter().chain([long.as_str()]).collect();
    for pooling in [Pooling::Mean, Pooling::First, Pooling::Last] {
        let options = EmbedOptions { pooling: Some(pooling), ..EmbedOptions::default() };
        let alone: Vec<_> =
            texts.iter().map(|text| engine.embed(&[text], &options).unwrap().remove(0)).collect();
        for (n_ubatch, n_parallel) in [(512, 16), (512, 2), (7, 3), (1, 16), (64, 1)] {
            let session = SessionOptions { n_ubatch, ..SessionOptions::default() };
            let options = EmbedOptions { session, n_parallel, ..options.clone() };
            let together = engine.embed(&texts, &options).unwrap();
            assert_eq!(together, alone, "{pooling:?}, {n_ubatch} tokens a pass, {n_parallel} texts");
        }
    }
}

#[test]
fn vectors_have_length_one_unless_asked_otherwise() {
    let engine = engine_with(&[]);
    let length = |vector: &Vec<f32>| vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    for vector in engine.embed(&TEXTS, &EmbedOptions::default()).unwrap() {
        assert!((length(&vector) - 1.0).abs() < 1e-6, "{}", length(&vector));
    }
    let raw = engine.embed(&TEXTS, &raw(Pooling::Mean)).unwrap();
    assert!(raw.iter().any(|vector| (length(vector) - 1.0).abs() > 0.1));
}

#[test]
fn the_pooling_is_that_of_the_file_where_it_names_one() {
    let by_default = |engine: &Engine| {
        engine.embed(&TEXTS, &EmbedOptions { normalize: false, ..EmbedOptions::default() }).unwrap()
    };
    let plain = engine_with(&[]);
    assert_eq!(plain.pooling().unwrap(), None);
    assert_eq!(by_default(&plain), plain.embed(&TEXTS, &raw(Pooling::Mean)).unwrap());
    for (number, pooling) in [(1_u32, Pooling::Mean), (2, Pooling::First), (3, Pooling::Last)] {
        let engine = engine_with(&[("llama.pooling_type", Value::from(number))]);
        assert_eq!(engine.pooling().unwrap(), Some(pooling));
        assert_eq!(by_default(&engine), plain.embed(&TEXTS, &raw(pooling)).unwrap());
    }
    assert_eq!(engine_with(&[("llama.pooling_type", Value::from(0_u32))]).pooling().unwrap(), None);
    // A reranker's is refused where it would be used, and only there.
    let reranker = engine_with(&[("llama.pooling_type", Value::from(4_u32))]);
    let error = reranker.embed(&TEXTS, &EmbedOptions::default()).unwrap_err().to_string();
    assert!(error.contains("llama.pooling_type") && error.contains("found 4"), "{error}");
    assert!(reranker.embed(&TEXTS, &raw(Pooling::Last)).is_ok());
}

#[test]
fn a_model_trained_with_eos_at_the_end_of_texts_gets_it_there() {
    let plain = engine_with(&[]);
    let with_eos = engine_with(&[("tokenizer.ggml.add_eos_token", Value::from(true))]);
    let eos = plain.tokenizer().eos().unwrap();
    let mut tokens = plain.embedding_tokens("The cat");
    assert_ne!(tokens.last(), Some(&eos));
    tokens.push(eos);
    assert_eq!(with_eos.embedding_tokens("The cat"), tokens);
    assert_eq!(with_eos.embedding_tokens("The cat</s>"), tokens, "it is not doubled");
}

#[test]
fn hidden_states_come_for_every_token_in_order() {
    let engine = engine_with(&[]);
    let texts: Vec<Vec<u32>> = TEXTS.iter().map(|text| engine.embedding_tokens(text)).collect();
    let mut found: Vec<Vec<Vec<f32>>> = vec![Vec::new(); texts.len()];
    let session = SessionOptions { n_ubatch: 5, ..SessionOptions::default() };
    let options = EmbedOptions { session, ..EmbedOptions::default() };
    engine
        .hidden_states(&texts, &options, &mut |text, token, state| {
            assert_eq!(found[text].len(), token);
            found[text].push(state.to_vec());
        })
        .unwrap();
    for (found, tokens) in found.iter().zip(&texts) {
        assert_eq!(*found, states(&engine, tokens));
    }
}

#[test]
fn a_text_that_cannot_be_read_is_named_before_any_is_read() {
    let options = EngineOptions { sliding_window: Some(0), ..EngineOptions::default() };
    let engine = Engine::builtin_with(&options).unwrap();
    let session = SessionOptions { n_ctx: 20, ..SessionOptions::default() };
    let options = EmbedOptions { session, ..EmbedOptions::default() };
    let message = |error: Error| {
        assert!(matches!(error, Error::Text { .. } | Error::EmptyText { .. }), "{error:?}");
        error.to_string()
    };
    let long = "the cat sat ".repeat(20);
    let n = engine.embedding_tokens(&long).len();
    let error = message(engine.embed(&["a", "b", &long], &options).unwrap_err());
    let expected =
        format!("text 2: {n} tokens at position 0 do not fit the context: it has room for 20 more");
    assert_eq!(error, expected);
    // Its first token alone would fit; the text does not.
    let first = EmbedOptions { pooling: Some(Pooling::First), ..options.clone() };
    assert_eq!(message(engine.embed(&["a", "b", &long], &first).unwrap_err()), expected);

    let error = message(engine.embed_tokens(&[vec![1], vec![], vec![2]], &options).unwrap_err());
    assert_eq!(error, "text 1: there are no tokens to embed");
    let error = message(engine.embed_tokens(&[vec![1], vec![9], vec![2, 4096]], &options).unwrap_err());
    assert_eq!(error, "text 2: token 4096 is not in the vocabulary, which has 4096");
    let no_texts: [&str; 0] = [];
    assert_eq!(engine.embed(&no_texts, &options).unwrap(), [[0.0_f32; 0]; 0]);
}

#[test]
fn a_cancelled_embedding_ends_with_an_error() {
    let engine = engine_with(&[]);
    let options = EmbedOptions::default();
    options.cancel.cancel();
    assert!(engine.embed(&TEXTS, &options).unwrap_err().is_cancelled());
    options.cancel.reset();
    assert!(engine.embed(&TEXTS, &options).is_ok());
}
