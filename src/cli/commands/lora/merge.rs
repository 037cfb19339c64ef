//! `bise lora merge`: like llama.cpp's `llama-export-lora`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use bise::adapter::{AdapterFile, Merge};
use bise::gguf::GgufFile;
use bise::quantize::{FileType, Plan, QuantizeOptions};
use bise::{MistralConfig, Threads};
use bise_models::printable::Printable;

use crate::cli::args::adapter::AdapterArgs;
use crate::cli::args::log::LogArgs;
use crate::cli::args::tensor_types::TensorTypesArgs;
use crate::cli::term::signals;
use crate::cli::usage::wrong;
use crate::cli::{describe, plan};

/// What to merge, and where.
#[derive(clap::Args, Debug)]
pub struct MergeArgs {
    /// GGUF file of the base model
    #[arg(short, long, value_name = "FILE", env = "LLAMA_ARG_MODEL")]
    model: PathBuf,

    #[command(flatten)]
    adapters: AdapterArgs,

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
    let adapters = args.adapters.all();
    if adapters.is_empty() {
        return Err(wrong("expected adapters to merge: --lora FILE or --lora-scaled FILE:SCALE"));
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
    plan::write("merging (MiB)", &plan, &merged, &args.output, &threads, args.force, log)?;
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
