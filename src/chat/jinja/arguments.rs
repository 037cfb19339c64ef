//! The arguments of a call.

use std::rc::Rc;
use std::sync::Arc;

use super::fault::Fault;
use super::meter::Meter;
use super::number::too_big;
use super::print::to_text;
use super::text::Text;
use super::value::Value;

/// Evaluated arguments.
#[derive(Debug, Default)]
pub(super) struct Args {
    pub positional: Vec<Value>,
    pub named: Vec<(Arc<str>, Value)>,
}

impl Args {
    /// Arguments without names.
    pub fn of(positional: Vec<Value>) -> Self {
        Self { positional, named: Vec::new() }
    }

    /// The argument at a place or of a name.
    pub fn get(&self, at: usize, name: &str) -> Option<&Value> {
        self.positional
            .get(at)
            .or_else(|| self.named.iter().find(|(known, _)| **known == *name).map(|(_, value)| value))
    }

    /// A required argument.
    pub fn require(&self, at: usize, name: &str) -> Result<&Value, Fault> {
        self.get(at, name).ok_or_else(|| Fault::failed(format!("missing argument '{name}'")))
    }

    /// An optional integer; `None` counts as left out.
    pub fn int(&self, at: usize, name: &str) -> Result<Option<i128>, Fault> {
        match self.get(at, name) {
            None | Some(Value::None) => Ok(None),
            Some(Value::Big(_)) => Err(too_big()),
            Some(value) => match value.as_int() {
                Some(n) => Ok(Some(n)),
                None => Err(Fault::failed(format!(
                    "argument '{name}': expected an integer, found {}",
                    value.type_name()
                ))),
            },
        }
    }

    /// Whether an optional argument is true.
    pub fn flag(&self, at: usize, name: &str) -> bool {
        self.get(at, name).is_some_and(Value::is_true)
    }

    /// An optional text; `None` counts as left out.
    pub fn text(&self, at: usize, name: &str) -> Result<Option<Text>, Fault> {
        match self.get(at, name) {
            None | Some(Value::None) => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(other) => {
                Err(Fault::failed(format!("argument '{name}': expected a text, found {}", other.type_name())))
            }
        }
    }

    /// A text that must be there.
    pub fn require_text(&self, at: usize, name: &str) -> Result<Text, Fault> {
        self.text(at, name)?.ok_or_else(|| Fault::failed(format!("missing argument '{name}'")))
    }

    /// An argument as `str` gives it.
    pub fn printed(&self, at: usize, name: &str, meter: &Rc<Meter>) -> Result<Option<Text>, Fault> {
        self.get(at, name).map(|value| to_text(value, meter)).transpose()
    }
}
