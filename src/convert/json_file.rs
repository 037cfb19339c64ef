//! The files of JSON in a checkpoint.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use bise_models::printable::printable;
use serde_json::{Map, Value};

use super::error::ConvertError;

/// The largest file that is read; tokenizers have up to 35 MB.
const MAX_BYTES: u64 = 512 << 20;

/// The bytes of a file, or nothing if there is none.
///
/// # Errors
/// If it cannot be read, or is larger than any such file is.
pub(super) fn bytes(path: &Path) -> Result<Option<Vec<u8>>, ConvertError> {
    let failed = |action| move |error| ConvertError::File { path: path.to_owned(), action, error };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open")(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed("read"))?;
    match bytes.len() as u64 > MAX_BYTES {
        true => Err(invalid(path, format!("more than {MAX_BYTES} bytes"), "a file of a checkpoint")),
        false => Ok(Some(bytes)),
    }
}

/// The JSON object in a file, or nothing if there is no file. A byte order mark is skipped.
///
/// # Errors
/// If it cannot be read, is larger than any such file is, or is something else.
pub(super) fn object_if_there(path: &Path) -> Result<Option<Map<String, Value>>, ConvertError> {
    let Some(bytes) = bytes(path)? else { return Ok(None) };
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(value) => Err(invalid(path, kind(&value), "a JSON object")),
        Err(_) if is_lfs_pointer(text) => {
            Err(invalid(path, "a git-lfs pointer", "the file itself: fetch it with `git lfs pull`"))
        }
        Err(error) => Err(invalid(path, printable(error.to_string().as_bytes()), "valid JSON")),
    }
}

/// The JSON object in a file.
///
/// # Errors
/// If there is no file, and as for [`object_if_there`].
pub(crate) fn object(path: &Path) -> Result<Map<String, Value>, ConvertError> {
    object_if_there(path)?.ok_or_else(|| ConvertError::File {
        path: path.to_owned(),
        action: "open",
        error: ErrorKind::NotFound.into(),
    })
}

/// Whether these bytes stand for a file that Git LFS has not fetched.
pub(super) fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(b"version https://git-lfs")
}

fn invalid(path: &Path, found: impl Into<String>, expected: impl Into<String>) -> ConvertError {
    ConvertError::Invalid {
        path: path.to_owned(),
        what: "the file".to_owned(),
        found: found.into(),
        expected: expected.into(),
    }
}

/// What a value is.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
