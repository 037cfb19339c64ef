//! What a template is given.

use bise_models::tokenizer::Tokenizer;
use serde_json::{Map, Value};

use super::ChatError;

/// One message of a conversation: a JSON object with a `role`, mostly a `content`, and whatever else the template
/// knows (`tool_calls`, `tool_call_id`, `name`, `reasoning_content`, …).
///
/// Nothing that a message says becomes a control token, be it in its content, in parts of it, or in the name and the
/// arguments of a tool call. Its role alone counts as the template's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    fields: Map<String, Value>,
}

impl Message {
    /// A message of `role` that says `content`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        let mut fields = Map::new();
        fields.insert("role".to_owned(), Value::String(role.into()));
        fields.insert("content".to_owned(), Value::String(content.into()));
        Self { fields }
    }

    /// A message as requests to chat servers hold it.
    ///
    /// # Errors
    /// [`ChatError::BadMessage`] if it is no object with a text under `role`.
    pub fn from_json(json: Value) -> Result<Self, ChatError> {
        match json {
            Value::Object(fields) if matches!(fields.get("role"), Some(Value::String(_))) => {
                Ok(Self { fields })
            }
            Value::Object(_) => Err(ChatError::BadMessage { found: "an object without a role" }),
            Value::Array(_) => Err(ChatError::BadMessage { found: "a list" }),
            Value::String(_) => Err(ChatError::BadMessage { found: "a text" }),
            _ => Err(ChatError::BadMessage { found: "neither a text nor an object" }),
        }
    }

    /// Who speaks: `system`, `user`, `assistant`, `tool`, or another word the template knows.
    pub fn role(&self) -> &str {
        self.fields.get("role").and_then(Value::as_str).unwrap_or_default()
    }

    /// What is said, if it is a plain text: not a list of parts, and not left out beside tool calls.
    pub fn content(&self) -> Option<&str> {
        self.fields.get("content").and_then(Value::as_str)
    }

    /// The message as JSON.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// The message with the texts of its parts as one text, a line each.
    pub(crate) fn joined(&self) -> Result<Message, ChatError> {
        let mut message = self.clone();
        if let Some(Value::Array(_)) = self.fields.get("content") {
            message.fields.insert("content".to_owned(), Value::String(self.text("\n")?));
        }
        Ok(message)
    }

    /// The message without one of its fields.
    #[cfg(feature = "train")]
    pub(crate) fn without(&self, key: &str) -> Message {
        let fields = self.fields.iter().filter(|(name, _)| *name != key);
        Message { fields: fields.map(|(name, value)| (name.clone(), value.clone())).collect() }
    }

    /// The message with another text as its content.
    #[cfg(feature = "train")]
    pub(crate) fn saying(&self, content: String) -> Message {
        let mut message = self.clone();
        message.fields.insert("content".to_owned(), Value::String(content));
        message
    }

    /// What is said, with `between` between the texts of parts; nothing if there is no content.
    ///
    /// # Errors
    /// [`ChatError::Refused`] for parts that are no texts.
    pub(super) fn text(&self, between: &str) -> Result<String, ChatError> {
        match self.fields.get("content") {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Array(parts)) => {
                let part = |part: &Value| match (part["type"].as_str(), part["text"].as_str()) {
                    (None | Some("text"), Some(text)) => Ok(text.to_owned()),
                    (kind, _) => {
                        let kind = kind.unwrap_or("unknown");
                        Err(ChatError::Refused(format!(
                            "a part of type {kind:?}: expected parts of type \"text\""
                        )))
                    }
                };
                join(parts.iter().map(part), between)
            }
            Some(other) => Ok(other.to_string()),
        }
    }

    pub(super) fn fields_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.fields
    }
}

/// Texts as one, with `between` between those that are not empty.
pub(super) fn join(
    texts: impl Iterator<Item = Result<String, ChatError>>,
    between: &str,
) -> Result<String, ChatError> {
    let mut whole = String::new();
    for text in texts {
        let text = text?;
        if !whole.is_empty() && !text.is_empty() {
            whole += between;
        }
        whole += &text;
    }
    Ok(whole)
}

/// A conversation and how to render it.
#[derive(Debug, Clone, Copy)]
pub struct ChatInput<'a> {
    /// The messages, oldest first.
    pub messages: &'a [Message],
    /// The tools that the model may call, as JSON schemas (`{"type": "function", "function": {…}}`).
    pub tools: &'a [Value],
    /// Documents to answer from, as objects that the template knows (`{"title": …, "text": …}`).
    pub documents: &'a [Value],
    /// More variables for the template (`chat_template_kwargs`), such as `enable_thinking`. They take the place of
    /// those that this type sets.
    pub arguments: Option<&'a Map<String, Value>>,
    /// Whether to end with what comes before an answer. On by default.
    pub add_generation_prompt: bool,
    /// Whether the prompt ends with what the last message says, for the model to continue it.
    pub continue_final_message: bool,
}

impl<'a> ChatInput<'a> {
    /// Messages to be answered.
    pub fn new(messages: &'a [Message]) -> Self {
        Self {
            messages,
            tools: &[],
            documents: &[],
            arguments: None,
            add_generation_prompt: true,
            continue_final_message: false,
        }
    }
}

/// The texts of the tokens that templates know by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `bos_token`: beginning of text. The prompt holds it if the template writes it, as Mistral's do.
    pub bos: String,
    /// `eos_token`: end of text.
    pub eos: String,
}

impl SpecialTokens {
    /// The texts as given.
    pub fn new(bos: impl Into<String>, eos: impl Into<String>) -> Self {
        Self { bos: bos.into(), eos: eos.into() }
    }

    /// Those of a vocabulary; empty for tokens it does not have.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let text = |id: Option<u32>| {
            id.map_or(String::new(), |id| String::from_utf8_lossy(tokenizer.piece(id)).into_owned())
        };
        Self { bos: text(tokenizer.bos()), eos: text(tokenizer.eos()) }
    }
}
