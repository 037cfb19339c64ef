//! Named templates give the tokens of `mistral_common`: templates, marks and tokenizer together.
//!
//! The conversations, the vocabularies and the ids are those that `models/tests/golden/make.py` wrote.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use bise::chat::{ChatInput, ChatTemplate, Message, SpecialTokens};
use bise_models::tokenizer::{Algorithm, Tokenizer, Vocabulary};
use serde_json::Value;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/golden").join(name)
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

fn vocabulary(name: &str) -> Vocabulary {
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

#[test]
fn named_templates_give_the_tokens_of_mistral_common() {
    let file = File::open(path("conversations.json")).unwrap();
    let conversations: Vec<Value> = serde_json::from_reader(std::io::BufReader::new(file)).unwrap();
    let mut tokenizers: HashMap<(&str, bool), Tokenizer> = HashMap::new();
    let mut checked: HashMap<&str, usize> = HashMap::new();
    for conversation in &conversations {
        let name = conversation["template"].as_str().unwrap();
        let messages: Vec<Message> =
            conversation["messages"].as_array().unwrap().iter().map(message).collect();
        let want: Vec<u32> =
            conversation["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let file = if name.ends_with("tekken") { "tekken" } else { name };
        // A converter may have left the space to the template: the tokens are the same.
        for adds_space in [true, false] {
            let tokenizer = tokenizers.entry((file, adds_space)).or_insert_with(|| {
                let mut vocabulary = vocabulary(file);
                vocabulary.add_space_prefix &= adds_space;
                Tokenizer::new(vocabulary).unwrap()
            });
            let template =
                ChatTemplate::by_name(&format!("mistral-{name}")).unwrap().with_space_prefix(adds_space);
            let prompt = template.render(&ChatInput::new(&messages), &SpecialTokens::of(tokenizer)).unwrap();
            let got = tokenizer.encode_segments(&prompt.segments(), true);
            assert_eq!(got, want, "{name}, adds_space {adds_space}: {messages:?} as {:?}", prompt.text);
        }
        *checked.entry(name).or_default() += 1;
    }
    for name in ["v1", "v3", "v3-tekken", "v7", "v7-tekken"] {
        assert!(checked[name] >= 5, "{checked:?}");
    }
}

fn message(value: &Value) -> Message {
    Message::new(value["role"].as_str().unwrap(), value["content"].as_str().unwrap())
}
