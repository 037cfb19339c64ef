//! `--histogram`: bars of how large scales are.

use std::io::{BufWriter, Write};

use anyhow::Result;
use bise::gguf::GgufFile;
use bise::inspect::Histogram;
use bise_models::printable::Printable;
use serde_json::json;

use super::Context;
use crate::cli::term::printable::printable_json;

/// Columns of the longest bar.
const WIDTH: usize = 40;

/// Prints the histograms of `file`.
pub fn run(context: &Context, file: &GgufFile, by_tensor: bool) -> Result<()> {
    let histograms = context.with_progress("counting (MiB)", file, |done| {
        bise::inspect::histogram(file, by_tensor, &context.threads, &context.cancel, done)
    })?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    match context.json {
        true => {
            let all: Vec<_> = histograms.iter().map(json).collect();
            let report = json!({ "file": file.name(), "histograms": all });
            writeln!(out, "{}", printable_json(&format!("{report:#}")))?;
        }
        false => {
            for (i, histogram) in histograms.iter().enumerate() {
                if i > 0 {
                    writeln!(out)?;
                }
                print(&mut out, histogram)?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

fn what(histogram: &Histogram) -> &'static str {
    if histogram.tensor_type.block_len() == 1 { "weights" } else { "scales" }
}

fn print(out: &mut impl Write, histogram: &Histogram) -> std::io::Result<()> {
    let tensor = histogram.tensor.as_ref().map(|name| format!("{name}, ")).unwrap_or_default();
    write!(out, "{}{}: {} {}", Printable(tensor), histogram.tensor_type, histogram.n(), what(histogram))?;
    if let Some((least, most)) = histogram.range {
        write!(out, ", magnitudes from {least:.3e} to {most:.3e}")?;
    }
    writeln!(out, ", {} below 0", histogram.negative)?;
    let rows: Vec<(String, u64)> = [("0".to_owned(), histogram.zeros)]
        .into_iter()
        .filter(|(_, n)| *n > 0)
        .chain(histogram.powers.iter().map(|(power, n)| (format!("2^{power}"), *n)))
        .chain([("no number".to_owned(), histogram.not_finite)].into_iter().filter(|(_, n)| *n > 0))
        .collect();
    let most = rows.iter().map(|(_, n)| *n).max().unwrap_or(1);
    for (name, n) in rows {
        let bar = bar(n as f64 / most as f64 * WIDTH as f64);
        let percent = 100.0 * n as f64 / histogram.n() as f64;
        writeln!(out, "{name:>9}  {bar:<WIDTH$} {percent:>6.2}%  {n}")?;
    }
    Ok(())
}

/// A bar of some columns and eighths of one. What is there is seen.
fn bar(columns: f64) -> String {
    const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (columns * 8.0).round().max(1.0) as usize;
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(EIGHTHS[eighths % 8 - 1]);
    }
    bar
}

fn json(histogram: &Histogram) -> serde_json::Value {
    let powers: Vec<_> =
        histogram.powers.iter().map(|(power, n)| json!({ "power_of_two": power, "count": n })).collect();
    json!({
        "tensor": histogram.tensor,
        "type": histogram.tensor_type.name(),
        "of": what(histogram),
        "n": histogram.n(),
        "zeros": histogram.zeros,
        "negative": histogram.negative,
        "not_finite": histogram.not_finite,
        "least": histogram.range.map(|(least, _)| least),
        "most": histogram.range.map(|(_, most)| most),
        "powers": powers,
    })
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn bars_have_eighths() {
        assert_eq!(bar(3.0), "███");
        assert_eq!(bar(1.5), "█▌");
        assert_eq!(bar(0.001), "▏");
    }
}
