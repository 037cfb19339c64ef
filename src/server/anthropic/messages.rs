//! Messages of Anthropic's shape, blocks and all, in OpenAI's.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::server::answer::{ApiError, kind, tool_call_id};

/// What stands between two texts of one message.
const BETWEEN_TEXTS: &str = "\n\n";

/// A line that one client puts before its system prompt, for the service's accounts. It is new with every request, so a prompt that
/// held it would never be found in the cache.
const BILLING: &str = "x-anthropic-billing-header:";

/// A message of a request.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Message {
    role: String,
    content: Content,
}

/// A text, or blocks.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of blocks")]
pub(super) enum Content {
    Text(String),
    Blocks(Vec<Value>),
}

/// The system prompt as a message, if there is one.
///
/// # Errors
/// Blocks that are no texts.
pub(super) fn system(content: &Content) -> Result<Option<Value>, ApiError> {
    let text = match content {
        Content::Text(text) => text.clone(),
        Content::Blocks(blocks) => {
            let mut texts = Vec::new();
            for (i, block) in blocks.iter().enumerate() {
                let text = text_of(block, &format!("system[{i}]"))?;
                if !text.starts_with(BILLING) {
                    texts.push(text);
                }
            }
            join(&texts)
        }
    };
    Ok((!text.is_empty()).then(|| json!({"role": "system", "content": text})))
}

/// Messages in OpenAI's shape: calls of tools beside the text, each result a message of its own.
///
/// # Errors
/// Roles and blocks that cannot be; images, which no model here sees.
pub(super) fn to_openai(messages: &[Message]) -> Result<Vec<Value>, ApiError> {
    let mut converted = Vec::with_capacity(messages.len());
    for (i, message) in messages.iter().enumerate() {
        let at = format!("messages[{i}]");
        match message.role.as_str() {
            "assistant" => converted.push(assistant(&message.content, &at)?),
            "user" => user(&message.content, &at, &mut converted)?,
            // Not in the interface, and sent all the same.
            "system" => converted.extend(system(&message.content)?),
            other => {
                return Err(ApiError::field(
                    &format!("{at}.role"),
                    format_args!("{other:?}"),
                    "user or assistant",
                ));
            }
        }
    }
    Ok(converted)
}

fn assistant(content: &Content, at: &str) -> Result<Value, ApiError> {
    let blocks = match content {
        Content::Text(text) => return Ok(json!({"role": "assistant", "content": text})),
        Content::Blocks(blocks) => blocks,
    };
    let (mut texts, mut thoughts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for (i, block) in blocks.iter().enumerate() {
        let at = format!("{at}.content[{i}]");
        match block["type"].as_str() {
            Some("thinking") => thoughts.push(text_field(block, "thinking", &at)?.to_owned()),
            // Nothing in it can be read.
            Some("redacted_thinking") => {}
            Some("tool_use") => {
                let arguments = match &block["input"] {
                    Value::Null => "{}".to_owned(),
                    input => input.to_string(),
                };
                calls.push(json!({
                    "id": tool_call_id::fit(text_field(block, "id", &at)?),
                    "type": "function",
                    "function": {"name": text_field(block, "name", &at)?, "arguments": arguments},
                }));
            }
            _ => texts.push(text_of(block, &at)?),
        }
    }
    let mut message = Map::new();
    message.insert("role".to_owned(), "assistant".into());
    message.insert("content".to_owned(), join(&texts).into());
    if !thoughts.is_empty() {
        message.insert("reasoning_content".to_owned(), join(&thoughts).into());
    }
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), calls.into());
    }
    Ok(Value::Object(message))
}

