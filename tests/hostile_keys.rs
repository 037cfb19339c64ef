//! Every key that says how a model computes, with values that nobody should write: the model runs and gives finite
//! logits, or the error names the key, or the tensor that no longer fits.

use std::path::Path;

use bise::gguf::{Array, GgufFile, Value};
use bise::{Engine, EngineOptions, SessionOptions};

/// The keys of an architecture that are read, and of those that are checked, one of each kind.
const KEYS: &[&str] = &[
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
    "expert_count",
    "expert_used_count",
    "expert_feed_forward_length",
    "nextn_predict_layers",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.key_length_swa",
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.temperature_scale",
    "attention.scale",
    "attention.causal",
    "attention.clamp_kqv",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.attn_factor",
    "rope.scaling.original_context_length",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_log_multiplier",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.beta_fast",
    "rope.scaling.beta_slow",
    "rope.scaling.mscale",
    "rope.scaling.mscale_all_dim",
    "rope.scaling_beta",
    "pooling_type",
    "vision.block_count",
    "never_heard_of",
];

/// Keys of a vocabulary, beside those that the models have.
const TOKENIZER_KEYS: &[&str] = &[
    "chat_template",
    "ggml.pre",
    "ggml.merges",
    "ggml.unknown_token_id",
    "ggml.eot_token_id",
    "ggml.padding_token_id",
    "ggml.fim_pre_token_id",
    "ggml.add_bos_token",
    "ggml.add_eos_token",
    "ggml.add_space_prefix",
    "ggml.remove_extra_whitespaces",
    "ggml.precompiled_charsmap",
];

/// Numbers of every type at and around its ends, and everything that is no number.
fn values() -> Vec<Value> {
    let mut values = vec![
        Value::U8(0),
        Value::U8(1),
        Value::U8(u8::MAX),
        Value::I8(-1),
        Value::I8(3),
        Value::U16(2),
        Value::U16(u16::MAX),
        Value::I16(i16::MIN),
        Value::U32(5),
        Value::U32(1 << 20),
        Value::U32(1 << 31),
        Value::U32(u32::MAX),
        Value::I32(i32::MAX),
        Value::I32(i32::MIN),
        Value::U64(1 << 32),
        Value::U64(1 << 63),
        Value::U64(u64::MAX),
        Value::I64(7),
        Value::I64(i64::MIN),
        Value::I64(i64::MAX),
        Value::Bool(false),
        Value::Bool(true),
        Value::from(""),
        Value::from("linear"),
        Value::from("yarn"),
        Value::from("\x1b[2J\nlongrope"),
        Value::Str([0xff, 0xfe].into()),
        Value::Array(Array::U32(Vec::new())),
        Value::Array(Array::U32(vec![4])),
        Value::Array(Array::U32(vec![2, 3])),
        Value::Array(Array::I64(vec![-1; 4])),
        Value::Array(Array::F32(vec![1.0])),
        Value::Array(Array::Bool(vec![true])),
        Value::Array(Array::Str([b"yarn"].into_iter().collect())),
        Value::Array(Array::Array(vec![Array::U8(Vec::new())])),
    ];
    let floats = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        1e4,
        1e-3,
        1e9,
        1e-20,
        1e20,
        -1e20,
        f32::MIN_POSITIVE,
        1e-45,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        1.000_000_1,
    ];
    values.extend(floats.map(Value::F32));
    values.extend([1e-320, 1e300, f64::NAN, f64::INFINITY, 16.0].map(Value::F64));
    values
}

/// Opens the model at `path` with `key` set to `value`, reads four tokens and writes one more.
fn run(path: &Path, key: &str, value: &Value) -> Result<(), String> {
    let options = EngineOptions {
        threads: Some(1),
        overrides: vec![(key.to_owned(), value.clone())],
        ..EngineOptions::default()
    };
    let engine = Engine::open_with(path, &options).map_err(|error| error.to_string())?;
    let mut session = engine
        .session(&SessionOptions { n_ctx: 300, n_ubatch: 64, ..SessionOptions::default() })
        .map_err(|error| error.to_string())?;
    for tokens in [&[1, 2, 3, 4][..], &[5]] {
        let logits = session.prefill(tokens).map_err(|error| error.to_string())?;
        assert!(logits.iter().all(|logit| logit.is_finite()), "{key} {value:?}");
    }
    Ok(())
}

fn try_all(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/oracles").join(name);
    let file = GgufFile::open(&path).unwrap();
    let arch = file.metadata().require::<&str>("general.architecture").unwrap();
    let others = file.metadata().iter().map(|(key, _)| key.to_owned()).filter(|key| !key.starts_with(arch));
    let keys = KEYS.iter().map(|key| format!("{arch}.{key}"));
    let (mut n_ran, mut n_refused) = (0, 0);
    for key in keys.chain(others).chain(TOKENIZER_KEYS.iter().map(|key| format!("tokenizer.{key}"))) {
        for value in values() {
            match run(&path, &key, &value) {
                Ok(()) => n_ran += 1,
                Err(message) => {
                    let what = format!("{name}: {key} {value:?}: {message}");
                    assert!(message.contains(name), "the file is not named: {what}");
                    assert!(
                        message.contains("key '") || message.contains("tensor '"),
                        "nothing is named: {what}"
                    );
                    assert!(message.contains("found") || message.contains("missing"), "{what}");
                    assert!(!message.contains(char::is_control), "control characters: {what}");
                    assert!(message.len() < 500, "{what}");
                    n_refused += 1;
                }
            }
        }
    }
    assert!(n_ran > 100 && n_refused > 1000, "{n_ran} ran, {n_refused} were refused");
}

#[test]
fn a_hostile_value_of_any_key_of_a_ministral_is_refused_by_name_or_runs() {
    try_all("ministral_3.gguf");
}

#[test]
fn a_hostile_value_of_any_key_of_a_mixtral_is_refused_by_name_or_runs() {
    try_all("mixtral_stacked.gguf");
}

#[test]
fn a_hostile_value_of_any_key_of_a_model_with_a_window_is_refused_by_name_or_runs() {
    try_all("window_5.gguf");
}
