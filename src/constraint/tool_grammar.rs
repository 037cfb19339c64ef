//! Calls of tools, as their schemas describe them.

use std::collections::HashSet;

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Value, json};

use super::guided::Guided;
use super::json_schema;
use super::{Constraint, ConstraintError, Grammars, Lazy, TokenMask, Trigger};
use crate::chat::reply::ToolSyntax;

const TOOL_CALLS: &str = "[TOOL_CALLS]";

/// Whether the model may or must call tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// It must not.
    None,
    /// It may.
    #[default]
    Auto,
    /// It must call one at least.
    Required,
    /// It must call this one, once.
    Named(String),
}

/// Allows calls of tools in the spelling that a model knows: with names that exist, and arguments that their schemas allow.
///
/// ```
/// use bise::Engine;
/// use bise::chat::reply::ToolSyntax;
/// use bise::constraint::{Constraint, Grammars, ToolChoice, ToolGrammar, TokenMask};
/// use serde_json::json;
///
/// # #[cfg(feature = "builtin-model")] {
/// let engine = Engine::builtin()?; // or Engine::open("mistral-7b.Q4_K_M.gguf")?
/// let grammars = Grammars::new(engine.tokenizer());
/// let tools = [json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}})];
/// let calls = ToolGrammar::new(&grammars, ToolSyntax::Named { ids: false }, &tools, &ToolChoice::Auto, true)?;
/// assert!(calls.can_end(), "it need not call any");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ToolGrammar(Kind);

enum Kind {
    /// Everything but calls; the token that begins them, if there is one.
    NoCalls(Option<u32>),
    Auto(Box<Lazy<Guided>>),
    Calls(Box<Guided>),
}

impl ToolGrammar {
    /// A constraint for `tools` (`{"type": "function", "function": {"name", "parameters", "strict"}}`), of which several may be called if
    /// `parallel`.
    ///
    /// The parameters of a tool that is `strict` are followed to the letter, as by [`JsonSchema`](super::JsonSchema); of others, keywords
    /// that are not supported are left out.
    ///
    /// # Errors
    /// [`ConstraintError::Tool`] for a tool without a name that can be called, or a choice that is none of the tools; for a strict
    /// schema, as [`JsonSchema::new`](super::JsonSchema::new).
    pub fn new(
        grammars: &Grammars,
        syntax: ToolSyntax,
        tools: &[Value],
        choice: &ToolChoice,
        parallel: bool,
    ) -> Result<Self, ConstraintError> {
        Self::build(grammars, syntax, tools, choice, parallel, None)
    }

    /// [`Self::new`], where what is no call is JSON that `schema` describes.
    ///
    /// # Errors
    /// As [`Self::new`], and as [`JsonSchema::new`](super::JsonSchema::new).
    pub fn or_json(
        grammars: &Grammars,
        syntax: ToolSyntax,
        tools: &[Value],
        choice: &ToolChoice,
        parallel: bool,
        schema: &Value,
    ) -> Result<Self, ConstraintError> {
        let answer = json_schema::grammar(schema)?;
        match choice {
            ToolChoice::None => grammars
                .guided(TopLevelGrammar::from_json_schema(answer))
                .map(|answer| Self(Kind::Calls(Box::new(answer)))),
            choice => Self::build(grammars, syntax, tools, choice, parallel, Some(answer)),
        }
    }

