//! What is said on the way: lines, a file of JSON, a curve, and a bar on a terminal.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use bise::memory::{format_bytes, peak_bytes};
use bise::train::Step;
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
    since: Vec<Step>,
    /// Tokens that are learned from in the whole run, and so far.
    n_tokens: u64,
    n_done_tokens: u64,
    /// Of them, those of this process, and how long they took.
    measured: (u64, Duration),
}

impl<'a> Reports<'a> {
    /// Reports of a run of `n_steps` steps that read `n_tokens` tokens. `history` has the records of the steps that are done.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn new(
        args: &'a ReportArgs,
        title: String,
        n_steps: usize,
        n_tokens: u64,
        history: Vec<Value>,
        log: Log,
    ) -> Result<Reports<'a>> {
        let file = args.log.as_deref().map(|path| open_log(path, &history)).transpose()?;
        Ok(Reports {
            args,
            title,
            n_steps,
            bar: log.progress("training", n_steps),
            file,
            history,
            since: Vec::new(),
            n_tokens,
            n_done_tokens: 0,
            measured: (0, Duration::ZERO),
        })
    }

    /// The records of all reports.
    pub fn history(&self) -> &[Value] {
        &self.history
    }

    /// Says that `n_steps` steps with `n_tokens` tokens were done before.
    pub fn skip(&mut self, n_steps: usize, n_tokens: u64) {
        self.n_done_tokens = n_tokens;
        self.bar.set(n_steps);
    }

    /// Adds a step, and reports where one is due.
    pub fn add(&mut self, step: Step) -> Result<()> {
        let number = step.number;
        self.n_done_tokens += step.n_tokens as u64;
        self.measured.0 += step.n_tokens as u64;
        self.measured.1 += step.took;
        self.since.push(step);
        self.bar.set(number);
        if number.is_multiple_of(self.args.report_every) || number == self.n_steps {
            self.report()?;
        }
        Ok(())
    }

    fn report(&mut self) -> Result<()> {
        let steps = std::mem::take(&mut self.since);
        let Some(last) = steps.last() else { return Ok(()) };
        let n = steps.len() as f64;
        let loss = steps.iter().map(|step| step.loss).sum::<f64>() / n;
        let gradient_norm = steps.iter().map(|step| step.gradient_norm).sum::<f64>() / n;
        let seconds = steps.iter().map(|step| step.took).sum::<Duration>().as_secs_f64();
        let n_tokens: usize = steps.iter().map(|step| step.n_tokens).sum();
        let n_labels: usize = steps.iter().map(|step| step.n_labels).sum();
        let speed = n_tokens as f64 / seconds;
        let peak = peak_bytes();
        let left = self.n_tokens.saturating_sub(self.n_done_tokens) as f64 / self.measured.0.max(1) as f64
            * self.measured.1.as_secs_f64();
        let left = match last.number == self.n_steps {
            true => String::new(),
            false => format!(", {} left", duration(left)),
        };
        let memory = peak.map_or(String::new(), |bytes| format!(", {}", format_bytes(bytes)));
        self.print(format_args!(
            "step {}/{}: loss {loss:.4}, lr {}, gradient norm {gradient_norm:.3}, {speed:.0} tokens/s{memory}{left}",
            last.number,
            self.n_steps,
            rate(last.lr)
        ))?;
        self.record(json!({
            "iteration": last.number,
            "train_loss": loss,
            "learning_rate": last.lr,
            "gradient_norm": gradient_norm,
            "label_tokens": n_labels,
            "tokens_per_second": speed,
            "trained_tokens": self.n_done_tokens,
            "peak_memory": peak,
        }))
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
        self.print(format_args!("step {number}/{}: validation loss {loss:.4} ({rows})", self.n_steps))?;
        self.record(json!({"iteration": number, "val_loss": loss, "val_time": took.as_secs_f64()}))
    }

    /// Reports the loss on the test data.
    pub fn tested(&mut self, loss: f64, n_rows: usize) -> Result<()> {
        self.print(format_args!("test loss {loss:.4}, perplexity {:.3} ({n_rows} rows)", loss.exp()))?;
        self.record(json!({"iteration": self.n_steps, "test_loss": loss}))
    }

    fn print(&self, line: impl std::fmt::Display) -> Result<()> {
        self.bar.suspend(|| {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{line}").and_then(|()| out.flush())
        })?;
        Ok(())
    }

    fn record(&mut self, record: Value) -> Result<()> {
        if let (Some(file), Some(path)) = (&mut self.file, &self.args.log) {
            write_record(file, &record)
                .with_context(|| format!("{}: cannot write the file", Printable(path.display())))?;
        }
        self.history.push(record);
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
    use super::*;

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
