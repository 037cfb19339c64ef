//! One row of a file.

use std::path::Path;

use serde_json::{Map, Value};
use twox_hash::XxHash3_128;

use super::super::EvalError;

/// A row of a dataset.
pub struct Row<'a> {
    pub(super) file: &'a Path,
    /// `line` or `row`.
    pub(super) place: &'static str,
    pub(super) number: usize,
    pub(super) fields: Map<String, Value>,
}

impl Row<'_> {
    /// Errs with the place of the row.
    pub fn refuse<T>(&self, what: impl Into<String>) -> Result<T, EvalError> {
        let (file, place, number) = (self.file.to_owned(), self.place, self.number);
        Err(EvalError::Row { file, place, number, what: what.into() })
    }

    /// Errs where fields are missing, as those of a JSON object may be, one by one.
    pub(super) fn check(&self, columns: &[&'static str]) -> Result<(), EvalError> {
        match columns.iter().find(|column| !self.has(column)) {
            Some(column) => {
                self.refuse(format!("found no field '{column}', expected {}", columns.join(", ")))
            }
            None => Ok(()),
        }
    }

    /// Whether there is such a field; a dot leads into an object.
    pub fn has(&self, path: &str) -> bool {
        self.get(path).is_some()
    }

    fn get(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let first = self.fields.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    }

    fn wrong<T>(&self, path: &str, expected: &str) -> Result<T, EvalError> {
        let found = match self.get(path) {
            None => return self.refuse(format!("found no field '{path}', expected {expected}")),
            Some(value) => shortened(&value.to_string()),
        };
        self.refuse(format!("{path}: found {found}, expected {expected}"))
    }

    /// A text.
    pub fn text(&self, path: &str) -> Result<&str, EvalError> {
        match self.get(path) {
            Some(Value::String(text)) => Ok(text),
            _ => self.wrong(path, "a text"),
        }
    }

    /// A list of texts.
    pub fn texts(&self, path: &str) -> Result<Vec<String>, EvalError> {
        let Some(Value::Array(items)) = self.get(path) else { return self.wrong(path, "a list of texts") };
        let texts = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
        match texts {
            Some(texts) => Ok(texts),
            None => self.wrong(path, "a list of texts"),
        }
    }

    /// A list of objects, as their texts under two names.
    pub fn pairs(&self, path: &str, names: [&str; 2]) -> Result<Vec<[String; 2]>, EvalError> {
        let pair = |item: &Value| {
            let [first, second] = names.map(|name| item.get(name).and_then(Value::as_str).map(str::to_owned));
            Some([first?, second?])
        };
        let pairs = match self.get(path) {
            Some(Value::Array(items)) => items.iter().map(pair).collect(),
            _ => None,
        };
        match pairs {
            Some(pairs) => Ok(pairs),
            None => {
                self.wrong(path, &format!("a list of objects with the texts {} and {}", names[0], names[1]))
            }
        }
    }

    /// The number of a choice, from 0 or from `first`, as a number or a text, below `first + n`. Returned from 0.
    pub fn choice(&self, path: &str, first: usize, n: usize) -> Result<usize, EvalError> {
        let number = match self.get(path) {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            _ => None,
        };
        let place = number.and_then(|number| usize::try_from(number).ok()?.checked_sub(first));
        match place.filter(|place| *place < n) {
            Some(place) => Ok(place),
            None => self.wrong(path, &format!("a number from {first} to {}", first + n - 1)),
        }
    }

    /// A number that is the same for equal rows, and for no others.
    pub fn identity(&self) -> u128 {
        XxHash3_128::oneshot(Value::from(self.fields.clone()).to_string().as_bytes())
    }
}

/// The beginning of a text that is long.
fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
