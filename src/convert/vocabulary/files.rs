//! The tokenizer's files in the folder of a checkpoint.

use std::path::{Path, PathBuf};

use bise_models::printable::printable;
use serde_json::{Map, Value};

pub(in crate::convert) use crate::convert::json_file::kind;
use crate::convert::{ConvertError, json_file};

/// The folder of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub(in crate::convert) struct Folder<'a>(pub &'a Path);

impl Folder<'_> {
    /// Where the file called `name` is, or would be.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether there is a file called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).is_file()
    }

    /// What the file called `name` holds, if there is one.
    ///
    /// # Errors
    /// If it cannot be read, or is larger than any tokenizer's file.
    pub fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, ConvertError> {
        json_file::bytes(&self.path(name))
    }

    /// The text in the file called `name`, if there is one.
    ///
    /// # Errors
    /// As for [`Self::bytes`], and if it is not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<String>, ConvertError> {
        let Some(bytes) = self.bytes(name)? else { return Ok(None) };
        String::from_utf8(bytes).map(Some).map_err(|error| {
            let at = format!("byte {}", error.utf8_error().valid_up_to());
            invalid(&self.path(name), &at, "bytes that are not UTF-8", "UTF-8")
        })
    }

    /// The JSON object in the file called `name`, if there is one.
    ///
    /// # Errors
    /// As for [`Self::bytes`], and if it is not a JSON object.
    pub fn json(&self, name: &str) -> Result<Option<Json>, ConvertError> {
        let path = self.path(name);
        Ok(json_file::object_if_there(&path)?.map(|fields| Json { path, fields }))
    }
}

/// A JSON object from a file.
#[derive(Debug)]
pub(in crate::convert) struct Json {
    pub path: PathBuf,
    pub fields: Map<String, Value>,
}

impl Json {
    /// The value at a path of keys; JSON's null is no value.
    pub fn get(&self, keys: &[&str]) -> Option<&Value> {
        let (first, rest) = keys.split_first()?;
        let value = rest.iter().try_fold(self.fields.get(*first)?, |value, key| value.get(key))?;
        (!value.is_null()).then_some(value)
    }

    /// The value at a path of keys, which must be there.
    ///
    /// # Errors
    /// If it is not.
    pub fn require(&self, keys: &[&str], expected: &str) -> Result<&Value, ConvertError> {
        self.get(keys)
            .ok_or_else(|| invalid(&self.path, &format!("\"{}\"", keys.join(".")), "nothing", expected))
    }

    /// The whole number at a path of keys, which must be there.
    ///
    /// # Errors
    /// If it is not, or is no whole number from 0 to 2³² − 1.
    pub fn require_u32(&self, keys: &[&str]) -> Result<u32, ConvertError> {
        let value = self.require(keys, "a whole number")?;
        self.as_u32(value, &format!("\"{}\"", keys.join(".")))
    }

    /// `value` as a whole number; `what` says in the error which one it is.
    ///
    /// # Errors
    /// If it is no whole number from 0 to 2³² − 1.
    pub fn as_u32(&self, value: &Value, what: &str) -> Result<u32, ConvertError> {
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| invalid(&self.path, what, shown(value), "a whole number below 4294967296"))
    }

    /// `value` as text; `what` says in the error which one it is.
    ///
    /// # Errors
    /// If it is no text.
    pub fn as_str<'a>(&self, value: &'a Value, what: &str) -> Result<&'a str, ConvertError> {
        value.as_str().ok_or_else(|| invalid(&self.path, what, shown(value), "a text"))
    }

    /// An error about a part of the file.
    pub fn invalid(&self, what: &str, found: impl Into<String>, expected: impl Into<String>) -> ConvertError {
        invalid(&self.path, what, found, expected)
    }
}

/// The text of a token in a configuration: itself, or the `content` of an object.
pub(in crate::convert) fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// An error about a part of a file.
pub(in crate::convert) fn invalid(
    path: &Path,
    what: &str,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> ConvertError {
    ConvertError::Invalid {
        path: path.to_owned(),
        what: what.to_owned(),
        found: found.into(),
        expected: expected.into(),
    }
}

/// A text from a file between quotes, escaped and shortened.
pub(in crate::convert) fn quoted(text: &str) -> String {
    format!("\"{}\"", printable(text.as_bytes()))
}

/// A value as messages show it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(_) | Value::Object(_) => kind(value).to_owned(),
        value => value.to_string(),
    }
}
