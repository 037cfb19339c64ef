//! Named templates give the tokens of `mistral_common`: templates, marks and tokenizer together.
//!
//! The conversations, the vocabularies and the ids are those that `models/tests/golden/make.py` wrote.

mod mistral_vocabularies;

use std::collections::HashMap;

use bise::chat::{ChatError, ChatInput, ChatTemplate, Message, SpecialTokens};
use bise_models::tokenizer::Tokenizer;
use mistral_vocabularies::{read, vocabulary, vocabulary_of};
use serde_json::{Value, json};

#[test]
fn named_templates_give_the_tokens_of_mistral_common() {
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
        let file = vocabulary_of(name);
        // A converter may have left the space to the template: the tokens are the same.
        for adds_space in [true, false] {
            let tokenizer = tokenizers.entry((file, adds_space)).or_insert_with(|| {
                let mut vocabulary = vocabulary(file);
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
