//! What `mistral_common` makes of a conversation before it is written: the named templates of Mistral start from that.

use serde_json::{Map, Value, json};

use super::input::join;
use super::{ChatError, Message};

/// What stands between the texts of two messages, or of two parts of one, that become one text.
const BETWEEN: &str = "\n\n";

/// How a version of Mistral's templates takes conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flavour {
    /// Whether the system text is a message of its own, before which no user message has to stand.
    pub has_system_message: bool,
    /// Whether the assistant may both say something and call tools in one message.
    pub says_and_calls: bool,
    /// Whether results of tools are in the order of their calls.
    pub sorts_results: bool,
}

/// The conversation with consecutive messages of one speaker as one message, whose content is a text.
///
/// A call of a tool is `{"name", "arguments", "id"}`, with arguments as JSON however they were given; a result has its text as `content` and
/// what it says as JSON in `result`.
pub(super) fn conversation(messages: &[Message], flavour: Flavour) -> Result<Vec<Message>, ChatError> {
    let mut turns: Vec<Message> = Vec::new();
    // The calls that the results to come belong to.
    let mut call_ids: Vec<String> = Vec::new();
    for same in messages.chunk_by(|a, b| a.role() == b.role()) {
        let role = same[0].role();
        match role {
            "user" => turns.push(Message::new(role, joined(same)?)),
            "assistant" => {
                let calls = same.iter().flat_map(calls).collect::<Result<Vec<_>, _>>()?;
                let silent_or_idle = |message: &Message| {
                    Ok::<_, ChatError>(text(message)?.is_empty() || calls_of(message).is_empty())
                };
                if !flavour.says_and_calls
                    && !same.iter().try_fold(true, |all, message| Ok(all && silent_or_idle(message)?))?
                {
                    return Err(refused("an assistant message either says something or calls tools"));
                }
                call_ids.extend(calls.iter().filter_map(|call| Some(call["id"].as_str()?.to_owned())));
                let mut turn = Message::new(role, joined(same)?);
                if !calls.is_empty() {
                    turn.fields_mut().insert("tool_calls".to_owned(), Value::Array(calls));
                }
                turns.push(turn);
            }
            "tool" => {
                let mut results = same.iter().map(result).collect::<Result<Vec<_>, _>>()?;
                if flavour.sorts_results {
                    results.sort_by_key(|result| {
                        let id = &result.fields()["tool_call_id"];
                        call_ids.iter().position(|call| *id == *call.as_str()).unwrap_or(usize::MAX)
                    });
                }
                call_ids.clear();
                turns.extend(results);
            }
            "system" => {
                for message in same {
                    turns.push(Message::new(role, text(message)?));
                }
            }
            _ => return Err(refused(&format!("the roles are system, user, assistant and tool, not {role}"))),
        }
    }
    let first = turns.iter().position(|turn| turn.role() != "system");
    if !flavour.has_system_message && first.is_none_or(|first| turns[first].role() != "user") {
        turns.insert(first.unwrap_or(turns.len()), Message::new("user", ""));
    }
    Ok(turns)
}

/// Tools with the keys that Mistral's templates show, in their order.
pub(super) fn tools(tools: &[Value]) -> Result<Vec<Value>, ChatError> {
    let tool = |tool: &Value| {
        let function = tool.get("function").unwrap_or(tool);
        let Some(name) = function.get("name").and_then(Value::as_str) else {
            return Err(refused("a tool without a name"));
        };
        let field = |key: &str, default: Value| function.get(key).cloned().unwrap_or(default);
        let mut shown = Map::new();
        shown.insert("name".to_owned(), json!(name));
        shown.insert("description".to_owned(), field("description", json!("")));
        shown.insert("parameters".to_owned(), field("parameters", json!({})));
        Ok(json!({"type": "function", "function": shown}))
    };
    tools.iter().map(tool).collect()
}

fn refused(why: &str) -> ChatError {
    ChatError::Refused(why.to_owned())
}

/// What a message says.
fn text(message: &Message) -> Result<String, ChatError> {
    message.text(BETWEEN)
}

/// What some messages say, as one text.
fn joined(messages: &[Message]) -> Result<String, ChatError> {
    join(messages.iter().map(text), BETWEEN)
}

fn calls_of(message: &Message) -> &[Value] {
    message.fields().get("tool_calls").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn calls(message: &Message) -> impl Iterator<Item = Result<Value, ChatError>> {
    calls_of(message).iter().map(|call| {
        let function = call.get("function").unwrap_or(call);
        let Some(name) = function.get("name").and_then(Value::as_str) else {
            return Err(refused("a call of a tool without a name"));
        };
        let arguments = match function.get("arguments") {
            None | Some(Value::Null) => json!({}),
            Some(Value::String(text)) if text.is_empty() => json!({}),
            Some(Value::String(text)) => as_json(text),
            Some(value) => value.clone(),
        };
        let mut shown = Map::new();
        shown.insert("name".to_owned(), json!(name));
        shown.insert("arguments".to_owned(), arguments);
        if let Some(id) = call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty() && *id != "null")
        {
            shown.insert("id".to_owned(), json!(id));
        }
        Ok(Value::Object(shown))
    })
}

fn result(message: &Message) -> Result<Message, ChatError> {
    let Some(id) = message.fields().get("tool_call_id").and_then(Value::as_str) else {
        return Err(refused("the result of a tool without a tool_call_id"));
    };
    let text = text(message)?;
    let mut result = Message::new("tool", text.as_str());
    let value = if text.is_empty() { json!({}) } else { as_json(&text) };
    result.fields_mut().insert("result".to_owned(), value);
    result.fields_mut().insert("tool_call_id".to_owned(), json!(id));
    Ok(result)
}

/// A text as the JSON it holds, or else as a JSON text.
fn as_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}
