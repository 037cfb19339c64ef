//! `--hash` and `--check`: what gguf-hash prints, and whether hashes are still the same.

use std::io::{BufWriter, Write};

use anyhow::{Result, bail};
use bise::gguf::GgufFile;
use bise::inspect::{Found, HashKind, Manifest, TensorHash};
use bise_models::printable::Printable;
use serde_json::{Map, Value, json};

use super::{Context, ModeArgs};
use crate::cli::term::printable::printable_json;

/// Prints or checks hashes of `file`, which is called `name`.
pub fn run(context: &Context, file: &GgufFile, name: &str, args: &ModeArgs) -> Result<()> {
    let manifest = args.check.as_deref().map(Manifest::open).transpose()?;
    let mut kinds: Vec<HashKind> = args.hash.iter().flat_map(|hash| hash.kinds().iter().copied()).collect();
    if let (true, Some(manifest)) = (kinds.is_empty(), &manifest) {
        // As in gguf-hash.
        kinds.push(manifest.strongest());
    }
    let hashes = context.with_progress("hashing (MiB)", file, |done| {
        bise::inspect::hash(file, &kinds, args.no_layer, &context.threads, &context.cancel, done)
    })?;
    let found: Option<Vec<Found>> =
        manifest.as_ref().map(|manifest| hashes.iter().map(|hash| manifest.find(name, hash)).collect());
    let mut out = BufWriter::new(std::io::stdout().lock());
    match context.json {
        true => {
            let report = json(name, &hashes, found.as_deref());
            writeln!(out, "{}", printable_json(&format!("{report:#}")))?;
        }
        false => print(&mut out, name, &hashes, found.as_deref())?,
    }
    out.flush()?;
    let Some(found) = found else { return Ok(()) };
    let n_other = found.iter().filter(|found| matches!(found, Found::Other(_))).count();
    if n_other > 0 {
        bail!("{}: found {n_other} hashes that differ from the manifest, expected none", Printable(name));
    }
    if !found.contains(&Found::Same) {
        bail!(
            "{}: found nothing about it in the manifest, expected its hashes (by this name)",
            Printable(name)
        );
    }
    Ok(())
}

fn print(
    out: &mut impl Write,
    name: &str,
    hashes: &[TensorHash],
    found: Option<&[Found]>,
) -> std::io::Result<()> {
    for (i, hash) in hashes.iter().enumerate() {
        let tensor = hash.tensor.as_ref().map(|tensor| format!(":{tensor}")).unwrap_or_default();
        write!(out, "{:<8}  {}  {}", hash.kind.name(), hash.text, Printable(format!("{name}{tensor}")))?;
        match found.map(|found| &found[i]) {
            None => writeln!(out)?,
            Some(Found::Same) => writeln!(out, "  -  Ok")?,
            Some(Found::Other(_)) => writeln!(out, "  -  Mismatch")?,
            Some(Found::Nothing) => writeln!(out, "  -  Not Found")?,
        }
    }
    Ok(())
}

fn json(name: &str, hashes: &[TensorHash], found: Option<&[Found]>) -> Value {
    let (mut whole, mut tensors) = (Map::new(), Map::new());
    let mut differ = Vec::new();
    for (i, hash) in hashes.iter().enumerate() {
        let kind = hash.kind.name();
        match &hash.tensor {
            None => _ = whole.insert(kind.to_owned(), json!(hash.text)),
            Some(tensor) => {
                let of_tensor = tensors.entry(tensor.clone()).or_insert_with(|| json!({}));
                of_tensor[kind] = json!(hash.text);
            }
        }
        match found.map(|found| &found[i]) {
            None | Some(Found::Same) => {}
            Some(Found::Other(expected)) => differ.push(
                json!({ "tensor": hash.tensor, "kind": kind, "found": hash.text, "expected": expected }),
            ),
            Some(Found::Nothing) => {
                differ.push(
                    json!({ "tensor": hash.tensor, "kind": kind, "found": hash.text, "expected": null }),
                );
            }
        }
    }
    let mut report = json!({ "file": name, "hashes": whole, "tensors": tensors });
    if found.is_some() {
        report["not_as_in_manifest"] = json!(differ);
    }
    report
}
