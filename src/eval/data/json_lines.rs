//! Files with a JSON object a line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::Value;

use super::super::EvalError;
use super::Row;

/// The longest line that is read.
const MAX_LINE: u64 = 64 << 20;

/// What some editors put in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

pub fn each_row(
    file: &Path,
    columns: &[&'static str],
    each: &mut dyn FnMut(Row<'_>) -> Result<(), EvalError>,
) -> Result<(), EvalError> {
    let io = |error| EvalError::io(file, error);
    let mut reader = BufReader::with_capacity(1 << 16, File::open(file).map_err(io)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let n = std::io::Read::take(&mut reader, MAX_LINE).read_until(b'\n', &mut line).map_err(io)?;
        if n == 0 {
            break;
        }
        let place = "line";
        let refuse = |what: String| Err(EvalError::Row { file: file.to_owned(), place, number, what });
        if n as u64 == MAX_LINE {
            return refuse(format!("found more than {} MiB, expected a JSON object", MAX_LINE >> 20));
        }
        let text = match number {
            1 => line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line),
            _ => &line,
        };
        if text.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(text.trim_ascii_end()) {
            Ok(Value::Object(fields)) => {
                let row = Row { file, place, number, fields };
                row.check(columns)?;
                each(row)?;
            }
            Ok(_) => return refuse("found another JSON value, expected an object".to_owned()),
            Err(error) => {
                let error = error.to_string().replace(" at line 1 column", " at column");
                return refuse(format!("found no JSON object ({error})"));
            }
        }
    }
    Ok(())
}
