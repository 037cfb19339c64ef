//! One row of a file: a conversation, or a text.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::chat::{ChatError, Message};

/// What a row holds.
#[derive(Debug, PartialEq)]
pub(super) enum Row {
    /// `messages` with or without `tools`, or `prompt` and `completion`.
    Chat { messages: Vec<Message>, tools: Vec<Value> },
    /// `text`.
    Text(String),
}

/// What is wrong with a row.
#[derive(Debug, PartialEq)]
pub(super) enum Fault {
    Content {
        /// The part that is concerned, as in `messages[1]`; empty for the whole row.
        what: String,
        found: String,
        expected: &'static str,
    },
    Template(ChatError),
}

impl Fault {
    pub fn new(what: impl Into<String>, found: impl Into<String>, expected: &'static str) -> Fault {
        Fault::Content { what: what.into(), found: found.into(), expected }
    }
}

const FORMATS: &str = "\"messages\", \"prompt\" and \"completion\", or \"text\"";

impl Row {
    /// The row that a line of JSON is. Keys that no format has are added to `unused`.
    pub fn parse(line: &[u8], unused: &mut BTreeSet<String>) -> Result<Row, Fault> {
        let text = std::str::from_utf8(line).map_err(|error| {
            let at = error.valid_up_to();
            Fault::new("", format!("byte 0x{:02x} in column {}", line[at], at + 1), "UTF-8")
        })?;
        let value: Value = serde_json::from_str(text).map_err(|error| {
            // The error names the line of the text it was given, which is always 1.
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            Fault::new(
                "",
                format!("malformed JSON in column {}: {message}", error.column()),
                "one JSON object a line",
            )
        })?;
        let Value::Object(mut row) = value else {
            return Err(Fault::new("", kind(&value), "one JSON object a line"));
        };
        let row_is = if row.contains_key("prompt") && row.contains_key("completion") {
            Row::of_completion(&mut row)?
        } else if row.contains_key("messages") {
            Row::of_messages(&mut row)?
        } else if row.contains_key("text") {
            let text = take_text(&mut row, "text")?;
            if text.is_empty() {
                return Err(Fault::new("text", "an empty string", "a text"));
            }
            Row::Text(text)
        } else {
            let names: Vec<_> = row.keys().take(8).map(|key| format!("\"{key}\"")).collect();
            let found = if names.is_empty() { "no keys".to_owned() } else { names.join(", ") };
            return Err(Fault::new("", found, FORMATS));
        };
        unused.extend(row.into_iter().map(|(key, _)| key));
        Ok(row_is)
    }

    fn of_completion(row: &mut Map<String, Value>) -> Result<Row, Fault> {
        let (prompt, completion) = (take_text(row, "prompt")?, take_text(row, "completion")?);
        if completion.is_empty() {
            return Err(Fault::new("completion", "an empty string", "a text"));
        }
        let messages = vec![Message::new("user", prompt), Message::new("assistant", completion)];
        Ok(Row::Chat { messages, tools: take_tools(row)? })
    }

    fn of_messages(row: &mut Map<String, Value>) -> Result<Row, Fault> {
        let messages = match row.remove("messages") {
            Some(Value::Array(messages)) if messages.is_empty() => {
                return Err(Fault::new("messages", "an empty list", "at least one message"));
            }
            Some(Value::Array(messages)) => messages,
            other => {
                return Err(Fault::new("messages", kind(&other.unwrap_or_default()), "a list of messages"));
            }
        };
        let message = |(i, message): (usize, Value)| {
            let what = format!("messages[{i}]");
            let found = kind(&message).to_owned();
            let message = Message::from_json(message).map_err(|_| {
                let found = if found == "an object" { "an object without a role".to_owned() } else { found };
                Fault::new(&*what, found, "an object with \"role\" and \"content\"")
            })?;
            let calls = message.fields().get("tool_calls").is_some_and(|calls| !calls.is_null());
            match message.fields().get("content") {
                Some(Value::String(_)) => Ok(message),
                // Not every template takes lists of parts.
                Some(Value::Array(_)) => message.joined().map_err(|_| {
                    Fault::new(
                        what + ".content",
                        "a list with other parts",
                        "a text, or parts of type \"text\" alone",
                    )
                }),
                None | Some(Value::Null) if calls => Ok(message),
                None => Err(Fault::new(what, "no \"content\"", "a text")),
                Some(other) => Err(Fault::new(what + ".content", kind(other), "a text")),
            }
        };
        let messages = messages.into_iter().enumerate().map(message).collect::<Result<_, _>>()?;
        Ok(Row::Chat { messages, tools: take_tools(row)? })
    }
}

