//! Requests for a response.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::input;
use crate::sampling::SamplingParams;
use crate::server::answer::{ApiError, ChatRequest, Format, LogProbs, RequestOptions, ToolChoice, kind};
use crate::server::body::Limit;

/// A request for a response, or for the number of tokens that it would read.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    pub model: Option<String>,
    input: Value,
    instructions: Option<String>,
    max_output_tokens: Option<Limit>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    text: Option<Text>,
    reasoning: Option<Reasoning>,
    previous_response_id: Option<String>,
    conversation: Option<Value>,
    background: Option<bool>,
    include: Option<Vec<String>>,
    top_logprobs: Option<u8>,
    metadata: Option<Map<String, Value>>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    user: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Text {
    format: Option<TextFormat>,
}

#[derive(Debug, Deserialize)]
struct TextFormat {
    #[serde(rename = "type")]
    kind: String,
    schema: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Reasoning {
    effort: Option<String>,
}

impl Request {
    /// The conversation.
    ///
    /// # Errors
    /// What is wrong with the input, the tools or the format; what would have to be stored.
    pub(super) fn to_chat(
        &self,
        sampling: SamplingParams,
        cache_prompt: bool,
    ) -> Result<ChatRequest, ApiError> {
        let stored = [
            ("previous_response_id", self.previous_response_id.is_some()),
            ("conversation", self.conversation.as_ref().is_some_and(|value| !value.is_null())),
            ("background", self.background == Some(true)),
        ];
        if let Some((name, _)) = stored.iter().find(|(_, given)| *given) {
            let expected = "the whole conversation under input: nothing is stored here";
            return Err(ApiError::field(name, "a value", expected));
        }
        let mut messages = Vec::new();
        if let Some(instructions) = &self.instructions {
            messages.push(json!({"role": "system", "content": instructions}));
        }
        messages.extend(input::to_messages(&self.input)?);
        let mut template_args = Map::new();
        let effort = self.reasoning.as_ref().and_then(|reasoning| reasoning.effort.as_deref());
        if let Some(effort) = effort {
            template_args.insert("reasoning_effort".to_owned(), effort.into());
        }
        let wants_log_probs =
            self.include.iter().flatten().any(|what| what == "message.output_text.logprobs");
        Ok(ChatRequest {
            messages,
            tools: self.tools()?,
            tool_choice: self.tool_choice()?,
            parallel_tool_calls: self.parallel_tool_calls.unwrap_or(true),
            template_args,
            thinking: effort.map(|effort| effort != "none"),
            options: RequestOptions {
                sampling,
                max_tokens: self.max_output_tokens.and_then(|Limit(limit)| limit),
                log_probs: wants_log_probs.then(|| LogProbs {
                    n_top: self.top_logprobs.unwrap_or(0).into(),
                    after_sampling: false,
                }),
                format: self.format()?,
                cache_prompt,
                ..RequestOptions::default()
            },
            ..ChatRequest::default()
        })
    }

    /// What the response repeats of the request.
    pub(super) fn echo(&self, model: &str, chat: &ChatRequest) -> Map<String, Value> {
        let echo = json!({
            "model": self.model.as_deref().unwrap_or(model),
            "instructions": self.instructions,
            "max_output_tokens": chat.options.max_tokens,
            "parallel_tool_calls": self.parallel_tool_calls.unwrap_or(true),
            "previous_response_id": null,
            "reasoning": {"effort": self.reasoning.as_ref().and_then(|reasoning| reasoning.effort.as_ref()), "summary": null},
            "store": false,
            "temperature": self.temperature.unwrap_or_else(|| round(chat.options.sampling.temp)),
            "top_p": self.top_p.unwrap_or_else(|| round(chat.options.sampling.top_p)),
            "text": {"format": self.text.as_ref().and_then(|text| text.format.as_ref()).map_or_else(
                || json!({"type": "text"}),
                |format| match &format.schema {
                    Some(schema) => json!({"type": format.kind, "schema": schema}),
                    None => json!({"type": format.kind}),
                },
            )},
            "tool_choice": self.tool_choice.clone().unwrap_or_else(|| "auto".into()),
            "tools": self.tools.clone().unwrap_or_default(),
            "truncation": "disabled",
            "metadata": self.metadata.clone().unwrap_or_default(),
            "user": self.user,
        });
        match echo {
            Value::Object(echo) => echo,
            _ => unreachable!("it was made an object"),
        }
    }

