//! What is said on the way: lines, a file of JSON, a curve, and a bar on a terminal.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use bise::memory::{format_bytes, peak_bytes};
use bise::train::{Saved, Step, Unreported};
use bise_models::atomic_file::AtomicFile;
use bise_models::printable::Printable;
use serde_json::{Value, json};

use super::args::ReportArgs;
use super::curve;
use crate::cli::term::console::{Log, Progress};

/// Steps since the last report, and all reports so far.
pub struct Reports<'a> {
    args: &'a ReportArgs,
    title: String,
    n_steps: usize,
    bar: Progress,
    file: Option<File>,
    /// Every record, as it stands in the file.
    history: Vec<Value>,
    unreported: Unreported,
    n_done: usize,
    /// Tokens that are learned from in the whole run, and so far.
    n_tokens: u64,
    n_done_tokens: u64,
    /// Of them, those of this process, and how many seconds they took.
    measured: (u64, f64),
}

impl<'a> Reports<'a> {
    /// Reports of a run of `n_steps` steps that read `n_tokens` tokens. `begun` has the steps that are done, which read `n_done_tokens` of them.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn new(
        args: &'a ReportArgs,
        title: String,
        n_steps: usize,
        n_tokens: u64,
        begun: Saved,
        n_done_tokens: u64,
        log: Log,
    ) -> Result<Reports<'a>> {
        let Saved { n_done, history, unreported } = begun;
        let file = args.log.as_deref().map(|path| open_log(path, &history)).transpose()?;
        let bar = log.progress("training", n_steps);
        bar.set(n_done);
        Ok(Reports {
            args,
            title,
            n_steps,
            bar,
            file,
            history,
            unreported,
            n_done,
            n_tokens,
            n_done_tokens,
            measured: (unreported.n_tokens, unreported.seconds),
        })
    }

    /// The records of all reports.
    pub fn history(&self) -> &[Value] {
        &self.history
    }

    /// The steps behind the last report.
    pub fn unreported(&self) -> &Unreported {
        &self.unreported
    }

    /// Whether the loss on other data behind step `number` was reported.
    pub fn has_evaluation(&self, number: usize) -> bool {
        has_evaluation(&self.history, number)
    }

    /// Adds a step.
    pub fn add(&mut self, step: &Step) {
        self.n_done = step.number;
        self.n_done_tokens += step.n_tokens as u64;
        self.measured.0 += step.n_tokens as u64;
        self.measured.1 += step.took.as_secs_f64();
        self.unreported.add(step);
        self.bar.set(step.number);
    }

    /// Reports the steps behind the last report, where the next one is due.
    pub fn report_if_due(&mut self) -> Result<()> {
        let is_due = self.n_done.is_multiple_of(self.args.report_every) || self.n_done == self.n_steps;
        if !is_due || self.unreported.n_steps == 0 {
            return Ok(());
        }
        let steps = std::mem::take(&mut self.unreported);
        let n = steps.n_steps as f64;
        let (loss, gradient_norm) = (steps.loss / n, steps.gradient_norm / n);
        let speed = steps.n_tokens as f64 / steps.seconds;
        let peak = peak_bytes();
        let left = self.n_tokens.saturating_sub(self.n_done_tokens) as f64 / self.measured.0.max(1) as f64
            * self.measured.1;
        let left = match self.n_done == self.n_steps {
            true => String::new(),
            false => format!(", {} left", duration(left)),
        };
        let memory = peak.map_or(String::new(), |bytes| format!(", {}", format_bytes(bytes)));
        let line = format!(
            "step {}/{}: loss {loss:.4}, lr {}, gradient norm {gradient_norm:.3}, {speed:.0} tokens/s{memory}{left}",
            self.n_done,
            self.n_steps,
            rate(steps.lr)
        );
        let record = json!({
            "iteration": self.n_done,
            "train_loss": loss,
            "learning_rate": steps.lr,
            "gradient_norm": gradient_norm,
            "label_tokens": steps.n_labels,
            "tokens_per_second": speed,
            "trained_tokens": self.n_done_tokens,
            "peak_memory": peak,
        });
        self.record(line, record)
    }

    /// Reports the loss on other data behind step `number`.
    pub fn evaluated(
        &mut self,
        number: usize,
        loss: f64,
        n_rows: usize,
        of: usize,
        took: Duration,
    ) -> Result<()> {
        let rows = if n_rows < of { format!("{n_rows} of {of} rows") } else { format!("{of} rows") };
        let line = format!("step {number}/{}: validation loss {loss:.4} ({rows})", self.n_steps);
        self.record(line, json!({"iteration": number, "val_loss": loss, "val_time": took.as_secs_f64()}))
    }

    /// Reports the loss on the test data.
    pub fn tested(&mut self, loss: f64, n_rows: usize) -> Result<()> {
        let line = format!("test loss {loss:.4}, perplexity {:.3} ({n_rows} rows)", loss.exp());
        self.record(line, json!({"iteration": self.n_steps, "test_loss": loss}))
    }

    /// Says and writes a report. It is in the history first: where it cannot be said, the file of a run that goes on has it yet.
    fn record(&mut self, line: String, record: Value) -> Result<()> {
        self.history.push(record);
        self.bar.suspend(|| {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{line}").and_then(|()| out.flush())
        })?;
        if let (Some(file), Some(path), Some(record)) = (&mut self.file, &self.args.log, self.history.last())
        {
            write_record(file, record)
                .with_context(|| format!("{}: cannot write the file", Printable(path.display())))?;
        }
        self.draw()
    }

    /// Draws the curve anew.
    fn draw(&self) -> Result<()> {
        let Some(path) = &self.args.plot else { return Ok(()) };
        let points = |key: &str| -> Vec<(f64, f64)> {
            let point = |record: &Value| Some((record["iteration"].as_f64()?, record[key].as_f64()?));
            self.history.iter().filter_map(point).collect()
        };
        let (train, valid) = (points("train_loss"), points("val_loss"));
        let svg = curve::svg(&self.title, self.n_steps, &[("training", &train), ("validation", &valid)]);
        let write = || -> std::io::Result<()> {
            let mut file = AtomicFile::create(path)?;
            file.write_all(svg.as_bytes())?;
            file.commit()
        };
        write().with_context(|| format!("{}: cannot write the file", Printable(path.display())))
    }
}

