//! Expressions that name tensors, and the types they ask for.

use bise_models::gguf::TensorType;
use regex_automata::hybrid::regex::Regex;

use super::error::QuantizeError;

/// Expressions in the order in which they were given.
pub(super) struct Patterns(Vec<Pattern>);

struct Pattern {
    text: String,
    regex: Regex,
    tensor_type: TensorType,
    /// A tensor has its type from it.
    is_used: bool,
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        self.regex.is_match(&mut self.regex.create_cache(), name)
    }
}

impl Patterns {
    /// # Errors
    /// Where one is no regular expression.
    pub fn new(types: &[(String, TensorType)]) -> Result<Patterns, QuantizeError> {
        let compiled = types.iter().map(|(text, tensor_type)| {
            // As llama-quantize: names of tensors are in lower case.
            let text = text.to_lowercase();
            match Regex::new(&text) {
                Ok(regex) => Ok(Pattern { text, regex, tensor_type: *tensor_type, is_used: false }),
                Err(error) => Err(QuantizeError::Pattern { pattern: text, error: cause(&error) }),
            }
        });
        Ok(Patterns(compiled.collect::<Result<_, _>>()?))
    }

    /// What the first expression that matches asks for.
    pub fn find(&mut self, name: &str) -> Option<TensorType> {
        let found = self.0.iter_mut().find(|pattern| pattern.matches(name))?;
        found.is_used = true;
        Some(found.tensor_type)
    }

    /// A line about each expression that no tensor of `names` has its type from.
    pub fn notes<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = String> + 'a {
        self.0.iter().filter(|pattern| !pattern.is_used).map(|pattern| {
            let text = &pattern.text;
            match names.iter().find(|name| pattern.matches(name)) {
                None => format!("no tensor matches the pattern '{text}'"),
                Some(name) => format!(
                    "the pattern '{text}' has no effect: what it matches, as '{name}', keeps its type or has it from an earlier pattern or \
                     another flag"
                ),
            }
        })
    }
}

/// The innermost of the errors that led to this one: the others only say that there was one.
fn cause(error: &dyn std::error::Error) -> String {
    let innermost = std::iter::successors(Some(error), |error| error.source()).last();
    innermost.unwrap_or(error).to_string()
}