    /// Tools as chats have them.
    fn tools(&self) -> Result<Vec<Value>, ApiError> {
        let tools = self.tools.iter().flatten().enumerate();
        tools
            .map(|(i, tool)| match tool["type"].as_str() {
                Some("function") => {
                    let mut function = Map::new();
                    for name in ["name", "description", "parameters", "strict"] {
                        if let Some(value) = tool.get(name).filter(|value| !value.is_null()) {
                            function.insert(name.to_owned(), value.clone());
                        }
                    }
                    Ok(json!({"type": "function", "function": function}))
                }
                Some(other) => {
                    let found = format!("the tool {other:?}, which is run by the service");
                    Err(ApiError::field(&format!("tools[{i}].type"), found, "\"function\""))
                }
                None => {
                    Err(ApiError::field(&format!("tools[{i}].type"), kind(&tool["type"]), "\"function\""))
                }
            })
            .collect()
    }

    fn tool_choice(&self) -> Result<ToolChoice, ApiError> {
        let expected = "auto, none, required or a function by name";
        match &self.tool_choice {
            None | Some(Value::Null) => Ok(ToolChoice::Auto),
            Some(Value::String(word)) => match word.as_str() {
                "auto" => Ok(ToolChoice::Auto),
                "none" => Ok(ToolChoice::None),
                "required" => Ok(ToolChoice::Required),
                other => Err(ApiError::field("tool_choice", format_args!("{other:?}"), expected)),
            },
            Some(choice) => match (choice["type"].as_str(), choice["name"].as_str()) {
                (Some("function"), Some(name)) => Ok(ToolChoice::Function(name.to_owned())),
                _ => Err(ApiError::field("tool_choice", kind(choice), expected)),
            },
        }
    }

    fn format(&self) -> Result<Option<Format>, ApiError> {
        let Some(format) = self.text.as_ref().and_then(|text| text.format.as_ref()) else { return Ok(None) };
        match (format.kind.as_str(), &format.schema) {
            ("text", _) => Ok(None),
            ("json_object", _) => Ok(Some(Format::JsonObject)),
            ("json_schema", Some(schema)) => Ok(Some(Format::Schema(schema.clone()))),
            ("json_schema", None) => Err(ApiError::field("text.format.schema", "nothing", "a JSON schema")),
            (other, _) => Err(ApiError::field(
                "text.format.type",
                format_args!("{other:?}"),
                "text, json_object or json_schema",
            )),
        }
    }
}

/// A narrow number with the digits it needs, and no more.
fn round(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| x.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::body::read;

    fn chat(fields: Value) -> Result<ChatRequest, ApiError> {
        read::<Request>(&fields)?.to_chat(SamplingParams::default(), true)
    }

    fn refusal(mut fields: Value) -> String {
        fields["input"] = "Hi".into();
        chat(fields).unwrap_err().message.into_owned()
    }

    #[test]
    fn a_request_is_a_chat() {
        let parameters = json!({"type": "object", "properties": {}});
        let request = chat(json!({
            "input": "Hi", "instructions": "Be brief.", "max_output_tokens": 8,
            "tools": [{"type": "function", "name": "now", "description": null, "parameters": parameters, "strict": true}],
            "tool_choice": {"type": "function", "name": "now"}, "parallel_tool_calls": false,
            "reasoning": {"effort": "low"}, "include": ["message.output_text.logprobs"], "top_logprobs": 2,
            "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
        }))
        .unwrap();
        assert_eq!(
            request.messages,
            [json!({"role": "system", "content": "Be brief."}), json!({"role": "user", "content": "Hi"})]
        );
        let function = json!({"name": "now", "parameters": parameters, "strict": true});
        assert_eq!(request.tools, [json!({"type": "function", "function": function})]);
        assert_eq!(request.tool_choice, ToolChoice::Function("now".to_owned()));
        assert!(!request.parallel_tool_calls);
        assert_eq!(
            (request.thinking, &request.template_args["reasoning_effort"]),
            (Some(true), &json!("low"))
        );
        assert_eq!(request.options.max_tokens, Some(8));
        assert_eq!(request.options.log_probs, Some(LogProbs { n_top: 2, after_sampling: false }));
        assert_eq!(request.options.format, Some(Format::Schema(json!({"type": "object"}))));
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        assert!(refusal(json!({"previous_response_id": "resp_1"})).contains("nothing is stored here"));
        assert!(refusal(json!({"background": true})).starts_with("background: "));
        assert!(
            refusal(json!({"tools": [{"type": "web_search"}]}))
                .starts_with("tools[0].type: found the tool \"web_search\"")
        );
        assert!(refusal(json!({"tool_choice": "any"})).starts_with("tool_choice: found \"any\""));
        assert!(
            refusal(json!({"text": {"format": {"type": "xml"}}}))
                .starts_with("text.format.type: found \"xml\"")
        );
        assert!(read::<Request>(&json!({})).unwrap_err().message.contains("input"));
    }
}
