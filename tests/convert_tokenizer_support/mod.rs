//! Small tokenizers, written as checkpoints have them, from `tests/golden` (see the script there).

// Each test uses some of it.
#![allow(dead_code)]

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use bise::convert::{ConvertError, Layout, set_tokenizer};
use bise_models::gguf::Metadata;
use serde_json::Value;

pub fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/convert_tokenizers.json.gz");
    serde_json::from_reader(BufReader::new(flate2::read::GzDecoder::new(File::open(path).unwrap()))).unwrap()
}

pub fn case<'a>(golden: &'a Value, name: &str) -> &'a Value {
    golden["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap()
}

pub fn file(stored: &Value) -> Vec<u8> {
    match stored["base64"].as_str() {
        Some(text) => decode_base64(text),
        None => stored["text"].as_str().unwrap().as_bytes().to_vec(),
    }
}

pub fn decode_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |byte: &u8| DIGITS.iter().position(|digit| digit == byte).unwrap() as u32;
    let chunks = text.trim_end_matches('=').as_bytes().chunks(4);
    let bytes = chunks.flat_map(|chunk| {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 6 | digit(byte)) << (6 * (4 - chunk.len()));
        bits.to_be_bytes()[1..chunk.len()].to_vec()
    });
    bytes.collect()
}

/// Writes the files of a checkpoint.
pub fn write(case: &Value, folder: &Path) {
    for (name, stored) in case["files"].as_object().unwrap() {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file(stored)).unwrap();
    }
}

pub fn layout(case: &Value) -> Layout {
    if case["layout"] == "mistral" { Layout::Mistral } else { Layout::HuggingFace }
}

pub fn convert(case: &Value, folder: &Path) -> Result<(Metadata, Vec<String>), ConvertError> {
    let mut metadata = Metadata::new("out.gguf");
    let rows = case["rows"].as_u64().unwrap() as usize;
    let notes = set_tokenizer(folder, layout(case), rows, &mut metadata)?;
    Ok((metadata, notes))
}
