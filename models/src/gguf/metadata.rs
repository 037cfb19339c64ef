//! The metadata of a file: an ordered map from keys to values, with getters by type.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::error::GgufError;
use super::str_array::StrArray;
use super::value::{FromValue, Misfit, Value};
use crate::printable::{Printable, printable};

/// Keys and values in file order.
///
/// A typed getter returns `Ok(None)` if the key is absent, and an error that names the key, what was found and what was
/// expected if its value has another type or does not fit.
#[derive(Debug, Clone)]
pub struct Metadata {
    file: Arc<str>,
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl Metadata {
    /// No keys. `file` is the name that errors carry.
    #[must_use]
    pub fn new(file: &str) -> Metadata {
        Metadata { file: file.into(), entries: Vec::new(), index: HashMap::new() }
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns `true` if there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`, whatever its type.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&i| &self.entries[i].1)
    }

    /// Sets `key`: in place if it is there, otherwise at the end.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.index.entry(key.to_owned()) {
            Entry::Occupied(place) => self.entries[*place.get()].1 = value,
            Entry::Vacant(place) => {
                place.insert(self.entries.len());
                self.entries.push((key.to_owned(), value));
            }
        }
    }

    /// Adds `key`, or returns `false` if it is there already.
    pub(super) fn add(&mut self, key: &str, value: Value) -> bool {
        let is_new = !self.index.contains_key(key);
        if is_new {
            self.set(key, value);
        }
        is_new
    }

    /// The value of `key` as `T`, if the key is there.
    ///
    /// # Errors
    /// If the value is of another kind or does not fit, or there is no memory for a converted array.
    pub fn get_as<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match T::from_value(value) {
            Ok(v) => Ok(Some(v)),
            Err(Misfit::Kind) => Err(self.error(key, value.describe(), T::EXPECTED)),
            Err(Misfit::OutOfMemory { n_bytes }) => Err(GgufError::OutOfMemory {
                file: self.file.clone(),
                what: format!("key '{}'", printable(key.as_bytes())),
                n_bytes,
            }),
        }
    }

    /// The value of `key` as `T`.
    ///
    /// # Errors
    /// If the key is missing, or its value is of another kind or does not fit.
    pub fn require<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, GgufError> {
        self.get_as(key)?.ok_or_else(|| GgufError::MissingKey {
            file: self.file.clone(),
            key: printable(key.as_bytes()),
            expected: T::EXPECTED.to_owned(),
        })
    }

    /// An error about the value of `key`, for a reader that finds more wrong with it than its type. What was found and
    /// expected may hold text from the file: control characters are escaped.
    pub fn error(&self, key: &str, found: impl Into<String>, expected: impl Into<String>) -> GgufError {
        GgufError::Key {
            file: self.file.clone(),
            key: printable(key.as_bytes()),
            found: Printable::<String>(found.into()).to_string(),
            expected: Printable::<String>(expected.into()).to_string(),
        }
    }

    /// The name that errors carry.
    pub(super) fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// An integer of any width that fits `u32`. Errors as in [`get_as`](Self::get_as), here and below.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.get_as(key)
    }

    /// An integer of any width that fits `u64`.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.get_as(key)
    }

    /// A float of either width.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.get_as(key)
    }

    /// A bool.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.get_as(key)
    }

    /// A string that is valid UTF-8.
    pub fn str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.get_as(key)
    }

    /// An array of strings, as bytes.
    pub fn str_array(&self, key: &str) -> Result<Option<&StrArray>, GgufError> {
        self.get_as(key)
    }

    /// An array of floats of either width.
    pub fn f32_array(&self, key: &str) -> Result<Option<Cow<'_, [f32]>>, GgufError> {
        self.get_as(key)
    }

    /// An array of integers of any width that fit `i32`.
    pub fn i32_array(&self, key: &str) -> Result<Option<Vec<i32>>, GgufError> {
        self.get_as(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::Array;

    fn sample() -> Metadata {
        let mut metadata = Metadata::new("m.gguf");
        metadata.set("general.architecture", "llama");
        metadata.set("llama.block_count", 32_u16);
        metadata.set("tokenizer.ggml.scores", Array::F32(vec![0.5]));
        metadata
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_with_what_was_found_and_expected() {
        let message = sample().u32("general.architecture").unwrap_err().to_string();
        assert_eq!(
            message,
            "m.gguf: key 'general.architecture': found str \"llama\", expected an integer that fits u32"
        );
        let message = sample().str_array("tokenizer.ggml.scores").unwrap_err().to_string();
        assert_eq!(
            message,
            "m.gguf: key 'tokenizer.ggml.scores': found array of 1 f32, expected an array of str"
        );
    }

    #[test]
    fn a_missing_key_is_none_unless_it_is_required() {
        assert_eq!(sample().u32("llama.context_length").unwrap(), None);
        let message = sample().require::<u32>("llama.context_length").unwrap_err().to_string();
        assert_eq!(
            message,
            "m.gguf: key 'llama.context_length' is missing, expected an integer that fits u32"
        );
    }

    #[test]
    fn setting_a_key_keeps_its_place() {
        let mut metadata = sample();
        metadata.set("llama.block_count", Value::parse_override("int:2").unwrap());
        metadata.set("new", true);
        assert_eq!(metadata.require::<usize>("llama.block_count").unwrap(), 2);
        let keys: Vec<&str> = metadata.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["general.architecture", "llama.block_count", "tokenizer.ggml.scores", "new"]);
    }
}
