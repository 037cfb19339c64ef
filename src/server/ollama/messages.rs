//! Messages between Ollama's shape and OpenAI's.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::server::answer::{ApiError, WholeToolCall, tool_call_id};

/// A message of a request.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Message {
    role: String,
    content: Option<String>,
    thinking: Option<String>,
    images: Option<Vec<Value>>,
    tool_calls: Option<Vec<ToolCall>>,
    tool_name: Option<String>,
    tool_call_id: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct ToolCall {
    id: Option<String>,
    function: Function,
}

#[derive(Debug, Clone, Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: Value,
}

/// A call that has no result yet.
struct OpenCall {
    id: String,
    name: String,
}

/// Messages in OpenAI's shape. Calls without an id get one from their place, and results, which in this interface often name the
/// function alone, the id of the call they belong to.
///
/// # Errors
/// Images, which no model here sees.
pub(super) fn to_openai(messages: Vec<Message>) -> Result<Vec<Value>, ApiError> {
    let mut open: Vec<OpenCall> = Vec::new();
    let mut n_calls = 0;
    let mut converted = Vec::with_capacity(messages.len());
    for (i, message) in messages.into_iter().enumerate() {
        if message.images.is_some_and(|images| !images.is_empty()) {
            return Err(images_refused(&format!("messages[{i}].images")));
        }
        let role = message.role.to_lowercase();
        let mut fields = Map::new();
        fields.insert("role".to_owned(), role.as_str().into());
        fields.insert("content".to_owned(), message.content.unwrap_or_default().into());
        if let Some(thinking) = message.thinking.filter(|thinking| !thinking.is_empty()) {
            fields.insert("reasoning_content".to_owned(), thinking.into());
        }
        let calls = message.tool_calls.unwrap_or_default();
        if !calls.is_empty() {
            let mut list = Vec::with_capacity(calls.len());
            for ToolCall { id, function } in calls {
                let id = id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call {n_calls}"));
                n_calls += 1;
                let id = tool_call_id::fit(&id).into_owned();
                // Some clients send the text of the arguments, as OpenAI's interface has it.
                let arguments = match function.arguments {
                    Value::String(text) => text,
                    Value::Null => "{}".to_owned(),
                    other => other.to_string(),
                };
                list.push(json!({
                    "id": id,
                    "type": "function",
                    "function": {"name": function.name, "arguments": arguments},
                }));
                open.push(OpenCall { id, name: function.name });
            }
            fields.insert("tool_calls".to_owned(), list.into());
        }
        if role == "tool" {
            let id = message.tool_call_id.filter(|id| !id.is_empty());
            let id = id.map(|id| tool_call_id::fit(&id).into_owned());
            let call = answered(&mut open, id.as_deref(), message.tool_name.as_deref());
            let (id, name) = match call {
                Some(call) => (Some(call.id), Some(call.name)),
                None => (id, message.tool_name),
            };
            fields.extend(id.map(|id| ("tool_call_id".to_owned(), id.into())));
            fields.extend(name.map(|name| ("name".to_owned(), name.into())));
        }
        converted.push(Value::Object(fields));
    }
    Ok(converted)
}

/// The call that a result belongs to: the one with its id, the first with its name, or the first of all.
fn answered(open: &mut Vec<OpenCall>, id: Option<&str>, name: Option<&str>) -> Option<OpenCall> {
    let position = match (id, name) {
        (Some(id), _) => open.iter().position(|call| call.id == id),
        (None, Some(name)) => open.iter().position(|call| call.name == name),
        (None, None) => (!open.is_empty()).then_some(0),
    };
    position.map(|at| open.remove(at))
}

/// What is said to images.
pub(super) fn images_refused(at: &str) -> ApiError {
    ApiError::invalid(format!("{at}: image input is not supported: the models served here read text only"))
}

