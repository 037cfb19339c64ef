//! `--verify`: every block is looked at.

use std::io::{BufWriter, Write};

use anyhow::{Result, bail};
use bise::gguf::GgufFile;
use bise::inspect::{Fault, Verified};
use bise_models::printable::Printable;
use serde_json::json;

use super::Context;
use crate::cli::describe;
use crate::cli::term::printable::printable_json;

/// Walks through `file`.
pub fn run(context: &Context, file: &GgufFile) -> Result<()> {
    let verified = context.with_progress("verifying (MiB)", file, |done| {
        bise::inspect::verify(file, &context.threads, &context.cancel, done)
    })?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    match context.json {
        true => {
            let faults = |faults: &[Fault]| -> Vec<_> {
                faults.iter().map(|fault| json!({ "tensor": fault.tensor, "what": fault.what })).collect()
            };
            let report = json!({
                "file": file.name(),
                "sound": verified.faults.is_empty(),
                "faults": faults(&verified.faults),
                "not_certain": faults(&verified.not_certain),
                "not_checked": faults(&verified.not_checked),
                "n_tensors": verified.n_tensors,
                "n_bytes": verified.n_bytes,
            });
            writeln!(out, "{}", printable_json(&format!("{report:#}")))?;
        }
        false => print(&mut out, file, &verified)?,
    }
    out.flush()?;
    match verified.faults.len() {
        0 => Ok(()),
        n => bail!("{}: found {}, expected none", Printable(file.name()), count(n)),
    }
}

fn print(out: &mut impl Write, file: &GgufFile, verified: &Verified) -> std::io::Result<()> {
    let lists = [
        (&verified.faults, ""),
        (&verified.not_certain, "not certain: "),
        (&verified.not_checked, "not checked: "),
    ];
    for (faults, what) in lists {
        for fault in faults {
            let tensor = fault.tensor.as_ref().map(|name| format!("tensor '{name}': ")).unwrap_or_default();
            writeln!(out, "{}", Printable(format!("{what}{tensor}{}", fault.what)))?;
        }
    }
    let verdict = match verified.faults.len() {
        0 => "sound".to_owned(),
        n => count(n),
    };
    writeln!(
        out,
        "{}: {} tensors, {}: {verdict}",
        Printable(file.name()),
        verified.n_tensors,
        describe::bytes(verified.n_bytes)
    )
}

fn count(n: usize) -> String {
    if n == 1 { "1 fault".to_owned() } else { format!("{n} faults") }
}
