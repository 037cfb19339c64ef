//! JSON that is safe to print.

use std::fmt::Write;

use bise_models::printable::is_unsafe;

/// Serialized JSON with every unsafe character as `\uXXXX`. (Outside of strings there are only line breaks and spaces,
/// which stay; inside of them JSON escapes the rest of ASCII itself.)
pub fn printable_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unsafe(c) && !c.is_ascii_whitespace() {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({ "a\u{9b}": "b\u{202e}\u{1b}\n", "é": "日" });
        let shown = printable_json(&format!("{value:#}"));
        assert!(!shown.chars().any(|c| is_unsafe(c) && c != '\n'), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
