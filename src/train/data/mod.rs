//! Training data: JSON Lines files in the formats of `mlx_lm.lora`, as tokens.

mod encode;
mod left_out;
mod lines;
mod row;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use twox_hash::XxHash3_128;

use super::error::TrainError;
pub use encode::DataOptions;
use encode::{Encoded, Encoder};
use lines::Lines;
use row::{Fault, Row};

use crate::tokenizer::Tokenizer;

/// The rows of one file, as tokens.
#[derive(Debug)]
pub struct Dataset {
    tokens: Vec<u32>,
    rows: Vec<Place>,
    warnings: Vec<String>,
}

/// Where a row's tokens end, and which of them is the first that counts.
#[derive(Clone, Copy, Debug)]
struct Place {
    end: usize,
    first_label: u32,
}

/// A row's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatasetRow<'a> {
    /// All of them, in order.
    pub tokens: &'a [u32],
    /// The place of the first token whose prediction counts, from 1; those behind it count too.
    pub first_label: usize,
}

impl DatasetRow<'_> {
    /// How many predictions count.
    pub fn n_labels(&self) -> usize {
        self.tokens.len() - self.first_label
    }
}

impl Dataset {
    /// Reads the rows of the JSON Lines file at `path`.
    ///
    /// # Errors
    /// A file that cannot be read or has no rows, and a row that is malformed, is of no known format, does not fit the chat template, or has
    /// nothing to learn from; the message names file and line.
    pub fn open(path: &Path, tokenizer: &Tokenizer, options: &DataOptions) -> Result<Dataset, TrainError> {
        let encoder = Encoder::new(tokenizer, options);
        let mut lines = Lines::open(path)?;
        let mut dataset = Dataset { tokens: Vec::new(), rows: Vec::new(), warnings: Vec::new() };
        let mut notes = Notes::default();
        while let Some((number, line)) = lines.next()? {
            let row = Row::parse(line, &mut notes.unused);
            let encoded = row.and_then(|row| encoder.encode(row));
            let Encoded { mut tokens, first_label, note, left_out } =
                encoded.map_err(|fault| match fault {
                    Fault::Content { what, found, expected } => {
                        TrainError::row(path, number, what, found, expected)
                    }
                    Fault::Template(error) => {
                        TrainError::Template { path: path.to_owned(), line: number, error }
                    }
                })?;
            notes.chat.extend(note);
            for name in left_out {
                notes.left_out.entry(name).or_insert((0, number)).0 += 1;
            }
            let len = tokens.len();
            if len > options.max_seq_length {
                notes.n_cut += 1;
                if len > notes.longest.0 {
                    notes.longest = (len, number);
                }
                tokens.truncate(options.max_seq_length);
                if first_label >= tokens.len() {
                    notes.skipped.push(number);
                    continue;
                }
            }
            dataset.tokens.extend(tokens);
            dataset.rows.push(Place { end: dataset.tokens.len(), first_label: first_label as u32 });
        }
        dataset.warnings = notes.warnings(path, options);
        if dataset.rows.is_empty() {
            let found = if notes.skipped.is_empty() {
                "no rows"
            } else {
                "no row with an answer below --max-seq-length"
            };
            return Err(TrainError::NoRows { path: path.to_owned(), found });
        }
        Ok(dataset)
    }

    /// Rows that are tokens already: each with the place of its first label.
    #[cfg(test)]
    pub(super) fn of_tokens(rows: &[(Vec<u32>, usize)]) -> Dataset {
        let mut dataset = Dataset { tokens: Vec::new(), rows: Vec::new(), warnings: Vec::new() };
        for (tokens, first_label) in rows {
            dataset.tokens.extend(tokens);
            dataset.rows.push(Place { end: dataset.tokens.len(), first_label: *first_label as u32 });
        }
        dataset
    }

