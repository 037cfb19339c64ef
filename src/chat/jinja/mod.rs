//! A Jinja interpreter for chat templates, which behaves like Jinja2 in the sandbox that Hugging Face runs templates in.
//!
//! Templates and conversations both come from strangers, so it has two properties that template engines for web pages
//! lack. **Bounds**: every evaluation and every byte is charged to a [`meter`] before it is spent, recursion is limited,
//! and parsing evaluates nothing, so every render ends. **Provenance**: a [`text`] knows which of its characters come
//! from the conversation, through every operator, filter and method, so that no message ever becomes a control token,
//! whatever the template does to it. Neither can be added from outside to an engine whose strings are plain strings.
//!
//! The one entry is [`Template`].

mod arguments;
mod ast;
mod expressions;
mod fault;
mod filters;
mod format;
mod functions;
mod interpreter;
mod lexer;
mod meter;
mod names;
mod number;
mod operators;
mod parser;
mod predicates;
mod pretty;
mod print;
mod scope;
mod sort;
mod stack;
mod strings;
mod text;
mod text_filters;
mod time;
mod value;

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

pub(super) use fault::{Fault, Stopped, SyntaxError};
use interpreter::Interpreter;
use meter::Meter;
use number::Integer;
use value::{Key, Outcome, Value};

/// A parsed template; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Template {
    body: Arc<ast::Body>,
}

/// A variable of a template.
#[derive(Debug)]
pub(super) enum Variable<'a> {
    /// A text that counts as written by the template.
    Trusted(&'a str),
    Bool(bool),
    /// A value whose texts count as part of the conversation.
    Given(&'a serde_json::Value),
    /// A conversation: each message is a map whose texts are part of the conversation, except for its role.
    Messages(Vec<&'a serde_json::Map<String, serde_json::Value>>),
}

/// What a template wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rendered {
    pub text: String,
    /// Byte ranges of `text`, ascending and disjoint, whose characters come from the conversation or were derived from it.
    pub given: Vec<Range<usize>>,
}

impl Template {
    /// Parses a template.
    pub fn parse(source: &str) -> Result<Self, SyntaxError> {
        Ok(Self { body: Arc::new(parser::parse(source)?) })
    }

    /// Renders the template. Takes less than 1 MB of stack, in a build without optimizations too, 2 seconds and 256 MB of memory.
    pub fn render(&self, variables: &[(&str, Variable<'_>)]) -> Result<Rendered, Stopped> {
        let (mut n_messages, mut n_bytes) = (0, 0);
        for (_, variable) in variables {
            match variable {
                Variable::Trusted(text) => n_bytes += text.len(),
                Variable::Bool(_) => {}
                Variable::Given(value) => n_bytes += size(value),
                Variable::Messages(messages) => {
                    n_messages += messages.len();
                    n_bytes +=
                        messages.iter().flat_map(|m| m.iter()).map(|(k, v)| k.len() + size(v)).sum::<usize>();
                }
            }
        }
        let interpreter = Interpreter::new(Meter::new(n_messages, n_bytes));
        let run = || {
            let meter = &interpreter.meter;
            let values: Result<Vec<(&str, Value)>, Fault> =
                variables.iter().map(|(name, variable)| Ok((*name, variable.value(meter)?))).collect();
            interpreter.run(&self.body, values?)
        };
        let stopped = |fault| Stopped { line: interpreter.line(), fault };
        let (text, given) = run().map_err(stopped)?.into_parts();
        Ok(Rendered { text, given })
    }
}

/// The approximate size of a value in memory, in bytes.
fn size(value: &serde_json::Value) -> usize {
    use serde_json::Value::{Array, Number, Object, String};
    64 + match value {
        String(text) => text.len(),
        Number(n) if n.as_i64().is_none() => n.to_string().len(),
        Array(items) => items.iter().map(size).sum(),
        Object(map) => map.iter().map(|(key, value)| 128 + key.len() + size(value)).sum(),
        _ => 0,
    }
}

impl Variable<'_> {
    fn value(&self, meter: &Rc<Meter>) -> Outcome {
        match self {
            Self::Trusted(text) => Value::text(meter, text),
            Self::Bool(b) => Ok(Value::Bool(*b)),
            Self::Given(value) => from_json(meter, value, 0),
            Self::Messages(messages) => {
                let messages = messages.iter().map(|message| from_map(meter, message, true, 0));
                Value::list(meter, messages.collect::<Result<_, _>>()?)
            }
        }
    }
}

/// The deepest nesting of a value of the conversation, as in serde_json's parser.
const MAX_JSON_DEPTH: usize = 90;

fn from_json(meter: &Rc<Meter>, json: &serde_json::Value, depth: usize) -> Outcome {
    if depth > MAX_JSON_DEPTH {
        return Err(Fault::failed(format!("a message of more than {MAX_JSON_DEPTH} lists in lists")));
    }
    Ok(match json {
        serde_json::Value::Null => Value::None,
        serde_json::Value::Bool(b) => Value::Bool(*b),
        serde_json::Value::Number(n) => from_number(n)?,
        serde_json::Value::String(text) => Value::Text(text::Text::new(meter, text, true)?),
        serde_json::Value::Array(items) => {
            let items = items.iter().map(|item| from_json(meter, item, depth + 1));
            Value::list(meter, items.collect::<Result<_, _>>()?)?
        }
        serde_json::Value::Object(map) => from_map(meter, map, false, depth)?,
    })
}

/// An integer unless it has a point or an exponent. Of a float, what is too large is infinite, as Python reads it.
fn from_number(n: &serde_json::Number) -> Outcome {
    if let Some(n) = n.as_i64() {
        return Ok(Value::Int(n.into()));
    }
    let text = n.to_string();
    if text.contains(['.', 'e', 'E']) {
        return text.parse().map(Value::Float).map_err(|_| Fault::failed(format!("{text:.40} is no number")));
    }
    Integer::parse(&text).map(Value::from)
}

fn from_map(
    meter: &Rc<Meter>,
    json: &serde_json::Map<String, serde_json::Value>,
    trusts_role: bool,
    depth: usize,
) -> Outcome {
    let mut map = indexmap::IndexMap::new();
    for (key, value) in json {
        let value = match value {
            serde_json::Value::String(role) if trusts_role && key == "role" => Value::text(meter, role)?,
            value => from_json(meter, value, depth + 1)?,
        };
        let key = Value::Text(text::Text::new(meter, key, true)?);
        map.insert(Key::new(&key, meter)?, value);
    }
    Value::dict(meter, map)
}

#[cfg(test)]
mod tests;
