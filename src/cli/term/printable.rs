//! Text that we did not write ourselves, made safe to show.

use std::fmt::{self, Write};

/// Shows a value on one line, with control characters and marks that change the direction of text escaped as in Rust
/// (`\n`, `\u{1b}`): names and texts from a file can neither drive the terminal nor fake a line.
pub struct Printable<T>(pub T);

impl<T: fmt::Display> fmt::Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escape(f), "{}", self.0)
    }
}

struct Escape<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escape<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| is_unsafe(c)) {
            self.0.write_str(&rest[..at])?;
            // Not `escape_debug`, which leaves some of them alone.
            match c {
                '\n' | '\r' | '\t' => write!(self.0, "{}", c.escape_default())?,
                _ => write!(self.0, "{}", c.escape_unicode())?,
            }
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

/// Whether a character acts on the terminal, ends a line, or turns the text around it.
pub fn is_unsafe(c: char) -> bool {
    let line_end = matches!(c, '\u{2028}' | '\u{2029}');
    let direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || line_end || direction
}

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
    fn what_drives_a_terminal_is_escaped() {
        let shown = |text: &str| Printable(text).to_string();
        assert_eq!(shown("\x1b[31mred\x07\n"), r"\u{1b}[31mred\u{7}\n");
        assert_eq!(shown("a\u{9b}2Jb\u{7f}"), r"a\u{9b}2Jb\u{7f}");
        assert_eq!(shown("gpj\u{202e}.exe"), r"gpj\u{202e}.exe");
        assert_eq!(shown("line\u{2028}line"), r"line\u{2028}line");
    }

    #[test]
    fn other_text_stays() {
        for text in ["", "blk.0.attn_q.weight", r#"C:\models\"x".gguf"#, "naïve 日本語 👩‍🚀 e\u{301}"]
        {
            assert_eq!(Printable(text).to_string(), text);
        }
        assert_eq!(Printable(format_args!("{}: {}", "a", 1)).to_string(), "a: 1");
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({ "a\u{9b}": "b\u{202e}\u{1b}\n", "é": "日" });
        let shown = printable_json(&format!("{value:#}"));
        assert!(!shown.chars().any(|c| is_unsafe(c) && c != '\n'), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
