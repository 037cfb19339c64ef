//! The lines of a JSON Lines file, with their numbers.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::train::error::TrainError;

/// The longest line that is read. A file of another kind may have no line break at all.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// What some editors put in front of a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads lines one by one.
pub(super) struct Lines<'p> {
    path: &'p Path,
    reader: BufReader<File>,
    line: Vec<u8>,
    number: usize,
}

impl<'p> Lines<'p> {
    /// Opens the file at `path`.
    pub fn open(path: &'p Path) -> Result<Lines<'p>, TrainError> {
        let file = File::open(path).map_err(|error| TrainError::io(path, "read the file", error))?;
        Ok(Lines { path, reader: BufReader::new(file), line: Vec::new(), number: 0 })
    }

    /// The next line without its end, and its number from 1. Empty lines at the end of the file are left out; others are errors.
    pub fn next(&mut self) -> Result<Option<(usize, &[u8])>, TrainError> {
        let mut empty = None;
        loop {
            self.line.clear();
            let read = self.reader.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut self.line);
            let n = read.map_err(|error| TrainError::io(self.path, "read the file", error))?;
            if n == 0 {
                return Ok(None);
            }
            self.number += 1;
            if n as u64 > MAX_LINE_BYTES {
                let found = format!("more than {} MiB without a line break", MAX_LINE_BYTES >> 20);
                return Err(TrainError::row(self.path, self.number, "", found, "one JSON object a line"));
            }
            let is_marked = self.number == 1 && self.line.starts_with(BYTE_ORDER_MARK);
            let start = if is_marked { BYTE_ORDER_MARK.len() } else { 0 };
            if self.line[start..].iter().all(u8::is_ascii_whitespace) {
                empty.get_or_insert(self.number);
                continue;
            }
            if let Some(number) = empty {
                return Err(TrainError::row(self.path, number, "", "an empty line", "a JSON object"));
            }
            return Ok(Some((self.number, &self.line[start..])));
        }
    }
}