    /// The number of rows, at least one.
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// Row `i`, from 0.
    ///
    /// # Panics
    /// Where there is no such row.
    pub fn row(&self, i: usize) -> DatasetRow<'_> {
        let start = i.checked_sub(1).map_or(0, |before| self.rows[before].end);
        let Place { end, first_label } = self.rows[i];
        DatasetRow { tokens: &self.tokens[start..end], first_label: first_label as usize }
    }

    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = DatasetRow<'_>> {
        (0..self.n_rows()).map(|i| self.row(i))
    }

    /// The number of tokens of all rows.
    pub fn n_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// The number of predictions that count.
    pub fn n_labels(&self) -> usize {
        self.rows().map(|row| row.n_labels()).sum()
    }

    /// The tokens of the longest row.
    pub fn longest(&self) -> usize {
        self.rows().map(|row| row.tokens.len()).max().unwrap_or(0)
    }

    /// Bytes that the rows take.
    pub fn heap_bytes(&self) -> usize {
        self.tokens.capacity() * size_of::<u32>() + self.rows.capacity() * size_of::<Place>()
    }

    /// What a user should know about the file, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What tells this data from other: XXH3 of the tokens and labels of all rows, in order.
    pub fn hash(&self) -> u128 {
        let mut hash = XxHash3_128::new();
        for row in self.rows() {
            hash.write(&(row.tokens.len() as u64).to_le_bytes());
            hash.write(&(row.first_label as u64).to_le_bytes());
            row.tokens.iter().for_each(|token| hash.write(&token.to_le_bytes()));
        }
        hash.finish_128()
    }
}

/// What is said about a file once, not for every row.
#[derive(Default)]
struct Notes {
    unused: BTreeSet<String>,
    chat: BTreeSet<String>,
    /// What the chat template leaves out: in how many rows, and the line of the first.
    left_out: BTreeMap<String, (usize, usize)>,
    n_cut: usize,
    /// Tokens, and the line.
    longest: (usize, usize),
    skipped: Vec<usize>,
}

impl Notes {
    fn warnings(&self, path: &Path, options: &DataOptions) -> Vec<String> {
        let path = path.display();
        let mut warnings: Vec<String> = self.chat.iter().map(|note| format!("{path}: {note}")).collect();
        if !self.left_out.is_empty() {
            let part = |(name, (n, line)): (&String, &(usize, usize))| {
                format!("{name} ({}, the first in line {line})", counted(*n, "row", "rows"))
            };
            let parts: Vec<_> = self.left_out.iter().map(part).collect();
            warnings.push(format!(
                "{path}: the chat template does not write these, so nothing is learned from them: {}",
                parts.join(", ")
            ));
        }
        if self.n_cut > 0 {
            let (len, line) = self.longest;
            warnings.push(format!(
                "{path}: {} longer than --max-seq-length {} and cut there (the longest, in line {line}, has {len} tokens)",
                counted(self.n_cut, "row is", "rows are"),
                options.max_seq_length
            ));
        }
        if !self.skipped.is_empty() {
            warnings.push(format!(
                "{path}: {} left out, because nothing of the answer remains below --max-seq-length {}: {}",
                counted(self.skipped.len(), "row is", "rows are"),
                options.max_seq_length,
                first_few(&self.skipped)
            ));
        }
        if !self.unused.is_empty() {
            let names: Vec<_> = self.unused.iter().take(8).map(|key| format!("\"{key}\"")).collect();
            let more = if self.unused.len() > names.len() { ", …" } else { "" };
            warnings.push(format!("{path}: keys without effect: {}{more}", names.join(", ")));
        }
        warnings
    }
}

fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn first_few(lines: &[usize]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<_> = lines.iter().take(SHOWN).map(usize::to_string).collect();
    let more = match lines.len().saturating_sub(SHOWN) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    format!("{} {}{more}", if lines.len() == 1 { "line" } else { "lines" }, shown.join(", "))
}

#[cfg(all(test, feature = "builtin-model"))]
mod tests;
