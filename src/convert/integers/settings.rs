//! The configuration of a quantized checkpoint, key by key.

use std::path::{Path, PathBuf};

use bise_models::printable::{Printable, printable};
use serde_json::{Map, Value};

use crate::convert::ConvertError;

/// An object in a JSON file that says how weights are quantized.
pub(super) struct Settings<'a> {
    pub(super) path: &'a Path,
    /// Where the object is in the file, as in `quantization_config.`; empty at the top.
    pub(super) within: String,
    pub(super) map: &'a Map<String, Value>,
}

impl<'a> Settings<'a> {
    /// The value of the first of `keys` that is there and not null, and its key.
    fn find(&self, keys: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        keys.iter()
            .find_map(|key| self.map.get(*key).filter(|value| !value.is_null()).map(|value| (*key, value)))
    }

    pub(super) fn has(&self, key: &'static str) -> bool {
        self.find(&[key]).is_some()
    }

    pub(super) fn value(&self, key: &'static str) -> Option<&'a Value> {
        self.find(&[key]).map(|(_, value)| value)
    }

    /// A name, in lower case.
    pub(super) fn name(&self, keys: &[&'static str]) -> Result<Option<String>, ConvertError> {
        let Some((key, value)) = self.find(keys) else { return Ok(None) };
        match value.as_str() {
            Some(name) => Ok(Some(name.to_ascii_lowercase())),
            None => Err(self.invalid(key, value, "a name")),
        }
    }

    pub(super) fn flag(&self, key: &'static str) -> Result<Option<bool>, ConvertError> {
        let Some((key, value)) = self.find(&[key]) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.invalid(key, value, "true or false"))
    }

    pub(super) fn number(&self, keys: &[&'static str]) -> Result<Option<i64>, ConvertError> {
        let Some((key, value)) = self.find(keys) else { return Ok(None) };
        value.as_i64().map(Some).ok_or_else(|| self.invalid(key, value, "a whole number"))
    }

    /// Weights that share a scale; none where those of a whole row do.
    pub(super) fn group_len(
        &self,
        keys: &[&'static str],
        default: Option<usize>,
    ) -> Result<Option<usize>, ConvertError> {
        match self.number(keys)? {
            None => Ok(default),
            Some(-1) => Ok(None),
            Some(n) if n > 0 && n % 32 == 0 && n <= i64::from(u32::MAX) => Ok(Some(n as usize)),
            Some(n) if n > 0 => Err(self.unsupported(
                format!("{}{}: {n}", self.within, keys[0]),
                "groups must be multiples of 32 weights, the length of a block in GGUF".to_owned(),
            )),
            Some(n) => Err(self.invalid(keys[0], &n.into(), "-1 or a multiple of 32")),
        }
    }

    pub(super) fn object(&self, key: &'static str) -> Result<Option<Settings<'a>>, ConvertError> {
        let Some((key, value)) = self.find(&[key]) else { return Ok(None) };
        let map = value.as_object().ok_or_else(|| self.invalid(key, value, "an object"))?;
        Ok(Some(Settings { path: self.path, within: format!("{}{key}.", self.within), map }))
    }

    pub(super) fn invalid(&self, key: &str, found: &Value, expected: &str) -> ConvertError {
        ConvertError::Invalid {
            path: self.path(),
            what: printable(format!("{}{key}", self.within).as_bytes()),
            found: short(found),
            expected: expected.to_owned(),
        }
    }

    pub(super) fn missing(&self, key: &str, expected: &str) -> ConvertError {
        ConvertError::Invalid {
            path: self.path(),
            what: printable(format!("{}{key}", self.within).as_bytes()),
            found: "nothing".to_owned(),
            expected: expected.to_owned(),
        }
    }

    pub(super) fn unsupported(&self, what: String, reason: String) -> ConvertError {
        ConvertError::Unsupported { path: self.path(), what, reason }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.path.to_owned()
    }
}

/// A value on a line.
pub(super) fn short(value: &Value) -> String {
    let text = Printable(value).to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
