//! What tests of training share.

use std::path::Path;

use serde_json::Value;

/// The records of a file that `--log` wrote.
pub fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("the log can be read");
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}
