//! Typed access to the fields of a configuration.

use bise_models::printable::printable;
use serde_json::{Map, Value};

use crate::convert::checkpoint::Checkpoint;
use crate::convert::error::ConvertError;

/// The largest number that is taken for a size. GGUF has 32 bits for it, and every real one is far below.
const MAX_SIZE: u64 = i32::MAX as u64;

/// Objects of a configuration, the first of which that has a key counts. A null is as good as nothing.
pub(super) struct Fields<'a> {
    checkpoint: &'a Checkpoint,
    objects: Vec<&'a Map<String, Value>>,
}

impl<'a> Fields<'a> {
    /// The fields of `objects`, the first of which counts most.
    pub fn new(checkpoint: &'a Checkpoint, objects: Vec<&'a Map<String, Value>>) -> Fields<'a> {
        Fields { checkpoint, objects }
    }

    /// The value of `key`, where it is there and not null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.objects.iter().find_map(|object| object.get(key)).filter(|value| !value.is_null())
    }

    /// Whether `key` is there, though it may be null.
    pub fn has(&self, key: &str) -> bool {
        self.objects.iter().any(|object| object.contains_key(key))
    }

    /// The object at `key`, as fields of its own.
    pub fn object(&self, key: &str) -> Result<Option<Fields<'a>>, ConvertError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Fields::new(self.checkpoint, vec![object]))),
            Some(other) => Err(self.wrong(key, other, "an object")),
        }
    }

    /// A whole number above zero.
    pub fn size(&self, key: &str) -> Result<Option<usize>, ConvertError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().or_else(|| whole(value)) {
            Some(n) if (1..=MAX_SIZE).contains(&n) => Ok(Some(n as usize)),
            _ => Err(self.wrong(key, value, &format!("a whole number from 1 to {MAX_SIZE}"))),
        }
    }

    /// [`size`](Self::size), which must be there.
    pub fn require_size(&self, key: &str) -> Result<usize, ConvertError> {
        let missing = || self.checkpoint.config_error(key, "no such key", "a whole number above 0");
        self.size(key)?.ok_or_else(missing)
    }

    /// A finite number above zero.
    pub fn positive(&self, key: &str) -> Result<Option<f64>, ConvertError> {
        let Some(x) = self.number(key)? else { return Ok(None) };
        if x > 0.0 && (x as f32) > 0.0 {
            return Ok(Some(x));
        }
        Err(self.checkpoint.config_error(key, x.to_string(), "a number above 0"))
    }

    /// A finite number that a single can hold.
    pub fn number(&self, key: &str) -> Result<Option<f64>, ConvertError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64().filter(|x| (*x as f32).is_finite()) {
            Some(x) => Ok(Some(x)),
            None => Err(self.wrong(key, value, "a number")),
        }
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, ConvertError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, other, "a text")),
        }
    }

    /// True or false.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, ConvertError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong(key, other, "true or false")),
        }
    }

    /// An error about `key`.
    pub fn wrong(&self, key: &str, found: &Value, expected: &str) -> ConvertError {
        let mut found = found.to_string();
        if let Some((cut, _)) = found.char_indices().nth(80) {
            found.truncate(cut);
            found.push('…');
        }
        self.checkpoint.config_error(key, printable(found.as_bytes()), expected)
    }
}

/// A whole number that is written as 4096.0, as some tools do.
fn whole(value: &Value) -> Option<u64> {
    let x = value.as_f64()?;
    (x.fract() == 0.0 && (0.0..=MAX_SIZE as f64).contains(&x)).then_some(x as u64)
}
