//! Published templates render as under Jinja2: `tests/golden/chat_templates.py` made the expected texts.

use std::path::Path;

use bise::chat::{ChatError, ChatNote, ChatTemplate, Message, detect};
use serde_json::Value;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

fn template(name: &str) -> ChatTemplate {
    ChatTemplate::from_source(&read(&format!("templates/{name}.jinja"))).unwrap()
}

#[test]
fn published_templates_render_as_under_jinja2() {
    let special = ["<s>", "</s>", "[INST]", "[/INST]", "<|im_start|>", "<|im_end|>"];
    let renders: Vec<Value> = serde_json::from_str(&read("chat_renders.json")).unwrap();
    let (mut rendered, mut refused) = (0, 0);
    for case in &renders {
        let messages: Vec<Message> = case["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| Message::new(m["role"].as_str().unwrap(), m["content"].as_str().unwrap()))
            .collect();
        let add_generation_prompt = case["add_generation_prompt"].as_bool().unwrap();
        let template = template(case["template"].as_str().unwrap());
        let got = template.render(&messages, add_generation_prompt, "<s>", "</s>", &special);
        let merged = case["merged"].as_str();
        if merged.is_some() {
            assert_eq!(
                got.as_ref().map(|prompt| &prompt.notes[..]),
                Ok(&[ChatNote::SystemMerged][..]),
                "{case}"
            );
        }
        match case["text"].as_str().or(merged) {
            Some(text) => {
                assert_eq!(got.as_ref().map(|prompt| prompt.text.as_str()), Ok(text), "{case}");
                rendered += 1;
            }
            None => {
                let why = case["refused"].as_str().unwrap().to_owned();
                assert_eq!(got, Err(ChatError::Refused(why)), "{case}");
                refused += 1;
            }
        }
    }
    assert!(rendered > 40 && refused > 10, "{rendered} {refused}");
}

#[test]
fn published_templates_are_recognised() {
    for (name, like) in [
        ("mistral-7b-v0.1", "mistral-v1"),
        ("nemo-2407", "mistral-v3-tekken"),
        ("small-3.2-2506", "mistral-v7-tekken"),
        ("ministral-3-2512", "mistral-v7-tekken"),
        ("smollm2", "chatml"),
    ] {
        assert_eq!(detect(template(name).source()), Some(like), "{name}");
    }
    assert_eq!(detect("{{ messages }}"), None);
}
