//! Reading what `golden/make.py` and `golden/make_smollm.py` wrote.

use bise_models::gguf::{Array, Metadata};
use bise_models::tokenizer::{Algorithm, Tokenizer, Vocabulary};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

/// Strings and their ids by vocabulary.
#[derive(serde::Deserialize)]
pub struct Golden {
    pub strings: Vec<String>,
    v1: Vec<Vec<u32>>,
    v3: Vec<Vec<u32>>,
    tekken: Vec<Vec<u32>>,
}

impl Golden {
    pub fn ids(&self, vocabulary: &str) -> &[Vec<u32>] {
        let ids = match vocabulary {
            "v1" => &self.v1,
            "v3" => &self.v3,
            "tekken" => &self.tekken,
            _ => panic!("no golden tokens for {vocabulary}"),
        };
        assert_eq!(ids.len(), self.strings.len());
        ids
    }
}

/// A vocabulary as `make.py` writes it.
#[derive(serde::Deserialize)]
struct Written {
    model: String,
    #[serde(default)]
    pre: String,
    tokens: Vec<String>,
    scores: Vec<f32>,
    types: Vec<i32>,
    /// Pairs of ranks: ids counted from the first token that is not special.
    #[serde(default)]
    merge_ranks: Vec<usize>,
    bos: u32,
    eos: u32,
    unk: u32,
}

/// Tests of both packages read these files.
fn path(name: &str) -> PathBuf {
    let folder = if env!("CARGO_PKG_NAME") == "bise" { "models/tests/golden" } else { "tests/golden" };
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name)
}

pub fn read_json<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_reader(std::io::BufReader::new(File::open(path(name)).unwrap())).unwrap()
}

pub fn read_gz<T: DeserializeOwned>(name: &str) -> T {
    let file = File::open(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let text = std::io::read_to_string(flate2::read::GzDecoder::new(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The vocabulary `v1`, `v3`, `v7`, `tekken` or `smollm`.
pub fn vocabulary(name: &str) -> Vocabulary {
    let written: Written = read_gz(&format!("{name}.json.gz"));
    let algorithm = match written.model.as_str() {
        "llama" => Algorithm::SentencePiece,
        _ => Algorithm::ByteLevel { pre: written.pre },
    };
    let n_special = written.types.iter().filter(|&&kind| kind == 3).count();
    let token = |rank: usize| written.tokens[n_special + rank].as_str();
    let merge = |pair: &[usize]| format!("{} {}", token(pair[0]), token(pair[1]));
    let merges = written.merge_ranks.chunks_exact(2).map(merge).collect();
    Vocabulary {
        tokens: written.tokens.iter().collect(),
        scores: written.scores,
        types: written.types,
        merges,
        bos: Some(written.bos),
        eos: Some(written.eos),
        unk: Some(written.unk),
        ..Vocabulary::with_defaults(algorithm)
    }
}

/// Writes a vocabulary as the keys of a file.
pub fn set_vocabulary(metadata: &mut Metadata, vocabulary: Vocabulary) {
    match vocabulary.algorithm {
        Algorithm::SentencePiece => metadata.set("tokenizer.ggml.model", "llama"),
        Algorithm::ByteLevel { pre } => {
            metadata.set("tokenizer.ggml.model", "gpt2");
            metadata.set("tokenizer.ggml.pre", pre.as_str());
            metadata.set("tokenizer.ggml.merges", Array::Str(vocabulary.merges));
        }
    }
    metadata.set("tokenizer.ggml.tokens", Array::Str(vocabulary.tokens));
    metadata.set("tokenizer.ggml.token_type", Array::I32(vocabulary.types));
    if !vocabulary.scores.is_empty() {
        metadata.set("tokenizer.ggml.scores", Array::F32(vocabulary.scores));
    }
    metadata.set("tokenizer.ggml.bos_token_id", vocabulary.bos.unwrap());
    metadata.set("tokenizer.ggml.eos_token_id", vocabulary.eos.unwrap());
}

/// The tokenizer of a vocabulary, built once.
pub fn tokenizer(name: &str) -> Tokenizer {
    static BUILT: LazyLock<Mutex<HashMap<String, Tokenizer>>> = LazyLock::new(Mutex::default);
    let mut built = BUILT.lock().unwrap();
    built.entry(name.to_owned()).or_insert_with(|| Tokenizer::new(vocabulary(name)).unwrap()).clone()
}
