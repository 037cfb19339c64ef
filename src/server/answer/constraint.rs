//! What an answer has to follow.

use serde_json::json;

use super::{ApiError, ChatRequest, Format, ToolChoice};
use crate::chat::reply::ToolSyntax;
use crate::constraint::{self, Constraint, Gbnf, JsonSchema, ToolGrammar};
use crate::server::models::Model;

/// The constraint of a text.
///
/// # Errors
/// A schema or grammar that makes no sense, or has what cannot be followed; it is named.
pub fn for_text(model: &Model, format: Option<&Format>) -> Result<Option<Box<dyn Constraint>>, ApiError> {
    let grammars = &model.grammars;
    Ok(match format {
        None => None,
        Some(Format::JsonObject) => Some(Box::new(JsonSchema::any_object(grammars)?)),
        Some(Format::Schema(schema)) => Some(Box::new(JsonSchema::new(grammars, schema)?)),
        Some(Format::Grammar(grammar)) => Some(Box::new(Gbnf::new(grammars, grammar)?)),
    })
}

/// The constraint of an answer in a conversation: calls have names that exist and arguments by their schemas, and what is no call follows
/// the format.
///
/// # Errors
/// As [`for_text`]; a choice that forces a call where the model's template has none.
pub fn for_chat(model: &Model, request: &ChatRequest) -> Result<Option<Box<dyn Constraint>>, ApiError> {
    let format = request.options.format.as_ref();
    if request.tools.is_empty() || request.tool_choice == ToolChoice::None {
        return for_text(model, format);
    }
    let choice = match &request.tool_choice {
        ToolChoice::Auto => constraint::ToolChoice::Auto,
        ToolChoice::None => constraint::ToolChoice::None,
        ToolChoice::Required => constraint::ToolChoice::Required,
        ToolChoice::Function(name) => constraint::ToolChoice::Named(name.clone()),
    };
    let Some(syntax) = model.template.as_ref().and_then(ToolSyntax::of) else {
        // What it writes of itself is all there is.
        return match choice {
            constraint::ToolChoice::Auto => for_text(model, format),
            _ => Err(ApiError::field(
                "tool_choice",
                "a choice",
                "\"auto\" or \"none\": the chat template has no calls of tools",
            )),
        };
    };
    let (grammars, tools, parallel) = (&model.grammars, &request.tools[..], request.parallel_tool_calls);
    let object = json!({"type": "object"});
    let schema = match format {
        None => return Ok(Some(Box::new(ToolGrammar::new(grammars, syntax, tools, &choice, parallel)?))),
        Some(Format::JsonObject) => &object,
        Some(Format::Schema(schema)) => schema,
        Some(Format::Grammar(_)) => {
            return Err(ApiError::invalid(
                "grammar and tools: found both, expected one: a grammar leaves no room for calls",
            ));
        }
    };
    Ok(Some(Box::new(ToolGrammar::or_json(grammars, syntax, tools, &choice, parallel, schema)?)))
}
