//! The items of a conversation as the messages of a chat.

use serde_json::{Map, Value, json};

use crate::server::answer::{ApiError, kind, part_text, tool_call_id};

/// A text, or items: messages, calls, their results and thoughts, as they came from earlier responses.
///
/// # Errors
/// What is none of these.
pub(super) fn to_messages(input: &Value) -> Result<Vec<Value>, ApiError> {
    let items = match input {
        Value::String(text) => return Ok(vec![json!({"role": "user", "content": text})]),
        Value::Array(items) if items.is_empty() => {
            return Err(ApiError::field("input", "an empty list", "a text or at least one item"));
        }
        Value::Array(items) => items,
        other => return Err(ApiError::field("input", kind(other), "a text or a list of items")),
    };
    let mut messages: Vec<Value> = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let at = format!("input[{i}]");
        match item["type"].as_str() {
            None | Some("message") if item["role"].is_string() => message(item, &at, &mut messages)?,
            Some("function_call") => {
                let call = json!({
                    "id": tool_call_id::fit(text(item, "call_id", &at)?),
                    "type": "function",
                    "function": {"name": text(item, "name", &at)?, "arguments": text(item, "arguments", &at)?},
                });
                let answer = answer(&mut messages);
                match answer.get_mut("tool_calls") {
                    Some(Value::Array(calls)) => calls.push(call),
                    _ => {
                        answer.insert("tool_calls".to_owned(), vec![call].into());
                    }
                }
            }
            Some("function_call_output") => {
                let id = tool_call_id::fit(text(item, "call_id", &at)?);
                let content = content(&item["output"], &format!("{at}.output"))?;
                messages.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
            }
            Some("reasoning") => {
                let thought = thought(&item["content"], &format!("{at}.content"))?;
                if !thought.is_empty() {
                    // What follows belongs to the same answer.
                    messages.push(json!({"role": "assistant", "content": "", "reasoning_content": thought}));
                }
            }
            Some(other) => {
                let expected = "message, function_call, function_call_output or reasoning";
                return Err(ApiError::field(&format!("{at}.type"), format_args!("{other:?}"), expected));
            }
            None => return Err(ApiError::field(&at, kind(item), "an item with a type or a role")),
        }
    }
    Ok(messages)
}

/// The text of a thought; a part without one is passed over.
fn thought(content: &Value, at: &str) -> Result<String, ApiError> {
    let parts = match content {
        Value::Null => return Ok(String::new()),
        Value::Array(parts) => parts,
        other => return Err(ApiError::field(at, kind(other), "a list of parts")),
    };
    let text = |(i, part): (usize, &Value)| match (part, &part["text"]) {
        (Value::Object(_), Value::String(text)) => Ok(text.clone()),
        (Value::Object(_), Value::Null) => Ok(String::new()),
        (Value::Object(_), other) => Err(ApiError::field(&format!("{at}[{i}].text"), kind(other), "a text")),
        (other, _) => Err(ApiError::field(&format!("{at}[{i}]"), kind(other), "an object with a text")),
    };
    parts.iter().enumerate().map(text).collect()
}

fn message(item: &Value, at: &str, messages: &mut Vec<Value>) -> Result<(), ApiError> {
    let role = text(item, "role", at)?;
    let content = content(&item["content"], &format!("{at}.content"))?;
    // Thoughts come before what was said.
    if role == "assistant"
        && let Some(Value::Object(last)) = messages.last_mut()
        && last.contains_key("reasoning_content")
        && last["content"] == ""
        && !last.contains_key("tool_calls")
    {
        last.insert("content".to_owned(), content.into());
        return Ok(());
    }
    messages.push(json!({"role": role, "content": content}));
    Ok(())
}

/// The assistant's message that is being put together.
fn answer(messages: &mut Vec<Value>) -> &mut Map<String, Value> {
    if messages.last().is_none_or(|last| last["role"] != "assistant") {
        messages.push(json!({"role": "assistant", "content": ""}));
    }
    messages.last_mut().and_then(Value::as_object_mut).expect("an object was pushed")
}

/// A text, or the texts of parts.
fn content(content: &Value, at: &str) -> Result<String, ApiError> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts
                .iter()
                .enumerate()
                .map(|(i, part)| match part["type"].as_str() {
                    Some("refusal") => Ok(part["refusal"].as_str().unwrap_or_default()),
                    _ => part_text(part, &format!("{at}[{i}]")),
                })
                .collect::<Result<_, _>>()?;
            Ok(texts.join("\n\n"))
        }
        other => Err(ApiError::field(at, kind(other), "a text or a list of parts")),
    }
}

fn text<'a>(item: &'a Value, name: &str, at: &str) -> Result<&'a str, ApiError> {
    item[name].as_str().ok_or_else(|| ApiError::field(&format!("{at}.{name}"), kind(&item[name]), "a text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_with_a_call() {
        let converted = to_messages(&json!([
            {"role": "system", "content": "Book"},
            {"role": "user", "content": [{"type": "input_text", "text": "What time is it"}, {"type": "input_text", "text": "now?"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "A clock."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look.", "annotations": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "now", "arguments": "{}"},
            {"type": "function_call", "call_id": "abcdefgh2", "name": "day", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "noon"},
            {"type": "function_call_output", "call_id": "abcdefgh2", "output": [{"type": "input_text", "text": "Friday"}]},
        ]))
        .unwrap();
        let id = tool_call_id::fit("call_1");
        assert_eq!(
            converted,
            [
                json!({"role": "system", "content": "Book"}),
                json!({"role": "user", "content": "What time is it\n\nnow?"}),
                json!({"role": "assistant", "content": "I look.", "reasoning_content": "A clock.", "tool_calls": [
                    {"id": id, "type": "function", "function": {"name": "now", "arguments": "{}"}},
                    {"id": "abcdefgh2", "type": "function", "function": {"name": "day", "arguments": "{}"}},
                ]}),
                json!({"role": "tool", "tool_call_id": id, "content": "noon"}),
                json!({"role": "tool", "tool_call_id": "abcdefgh2", "content": "Friday"}),
            ]
        );
    }

    #[test]
    fn what_is_no_item_is_named() {
        let refusal = |input: Value| to_messages(&input).unwrap_err().message.into_owned();
        assert_eq!(refusal(json!(7)), "input: found a number, expected a text or a list of items");
        let thought = |content: Value| refusal(json!([{"type": "reasoning", "content": content}]));
        assert_eq!(thought(json!(7)), "input[0].content: found a number, expected a list of parts");
        assert_eq!(
            thought(json!([7])),
            "input[0].content[0]: found a number, expected an object with a text"
        );
        assert_eq!(
            thought(json!([{"text": 7}])),
            "input[0].content[0].text: found a number, expected a text"
        );
        assert_eq!(refusal(json!([7])), "input[0]: found a number, expected an item with a type or a role");
        assert!(
            refusal(json!([{"type": "item_reference", "id": "x"}]))
                .starts_with("input[0].type: found \"item_reference\"")
        );
        let image = json!([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]);
        assert!(refusal(image).starts_with("input[0].content[0]: "));
        let call = json!([{"type": "function_call", "call_id": "1", "name": "f"}]);
        assert_eq!(refusal(call), "input[0].arguments: found nothing, expected a text");
    }
}
