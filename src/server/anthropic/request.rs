//! Requests of Anthropic's interface.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::messages::{self, Content, Message};
use crate::sampling::SamplingParams;
use crate::server::answer::{ApiError, ChatRequest, Format, RequestOptions, ToolChoice, kind};
use crate::server::body::Whole;

/// A request for a message, or for its number of tokens.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    pub model: Option<String>,
    messages: Vec<Message>,
    max_tokens: Option<Whole<i64>>,
    system: Option<Content>,
    stream: Option<bool>,
    stop_sequences: Option<Vec<String>>,
    tools: Option<Vec<Tool>>,
    tool_choice: Option<Choice>,
    thinking: Option<Thinking>,
    output_config: Option<OutputConfig>,
    output_format: Option<OutputFormat>,
}

#[derive(Debug, Deserialize)]
struct Tool {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: String,
    description: Option<String>,
    input_schema: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Choice {
    Auto { disable_parallel_tool_use: Option<bool> },
    Any { disable_parallel_tool_use: Option<bool> },
    Tool { name: String, disable_parallel_tool_use: Option<bool> },
    None,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Thinking {
    Enabled { budget_tokens: Option<Whole<u32>> },
    Adaptive {},
    Disabled {},
}

#[derive(Debug, Deserialize)]
struct OutputConfig {
    format: Option<OutputFormat>,
    effort: Option<String>,
}

#[derive(Debug, Deserialize)]
struct OutputFormat {
    #[serde(rename = "type")]
    kind: String,
    schema: Option<Value>,
}

impl Request {
    /// Whether the answer is streamed.
    pub(super) fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Tokens that the answer may have.
    ///
    /// # Errors
    /// It is not said, which this interface asks for, or negative.
    pub(super) fn max_tokens(&self) -> Result<usize, ApiError> {
        let expected = "the number of tokens that the answer may have";
        match self.max_tokens {
            None => Err(ApiError::field("max_tokens", "nothing", expected)),
            Some(Whole(n)) => usize::try_from(n).map_err(|_| ApiError::field("max_tokens", n, expected)),
        }
    }

    /// The conversation, with `max_tokens` left open.
    ///
    /// # Errors
    /// What is wrong with the messages, the tools or the format.
    pub(super) fn to_chat(
        &self,
        sampling: SamplingParams,
        cache_prompt: bool,
    ) -> Result<ChatRequest, ApiError> {
        let mut converted = Vec::new();
        if let Some(system) = &self.system {
            converted.extend(messages::system(system)?);
        }
        converted.extend(messages::to_openai(&self.messages)?);
        if self.messages.is_empty() {
            // As llama-server has it.
            converted.push(json!({"role": "user", "content": ""}));
        }
        let (tool_choice, parallel_tool_calls) = self.tool_choice();
        let mut template_args = Map::new();
        if let Some(effort) = self.output_config.as_ref().and_then(|config| config.effort.as_deref()) {
            template_args.insert("reasoning_effort".to_owned(), effort.into());
        }
        Ok(ChatRequest {
            messages: converted,
            tools: self.tools()?,
            tool_choice,
            parallel_tool_calls,
            template_args,
            thinking: self.thinking(),
            options: RequestOptions {
                sampling,
                stop: self.stop_sequences.clone().unwrap_or_default(),
                format: self.format()?,
                cache_prompt,
                ..RequestOptions::default()
            },
            ..ChatRequest::default()
        })
    }

    fn thinking(&self) -> Option<bool> {
        let thinking = self.thinking.as_ref()?;
        if let Thinking::Enabled { budget_tokens: Some(Whole(budget)) } = thinking {
            tracing::warn!(
                "fields without effect: thinking.budget_tokens ({budget}): max_tokens bounds thoughts and answer together"
            );
        }
        Some(!matches!(thinking, Thinking::Disabled {}))
    }

    fn tools(&self) -> Result<Vec<Value>, ApiError> {
        let tools = self.tools.iter().flatten().enumerate();
        tools
            .map(|(i, tool)| {
                if let Some(other) = tool.kind.as_deref().filter(|kind| *kind != "custom") {
                    let found = format!("the tool {other:?}, which is run by the service");
                    return Err(ApiError::field(
                        &format!("tools[{i}].type"),
                        found,
                        "a tool with an input_schema",
                    ));
                }
                let mut function = json!({"name": tool.name});
                if let Some(description) = &tool.description {
                    function["description"] = description.as_str().into();
                }
                function["parameters"] = match &tool.input_schema {
                    Some(schema @ Value::Object(_)) => schema.clone(),
                    None | Some(Value::Null) => json!({"type": "object", "properties": {}}),
                    Some(other) => {
                        let at = format!("tools[{i}].input_schema");
                        return Err(ApiError::field(&at, kind(other), "a JSON schema"));
                    }
                };
                Ok(json!({"type": "function", "function": function}))
            })
            .collect()
    }

    /// Which tools may be called, and whether several at once.
    fn tool_choice(&self) -> (ToolChoice, bool) {
        let (choice, disabled) = match &self.tool_choice {
            None => (ToolChoice::Auto, &None),
            Some(Choice::Auto { disable_parallel_tool_use }) => (ToolChoice::Auto, disable_parallel_tool_use),
            Some(Choice::Any { disable_parallel_tool_use }) => {
                (ToolChoice::Required, disable_parallel_tool_use)
            }
            Some(Choice::Tool { name, disable_parallel_tool_use }) => {
                (ToolChoice::Function(name.clone()), disable_parallel_tool_use)
            }
            Some(Choice::None) => (ToolChoice::None, &None),
        };
        (choice, *disabled != Some(true))
    }

    fn format(&self) -> Result<Option<Format>, ApiError> {
        let in_config = self.output_config.as_ref().and_then(|config| config.format.as_ref());
        let (format, at) = match (in_config, &self.output_format) {
            (Some(format), _) => (format, "output_config.format"),
            (None, Some(format)) => (format, "output_format"),
            (None, None) => return Ok(None),
        };
        match (format.kind.as_str(), &format.schema) {
            ("json_schema", Some(schema)) => Ok(Some(Format::Schema(schema.clone()))),
            ("json_schema", None) => {
                Err(ApiError::field(&format!("{at}.schema"), "nothing", "a JSON schema"))
            }
            (other, _) => {
                Err(ApiError::field(&format!("{at}.type"), format_args!("{other:?}"), "\"json_schema\""))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::body::read;

    fn chat(mut fields: Value) -> Result<ChatRequest, ApiError> {
        fields["messages"] = json!([{"role": "user", "content": "Hi"}]);
        read::<Request>(&fields)?.to_chat(SamplingParams::default(), true)
    }

    fn refusal(fields: Value) -> String {
        chat(fields).unwrap_err().message.into_owned()
    }

    #[test]
    fn tools_and_choices() {
        let schema =
            json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
        let tools = json!([
            {"name": "weather", "description": "Looks out.", "input_schema": schema, "cache_control": {"type": "ephemeral"}},
            {"type": "custom", "name": "now"},
        ]);
        let request =
            chat(json!({"tools": tools, "tool_choice": {"type": "any", "disable_parallel_tool_use": true}}))
                .unwrap();
        assert_eq!(
            request.tools,
            [
                json!({"type": "function", "function": {"name": "weather", "description": "Looks out.", "parameters": schema}}),
                json!({"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}),
            ]
        );
        assert_eq!((request.tool_choice, request.parallel_tool_calls), (ToolChoice::Required, false));
        let choice = |choice: Value| chat(json!({ "tool_choice": choice })).unwrap().tool_choice;
        assert_eq!(choice(json!({"type": "auto"})), ToolChoice::Auto);
        assert_eq!(choice(json!({"type": "none"})), ToolChoice::None);
        assert_eq!(choice(json!({"type": "tool", "name": "now"})), ToolChoice::Function("now".to_owned()));
        assert_eq!(choice(json!(null)), ToolChoice::Auto);
        let served = json!([{"type": "web_search_20250305", "name": "web_search"}]);
        assert!(
            refusal(json!({ "tools": served }))
                .starts_with("tools[0].type: found the tool \"web_search_20250305\"")
        );
        assert!(
            refusal(json!({"tools": [{"name": "f", "input_schema": 7}]}))
                .starts_with("tools[0].input_schema: ")
        );
        assert!(refusal(json!({"tool_choice": {"type": "some"}})).starts_with("tool_choice"));
    }

    #[test]
    fn thinking_formats_and_stops() {
        let request = chat(json!({
            "system": "Be brief.", "thinking": {"type": "enabled", "budget_tokens": 50}, "stop_sequences": ["END"],
            "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}},
            "metadata": {"user_id": "me"}, "service_tier": "auto"
        }))
        .unwrap();
        assert_eq!(request.thinking, Some(true));
        assert_eq!(request.template_args["reasoning_effort"], "high");
        assert_eq!(request.options.format, Some(Format::Schema(json!({"type": "object"}))));
        assert_eq!(request.options.stop, ["END"]);
        assert!(request.options.cache_prompt);
        let messages =
            [json!({"role": "system", "content": "Be brief."}), json!({"role": "user", "content": "Hi"})];
        assert_eq!(request.messages, messages);
        assert_eq!(chat(json!({"thinking": {"type": "disabled"}})).unwrap().thinking, Some(false));
        assert_eq!(chat(json!({"thinking": {"type": "adaptive"}})).unwrap().thinking, Some(true));
        assert!(refusal(json!({"thinking": {"type": "maybe"}})).starts_with("thinking"));
        assert_eq!(chat(json!({})).unwrap().thinking, None);
        assert!(
            refusal(json!({"output_format": {"type": "xml"}}))
                .starts_with("output_format.type: found \"xml\"")
        );
    }

    #[test]
    fn a_number_of_tokens_is_asked_for() {
        let max_tokens = |mut fields: Value| {
            fields["messages"] = json!([]);
            let max_tokens = read::<Request>(&fields).unwrap().max_tokens();
            max_tokens.map_err(|error| error.message.into_owned())
        };
        assert_eq!(max_tokens(json!({"max_tokens": 16})), Ok(16));
        assert_eq!(max_tokens(json!({"max_tokens": 0})), Ok(0));
        let expected = "expected the number of tokens that the answer may have";
        assert_eq!(max_tokens(json!({})), Err(format!("max_tokens: found nothing, {expected}")));
        assert_eq!(max_tokens(json!({"max_tokens": -1})), Err(format!("max_tokens: found -1, {expected}")));
        assert!(read::<Request>(&json!({"max_tokens": 1})).is_err());
    }
}