    fn build(
        grammars: &Grammars,
        syntax: ToolSyntax,
        tools: &[Value],
        choice: &ToolChoice,
        parallel: bool,
        answer: Option<Value>,
    ) -> Result<Self, ConstraintError> {
        let mark = Marks { grammars };
        if *choice == ToolChoice::None {
            return Ok(Self(Kind::NoCalls(mark.token(TOOL_CALLS))));
        }
        let mut tools = tools.iter().map(Tool::new).collect::<Result<Vec<_>, _>>()?;
        let mut names = HashSet::new();
        if let Some(tool) = tools.iter().find(|tool| !names.insert(tool.name.as_str())) {
            return Err(wrong(&tool.name, "two tools have this name"));
        }
        if let ToolChoice::Named(name) = choice {
            tools.retain(|tool| tool.name == *name);
            if tools.is_empty() {
                return Err(wrong(name, "tool_choice asks for it, but there is no such tool"));
            }
        }
        if tools.is_empty() {
            return Err(wrong("", "there is no tool to call"));
        }
        let parallel = parallel && !matches!(choice, ToolChoice::Named(_));
        let is_auto = *choice == ToolChoice::Auto;
        let answer = answer.filter(|_| is_auto);
        let is_lazy = is_auto && answer.is_none();
        let mut lark = lark(&mark, syntax, &tools, parallel, is_lazy);
        lark += if answer.is_some() { "start: calls | @answer\n" } else { "start: calls\n" };
        let answer = answer.as_ref();
        let calls = match grammars.guided(grammar(&lark, &tools, answer)) {
            Err(error) if tools.iter().all(|tool| tool.is_strict) => return Err(error),
            // A schema that is not strict need not be followed.
            Err(_) => {
                for tool in tools.iter_mut().filter(|tool| !tool.is_strict) {
                    if grammars.guided(TopLevelGrammar::from_json_schema(tool.arguments.clone())).is_err() {
                        tool.arguments = json_schema::grammar(&json!({"type": "object"}))?;
                    }
                }
                grammars.guided(grammar(&lark, &tools, answer))?
            }
            Ok(calls) => calls,
        };
        if !is_lazy {
            return Ok(Self(Kind::Calls(Box::new(calls))));
        }
        let trigger =
            mark.token(TOOL_CALLS).map_or_else(|| Trigger::Text(TOOL_CALLS.to_owned()), Trigger::Token);
        Ok(Self(Kind::Auto(Box::new(Lazy::new(grammars.tokenizer(), trigger, calls)))))
    }
}

fn wrong(name: &str, message: &str) -> ConstraintError {
    ConstraintError::Tool { name: name.to_owned(), message: message.to_owned() }
}

/// A function that can be called.
struct Tool {
    name: String,
    /// A schema as llguidance takes it.
    arguments: Value,
    is_strict: bool,
}

impl Tool {
    fn new(tool: &Value) -> Result<Self, ConstraintError> {
        let function = tool.get("function").unwrap_or(tool);
        let name = function.get("name").and_then(Value::as_str).unwrap_or_default();
        let is_bad =
            |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\' | '{' | '}' | '[' | ']');
        if name.is_empty() || name.len() > 256 || name.contains(is_bad) {
            return Err(wrong(
                name,
                "expected a name of 1 to 256 bytes without white space, quotes and brackets",
            ));
        }
        let is_strict = function.get("strict") == Some(&Value::Bool(true));
        let mut schema = match function.get("parameters") {
            None | Some(Value::Null) => json!({"type": "object", "additionalProperties": false}),
            Some(parameters) => parameters.clone(),
        };
        // Arguments are an object, whether the schema says so or not.
        if let Value::Object(fields) = &mut schema {
            fields.insert("type".to_owned(), json!("object"));
        }
        let arguments =
            if is_strict { json_schema::grammar(&schema) } else { json_schema::lenient_grammar(&schema) };
        let arguments = arguments.map_err(|error| wrong(name, &error.to_string()))?;
        Ok(Self { name: name.to_owned(), arguments, is_strict })
    }
}

/// Control tokens of calls.
struct Marks<'a> {
    grammars: &'a Grammars,
}

impl Marks<'_> {
    fn token(&self, text: &str) -> Option<u32> {
        let tokenizer = self.grammars.tokenizer();
        tokenizer.id(text).filter(|id| tokenizer.is_control(*id))
    }

    /// The token, or its text where the vocabulary has none, in Lark.
    fn lark(&self, text: &str) -> String {
        self.token(text).map_or_else(|| literal(text), |id| format!("<[{id}]>"))
    }
}

