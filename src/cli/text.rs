//! Text from arguments, files and standard input, and the escapes in it.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// A command-line argument as UTF-8.
///
/// # Errors
/// It is not UTF-8; the message names the flag and the offset.
pub fn from_argument(flag: &str, text: &OsStr) -> Result<String> {
    from_bytes(flag, text.as_encoded_bytes().to_vec())
}

/// Reads a text file.
///
/// # Errors
/// The file cannot be read or is not UTF-8.
pub fn from_file(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    from_bytes(&path.display().to_string(), bytes)
}

/// Reads a text file, and drops one newline at its end.
///
/// # Errors
/// As [`from_file`].
pub fn without_last_newline(path: &Path) -> Result<String> {
    let mut text = from_file(path)?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

/// Reads standard input to its end.
///
/// # Errors
/// It cannot be read or is not UTF-8.
pub fn from_stdin() -> Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).context("standard input")?;
    from_bytes("standard input", bytes)
}

/// Converts bytes to text; `source` names them in the error.
///
/// # Errors
/// The bytes are not UTF-8.
pub fn from_bytes(source: &str, bytes: Vec<u8>) -> Result<String> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let found = error.as_bytes()[at];
            bail!("{source}: invalid UTF-8: found byte 0x{found:02x} at offset {at}, expected text")
        }
    }
}

/// Processes `\n`, `\r`, `\t`, `\'`, `\"`, `\\` and `\xHH` like llama.cpp; other backslashes stay.
///
/// # Errors
/// `\xHH` escapes produce invalid UTF-8; `source` names the text.
pub fn unescape(source: &str, text: &str) -> Result<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        at += 1;
        if byte != b'\\' || at == bytes.len() {
            out.push(byte);
            continue;
        }
        let kind = bytes[at];
        at += 1;
        match kind {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'\'' | b'"' | b'\\' => out.push(kind),
            b'x' => match hex_byte(bytes.get(at..at + 2)) {
                Some(value) => {
                    out.push(value);
                    at += 2;
                }
                None => out.extend(b"\\x"),
            },
            _ => out.extend([b'\\', kind]),
        }
    }
    from_bytes(source, out).with_context(|| "after its escapes (--no-escape leaves them alone)".to_string())
}

fn hex_byte(digits: Option<&[u8]>) -> Option<u8> {
    let digits = std::str::from_utf8(digits?).ok()?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_llama_cpp() {
        let cases = [
            (r"a\nb\tc\rd", "a\nb\tc\rd"),
            (r#"\'\"\\"#, r#"'"\"#),
            (r"\x41\x7e", "A~"),
            (r"\xc3\xa9", "é"),
            (r"\x4", r"\x4"),
            (r"\xzz\q", r"\xzz\q"),
            (r"end\", r"end\"),
            ("é\\né", "é\né"),
        ];
        for (typed, meant) in cases {
            assert_eq!(unescape("-p", typed).unwrap(), meant, "{typed}");
        }
        assert!(unescape("-p", r"\xff").is_err());
    }

    #[test]
    fn bytes_that_are_no_text_are_named() {
        let error = from_bytes("story.txt", b"ab\xffc".to_vec()).unwrap_err().to_string();
        assert_eq!(error, "story.txt: invalid UTF-8: found byte 0xff at offset 2, expected text");
    }
}