/// A call in Ollama's shape, whose arguments are an object; `None` where they are none, which happens when the answer is cut.
pub(super) fn tool_call(index: usize, call: &WholeToolCall) -> Option<Value> {
    let arguments = match call.arguments.trim() {
        "" => Value::Object(Map::new()),
        text => serde_json::from_str(text).ok().filter(Value::is_object)?,
    };
    Some(json!({
        "id": call.id,
        "function": {"index": index, "name": call.name, "arguments": arguments},
    }))
}

/// A call that is none, as a text: nothing that was generated is lost.
pub(super) fn broken_call(call: &WholeToolCall) -> String {
    format!("{}{}", call.name, call.arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(messages: Value) -> Value {
        to_openai(serde_json::from_value(messages).unwrap()).unwrap().into()
    }

    #[test]
    fn plain_messages_stay_what_they_are() {
        assert_eq!(
            convert(json!([
                {"role": "System", "content": "Be brief."},
                {"role": "user", "content": "Hi", "images": []},
                {"role": "assistant", "content": "Hello", "thinking": "A greeting.", "tool_calls": null},
            ])),
            json!([
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello", "reasoning_content": "A greeting."},
            ])
        );
    }

    /// What ollama-python sends after two calls: no ids, results by name.
    #[test]
    fn results_find_their_calls() {
        let converted = convert(json!([
            {"role": "assistant", "content": "", "tool_calls": [
                {"function": {"name": "add", "arguments": {"a": 1, "b": 2}}},
                {"function": {"name": "time", "arguments": {}}},
            ]},
            {"role": "tool", "tool_name": "time", "content": "noon"},
            {"role": "tool", "content": "3"},
        ]));
        let calls = &converted[0]["tool_calls"];
        assert_eq!(calls[0]["function"], json!({"name": "add", "arguments": r#"{"a":1,"b":2}"#}));
        assert_eq!(calls[0]["id"].as_str().unwrap().len(), 9);
        assert_ne!(calls[0]["id"], calls[1]["id"]);
        assert_eq!(converted[1]["tool_call_id"], calls[1]["id"]);
        assert_eq!((&converted[2]["tool_call_id"], &converted[2]["name"]), (&calls[0]["id"], &json!("add")));
    }

    #[test]
    fn ids_of_other_services_are_made_to_fit_the_same_way_on_both_sides() {
        let converted = convert(json!([
            {"role": "assistant", "tool_calls": [{"id": "call_7x", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "call_7x", "content": "1"},
            {"role": "tool", "tool_call_id": "unknown", "tool_name": "g", "content": "2"},
        ]));
        assert_eq!(converted[1]["tool_call_id"], converted[0]["tool_calls"][0]["id"]);
        assert_eq!(converted[1]["name"], "f");
        assert_eq!(converted[2]["name"], "g");
    }

    #[test]
    fn images_are_refused_by_place() {
        let messages = json!([{"role": "user", "content": "?", "images": ["aGk="]}]);
        let error = to_openai(serde_json::from_value(messages).unwrap()).unwrap_err();
        assert!(error.message.starts_with("messages[0].images: image input is not supported"), "{error:?}");
    }

    #[test]
    fn arguments_are_objects() {
        let call = |arguments: &str| WholeToolCall {
            id: "abcdefgh1".to_owned(),
            name: "f".to_owned(),
            arguments: arguments.to_owned(),
        };
        assert_eq!(
            tool_call(1, &call(r#"{"x": [1]}"#)).unwrap(),
            json!({"id": "abcdefgh1", "function": {"index": 1, "name": "f", "arguments": {"x": [1]}}})
        );
        assert_eq!(tool_call(0, &call("")).unwrap()["function"]["arguments"], json!({}));
        for cut in [r#"{"x": "#, "[1]", "7"] {
            assert_eq!(tool_call(0, &call(cut)), None);
            assert_eq!(broken_call(&call(cut)), format!("f{cut}"));
        }
    }
}
