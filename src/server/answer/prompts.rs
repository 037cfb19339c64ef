//! Prompts without a template, as requests spell them.

use serde_json::Value;

use super::{ApiError, Prompt, PromptPart, kind, part_text};

/// One prompt, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompts {
    /// The prompts, at least one.
    pub prompts: Vec<Prompt>,
    /// Whether they came as a list, and answers go back as one.
    pub is_list: bool,
}

const EXPECTED: &str = "a text, tokens, both in one list, or a list of such prompts";

impl Prompts {
    /// Reads a field: a text, tokens, texts and tokens in one list, or a list of such prompts.
    ///
    /// # Errors
    /// Anything else, and nothing.
    pub fn read(value: Option<&Value>, field: &str) -> Result<Prompts, ApiError> {
        let value = value
            .filter(|value| !value.is_null())
            .ok_or_else(|| ApiError::field(field, "nothing", EXPECTED))?;
        let items = match value {
            Value::Array(items) if !items.iter().any(Value::is_number) => items,
            one => return Ok(Prompts { prompts: vec![prompt(one, field)?], is_list: false }),
        };
        if items.is_empty() {
            return Err(ApiError::field(field, "an empty list", EXPECTED));
        }
        let each = items.iter().enumerate().map(|(i, item)| prompt(item, &format!("{field}[{i}]")));
        Ok(Prompts { prompts: each.collect::<Result<_, _>>()?, is_list: true })
    }
}

fn prompt(value: &Value, field: &str) -> Result<Prompt, ApiError> {
    match value {
        Value::String(text) => Ok(Prompt::Text(text.clone())),
        Value::Array(parts) if parts.is_empty() => Err(ApiError::field(field, "an empty list", EXPECTED)),
        Value::Array(parts) if parts.iter().all(Value::is_number) => {
            parts.iter().map(|token| self::token(token, field)).collect::<Result<_, _>>().map(Prompt::Tokens)
        }
        Value::Array(parts) => {
            let parts = parts.iter().map(|part| match part {
                Value::String(text) => Ok(PromptPart::Text(text.clone())),
                Value::Number(_) => token(part, field).map(PromptPart::Token),
                other => Err(ApiError::field(field, kind(other), "texts and tokens")),
            });
            parts.collect::<Result<_, _>>().map(Prompt::Mixed)
        }
        Value::Object(fields) => {
            if fields.get("multimodal_data").is_some_and(|data| !data.is_null()) {
                return Err(ApiError::invalid(format!(
                    "{field}.multimodal_data: this model takes text alone"
                )));
            }
            match (fields.get("prompt_string"), fields.get("content")) {
                (Some(Value::String(text)), _) => Ok(Prompt::Text(text.clone())),
                (None, Some(Value::Array(parts))) => {
                    let at = |i| format!("{field}.content[{i}]");
                    let texts = parts.iter().enumerate().map(|(i, part)| part_text(part, &at(i)));
                    texts.collect::<Result<String, _>>().map(Prompt::Text)
                }
                _ => Err(ApiError::field(
                    field,
                    "an object",
                    "one with a text in prompt_string, or parts in content",
                )),
            }
        }
        other => Err(ApiError::field(field, kind(other), EXPECTED)),
    }
}

fn token(value: &Value, field: &str) -> Result<u32, ApiError> {
    let token = value.as_u64().and_then(|token| u32::try_from(token).ok());
    token.ok_or_else(|| ApiError::field(field, format_args!("the token {value}"), "whole numbers from 0"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn prompts_have_many_spellings() {
        let read = |value: Value| Prompts::read(Some(&value), "prompt").unwrap();
        let one = |prompt| Prompts { prompts: vec![prompt], is_list: false };
        let text = |text: &str| Prompt::Text(text.to_owned());
        assert_eq!(read(json!("a")), one(text("a")));
        assert_eq!(read(json!({"prompt_string": "a"})), one(text("a")));
        assert_eq!(
            read(json!({"content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]})),
            one(text("a b"))
        );
        assert_eq!(read(json!([1, 2])), one(Prompt::Tokens(vec![1, 2])));
        let mixed = vec![PromptPart::Token(1), PromptPart::Text("a".to_owned())];
        assert_eq!(read(json!([1, "a"])), one(Prompt::Mixed(mixed.clone())));
        let list = Prompts {
            prompts: vec![text("a"), Prompt::Tokens(vec![3]), Prompt::Mixed(mixed)],
            is_list: true,
        };
        assert_eq!(read(json!(["a", [3], [1, "a"]])), list);
    }

    #[test]
    fn what_is_no_prompt_is_named() {
        let wrong = |value: Value| Prompts::read(Some(&value), "input").unwrap_err().message.into_owned();
        assert!(wrong(json!([])).starts_with("input: found an empty list"));
        assert_eq!(wrong(json!([1, -2])), "input: found the token -2, expected whole numbers from 0");
        assert_eq!(
            wrong(json!([4294967296u64])),
            "input: found the token 4294967296, expected whole numbers from 0"
        );
        assert!(wrong(json!({"content": "a"})).starts_with("input: found an object"));
        assert!(
            wrong(json!(["a", {"content": [{"type": "image_url"}]}])).starts_with("input[1].content[0]: ")
        );
        assert!(wrong(json!(true)).starts_with("input: found a truth value"));
        assert!(
            Prompts::read(None, "prompt").is_err() && Prompts::read(Some(&Value::Null), "prompt").is_err()
        );
    }
}
