//! Numbers of a request, in the form that serde reads.

use serde_json::{Number, Value};
use serde_path_to_error::{Path, Segment};

/// Writes floats as Rust does. serde_json keeps every number as its text, so that integers of any length reach a chat template; but where a
/// type can be several things it hands out a float only if the text is Rust's own.
pub fn settle(value: &mut Value) {
    match value {
        Value::Number(n) if n.as_i64().is_none() && n.as_u64().is_none() => {
            let is_float = n.as_str().contains(['.', 'e', 'E']);
            if let Some(float) = n.as_f64().filter(|_| is_float).and_then(Number::from_f64) {
                *n = float;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        Value::Object(map) => map.values_mut().for_each(settle),
        _ => {}
    }
}

/// The number at a path, in serde's words.
pub fn describe(value: &Value, path: &Path) -> Option<String> {
    let number = path.iter().try_fold(value, |value, segment| match segment {
        Segment::Seq { index } => value.get(index),
        Segment::Map { key } => value.get(key),
        _ => Some(value),
    })?;
    let Value::Number(number) = number else { return None };
    let kind = if number.as_str().contains(['.', 'e', 'E']) { "floating point" } else { "integer" };
    Some(format!("{kind} `{number}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_rust_does_and_integers_stay() {
        let read = |json: &str| {
            let mut value: Value = serde_json::from_str(json).unwrap();
            settle(&mut value);
            value.to_string()
        };
        assert_eq!(read("[1.50, {\"a\": 1E5}, -0.0]"), "[1.5,{\"a\":100000.0},-0.0]");
        let integers = "[0,-1,18446744073709551615,123456789012345678901234567890]";
        assert_eq!(read(integers), integers);
        // No float: a template takes it as infinite, and everything else refuses it.
        assert_eq!(serde_json::from_str::<Value>(&read("1e400")).unwrap().as_f64(), None);
    }
}
