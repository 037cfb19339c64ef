//! `bise lora merge`: like llama.cpp's `llama-export-lora`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use bise::adapter::{AdapterFile, Merge, Merged};
use bise::gguf::GgufFile;
use bise::quantize::{FileType, Plan, QuantizeError, QuantizeOptions};
use bise::{Cancel, MistralConfig, Threads};
use bise_models::printable::Printable;

use crate::cli::args::log::LogArgs;
use crate::cli::args::tensor_types::TensorTypesArgs;
use crate::cli::describe;
use crate::cli::term::console::Log;
use crate::cli::term::signals;
use crate::cli::usage::wrong;

/// What to merge, and where.
#[derive(clap::Args, Debug)]
pub struct MergeArgs {
    /// GGUF file of the base model
    #[arg(short, long, value_name = "FILE", env = "LLAMA_ARG_MODEL")]
    model: PathBuf,

    /// GGUF files or PEFT folders of adapters, separated by commas; may be repeated
    #[arg(long, value_name = "ADAPTER,…", value_delimiter = ',')]
    lora: Vec<PathBuf>,

    /// The same, each multiplied by a number, as in style.gguf:0.5; may be repeated
    #[arg(long, value_name = "ADAPTER:SCALE,…", value_delimiter = ',', value_parser = scaled)]
    lora_scaled: Vec<(PathBuf, f32)>,

    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Types of the new file, as `bise quantize` knows them (default: those of the base model, tensor by tensor)
    #[arg(value_name = "TYPE", value_parser = file_type)]
    file_type: Option<FileType>,

    #[command(flatten)]
    types: TensorTypesArgs,

    /// With TYPE, quantize tensors that are quantized already, too, at a loss of quality
    #[arg(long)]
    allow_requantize: bool,

    /// Print what would become of each tensor, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// Overwrite the file
    #[arg(long)]
    force: bool,

    /// Number of threads (default: all)
    #[arg(short, long, value_name = "N")]
    threads: Option<usize>,

    #[command(flatten)]
    pub log: LogArgs,
}

fn scaled(text: &str) -> Result<(PathBuf, f32), String> {
    let parsed = text.rsplit_once(':').and_then(|(path, scale)| {
        let scale: f32 = scale.parse().ok()?;
        (!path.is_empty() && scale.is_finite()).then(|| (PathBuf::from(path), scale))
    });
    parsed.ok_or_else(|| format!("found '{text}', expected ADAPTER:SCALE, as in style.gguf:0.5"))
}

fn file_type(name: &str) -> Result<FileType, String> {
    FileType::from_name(name).ok_or_else(|| {
        let names: Vec<_> = FileType::ALL.iter().map(|t| t.name()).collect();
        format!("found '{name}', expected one of {}", names.join(", "))
    })
}

/// Runs the command.
///
/// # Errors
/// Adapters that are damaged, not supported or for another model; weights that do not fit their type; a file that cannot be written.
pub fn run(args: MergeArgs) -> Result<()> {
    let log = args.log.log();
    let adapters = args
        .lora
        .iter()
        .map(|path| (path, 1.0))
        .chain(args.lora_scaled.iter().map(|(path, scale)| (path, *scale)));
    let adapters: Vec<(&PathBuf, f32)> = adapters.collect();
    if adapters.is_empty() {
        return Err(wrong("expected adapters to merge: --lora ADAPTER or --lora-scaled ADAPTER:SCALE"));
    }
    signals::guard_mapped_file(&args.model);
    let file = GgufFile::open(&args.model)?;
    file.warnings().iter().for_each(|warning| log.warn(warning));
    let base = MistralConfig::from_metadata(file.metadata())?;
    let mut merge = Merge::default();
    for (path, scale) in &adapters {
        let read = AdapterFile::open(path, &base)?;
        read.notes.iter().for_each(|note| log.warn(note));
        if *scale == 0.0 {
            log.warn(format_args!("{}: its scale is 0: nothing of it is added", Printable(path.display())));
        }
        merge.add(read.parts, *scale, read.paths);
    }
    let merged = merge.into_model(&file)?;
    let mut options = QuantizeOptions::new(FileType::Copy);
    args.types.set(&mut options);
    options.allow_requantize = args.allow_requantize;
    let plan = merged.plan(args.file_type, &options)?;
    merged.notes.iter().chain(&plan.notes).for_each(|note| log.warn(note));
    if args.dry_run {
        return print_plan(&plan);
    }
    plan.check_destination(&merged, &args.output, args.force)?;
    let start = Instant::now();
    let mut builder = Threads::builder();
    if let Some(n) = args.threads.filter(|n| *n > 0) {
        builder = builder.n(n);
    }
    let threads = builder.build()?;
    write(&plan, &merged, &args.output, &threads, args.force, log)?;
    log.note(format_args!(
        "{}: {} of {} tensors changed by {} {}, {} in {:.1} s",
        Printable(args.output.display()),
        merged.n_merged(),
        plan.tensors.len(),
        adapters.len(),
        if adapters.len() == 1 { "adapter" } else { "adapters" },
        describe::bytes(plan.n_bytes()),
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn write(
    plan: &Plan,
    merged: &Merged<'_>,
    path: &Path,
    threads: &Threads,
    force: bool,
    log: Log,
) -> Result<()> {
    const STEP: u64 = 1 << 20;
    let progress = log.progress("merging (MiB)", (plan.source_bytes() / STEP) as usize);
    let cancel = Cancel::new();
    let _writing = signals::writing(cancel.clone());
    let written =
        plan.write(merged, path, threads, &cancel, force, &mut |done| progress.set((done / STEP) as usize));
    written.map_err(|error| match error {
        QuantizeError::Cancelled => signals::Interrupted("nothing was written".into()).into(),
        error => anyhow::Error::from(error),
    })
}

fn print_plan(plan: &Plan) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for tensor in &plan.tensors {
        let sizes: Vec<_> = tensor.source.shape.iter().map(ToString::to_string).collect();
        writeln!(
            out,
            "{:<36} {:>16} {:<6} {:>10.3} MiB",
            Printable(&tensor.name).to_string(),
            sizes.join(" × "),
            tensor.tensor_type.name(),
            tensor.n_bytes() as f64 / f64::from(1 << 20)
        )?;
    }
    writeln!(out, "{}", describe::bytes(plan.n_bytes()))?;
    out.flush().context("standard output")
}