/// A text in Lark.
fn literal(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// The rules of `calls`; the first `[TOOL_CALLS]` is no part of it if `is_lazy`.
fn lark(marks: &Marks<'_>, syntax: ToolSyntax, tools: &[Tool], parallel: bool, is_lazy: bool) -> String {
    use std::fmt::Write;
    let open = marks.lark(TOOL_CALLS);
    let first = if is_lazy { "" } else { &open };
    let mut text = match syntax {
        ToolSyntax::List => {
            let more = if parallel { "(\",\" SPACE? call)*" } else { "" };
            format!("calls: {first} SPACE? \"[\" call {more} \"]\"\nSPACE: \" \"\n")
        }
        ToolSyntax::Named { .. } => {
            let more = if parallel { format!("({open} call)*") } else { String::new() };
            format!("calls: {first} call {more}\n")
        }
    };
    let calls: Vec<String> = (0..tools.len()).map(|i| format!("call_{i}")).collect();
    let _ = writeln!(text, "call: {}", calls.join(" | "));
    let id = "ID: /[a-zA-Z0-9]{9}/\n";
    for (i, tool) in tools.iter().enumerate() {
        let _ = match syntax {
            ToolSyntax::List => {
                let begin = format!("{{\"name\": {}, \"arguments\": ", literal(&tool.name));
                writeln!(text, "call_{i}: {} @arguments_{i} id? \"}}\"", literal(&begin))
            }
            ToolSyntax::Named { ids } => {
                let id = if ids { format!("{} ID", marks.lark("[CALL_ID]")) } else { String::new() };
                writeln!(
                    text,
                    "call_{i}: {} {id} {} @arguments_{i}",
                    literal(&tool.name),
                    marks.lark("[ARGS]")
                )
            }
        };
    }
    match syntax {
        ToolSyntax::List => {
            let _ = writeln!(text, "id: {} ID {}", literal(", \"id\": \""), literal("\""));
            text += id;
        }
        ToolSyntax::Named { ids: true } => text += id,
        ToolSyntax::Named { ids: false } => {}
    }
    text
}

fn grammar(lark: &str, tools: &[Tool], answer: Option<&Value>) -> TopLevelGrammar {
    let mut grammar = TopLevelGrammar::from_lark(lark.to_owned());
    for (i, tool) in tools.iter().enumerate() {
        let mut arguments = GrammarWithLexer::from_json_schema(tool.arguments.clone());
        arguments.name = Some(format!("arguments_{i}"));
        grammar.grammars.push(arguments);
    }
    if let Some(answer) = answer {
        let mut answer = GrammarWithLexer::from_json_schema(answer.clone());
        answer.name = Some("answer".to_owned());
        grammar.grammars.push(answer);
    }
    grammar
}

impl Constraint for ToolGrammar {
    fn mask(&mut self, allowed: &mut TokenMask) {
        match &mut self.0 {
            Kind::NoCalls(token) => {
                allowed.fill();
                if let Some(token) = token {
                    allowed.remove(*token);
                }
            }
            Kind::Auto(lazy) => lazy.mask(allowed),
            Kind::Calls(calls) => calls.mask(allowed),
        }
    }

    fn accept(&mut self, token: u32) {
        match &mut self.0 {
            Kind::NoCalls(_) => {}
            Kind::Auto(lazy) => lazy.accept(token),
            Kind::Calls(calls) => calls.accept(token),
        }
    }

    fn can_end(&self) -> bool {
        match &self.0 {
            Kind::NoCalls(_) => true,
            Kind::Auto(lazy) => lazy.can_end(),
            Kind::Calls(calls) => calls.can_end(),
        }
    }

    fn fault(&self) -> Option<&str> {
        match &self.0 {
            Kind::NoCalls(_) => None,
            Kind::Auto(lazy) => lazy.fault(),
            Kind::Calls(calls) => calls.fault(),
        }
    }
}
