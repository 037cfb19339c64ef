//! Messages and tools of a request, checked and brought into the form that templates take.

use serde_json::Value;

use super::{ApiError, ChatRequest, ToolChoice};
use crate::chat::Message;
use crate::server::body::kind;

/// What stands between the texts of two parts of a message.
const BETWEEN_PARTS: &str = "\n\n";

/// The messages as templates take them: contents as texts, arguments of calls as objects, and `system` for `developer`.
///
/// # Errors
/// What is no message; parts that are no text; several answers at the end.
pub fn prepare(messages: &[Value]) -> Result<Vec<Message>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::field("messages", "an empty list", "at least one message"));
    }
    let prepared: Vec<Message> = messages
        .iter()
        .enumerate()
        .map(|(i, message)| prepare_one(message, &format!("messages[{i}]")))
        .collect::<Result<_, _>>()?;
    if let [.., before, last] = &prepared[..]
        && before.role() == "assistant"
        && last.role() == "assistant"
    {
        return Err(ApiError::invalid(
            "messages: found 2 or more messages of the assistant at the end, expected at most one",
        ));
    }
    Ok(prepared)
}

fn prepare_one(message: &Value, at: &str) -> Result<Message, ApiError> {
    let Value::Object(fields) = message else {
        return Err(ApiError::field(at, kind(message), "an object with a role and a content"));
    };
    let mut fields = fields.clone();
    let role = match fields.get("role") {
        Some(Value::String(role)) => role.clone(),
        Some(other) => return Err(ApiError::field(&format!("{at}.role"), kind(other), "a text")),
        None => {
            return Err(ApiError::field(&format!("{at}.role"), "nothing", "system, user, assistant or tool"));
        }
    };
    if role == "developer" {
        fields.insert("role".to_owned(), "system".into());
    }
    let calls = matches!(fields.get("tool_calls"), Some(Value::Array(calls)) if !calls.is_empty());
    let content = match fields.get("content") {
        Some(Value::String(_)) => None,
        Some(Value::Array(parts)) => Some(join_parts(parts, at)?.into()),
        None | Some(Value::Null) if calls => Some("".into()),
        None | Some(Value::Null)
            if role == "assistant" && fields.get("reasoning_content").is_some_and(Value::is_string) =>
        {
            Some("".into())
        }
        None | Some(Value::Null) => {
            return Err(ApiError::field(&format!("{at}.content"), "nothing", "a text or a list of parts"));
        }
        Some(other) => {
            return Err(ApiError::field(&format!("{at}.content"), kind(other), "a text or a list of parts"));
        }
    };
    if let Some(content) = content {
        fields.insert("content".to_owned(), content);
    }
    match fields.get_mut("tool_calls") {
        Some(Value::Array(calls)) => {
            for (i, call) in calls.iter_mut().enumerate() {
                prepare_call(call, &format!("{at}.tool_calls[{i}]"))?;
            }
        }
        Some(Value::Null) => {
            fields.remove("tool_calls");
        }
        Some(other) => return Err(ApiError::field(&format!("{at}.tool_calls"), kind(other), "a list")),
        None => {}
    }
    Ok(Message::from_json(Value::Object(fields))?)
}

/// Checks a call; arguments that are the text of an object become that object.
fn prepare_call(call: &mut Value, at: &str) -> Result<(), ApiError> {
    let function = call.get_mut("function").filter(|function| function.is_object());
    let Some(function) = function else {
        return Err(ApiError::field(
            &format!("{at}.function"),
            "no object",
            "an object with a name and arguments",
        ));
    };
    if !function["name"].is_string() {
        return Err(ApiError::field(&format!("{at}.function.name"), kind(&function["name"]), "a text"));
    }
    let parsed = function.get("arguments").and_then(Value::as_str).map(serde_json::from_str::<Value>);
    if let Some(Ok(arguments @ Value::Object(_))) = parsed {
        function["arguments"] = arguments;
    }
    Ok(())
}

fn join_parts(parts: &[Value], at: &str) -> Result<String, ApiError> {
    let mut joined = String::new();
    for (i, part) in parts.iter().enumerate() {
        let text = part_text(part, &format!("{at}.content[{i}]"))?;
        if !joined.is_empty() && !text.is_empty() {
            joined += BETWEEN_PARTS;
        }
        joined += text;
    }
    Ok(joined)
}

