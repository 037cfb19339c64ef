//! From requests to the tokens that are read.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::{ApiError, ChatRequest, Prompt, PromptPart, messages};
use crate::chat::{ChatInput, ChatTemplate, RenderedPrompt};
use crate::server::models::Model;
use crate::tokenizer::EncodeOptions;

/// How templates begin a thought, and how that is ended where none is wanted.
const THOUGHTS: [(&str, &str); 3] =
    [("<think>", "</think>"), ("<|START_THINKING|>", "<|END_THINKING|>"), ("[THINK]", "[/THINK]")];

/// The prompt of a conversation, by the model's template.
///
/// # Errors
/// There is no template, or it does not take the conversation.
pub fn render(model: &Model, request: &ChatRequest) -> Result<RenderedPrompt, ApiError> {
    let template = template(model)?;
    let messages = messages::prepare(&with_opening(model, request))?;
    let tools = messages::tools(request)?;
    let answers_last = messages.last().is_some_and(|last| {
        last.role() == "assistant" && !last.fields().get("tool_calls").is_some_and(Value::is_array)
    });
    let continues = request.continue_final_message.unwrap_or(match request.add_generation_prompt {
        Some(_) => false,
        None => answers_last && model.continues_answers,
    });
    if continues && request.add_generation_prompt == Some(true) {
        return Err(ApiError::invalid(
            "add_generation_prompt and continue_final_message: found both, expected one: an answer either begins or is continued",
        ));
    }
    if continues && !answers_last {
        return Err(ApiError::field(
            "continue_final_message",
            "true",
            "a last message of the assistant, which is continued",
        ));
    }
    let thinking = request.thinking.or(model.thinking);
    // Templates that can think do so unless they are told not to.
    let mut arguments =
        Map::from_iter([("enable_thinking".to_owned(), Value::Bool(thinking != Some(false)))]);
    arguments.extend(variables(template.source(), tools));
    arguments.extend(model.template_args.clone());
    arguments.extend(request.template_args.clone());
    let input = ChatInput {
        tools,
        arguments: Some(&arguments),
        add_generation_prompt: !continues && request.add_generation_prompt.unwrap_or(true),
        continue_final_message: continues,
        ..ChatInput::new(&messages)
    };
    let mut prompt = template.render(&input, &model.special_tokens)?;
    if thinking == Some(false)
        && let Some((_, end)) = THOUGHTS.iter().find(|(begin, _)| prompt.text.trim_end().ends_with(begin))
    {
        prompt.text += end;
    }
    Ok(prompt)
}

/// The messages of a request behind those that the model's Modelfile has, unless the request goes on with an earlier conversation.
fn with_opening<'a>(model: &Model, request: &'a ChatRequest) -> Cow<'a, [Value]> {
    // OpenAI's newer name for it is changed to the older one later.
    let is_system = |message: &Value| message["role"] == "system" || message["role"] == "developer";
    let has_system = request.messages.first().is_some_and(is_system);
    let system = model.system.as_ref().filter(|_| !has_system);
    if !request.earlier.is_empty() || (system.is_none() && model.messages.is_empty()) {
        return Cow::Borrowed(&request.messages);
    }
    let (own_system, rest) = request.messages.split_at(usize::from(has_system));
    let mut all: Vec<Value> =
        system.map(|text| json!({"role": "system", "content": text})).into_iter().collect();
    all.extend_from_slice(own_system);
    all.extend_from_slice(&model.messages);
    all.extend_from_slice(rest);
    Cow::Owned(all)
}

/// Variables that llama-server has for templates that ask for them: Llama's and Firefunction's.
fn variables(source: &str, tools: &[Value]) -> Vec<(String, Value)> {
    let now = jiff::Zoned::now();
    let functions = if tools.is_empty() { String::new() } else { format!("{:#}", Value::from(tools)) };
    let variables = [
        ("date_string", now.strftime("%d %b %Y").to_string()),
        (
            "datetime",
            now.with_time_zone(jiff::tz::TimeZone::UTC).strftime("%b %d %Y %H:%M:%S GMT").to_string(),
        ),
        ("functions", functions),
    ];
    let asked = variables.into_iter().filter(|(name, _)| source.contains(name));
    asked.map(|(name, value)| (name.to_owned(), Value::String(value))).collect()
}

fn template(model: &Model) -> Result<&ChatTemplate, ApiError> {
    model.template.as_ref().ok_or_else(|| {
        ApiError::invalid(
            "the model has no chat template: start the server with --chat-template, or ask for a completion",
        )
    })
}

/// The tokens of a rendered conversation.
pub fn tokenize(model: &Model, prompt: &RenderedPrompt) -> Vec<u32> {
    model.engine.tokenizer().encode_segments(&prompt.segments(), true)
}

/// The tokens of a prompt without a template, which stands in this field of the request.
///
/// # Errors
/// A token outside the vocabulary, and a gap in a vocabulary without the tokens for it.
pub fn text_tokens(model: &Model, prompt: &Prompt, field: &str) -> Result<Vec<u32>, ApiError> {
    let tokenizer = model.engine.tokenizer();
    let encode =
        |text: &str, add_special| tokenizer.encode(text, EncodeOptions { add_special, parse_special: true });
    let tokens = match prompt {
        Prompt::Text(text) => encode(text, true),
        Prompt::Tokens(tokens) => tokens.clone(),
        Prompt::Infill { prefix, suffix } => {
            tokenizer.infill(prefix, suffix).map_err(|error| ApiError::not_supported(error.to_string()))?
        }
        Prompt::Mixed(parts) => {
            let mut tokens = Vec::new();
            for (i, part) in parts.iter().enumerate() {
                match part {
                    PromptPart::Text(text) => tokens.extend(encode(text, i == 0)),
                    PromptPart::Token(token) => tokens.push(*token),
                }
            }
            tokens
        }
    };
    let n_vocab = tokenizer.n_vocab();
    if let Some(token) = tokens.iter().find(|token| **token as usize >= n_vocab) {
        return Err(ApiError::field(
            field,
            format_args!("token {token}"),
            &format!("tokens below {n_vocab}"),
        ));
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_get_the_variables_they_ask_for() {
        assert!(variables("{{ messages }}", &[]).is_empty());
        // Around midnight either day is right.
        let today = || json!(jiff::Zoned::now().strftime("%d %b %Y").to_string());
        let (before, given, after) = (today(), variables("{{ date_string }}", &[]), today());
        assert!(given[0].0 == "date_string" && (given[0].1 == before || given[0].1 == after));
        let given = variables("{{ functions }}{{ datetime }}", &[json!({"type": "function"})]);
        assert!(given[0].0 == "datetime" && given[0].1.as_str().unwrap().ends_with(" GMT"));
        assert_eq!(given[1], ("functions".to_owned(), json!("[\n  {\n    \"type\": \"function\"\n  }\n]")));
    }
}
