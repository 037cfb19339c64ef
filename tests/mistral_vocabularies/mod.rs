//! The vocabularies of Mistral's models that `models/tests/golden/make.py` wrote.

// Each test uses some of it.
#![allow(dead_code)]

use std::fs::File;
use std::path::{Path, PathBuf};

use bise_models::tokenizer::{Algorithm, Vocabulary};
use serde_json::Value;

/// A file beside the vocabularies.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/golden").join(name)
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// The vocabulary called `v1`, `v3`, `v7` or `tekken`, and `later tekken` for one that has the tokens of v11 and v13.
pub fn vocabulary(name: &str) -> Vocabulary {
    if let Some(name) = name.strip_prefix("later ") {
        let mut vocabulary = vocabulary(name);
        add_later_tokens(&mut vocabulary);
        return vocabulary;
    }
    let file = flate2::read::GzDecoder::new(File::open(path(&format!("{name}.json.gz"))).unwrap());
    let written: Value = serde_json::from_reader(std::io::BufReader::new(file)).unwrap();
    let algorithm = match written["model"].as_str().unwrap() {
        "llama" => Algorithm::SentencePiece,
        _ => Algorithm::ByteLevel { pre: written["pre"].as_str().unwrap().to_owned() },
    };
    let tokens = texts(&written["tokens"]);
    let types: Vec<i32> =
        written["types"].as_array().unwrap().iter().map(|kind| kind.as_i64().unwrap() as i32).collect();
    let n_special = types.iter().filter(|&&kind| kind == 3).count();
    let ranks = written["merge_ranks"].as_array().map_or(&[][..], Vec::as_slice);
    let token = |rank: &Value| tokens[n_special + rank.as_u64().unwrap() as usize];
    let merges = ranks.chunks(2).map(|pair| format!("{} {}", token(&pair[0]), token(&pair[1])).into_bytes());
    let id = |role: &str| Some(written[role].as_u64().unwrap() as u32);
    Vocabulary {
        tokens: tokens.iter().map(|text| text.as_bytes().to_vec()).collect(),
        scores: written["scores"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap() as f32).collect(),
        types,
        merges: merges.collect(),
        bos: id("bos"),
        eos: id("eos"),
        unk: id("unk"),
        ..Vocabulary::with_defaults(algorithm)
    }
}

/// The JSON in a file beside the vocabularies.
pub fn read(name: &str) -> Vec<Value> {
    serde_json::from_reader(std::io::BufReader::new(File::open(path(name)).unwrap())).unwrap()
}

/// The vocabulary for a template of `mistral_common`, such as `v11-tekken`.
pub fn vocabulary_of(template: &str) -> &str {
    match template {
        "v11-tekken" | "v13-tekken" => "later tekken",
        name if name.ends_with("tekken") => "tekken",
        name => name,
    }
}

/// Special tokens of later vocabularies, where those of the script have them.
fn add_later_tokens(vocabulary: &mut Vocabulary) {
    for (id, text) in [(32, "[ARGS]"), (33, "[CALL_ID]"), (34, "[THINK]"), (35, "[/THINK]")] {
        let mut tokens: Vec<Vec<u8>> = vocabulary.tokens.iter().map(<[u8]>::to_vec).collect();
        tokens[id] = text.as_bytes().to_vec();
        vocabulary.tokens = tokens.into_iter().collect();
    }
}
