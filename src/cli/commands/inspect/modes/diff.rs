//! `--diff`: two files side by side.

use std::io::{BufWriter, Write};

use anyhow::Result;
use bise::gguf::{GgufFile, TensorType, Value};
use bise::inspect::{Difference, TensorDifference};
use bise_models::printable::Printable;
use serde_json::json;

use super::super::{as_json, shown};
use super::Context;
use crate::cli::term::printable::printable_json;

/// Compares `first` with `second`. Like diff(1), it fails where they differ.
pub fn run(context: &Context, first: &GgufFile, second: &GgufFile) -> Result<()> {
    let difference = context.with_progress("comparing (MiB)", first, |done| {
        bise::inspect::difference(first, second, &context.threads, &context.cancel, done)
    })?;
    second.check_unchanged()?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    match context.json {
        true => {
            let report = json(first, second, &difference);
            writeln!(out, "{}", printable_json(&format!("{report:#}")))?;
        }
        false => print(&mut out, &difference)?,
    }
    out.flush()?;
    if difference.is_none() {
        return Ok(());
    }
    anyhow::bail!(
        "{} and {}: found {} keys and {} tensors that differ, expected none",
        Printable(first.name()),
        Printable(second.name()),
        difference.keys.len(),
        difference.tensors.len()
    )
}

fn print(out: &mut impl Write, difference: &Difference) -> std::io::Result<()> {
    let value = |value: &Option<Value>| value.as_ref().map_or("none".to_owned(), shown);
    for key in &difference.keys {
        let name = Printable(&key.key);
        writeln!(out, "{name}: {} → {}", Printable(value(&key.first)), Printable(value(&key.second)))?;
    }
    let about = |about: &Option<(TensorType, Vec<usize>)>| match about {
        None => "none".to_owned(),
        Some((kind, shape)) => {
            let shape: Vec<_> = shape.iter().map(ToString::to_string).collect();
            format!("{kind} [{}]", shape.join(", "))
        }
    };
    if !difference.keys.is_empty() && !difference.tensors.is_empty() {
        writeln!(out)?;
    }
    for tensor in &difference.tensors {
        let name = Printable(&tensor.name).to_string();
        let types = match (&tensor.first, &tensor.second) {
            (Some(a), Some(b)) if a.1 == b.1 && a.0 != b.0 => format!("{} → {}", a.0, b.0),
            (a, b) if a == b => a.as_ref().map_or(String::new(), |(kind, _)| kind.to_string()),
            (a, b) => format!("{} → {}", about(a), about(b)),
        };
        write!(out, "{name:<36} {types:<16}")?;
        match tensor.error {
            Some(error) => writeln!(
                out,
                " max {:.3e} at {}, rms {:.3e} ({:.3}%), {} weights",
                error.max,
                error.max_at,
                error.rms,
                100.0 * error.relative,
                error.n_different
            )?,
            None if has_one_shape(tensor) => writeln!(out, " weights of a type that is not known here")?,
            None => writeln!(out)?,
        }
    }
    match difference.is_none() {
        true => writeln!(out, "the same: {} tensors and all keys", difference.n_same),
        false => writeln!(
            out,
            "\n{} keys and {} tensors differ, {} tensors are the same",
            difference.keys.len(),
            difference.tensors.len(),
            difference.n_same
        ),
    }
}

fn has_one_shape(tensor: &TensorDifference) -> bool {
    matches!((&tensor.first, &tensor.second), (Some(a), Some(b)) if a.1 == b.1)
}

fn json(first: &GgufFile, second: &GgufFile, difference: &Difference) -> serde_json::Value {
    let keys: Vec<_> = difference
        .keys
        .iter()
        .map(|key| {
            let value = |value: &Option<Value>| value.as_ref().map(as_json);
            json!({ "key": key.key, "first": value(&key.first), "second": value(&key.second) })
        })
        .collect();
    let about = |about: &Option<(TensorType, Vec<usize>)>| {
        about.as_ref().map(|(kind, shape)| json!({ "type": kind.name(), "shape": shape }))
    };
    let tensors: Vec<_> = difference
        .tensors
        .iter()
        .map(|tensor| {
            let error = tensor.error.map(|error| {
                json!({
                    "max": error.max,
                    "max_at": error.max_at,
                    "rms": error.rms,
                    "relative_rms": error.relative,
                    "n_different": error.n_different,
                })
            });
            json!({ "name": tensor.name, "first": about(&tensor.first), "second": about(&tensor.second), "error": error })
        })
        .collect();
    json!({
        "first": first.name(),
        "second": second.name(),
        "equal": difference.is_none(),
        "keys": keys,
        "tensors": tensors,
        "n_same_tensors": difference.n_same,
    })
}
