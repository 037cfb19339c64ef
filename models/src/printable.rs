//! Text from files and users, made safe to print.

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

/// Characters of a name from a file that are shown in a message.
const MAX_NAME_CHARS: usize = 96;

/// `bytes` from a file as one printable line: control characters and invalid UTF-8 escaped, long text cut short.
///
/// Use it for any name or text of a file that goes to a terminal or into a log: raw, it could move the cursor, set
/// the window title or forge lines.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    // A name may be as long as the file: look at the start alone. A character has at most 4 bytes.
    let cut = &bytes[..bytes.len().min(4 * MAX_NAME_CHARS)];
    let text = String::from_utf8_lossy(cut);
    let start: String = text.chars().take(MAX_NAME_CHARS).collect();
    let start_len = start.len();
    let mut line = Printable(start).to_string();
    if start_len < text.len() || cut.len() < bytes.len() {
        line.push('…');
    }
    line
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
    fn names_from_a_file_cannot_break_the_line_or_drive_the_terminal() {
        assert_eq!(printable(b"a\nb\x1b[31m"), "a\\nb\\u{1b}[31m");
    }

    #[test]
    fn long_names_are_cut() {
        let line = printable(&vec![b'x'; 1 << 20]);
        assert_eq!(line.chars().count(), 97);
        assert!(line.ends_with('…'));
        assert_eq!(printable(&[b'y'; 96]), "y".repeat(96));
    }
}
