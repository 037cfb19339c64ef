//! JSON of which the end is missing.

use serde_json::Value;

/// What a text that begins an object holds for certain: its members without the one in which it was cut. `None` for what begins no object.
pub(super) fn complete_members(text: &str) -> Option<Value> {
    // Where the text could end, and what is open there.
    let (mut end, mut open_there) = (0, String::new());
    let (mut open, mut in_string, mut is_escaped) = (String::new(), false, false);
    for (at, c) in text.char_indices() {
        if in_string {
            in_string = c != '"' || is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            continue;
        }
        match c {
            '"' => in_string = true,
            '{' => open.push('}'),
            '[' => open.push(']'),
            '}' | ']' => drop(open.pop()),
            ',' => {}
            _ => continue,
        }
        if c != '"' {
            end = if c == ',' { at } else { at + 1 };
            open_there.clone_from(&open);
        }
    }
    let closed = text[..end].chars().chain(open_there.chars().rev()).collect::<String>();
    serde_json::from_str(&closed).ok().filter(Value::is_object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_that_are_there_stay() {
        let text = r#"{"a": "x, \"}]", "b": [1, {"c": 2, "d": 34}, 5], "e": true}"#;
        assert_eq!(complete_members(text), Some(serde_json::from_str(text).unwrap()));
        for (cut, want) in [
            ("{", json!({})),
            (r#"{"a": "x, \"}"#, json!({})),
            (r#"{"a": "x", "b"#, json!({"a": "x"})),
            (r#"{"a": "x", "b": [1"#, json!({"a": "x", "b": []})),
            (r#"{"a": "x", "b": [1, {"c": 2, "d": 3"#, json!({"a": "x", "b": [1, {"c": 2}]})),
            (r#"{"b": [1, {"c": 2, "d": 34}, 5], "e": tr"#, json!({"b": [1, {"c": 2, "d": 34}, 5]})),
        ] {
            assert_eq!(complete_members(cut), Some(want), "{cut}");
        }
        for n in 1..text.len() {
            assert!(complete_members(&text[..n]).is_some(), "{}", &text[..n]);
        }
        assert_eq!((complete_members(""), complete_members("[1")), (None, None));
    }
}
