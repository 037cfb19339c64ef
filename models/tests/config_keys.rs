//! Different converters have different names for the same thing.

use std::path::Path;

use bise_models::MistralConfig;
use bise_models::gguf::{Array, GgufFile, Metadata, StrArray, Value};
use bise_models::tokenizer::{Algorithm, Vocabulary};

fn ministral() -> GgufFile {
    let oracles = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles");
    GgufFile::open(oracles.join("ministral_3.gguf")).unwrap()
}

/// The names that Ollama's converter gives, and llama.cpp's.
const NAMES: [(&str, &str); 4] = [
    ("mistral3.rope.scaling_beta", "mistral3.attention.temperature_scale"),
    ("mistral3.rope.scaling.mscale_all_dim", "mistral3.rope.scaling.yarn_log_multiplier"),
    ("mistral3.rope.scaling.beta_fast", "mistral3.rope.scaling.yarn_beta_fast"),
    ("mistral3.rope.scaling.beta_slow", "mistral3.rope.scaling.yarn_beta_slow"),
];

#[test]
fn ollamas_names_of_rotary_keys_mean_the_same() {
    let mut file = ministral();
    file.metadata_mut().set("mistral3.rope.scaling.yarn_beta_fast", 24.0_f32);
    file.metadata_mut().set("mistral3.rope.scaling.yarn_beta_slow", 2.0_f32);
    let as_llama_cpp = MistralConfig::from_metadata(file.metadata()).unwrap();
    assert!(as_llama_cpp.temperature.is_some());

    let mut renamed = Metadata::new("renamed.gguf");
    for (key, value) in file.metadata().iter() {
        let key = NAMES.iter().find(|(_, name)| *name == key).map_or(key, |(ollama, _)| ollama);
        renamed.set(key, value.clone());
    }
    renamed.set("mistral3.rope.scaling.mscale", 1.0_f32);
    for (ollama, name) in NAMES {
        assert!(renamed.get(ollama).is_some() && renamed.get(name).is_none());
    }
    assert_eq!(MistralConfig::from_metadata(&renamed).unwrap(), as_llama_cpp);
}

#[test]
fn without_a_type_there_is_no_scaling_whatever_else_ollama_writes() {
    let mut file = ministral();
    let mut plain = Metadata::new("plain.gguf");
    let mut empty = Metadata::new("empty.gguf");
    for (key, value) in file.metadata().iter().filter(|(key, _)| !key.contains("rope.scaling")) {
        plain.set(key, value.clone());
        empty.set(key, value.clone());
    }
    for metadata in [&mut plain, &mut empty] {
        metadata.set("mistral3.attention.temperature_scale", 0.0_f32);
    }
    empty.set("mistral3.rope.scaling.type", "");
    for key in ["factor", "beta_fast", "beta_slow"] {
        empty.set(&format!("mistral3.rope.scaling.{key}"), 0.0_f32);
    }
    let plain = MistralConfig::from_metadata(&plain).unwrap();
    assert_eq!(MistralConfig::from_metadata(&empty).unwrap(), plain);
    // With a type, the same zeros are a mistake.
    file.metadata_mut().set("mistral3.rope.scaling.factor", Value::F32(0.0));
    let error = MistralConfig::from_metadata(file.metadata()).unwrap_err().to_string();
    assert!(error.contains("'mistral3.rope.scaling.factor': found 0, expected a positive number"), "{error}");
}

/// Ollama's own loader makes the same correction.
#[test]
fn a_mistral_3_without_a_splitting_rule_splits_as_tekken() {
    let pre = |arch: &str, pre: Option<&str>| {
        let mut metadata = Metadata::new("m.gguf");
        metadata.set("general.architecture", arch);
        metadata.set("tokenizer.ggml.model", "gpt2");
        metadata.set("tokenizer.ggml.tokens", Array::Str(["a"].into_iter().collect::<StrArray>()));
        metadata.set("tokenizer.ggml.merges", Array::Str(StrArray::default()));
        if let Some(pre) = pre {
            metadata.set("tokenizer.ggml.pre", pre);
        }
        match Vocabulary::from_metadata(&metadata).unwrap().algorithm {
            Algorithm::ByteLevel { pre } => pre,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(pre("mistral3", Some("default")), "tekken");
    assert_eq!(pre("mistral3", None), "tekken");
    assert_eq!(pre("mistral3", Some("llama-bpe")), "llama-bpe");
    assert_eq!(pre("llama", Some("default")), "default");
}
