//! What can be wrong with a GGUF file, said in one line.

use std::io;
use std::sync::Arc;

/// Why a GGUF file cannot be used.
///
/// Every message is one line that names the file, then the key or tensor, what was found and what was expected.
/// Names that come from the file are escaped and cut short, so that a hostile file cannot write to the terminal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The operating system refused something.
    #[error("{file}: cannot {action}: {error}")]
    Io {
        /// The file concerned.
        file: Arc<str>,
        /// What was attempted: a verb and its object.
        action: &'static str,
        /// The system's own words. Not a `source`: it is part of the message already.
        error: io::Error,
    },
    /// The file as a whole, or its header, is not what a GGUF file has.
    #[error("{file}: {what}: found {found}, expected {expected}")]
    Header {
        /// The file concerned.
        file: Arc<str>,
        /// Which part of the header.
        what: String,
        /// What the file has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// A metadata value is malformed, or is not what the reader of the key asked for.
    #[error("{file}: key '{key}': found {found}, expected {expected}")]
    Key {
        /// The file concerned.
        file: Arc<str>,
        /// The metadata key.
        key: String,
        /// What the file has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// A metadata key that is needed is not there.
    #[error("{file}: key '{key}' is missing, expected {expected}")]
    MissingKey {
        /// The file concerned.
        file: Arc<str>,
        /// The metadata key.
        key: String,
        /// The type of value that is needed.
        expected: String,
    },
    /// The description of a tensor, or the place of its data, is malformed.
    #[error("{file}: tensor '{tensor}': found {found}, expected {expected}")]
    Tensor {
        /// The file concerned.
        file: Arc<str>,
        /// The tensor's name.
        tensor: String,
        /// What the file has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// A tensor that is needed is not there.
    #[error("{file}: tensor '{tensor}' is missing")]
    MissingTensor {
        /// The file concerned.
        file: Arc<str>,
        /// The tensor's name.
        tensor: String,
    },
    /// The file became smaller while it was mapped: reading on would end the process with a bus error.
    #[error(
        "{file}: the file shrank while in use: found {now_bytes} bytes, expected the {opened_bytes} it had when opened"
    )]
    Shrank {
        /// The file concerned.
        file: Arc<str>,
        /// Its size when it was opened, in bytes.
        opened_bytes: u64,
        /// Its size now, in bytes.
        now_bytes: u64,
    },
}

/// How much of a name from a file goes into a message, in characters.
const MAX_NAME_CHARS: usize = 96;

/// `bytes` as one printable line: control characters and invalid UTF-8 escaped, long names cut.
pub(super) fn printable(bytes: &[u8]) -> String {
    // A name may be as long as the file: look at the start alone. A character has at most 4 bytes.
    let cut = &bytes[..bytes.len().min(4 * MAX_NAME_CHARS)];
    let text = String::from_utf8_lossy(cut);
    let start: String = text.chars().take(MAX_NAME_CHARS).collect();
    let mut line = on_one_line(&start);
    if start.len() < text.len() || cut.len() < bytes.len() {
        line.push('…');
    }
    line
}

/// `text` with its control and other invisible characters escaped; quotes and backslashes stay.
pub(super) fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' | '"' | '\\' => line.push(c),
            _ => line.extend(c.escape_debug()),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::printable;

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