/// Results come first, as templates want them right behind the calls, and what is said beside them after.
fn user(content: &Content, at: &str, messages: &mut Vec<Value>) -> Result<(), ApiError> {
    let blocks = match content {
        Content::Text(text) => {
            messages.push(json!({"role": "user", "content": text}));
            return Ok(());
        }
        Content::Blocks(blocks) => blocks,
    };
    let mut texts = Vec::new();
    let mut n_results = 0;
    for (i, block) in blocks.iter().enumerate() {
        let at = format!("{at}.content[{i}]");
        if block["type"] == "tool_result" {
            let id = tool_call_id::fit(text_field(block, "tool_use_id", &at)?);
            messages.push(json!({"role": "tool", "tool_call_id": id, "content": result(block, &at)?}));
            n_results += 1;
        } else {
            texts.push(text_of(block, &at)?);
        }
    }
    if !texts.is_empty() || n_results == 0 {
        messages.push(json!({"role": "user", "content": join(&texts)}));
    }
    Ok(())
}

/// What a tool gave back. Templates have no place for its being an error, so the text says that.
fn result(block: &Value, at: &str) -> Result<String, ApiError> {
    let text = match &block["content"] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<String> = parts
                .iter()
                .enumerate()
                .map(|(i, part)| text_of(part, &format!("{at}.content[{i}]")))
                .collect::<Result<_, _>>()?;
            join(&texts)
        }
        other => {
            return Err(ApiError::field(&format!("{at}.content"), kind(other), "a text or a list of blocks"));
        }
    };
    Ok(if block["is_error"] == true { format!("Error: {text}") } else { text })
}

/// The text of a block.
fn text_of(block: &Value, at: &str) -> Result<String, ApiError> {
    match block["type"].as_str() {
        Some("text") => Ok(text_field(block, "text", at)?.to_owned()),
        Some("document") if block["source"]["type"] == "text" => document(block, at),
        Some("search_result") => {
            let parts = block["content"].as_array().map(Vec::as_slice).unwrap_or_default();
            let texts: Vec<String> = parts
                .iter()
                .enumerate()
                .map(|(i, part)| text_of(part, &format!("{at}.content[{i}]")))
                .collect::<Result<_, _>>()?;
            Ok(titled(block, &join(&texts)))
        }
        Some("image") => Err(image_refused(at)),
        Some(other) => {
            Err(ApiError::field(at, format_args!("a block of type {other:?}"), "a block of type \"text\""))
        }
        None => Err(ApiError::field(at, kind(block), "a block with a type")),
    }
}

fn document(block: &Value, at: &str) -> Result<String, ApiError> {
    let text = text_field(&block["source"], "data", &format!("{at}.source"))?;
    Ok(titled(block, text))
}

fn titled(block: &Value, text: &str) -> String {
    match block["title"].as_str() {
        Some(title) => format!("{title}\n\n{text}"),
        None => text.to_owned(),
    }
}

/// Llama-server answers with this status, and its clients know it; `Messages` adds that another try is no use.
fn image_refused(at: &str) -> ApiError {
    ApiError::internal(format!("{at}: image input is not supported: the models served here read text only"))
}

fn text_field<'a>(object: &'a Value, name: &str, at: &str) -> Result<&'a str, ApiError> {
    object[name]
        .as_str()
        .ok_or_else(|| ApiError::field(&format!("{at}.{name}"), kind(&object[name]), "a text"))
}

