//! Named templates give the tokens of `mistral_common`: templates, marks and tokenizer together.
//!
//! The conversations, the vocabularies and the ids are those that `models/tests/golden/make.py` wrote.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use bise::chat::{ChatError, ChatInput, ChatTemplate, Message, SpecialTokens};
use bise_models::tokenizer::{Algorithm, Tokenizer, Vocabulary};
use serde_json::{Value, json};

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
    let read = |name: &str| -> Vec<Value> {
        serde_json::from_reader(std::io::BufReader::new(File::open(path(name)).unwrap())).unwrap()
    };
    let conversations = [read("conversations.json"), read("requests.json")].concat();
    let mut tokenizers: HashMap<(&str, bool), Tokenizer> = HashMap::new();
    let mut with_tools: HashMap<&str, usize> = HashMap::new();
    let mut checked: HashMap<&str, usize> = HashMap::new();
    for conversation in &conversations {
        let name = conversation["template"].as_str().unwrap();
        let messages: Vec<Message> =
            conversation["messages"].as_array().unwrap().iter().map(message).collect();
        let want: Vec<u32> =
            conversation["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let tools = conversation["tools"].as_array().map_or(&[][..], Vec::as_slice);
        let is_later = ["v11-tekken", "v13-tekken"].contains(&name);
        let file = match name {
            _ if is_later => "later tekken",
            _ if name.ends_with("tekken") => "tekken",
            name => name,
        };
        // A converter may have left the space to the template: the tokens are the same.
        for adds_space in [true, false] {
            let tokenizer = tokenizers.entry((file, adds_space)).or_insert_with(|| {
                let mut vocabulary = vocabulary(file.trim_start_matches("later "));
                if is_later {
                    add_later_tokens(&mut vocabulary);
                }
                vocabulary.add_space_prefix &= adds_space;
                Tokenizer::new(vocabulary).unwrap()
            });
            let template =
                ChatTemplate::by_name(&format!("mistral-{name}")).unwrap().with_space_prefix(adds_space);
            let input = ChatInput { tools, ..ChatInput::new(&messages) };
            let prompt = template.render(&input, &SpecialTokens::of(tokenizer)).unwrap();
            let got = tokenizer.encode_segments(&prompt.segments(), true);
            assert_eq!(got, want, "{name}, adds_space {adds_space}: {messages:?} as {:?}", prompt.text);
        }
        *checked.entry(name).or_default() += 1;
        *with_tools.entry(name).or_default() += usize::from(!tools.is_empty());
    }
    for name in ["v1", "v3", "v3-tekken", "v7", "v7-tekken", "v11-tekken", "v13-tekken"] {
        assert!(checked[name] >= 10, "{checked:?}");
        assert!(with_tools[name] >= 5 || name == "v1", "{with_tools:?}");
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

fn message(value: &Value) -> Message {
    Message::from_json(value.clone()).unwrap()
}

/// What the templates of Mistral do not take is refused with a reason, never left out.
#[test]
fn what_a_named_template_cannot_write_is_refused() {
    let tool = json!({"type": "function", "function": {"name": "now", "parameters": {}}});
    let refused = |name: &str, messages: Value, tools: &[Value]| {
        let messages: Vec<Message> = messages.as_array().unwrap().iter().map(message).collect();
        let input = ChatInput { tools, ..ChatInput::new(&messages) };
        let template = ChatTemplate::by_name(name).unwrap();
        match template.render(&input, &SpecialTokens::new("<s>", "</s>")) {
            Err(ChatError::Refused(why)) => why,
            other => panic!("{name}: {other:?}"),
        }
    };
    let user = json!({"role": "user", "content": "x"});
    for name in ["mistral-v1", "chatml", "llama2", "llama3", "zephyr"] {
        let why = refused(name, json!([user]), std::slice::from_ref(&tool));
        assert!(why.contains("has no tools"), "{why}");
    }
    let call = json!({"id": "123456789", "function": {"name": "now", "arguments": "{}"}});
    let both = json!({"role": "assistant", "content": "Let me see.", "tool_calls": [call]});
    let why = refused("mistral-v3", json!([user, both]), &[]);
    assert!(why.contains("says something or calls tools"), "{why}");
    let why = refused("mistral-v1", json!([user, {"role": "assistant", "tool_calls": [call]}]), &[]);
    assert!(why.contains("has no tools"), "{why}");
    let result = json!({"role": "tool", "content": "12"});
    let why = refused("mistral-v7", json!([user, result]), &[]);
    assert!(why.contains("tool_call_id"), "{why}");
    let image = json!({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]});
    for name in ["mistral-v3", "chatml"] {
        let why = refused(name, json!([image]), &[]);
        assert!(why.contains("image_url"), "{why}");
    }
    let why = refused("mistral-v7", json!([{"role": "narrator", "content": "x"}]), &[]);
    assert!(why.contains("narrator"), "{why}");
}

#[test]
fn parts_of_a_message_become_lines_in_other_named_templates() {
    let content = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    let messages = [message(&json!({"role": "user", "content": content}))];
    let template = ChatTemplate::by_name("chatml").unwrap();
    let prompt = template.render(&ChatInput::new(&messages), &SpecialTokens::new("<s>", "</s>")).unwrap();
    assert_eq!(prompt.text, "<|im_start|>user\na\nb<|im_end|>\n<|im_start|>assistant\n");
}