/// Whether one of the records is of the loss on other data behind step `number`.
pub fn has_evaluation(history: &[Value], number: usize) -> bool {
    let is_it =
        |record: &Value| record["iteration"].as_u64() == Some(number as u64) && !record["val_loss"].is_null();
    history.iter().any(is_it)
}

/// The file of records, with those of the steps that are done and no others: what came after the checkpoint will come again.
fn open_log(path: &Path, history: &[Value]) -> Result<File> {
    let open = || -> std::io::Result<File> {
        let mut file = File::create(path)?;
        history.iter().try_for_each(|record| write_record(&mut file, record))?;
        Ok(file)
    };
    open().with_context(|| format!("{}: cannot write the file", Printable(path.display())))
}

fn write_record(file: &mut File, record: &Value) -> std::io::Result<()> {
    file.write_all(format!("{record}\n").as_bytes())
}

/// A learning rate with the digits it needs.
fn rate(lr: f64) -> String {
    if lr == 0.0 { "0".into() } else { format!("{lr:.3e}") }
}

/// Seconds as people say them.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round().max(0.0);
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use bise_models::train::Loss;
    use clap::Parser;

    use super::super::args::TrainArgs;
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TrainArgs,
    }

    fn step(number: usize) -> Step {
        let loss = Loss { sum: 4.0 + (number as f64).sin(), n_labels: 3 * number };
        Step {
            number,
            loss: loss.mean(),
            n_labels: loss.n_labels,
            n_tokens: 10 + number,
            lr: 1e-3 / number as f64,
            gradient_norm: 1.0 / number as f64,
            took: Duration::from_millis(250),
        }
    }

    /// The records of steps up to the 20th, but for the memory.
    fn records(reports: &mut Reports<'_>, first: usize) -> Vec<Value> {
        for number in first..=20 {
            reports.add(&step(number));
            reports.report_if_due().unwrap();
        }
        let mut records = reports.history().to_vec();
        records.iter_mut().for_each(|record| record["peak_memory"] = Value::Null);
        records
    }

    #[test]
    fn reports_are_the_same_after_an_interruption() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let line = "train --data none --report-every 8 --log-disable --log";
        let args = Line::parse_from(line.split(' ').chain([path.to_str().unwrap()])).args;
        let n_tokens = |n: usize| (1..=n).map(|i| step(i).n_tokens as u64).sum::<u64>();
        let new = |begun: Saved| {
            let n_done = n_tokens(begun.n_done);
            Reports::new(&args.reports, "t".into(), 20, n_tokens(20), begun, n_done, args.log.log()).unwrap()
        };
        let whole = records(&mut new(Saved::default()), 1);
        let of = |key: &str| whole.iter().map(|record| record[key].as_f64().unwrap()).collect::<Vec<_>>();
        assert_eq!(of("iteration"), [8.0, 16.0, 20.0]);
        // 3·(1 + … + 8), 3·(9 + … + 16), 3·(17 + … + 20).
        assert_eq!(of("label_tokens"), [108.0, 300.0, 222.0]);
        for n_done in [1, 7, 8, 9, 16, 20] {
            let mut first = new(Saved::default());
            for number in 1..=n_done {
                first.add(&step(number));
                first.report_if_due().unwrap();
            }
            let begun = Saved { n_done, history: first.history().to_vec(), unreported: *first.unreported() };
            drop(first);
            assert_eq!(records(&mut new(begun), n_done + 1), whole, "behind step {n_done}");
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.lines().count(), 3, "{text}");
        }
    }

    #[test]
    fn evaluations_are_found_by_their_step() {
        let history = [json!({"iteration": 4, "train_loss": 1.0}), json!({"iteration": 8, "val_loss": 1.0})];
        assert!(has_evaluation(&history, 8) && !has_evaluation(&history, 4) && !has_evaluation(&[], 0));
    }

    #[test]
    fn durations_are_short() {
        let cases =
            [(0.4, "0 s"), (119.4, "119 s"), (121.0, "2 min"), (7199.0, "120 min"), (9000.0, "2.5 h")];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!((rate(0.0), rate(9.75e-5)), ("0".into(), "9.750e-5".into()));
    }
}