fn join(texts: &[String]) -> String {
    let texts: Vec<&str> = texts.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    texts.join(BETWEEN_TEXTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(messages: Value) -> Result<Vec<Value>, ApiError> {
        to_openai(&serde_json::from_value::<Vec<Message>>(messages).unwrap())
    }

    fn system_of(content: Value) -> Option<Value> {
        system(&serde_json::from_value(content).unwrap()).unwrap()
    }

    #[test]
    fn texts_and_blocks_of_text() {
        assert_eq!(
            read(json!([
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]},
                {"role": "user", "content": [
                    {"type": "text", "text": "What is", "cache_control": {"type": "ephemeral"}},
                    {"type": "text", "text": "this?"}
                ]},
            ]))
            .unwrap(),
            [
                json!({"role": "user", "content": "Hi"}),
                json!({"role": "assistant", "content": "Hello."}),
                json!({"role": "user", "content": "What is\n\nthis?"}),
            ]
        );
    }

    #[test]
    fn calls_results_and_thoughts() {
        let converted = read(json!([
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "I look it up.", "signature": ""},
                {"type": "text", "text": "One moment."},
                {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {"city": "Paris"}},
                {"type": "tool_use", "id": "abcdefgh1", "name": "now"},
            ]},
            {"role": "user", "content": [
                {"type": "text", "text": "Go on."},
                {"type": "tool_result", "tool_use_id": "toolu_01", "content": [{"type": "text", "text": "Sunny"}]},
                {"type": "tool_result", "tool_use_id": "abcdefgh1", "content": "no clock", "is_error": true},
            ]},
        ]))
        .unwrap();
        let id = converted[0]["tool_calls"][0]["id"].clone();
        assert_eq!(id.as_str().unwrap().len(), 9);
        assert_eq!(
            converted,
            [
                json!({"role": "assistant", "content": "One moment.", "reasoning_content": "I look it up.", "tool_calls": [
                    {"id": id, "type": "function", "function": {"name": "weather", "arguments": r#"{"city":"Paris"}"#}},
                    {"id": "abcdefgh1", "type": "function", "function": {"name": "now", "arguments": "{}"}},
                ]}),
                json!({"role": "tool", "tool_call_id": id, "content": "Sunny"}),
                json!({"role": "tool", "tool_call_id": "abcdefgh1", "content": "Error: no clock"}),
                json!({"role": "user", "content": "Go on."}),
            ]
        );
    }

    #[test]
    fn system_prompts() {
        assert_eq!(system_of(json!("Be brief.")), Some(json!({"role": "system", "content": "Be brief."})));
        assert_eq!(system_of(json!("")), None);
        assert_eq!(
            system_of(json!([
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.45; cch=1a2b3;"},
                {"type": "text", "text": "You help."},
                {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
            ])),
            Some(json!({"role": "system", "content": "You help.\n\nBe brief."}))
        );
    }

    #[test]
    fn documents_of_text_are_read() {
        let document =
            json!({"type": "document", "title": "Notes", "source": {"type": "text", "data": "Rain."}});
        let converted =
            read(json!([{"role": "user", "content": [document, {"type": "text", "text": "Sum up."}]}]))
                .unwrap();
        assert_eq!(converted[0]["content"], "Notes\n\nRain.\n\nSum up.");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let refusal = |messages: Value| read(messages).unwrap_err();
        let image =
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}});
        let error = refusal(json!([{"role": "user", "content": [image.clone()]}]));
        assert_eq!(error.status, 500);
        assert!(
            error.message.starts_with("messages[0].content[0]: image input is not supported"),
            "{error:?}"
        );
        let result = json!([{"type": "tool_result", "tool_use_id": "a", "content": [image]}]);
        assert!(
            refusal(json!([{"role": "user", "content": result}]))
                .message
                .contains("image input is not supported")
        );
        for (message, want) in [
            (
                json!({"role": "tool", "content": "x"}),
                "messages[0].role: found \"tool\", expected user or assistant",
            ),
            (
                json!({"role": "user", "content": [{"type": "document", "source": {"type": "base64"}}]}),
                "messages[0].content[0]: found a block of type \"document\", expected a block of type \"text\"",
            ),
            (
                json!({"role": "user", "content": [{"type": "text"}]}),
                "messages[0].content[0].text: found nothing, expected a text",
            ),
            (
                json!({"role": "user", "content": [7]}),
                "messages[0].content[0]: found a number, expected a block with a type",
            ),
            (
                json!({"role": "assistant", "content": [{"type": "tool_use", "name": "f"}]}),
                "messages[0].content[0].id: found nothing, expected a text",
            ),
        ] {
            let error = refusal(json!([message]));
            assert_eq!((error.status.as_u16(), &*error.message), (400, want));
        }
    }
}
