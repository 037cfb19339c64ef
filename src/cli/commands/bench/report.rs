//! Prints the results of `bise bench` like llama-bench.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bise::{Engine, SessionOptions};
use serde_json::{Map, Value, json};

use super::test::Test;
use crate::cli::describe::Description;
use crate::cli::term::printable::printable_json;
use crate::cli::timings::mean_and_deviation;
use bise_models::printable::Printable;

/// Output formats.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A table in Markdown
    Md,
    /// A list of objects
    Json,
    /// An object a line
    Jsonl,
    /// Comma-separated values
    Csv,
}

/// One test with its times.
pub struct Row<'a> {
    pub engine: &'a Engine,
    pub about: &'a Description,
    pub options: SessionOptions,
    pub n_batch: usize,
    pub n_parallel: usize,
    pub test: Test,
    pub started: SystemTime,
    pub samples_ns: Vec<u64>,
}

impl Row<'_> {
    fn samples_ts(&self) -> Vec<f64> {
        let n_tokens = (self.test.n_prompt + self.test.n_gen) * self.n_parallel;
        self.samples_ns.iter().map(|&ns| n_tokens as f64 * 1e9 / (ns.max(1) as f64)).collect()
    }

    /// The fields of llama-bench that mean something here, and our own.
    fn fields(&self) -> Map<String, Value> {
        let ns: Vec<f64> = self.samples_ns.iter().map(|&ns| ns as f64).collect();
        let ts = self.samples_ts();
        let ((avg_ns, stddev_ns), (avg_ts, stddev_ts)) = (mean_and_deviation(&ns), mean_and_deviation(&ts));
        let fields = json!({
            "build_commit": option_env!("BISE_BUILD_COMMIT").unwrap_or("unknown"),
            "build_number": 0,
            "build_version": env!("CARGO_PKG_VERSION"),
            "cpu_info": cpu_info(),
            "gpu_info": "",
            "backends": "CPU",
            "isa": self.engine.isa().name(),
            "model_filename": self.engine.file().name(),
            "model_type": self.about.model_type(),
            "model_size": self.about.n_bytes,
            "model_n_params": self.about.n_params,
            "n_batch": self.n_batch,
            "n_ubatch": self.options.n_ubatch,
            "n_threads": self.engine.n_threads(),
            "type_k": self.options.k_type.to_string(),
            "type_v": self.options.v_type.to_string(),
            "n_gpu_layers": 0,
            "n_parallel": self.n_parallel,
            "n_prompt": self.test.n_prompt,
            "n_gen": self.test.n_gen,
            "n_depth": self.test.n_depth,
            "test_time": iso_time(self.started),
            "avg_ns": avg_ns.round() as u64,
            "stddev_ns": stddev_ns.round() as u64,
            "avg_ts": avg_ts,
            "stddev_ts": stddev_ts,
            "samples_ns": self.samples_ns,
            "samples_ts": ts,
        });
        let Value::Object(fields) = fields else { unreachable!("it was written as an object") };
        fields
    }

    /// The cells of the table: name, width (negative: left-aligned) and text.
    fn cells(&self) -> Vec<(&'static str, i32, String)> {
        let about = self.about;
        let gib = about.n_bytes as f64 / (1_u64 << 30) as f64;
        let size = if gib < 1.0 { format!("{:.2} MiB", gib * 1024.0) } else { format!("{gib:.2} GiB") };
        let params = match about.n_params {
            n @ 0..1_000_000_000 => format!("{:.2} M", n as f64 / 1e6),
            n => format!("{:.2} B", n as f64 / 1e9),
        };
        let (mean, deviation) = mean_and_deviation(&self.samples_ts());
        vec![
            ("model", -30, about.model_type()),
            ("size", 10, size),
            ("params", 10, params),
            ("backend", -10, "CPU".into()),
            ("threads", 7, self.engine.n_threads().to_string()),
            ("n_ubatch", 8, self.options.n_ubatch.to_string()),
            ("type_k", 6, self.options.k_type.to_string()),
            ("type_v", 6, self.options.v_type.to_string()),
            ("test", 15, self.test.name(self.n_parallel)),
            ("t/s", 20, format!("{mean:.2} ± {deviation:.2}")),
        ]
    }
}

/// Prints rows as they are added.
pub struct Table<W: Write> {
    format: Format,
    out: W,
    n_rows: usize,
}

impl<W: Write> Table<W> {
    pub fn new(format: Format, out: W) -> Self {
        Self { format, out, n_rows: 0 }
    }

    /// Prints one result.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn add(&mut self, row: &Row<'_>) -> Result<()> {
        let first = self.n_rows == 0;
        self.n_rows += 1;
        let out = &mut self.out;
        match self.format {
            Format::Md => {
                let cells = row.cells();
                if first {
                    let names: Vec<String> = cells.iter().map(|(name, width, _)| pad(name, *width)).collect();
                    writeln!(out, "| {} |", names.join(" | "))?;
                    let rules: Vec<String> = cells.iter().map(|(_, width, _)| rule(*width)).collect();
                    writeln!(out, "| {} |", rules.join(" | "))?;
                }
                let shown = |value: &String| Printable(value).to_string();
                let values: Vec<String> =
                    cells.iter().map(|(_, width, value)| pad(&shown(value), *width)).collect();
                writeln!(out, "| {} |", values.join(" | "))?;
            }
            Format::Json => {
                let object = printable_json(&serde_json::to_string_pretty(&row.fields())?);
                let object = object.replace('\n', "\n  ");
                write!(out, "{}  {object}", if first { "[\n" } else { ",\n" })?;
            }
            Format::Jsonl => writeln!(out, "{}", printable_json(&Value::Object(row.fields()).to_string()))?,
            Format::Csv => {
                // The samples are lists, which a table has no place for.
                let fields: Vec<_> =
                    row.fields().into_iter().filter(|(_, value)| !value.is_array()).collect();
                if first {
                    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
                    writeln!(out, "{}", names.join(","))?;
                }
                let quoted = |value: &Value| match value {
                    Value::String(text) => format!("\"{}\"", Printable(text.replace('"', "\"\""))),
                    other => format!("\"{other}\""),
                };
                let values: Vec<String> = fields.iter().map(|(_, value)| quoted(value)).collect();
                writeln!(out, "{}", values.join(","))?;
            }
        }
        Ok(out.flush()?)
    }

    /// Prints the end of the table.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn finish(mut self) -> Result<()> {
        match self.format {
            Format::Md => writeln!(self.out, "\nbuild: bise {}", env!("CARGO_PKG_VERSION"))?,
            Format::Json => writeln!(self.out, "{}]", if self.n_rows == 0 { "[" } else { "\n" })?,
            Format::Jsonl | Format::Csv => {}
        }
        Ok(self.out.flush()?)
    }
}

fn pad(text: &str, width: i32) -> String {
    let n = width.unsigned_abs() as usize;
    if width < 0 { format!("{text:<n$}") } else { format!("{text:>n$}") }
}

fn rule(width: i32) -> String {
    let dashes = "-".repeat(width.unsigned_abs() as usize - 1);
    if width < 0 { format!("{dashes}-") } else { format!("{dashes}:") }
}

/// The name of the CPU, if the system reports it.
fn cpu_info() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()));
    name.unwrap_or(std::env::consts::ARCH).to_string()
}

/// Formats a time as `2026-11-23T14:03:16Z`.
fn iso_time(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 1970 to a date, by Howard Hinnant's `civil_from_days`.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_follow_the_calendar() {
        let at = |seconds| iso_time(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_795_442_596), "2026-11-23T14:03:16Z");
    }
}
