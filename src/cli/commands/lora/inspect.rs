//! `bise lora inspect`: rank, scale and modules of an adapter.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use bise::adapter::{AdapterFile, AdapterSummary, PartSummary, base_config};
use bise_models::printable::Printable;
use serde_json::{Value, json};

use crate::cli::args::log::LogArgs;
use crate::cli::describe;
use crate::cli::term::printable::printable_json;
use crate::cli::term::signals;

/// What to inspect.
#[derive(clap::Args, Debug)]
pub struct InspectArgs {
    /// GGUF file or PEFT folder of an adapter
    #[arg(value_name = "ADAPTER")]
    path: PathBuf,

    /// Model that it should fit: a GGUF file, or a folder with config.json
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Print everything as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pub log: LogArgs,
}

/// Runs the command.
///
/// # Errors
/// An adapter that is damaged, not supported, or does not fit the model.
pub fn run(args: InspectArgs) -> Result<()> {
    let log = args.log.log();
    signals::guard_mapped_file(&args.path);
    let summary = AdapterSummary::of(&args.path)?;
    let fits = args.model.as_ref().map(|model| -> Result<()> {
        let base = base_config(model)?;
        AdapterFile::open(&args.path, &base)?;
        Ok(())
    });
    summary.notes.iter().for_each(|note| log.warn(note));
    if args.json {
        let mut described = described(&summary);
        if let Some(fits) = &fits {
            described["fits"] = Value::from(fits.is_ok());
        }
        println!("{}", printable_json(&format!("{described:#}")));
    } else {
        print(&args, &summary, fits.as_ref().is_some_and(Result::is_ok))?;
    }
    fits.unwrap_or(Ok(()))
}

fn described(summary: &AdapterSummary) -> Value {
    let part = |part: &PartSummary| {
        json!({
            "name": part.name,
            "rank": part.rank,
            "alpha": f64::from(part.scale) * part.rank as f64,
            "scale": part.scale,
            "shape": [part.n_rows, part.k],
            "types": part.types,
            "n_parameters": part.n_parameters,
            "n_bytes": part.n_bytes
        })
    };
    json!({
        "format": summary.format,
        "architecture": summary.architecture,
        "name": summary.name,
        "base_model": summary.base_model,
        "rank": summary.rank,
        "alpha": summary.alpha,
        "use_rslora": summary.use_rslora,
        "n_parameters": summary.n_parameters(),
        "n_bytes": summary.n_bytes(),
        "files": summary.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        "notes": summary.notes,
        "parts": summary.parts.iter().map(part).collect::<Vec<_>>()
    })
}

fn print(args: &InspectArgs, summary: &AdapterSummary, fits: bool) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let kind = if summary.format == "peft" { "PEFT folder" } else { "GGUF file" };
    writeln!(out, "{}: LoRA adapter, {kind}", Printable(args.path.display()))?;
    let mut line = |name: &str, value: String| writeln!(out, "{name:<12} {}", Printable(value));
    if let Some(name) = &summary.name {
        line("name", name.clone())?;
    }
    if let Some(model) = &summary.base_model {
        line("base model", model.clone())?;
    }
    if let Some(arch) = &summary.architecture {
        line("architecture", arch.clone())?;
    }
    if let Some(rank) = summary.rank {
        line("rank", rank.to_string())?;
    }
    let how = match (summary.format, summary.alpha) {
        ("gguf", 0.0) => " (as much as the rank)",
        _ if summary.use_rslora => " over the root of the rank (rslora)",
        _ => "",
    };
    line("alpha", format!("{}{how}", summary.alpha))?;
    let (n, n_bytes) = (summary.n_parameters(), describe::bytes(summary.n_bytes()));
    line("parameters", format!("{n} in {} parts, {n_bytes}", summary.parts.len()))?;
    if let Some(model) = args.model.as_ref().filter(|_| fits) {
        line("fits", model.display().to_string())?;
    }
    out.flush()?;
    drop(out);
    print_parts(summary)
}

/// What parts of several layers have in common: module, rank, bits of the scale, shape, types.
type Kind = (String, usize, u32, [usize; 2], [&'static str; 2]);

/// A line for each kind of parts, with the layers that have it.
pub(super) fn print_parts(summary: &AdapterSummary) -> Result<()> {
    let mut kinds: BTreeMap<Kind, Vec<usize>> = BTreeMap::new();
    for part in &summary.parts {
        let (name, layer) = without_layer(&part.name);
        let kind = (name, part.rank, part.scale.to_bits(), [part.n_rows, part.k], part.types);
        kinds.entry(kind).or_default().extend(layer);
    }
    let width = kinds.keys().map(|(name, ..)| name.chars().count()).max().unwrap_or(0).max(6);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    writeln!(
        out,
        "{:<width$}  {:>5}  {:>9}  {:>9}  {:<15} {:<11} layers",
        "module", "rank", "alpha", "scale", "rows × columns", "types"
    )?;
    for ((name, rank, scale, [n_rows, k], types), layers) in &kinds {
        let scale = f32::from_bits(*scale);
        let alpha = (f64::from(scale) * *rank as f64) as f32;
        writeln!(
            out,
            "{:<width$}  {rank:>5}  {alpha:>9}  {scale:>9}  {:<15} {:<11} {}",
            Printable(name).to_string(),
            format!("{n_rows} × {k}"),
            if types[0] == types[1] { types[0].to_owned() } else { types.join(", ") },
            ranges(layers)
        )?;
    }
    out.flush().context("standard output")
}

/// A module's name with N for the number of its layer, and that.
fn without_layer(name: &str) -> (String, Option<usize>) {
    let mut layer = None;
    let words = name.split('.').map(|word| match word.parse::<usize>() {
        Ok(n) if layer.is_none() => {
            layer = Some(n);
            "N"
        }
        _ => word,
    });
    let name = words.collect::<Vec<_>>().join(".");
    (name, layer)
}

/// Numbers in rising order, as in `0-3, 7`.
fn ranges(layers: &[usize]) -> String {
    let mut layers = layers.to_vec();
    layers.sort_unstable();
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for layer in layers {
        match ranges.last_mut() {
            Some((_, last)) if *last == layer || *last + 1 == layer => *last = layer,
            _ => ranges.push((layer, layer)),
        }
    }
    let shown = |(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_in_ranges() {
        assert_eq!(ranges(&[3, 0, 1, 2, 7]), "0-3, 7");
        assert_eq!(ranges(&[]), "");
        assert_eq!(without_layer("blk.12.attn_q.weight"), ("blk.N.attn_q.weight".into(), Some(12)));
        assert_eq!(without_layer("lm_head"), ("lm_head".into(), None));
        let expert = "model.layers.3.block_sparse_moe.experts.7.w1";
        assert_eq!(without_layer(expert), ("model.layers.N.block_sparse_moe.experts.7.w1".into(), Some(3)));
    }
}
