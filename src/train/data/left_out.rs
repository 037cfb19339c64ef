//! What a chat template leaves out of a conversation. Templates do so without a word, and nothing is learned from it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::chat::Message;

/// Put behind what a message says, to see whether the template writes it.
const PROBE: &str = " bise-probe";

/// Keys that are looked at by themselves, or have no text to learn from.
const NO_TEXT: [&str; 3] = ["role", "content", "tool_call_id"];

/// What `text`, which the template wrote of `messages` and `tools`, has nothing of, by name. `render` writes other conversations in the same
/// way; `None` where the template refuses one.
pub(super) fn left_out(
    messages: &[Message],
    tools: &[Value],
    text: &str,
    render: impl Fn(&[Message], &[Value]) -> Option<String>,
) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let is_same = |messages: &[Message], tools: &[Value]| render(messages, tools).as_deref() == Some(text);
    if !tools.is_empty() && is_same(messages, &[]) {
        names.insert("\"tools\"".to_owned());
    }
    let keys: BTreeSet<&str> = messages.iter().flat_map(keys).collect();
    for key in keys {
        let without: Vec<Message> = messages.iter().map(|message| message.without(key)).collect();
        if is_same(&without, tools) {
            names.insert(format!("\"{key}\" of messages"));
        }
    }
    // Templates trim what is said.
    let said: Vec<&str> =
        messages.iter().map(|message| message.content().unwrap_or_default().trim()).collect();
    if is_in_order(&said, text) {
        return names;
    }
    for (i, part) in said.iter().enumerate().filter(|(_, part)| !part.is_empty()) {
        let expected = said.iter().map(|other| count(other, part)).sum();
        if count(text, part) >= expected {
            continue;
        }
        let role = messages[i].role();
        let mut probed = messages.to_vec();
        probed[i] = messages[i].saying(format!("{}{PROBE}", messages[i].content().unwrap_or_default()));
        if is_same(&probed, tools) {
            names.insert(format!("messages of the role \"{role}\""));
        } else if !is_rewritten(part, text) {
            names.insert(format!("parts of messages of the role \"{role}\""));
        }
    }
    names
}

/// The keys of a message that a template may know.
fn keys(message: &Message) -> impl Iterator<Item = &str> {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    let fields = message.fields().iter().filter(move |(_, value)| !is_empty(value));
    fields.map(|(key, _)| key.as_str()).filter(|key| !NO_TEXT.contains(key))
}

/// Whether all parts come in `text`, one behind the other.
fn is_in_order(parts: &[&str], text: &str) -> bool {
    let mut rest = text;
    parts.iter().all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// The places of `text` where `part` begins. Each text that is written somewhere has as many there as by itself, whatever surrounds it.
fn count(text: &str, part: &str) -> usize {
    let step = part.chars().next().map_or(1, char::len_utf8);
    let (mut n, mut rest) = (0, text);
    while let Some(at) = rest.find(part) {
        n += 1;
        rest = &rest[at + step..];
    }
    n
}

/// Whether `part` is in `text` but for its punctuation, or as a text of JSON: templates write results of tools so.
fn is_rewritten(part: &str, text: &str) -> bool {
    let words = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
    let whole = words(text);
    whole.contains(&words(part)) || whole.contains(&words(&Value::from(part).to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::{ChatInput, ChatTemplate, SpecialTokens};

    /// What `template` leaves out of a conversation, by name.
    fn of(template: &ChatTemplate, messages: &Value, tools: &[Value]) -> Vec<String> {
        let messages: Vec<Message> = messages
            .as_array()
            .unwrap()
            .iter()
            .map(|message| Message::from_json(message.clone()).unwrap())
            .collect();
        let tokens = SpecialTokens::new("<s>", "</s>");
        let render = |messages: &[Message], tools: &[Value]| {
            let input = ChatInput { tools, add_generation_prompt: false, ..ChatInput::new(messages) };
            template.render(&input, &tokens).ok().map(|prompt| prompt.text)
        };
        let text = render(&messages, tools).expect("the template takes the conversation");
        left_out(&messages, tools, &text, render).into_iter().collect()
    }

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::from_source(source).unwrap()
    }

    const NO_TOOLS: &str =
        "{% for m in messages if m.role != 'tool' %}[{{ m.role }}]{{ m.content | trim }}{% endfor %}";

    fn weather() -> (Value, [Value; 1]) {
        let call = json!({"id": "123456789", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Rome\"}"}});
        let messages = json!([
            {"role": "user", "content": "  Is it hot in Rome? "},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "content": "{\"celsius\": 31}", "name": "weather", "tool_call_id": "123456789"},
            {"role": "assistant", "content": "Yes, 31 °C."},
        ]);
        let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        let tool = json!({"type": "function", "function": {"name": "weather", "description": "Tells the weather.", "parameters": parameters}});
        (messages, [tool])
    }

    #[test]
    fn tools_and_what_they_say_are_named_where_a_template_has_none() {
        let (messages, tools) = weather();
        let found = of(&template(NO_TOOLS), &messages, &tools);
        let expected = [
            "\"name\" of messages",
            "\"tool_calls\" of messages",
            "\"tools\"",
            "messages of the role \"tool\"",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn named_templates_of_mistral_leave_nothing_out() {
        let (mut messages, tools) = weather();
        // They have the name of a tool in its call alone.
        messages[2].as_object_mut().unwrap().remove("name");
        for name in ["mistral-v3", "mistral-v7", "mistral-v11-tekken", "mistral-v13-tekken"] {
            assert_eq!(of(&ChatTemplate::by_name(name).unwrap(), &messages, &tools), [""; 0], "{name}");
        }
        // The system message goes before the last question.
        let talk = json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": "Hi, brief."},
            {"role": "assistant", "content": " Yes "},
        ]);
        for name in ["mistral-v1", "mistral-v3", "mistral-v7", "chatml", "llama2", "llama3", "zephyr"] {
            assert_eq!(of(&ChatTemplate::by_name(name).unwrap(), &talk, &[]), [""; 0], "{name}");
        }
    }

    #[test]
    fn the_message_that_is_missing_is_told_from_others_with_its_text() {
        let messages = json!([
            {"role": "user", "content": "Not"},
            {"role": "tool", "content": "No"},
            {"role": "tool", "content": "Not"},
            {"role": "assistant", "content": "No. Not"},
        ]);
        assert_eq!(of(&template(NO_TOOLS), &messages, &[]), ["messages of the role \"tool\""]);
        let all = "{% for m in messages %}{{ m.content }}{% endfor %}";
        assert_eq!(of(&template(all), &messages, &[]), [""; 0]);
    }

    #[test]
    fn parts_and_other_keys_are_seen() {
        let messages = json!([
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "<think>Let me see.</think>So.", "reasoning_content": "Hm.", "weight": 0, "audio": null},
        ]);
        let thinks = "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}";
        let expected = [
            "\"reasoning_content\" of messages",
            "\"weight\" of messages",
            "parts of messages of the role \"assistant\"",
        ];
        assert_eq!(of(&template(thinks), &messages, &[]), expected);
        let json = "{% for m in messages %}{{ {'says': m.content, 'thinks': m.reasoning_content or '', 'weight': m.weight if m.weight is defined else 1} | tojson }}{% endfor %}";
        let mut quoted = messages.clone();
        quoted[0]["content"] = json!("\"Why\"\nis it?");
        assert_eq!(of(&template(json), &quoted, &[]), [""; 0]);
    }
}
