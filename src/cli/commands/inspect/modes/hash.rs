//! `--hash` and `--check`: what gguf-hash prints, and whether hashes are still the same.

use std::io::{BufWriter, Write};

use anyhow::{Result, bail, ensure};
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
    if let (Some(manifest), Some(path)) = (&manifest, &args.check) {
        let list = |kinds: &[HashKind]| kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        let (known, unknown): (Vec<_>, Vec<_>) =
            kinds.iter().partition(|kind| manifest.kinds().contains(kind));
        let (path, found) = (Printable(path.display()), list(manifest.kinds()));
        ensure!(
            !known.is_empty(),
            "{path}: found hashes of kind {found}, expected {} (--hash)",
            list(&unknown)
        );
        if !unknown.is_empty() {
            let unknown = list(&unknown);
            context
                .log
                .warn(format_args!("{path}: found hashes of kind {found} only: {unknown} is not checked"));
        }
        kinds = known;
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
    let manifest = manifest.expect("hashes were looked for in it");
    verdict(context, name, &hashes, &found, &manifest.missing(name, &hashes), args.no_layer)
}

/// Errs where a hash is another or missing. The hash of all tensors stands for those of each.
fn verdict(
    context: &Context,
    name: &str,
    hashes: &[TensorHash],
    found: &[Found],
    missing: &[String],
    only_whole: bool,
) -> Result<()> {
    let (n, name) = (hashes.len(), Printable(name));
    let n_other = found.iter().filter(|found| matches!(found, Found::Other(_))).count();
    let n_same = found.iter().filter(|found| **found == Found::Same).count();
    if n_other > 0 {
        let what =
            if n_other == 1 { "1 hash that differs" } else { &format!("{n_other} hashes that differ") };
        bail!("{name}: found {what} from the manifest, expected none");
    }
    if n_same == 0 {
        bail!(
            "{name}: found nothing about it in the manifest, expected its hashes (by this name, and by its path where several files have it)"
        );
    }
    if let (Some(first), false) = (missing.first(), only_whole) {
        let more = if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
        bail!(
            "{name}: the manifest has a hash of tensor '{first}'{more}, expected tensors that the file has"
        );
    }
    let is_whole = |kind| {
        hashes.iter().zip(found).any(|(h, f)| h.kind == kind && h.tensor.is_none() && *f == Found::Same)
    };
    let left_out = hashes.iter().zip(found).find(|(h, f)| **f == Found::Nothing && !is_whole(h.kind));
    let n_checked = format!("{n_same} of {n} hashes checked");
    if let Some((hash, _)) = left_out {
        let what =
            hash.tensor.as_ref().map_or("all tensors".to_owned(), |tensor| format!("tensor '{tensor}'"));
        bail!("{name}: {n_checked}: found no {} of {what} in the manifest, expected one", hash.kind.name());
    }
    if n_same < n {
        context.log.note(format_args!("{name}: {n_checked}, those of all tensors together among them"));
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