/// The text of a part of a content.
///
/// # Errors
/// Parts that are no text: images, sound, files.
pub fn part_text<'a>(part: &'a Value, at: &str) -> Result<&'a str, ApiError> {
    match (part["type"].as_str(), part["text"].as_str()) {
        (Some("text" | "input_text" | "output_text"), Some(text)) => Ok(text),
        (None, Some(text)) if part.get("type").is_none() => Ok(text),
        (Some("text" | "input_text" | "output_text"), None) => {
            Err(ApiError::field(&format!("{at}.text"), kind(&part["text"]), "a text"))
        }
        (Some(other @ ("image_url" | "input_image" | "image")), _) => Err(ApiError::field(
            at,
            format_args!("a part of type {other:?}"),
            "text: this model does not see images",
        )),
        (Some(other), _) => {
            Err(ApiError::field(at, format_args!("a part of type {other:?}"), "a part of type \"text\""))
        }
        (None, _) => Err(ApiError::field(at, kind(part), "an object with a type and a text")),
    }
}

/// The tools that an answer may call; none where it may not call any.
///
/// # Errors
/// What is no function, and a choice that names none of them.
pub fn tools(request: &ChatRequest) -> Result<&[Value], ApiError> {
    for (i, tool) in request.tools.iter().enumerate() {
        let at = format!("tools[{i}]");
        match tool["type"].as_str() {
            Some("function") => {}
            Some(other) => {
                return Err(ApiError::field(
                    &format!("{at}.type"),
                    format_args!("{other:?}"),
                    "\"function\"",
                ));
            }
            None => return Err(ApiError::field(&format!("{at}.type"), kind(&tool["type"]), "\"function\"")),
        }
        if !tool["function"]["name"].is_string() {
            return Err(ApiError::field(
                &format!("{at}.function.name"),
                kind(&tool["function"]["name"]),
                "a text",
            ));
        }
    }
    for (i, tool) in request.tools.iter().enumerate() {
        let function = &tool["function"];
        for (name, is_right, expected) in [
            ("description", function["description"].is_string(), "a text"),
            ("parameters", function["parameters"].is_object(), "a JSON schema: an object"),
            ("strict", function["strict"].is_boolean(), "a truth value"),
        ] {
            if !is_right && !function[name].is_null() {
                let at = format!("tools[{i}].function.{name}");
                return Err(ApiError::field(&at, kind(&function[name]), expected));
            }
        }
    }
    match &request.tool_choice {
        ToolChoice::None => return Ok(&[]),
        ToolChoice::Auto => {}
        ToolChoice::Required if request.tools.is_empty() => {
            return Err(ApiError::field("tool_choice", "\"required\" without tools", "tools to choose from"));
        }
        ToolChoice::Required => {}
        ToolChoice::Function(name) => {
            if !request.tools.iter().any(|tool| tool["function"]["name"] == **name) {
                return Err(ApiError::field(
                    "tool_choice",
                    format_args!("the function {name:?}"),
                    "the name of one of the tools",
                ));
            }
        }
    }
    Ok(&request.tools)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(messages: Value) -> String {
        prepare(messages.as_array().unwrap()).unwrap_err().message.into_owned()
    }

    #[test]
    fn what_is_no_message_is_named() {
        assert_eq!(refusal(json!([])), "messages: found an empty list, expected at least one message");
        assert_eq!(
            refusal(json!([123])),
            "messages[0]: found a number, expected an object with a role and a content"
        );
        let mut talk = json!([{"role": "user", "content": "x"}, {}]);
        assert_eq!(
            refusal(talk.clone()),
            "messages[1].role: found nothing, expected system, user, assistant or tool"
        );
        talk[1] = json!({"role": "user", "content": 7});
        assert_eq!(
            refusal(talk.clone()),
            "messages[1].content: found a number, expected a text or a list of parts"
        );
        talk[1] = json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]});
        assert!(refusal(talk.clone()).contains("does not see images"));
        talk[1] = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]});
        assert!(refusal(talk).starts_with("messages[1].tool_calls[0].function: "));
        let answers = json!([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]);
        assert!(refusal(answers).contains("2 or more messages of the assistant"));
    }

    #[test]
    fn parts_are_joined_and_arguments_are_objects() {
        let talk = json!([
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
        ]);
        let messages = prepare(talk.as_array().unwrap()).unwrap();
        assert_eq!((messages[0].role(), messages[0].content()), ("system", Some("a\n\nb")));
        assert_eq!(messages[1].content(), Some(""));
        assert_eq!(messages[1].fields()["tool_calls"][0]["function"]["arguments"], json!({"x": 1}));
    }
}