fn take_text(row: &mut Map<String, Value>, key: &'static str) -> Result<String, Fault> {
    match row.remove(key) {
        Some(Value::String(text)) => Ok(text),
        other => Err(Fault::new(key, kind(&other.unwrap_or_default()), "a string")),
    }
}

fn take_tools(row: &mut Map<String, Value>) -> Result<Vec<Value>, Fault> {
    match row.remove("tools") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(tools)) => match tools.iter().position(|tool| !tool.is_object()) {
            None => Ok(tools),
            Some(i) => Err(Fault::new(format!("tools[{i}]"), kind(&tools[i]), "an object")),
        },
        Some(other) => Err(Fault::new("tools", kind(&other), "a list of tools")),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Row, String> {
        Row::parse(line.as_bytes(), &mut BTreeSet::new()).map_err(|fault| match fault {
            Fault::Content { what, found, expected } => format!("{what}: {found}; {expected}"),
            Fault::Template(error) => error.to_string(),
        })
    }

    #[test]
    fn four_formats_are_known() {
        let ask = || Message::new("user", "Why?");
        let answer = || Message::new("assistant", "So.");
        let chat = |tools| Ok(Row::Chat { messages: vec![ask(), answer()], tools });
        let messages = r#"[{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]"#;
        assert_eq!(parse(&format!("{{\"messages\": {messages}}}")), chat(vec![]));
        let parts = messages.replace("\"Why?\"", r#"[{"type": "text", "text": "Why?"}]"#);
        assert_eq!(parse(&format!("{{\"messages\": {parts}}}")), chat(vec![]));
        let tools = format!("{{\"messages\": {messages}, \"tools\": [{{\"type\": \"function\"}}]}}");
        assert_eq!(parse(&tools), chat(vec![serde_json::json!({"type": "function"})]));
        assert_eq!(parse(r#"{"prompt": "Why?", "completion": "So."}"#), chat(vec![]));
        assert_eq!(parse("{\"text\": \"It is.\"}\r\n"), Ok(Row::Text("It is.".into())));
    }

    #[test]
    fn keys_that_have_no_effect_are_collected() {
        let mut unused = BTreeSet::new();
        Row::parse(br#"{"text": "a", "id": 7, "source": "b"}"#, &mut unused).unwrap();
        assert_eq!(unused.into_iter().collect::<Vec<_>>(), ["id", "source"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (
                "{\"text\": ",
                ": malformed JSON in column 9: EOF while parsing a value; one JSON object a line",
            ),
            ("[]", ": a list; one JSON object a line"),
            ("{}", ": no keys; \"messages\", \"prompt\" and \"completion\", or \"text\""),
            ("{\"prompt\": \"a\"}", ": \"prompt\"; \"messages\", \"prompt\" and \"completion\", or \"text\""),
            ("{\"text\": 1}", "text: a number; a string"),
            ("{\"text\": \"\"}", "text: an empty string; a text"),
            ("{\"prompt\": \"a\", \"completion\": null}", "completion: null; a string"),
            ("{\"prompt\": \"a\", \"completion\": \"\"}", "completion: an empty string; a text"),
            ("{\"messages\": {}}", "messages: an object; a list of messages"),
            ("{\"messages\": []}", "messages: an empty list; at least one message"),
            ("{\"messages\": [\"a\"]}", "messages[0]: a string; an object with \"role\" and \"content\""),
            (
                "{\"messages\": [{\"content\": \"a\"}]}",
                "messages[0]: an object without a role; an object with \"role\" and \"content\"",
            ),
            ("{\"messages\": [{\"role\": \"user\"}]}", "messages[0]: no \"content\"; a text"),
            (
                "{\"messages\": [{\"role\": \"user\", \"content\": 1}]}",
                "messages[0].content: a number; a text",
            ),
            (
                "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\"}]}]}",
                "messages[0].content: a list with other parts; a text, or parts of type \"text\" alone",
            ),
            (
                "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"tools\": 1}",
                "tools: a number; a list of tools",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line).unwrap_err(), expected, "{line}");
        }
        let fault = Row::parse(b"{\"text\": \"\xff\"}", &mut BTreeSet::new()).unwrap_err();
        assert_eq!(fault, Fault::new("", "byte 0xff in column 11", "UTF-8"));
    }
}
