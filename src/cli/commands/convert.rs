//! `bise convert`: a checkpoint of Hugging Face or Mistral as a GGUF file, like llama.cpp's `convert_hf_to_gguf.py`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use bise::convert::{Checkpoint, Conversion, ConvertError, ConvertOptions, Lossless, OutType};
use bise::imatrix::Imatrix;
use bise::quantize::{FileType, Importance, Plan, QuantizeError};
use bise::{Cancel, Threads};
use bise_kernels::Format;

use crate::cli::args::log::LogArgs;
use crate::cli::args::tensor_types::TensorTypesArgs;
use crate::cli::describe;
use crate::cli::term::signals;
use crate::cli::usage::wrong;
use bise_models::printable::Printable;

/// What to convert, and to what.
#[derive(clap::Args, Debug)]
pub struct ConvertArgs {
    /// Folder with config.json or params.json, safetensors and a tokenizer
    #[arg(value_name = "FOLDER")]
    source: PathBuf,

    /// New file, or the folder for it; {ftype} in its name stands for the type (default: FOLDER-TYPE.gguf beside FOLDER; for a snapshot in the cache of Hugging Face, REPOSITORY-TYPE.gguf here)
    #[arg(short, long, alias = "outfile", value_name = "FILE")]
    output: Option<PathBuf>,

    /// Types: auto, f32, f16, bf16, q8_0, q4_k_m or another that `bise quantize` knows; auto is the 16-bit type of the weights
    #[arg(long, value_name = "TYPE", default_value = "auto", value_parser = out_type)]
    outtype: OutType,

    /// Keep what AWQ, GPTQ or compressed-tensors has quantized bit for bit, in q4_0, q5_0 or q8_0; =q4_1 takes 5 bits and rounds mins to halves; --outtype is for the rest (auto keeps it where it can)
    #[arg(long, value_name = "TYPE", num_args = 0..=1, require_equals = true, default_missing_value = "smallest", value_parser = lossless)]
    lossless: Option<Lossless>,

    /// Take params.json and consolidated*.safetensors where config.json is there, too
    #[arg(long)]
    mistral_format: bool,

    /// Name of the model (default: that of the folder)
    #[arg(long, value_name = "NAME")]
    model_name: Option<String>,

    /// Importance matrix of this model, from `bise imatrix` or llama-imatrix
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,

    #[command(flatten)]
    types: TensorTypesArgs,

    /// Write the metadata and the vocabulary, and no tensors
    #[arg(long)]
    vocab_only: bool,

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

fn out_type(name: &str) -> Result<OutType, String> {
    OutType::from_name(name).ok_or_else(|| {
        let names = FileType::ALL.iter().filter(|t| **t != FileType::Copy).map(|t| t.name().to_lowercase());
        let names: Vec<_> = std::iter::once("auto".to_owned()).chain(names).collect();
        format!("found '{name}', expected one of {}", names.join(", "))
    })
}

fn lossless(name: &str) -> Result<Lossless, String> {
    let named = |format: &Format| format.to_string().eq_ignore_ascii_case(name);
    match Lossless::FORMATS.iter().find(|format| named(format)) {
        Some(format) => Ok(Lossless::In(*format)),
        None if name == "smallest" => Ok(Lossless::Smallest),
        None => {
            let names = Lossless::FORMATS.map(|format| format.to_string().to_lowercase());
            Err(format!("found '{name}', expected one of {}", names.join(", ")))
        }
    }
}

/// Notes that are shown of a conversion.
const MAX_NOTES: usize = 6;

/// Runs the command.
///
/// # Errors
/// A checkpoint that is damaged or cannot be converted, and a file that cannot be written.
pub fn run(args: ConvertArgs) -> Result<()> {
    let log = args.log.log();
    let mut options = ConvertOptions::default();
    options.out_type = args.outtype;
    options.lossless = args.lossless;
    options.mistral_format = args.mistral_format;
    options.model_name.clone_from(&args.model_name);
    options.force = args.force;
    options.vocab_only = args.vocab_only;
    args.types.set(&mut options.quantize);
    if let Some(path) = &args.imatrix {
        options.quantize.importance = Some(Importance::of(&Imatrix::open(path)?, &path.to_string_lossy()));
    }
    signals::guard_mapped_file(&args.source);
    let checkpoint = Checkpoint::open(&args.source, args.mistral_format)?;
    let conversion = Conversion::new(&checkpoint, &options)?;
    let file_type = conversion.file_type(args.outtype);
    if args.dry_run {
        let plan = conversion.plan(&options)?;
        conversion.notes.iter().chain(&plan.notes).for_each(|note| log.warn(note));
        return print_plan(&plan, file_type);
    }
    args.output_path(file_type)?;
    // The type may change while it is written; what can be wrong with the name was.
    let path_of = |file_type| args.output_path(file_type).unwrap_or_default();
    let start = Instant::now();
    let mut builder = Threads::builder();
    if let Some(n) = args.threads.filter(|n| *n > 0) {
        builder = builder.n(n);
    }
    let threads = builder.build()?;
    const STEP: u64 = 1 << 20;
    let progress = log.progress("converting (MiB)", 0);
    let cancel = Cancel::new();
    let _writing = signals::writing(cancel.clone());
    let converted = conversion.write_as(&path_of, &options, &threads, &cancel, &mut |done, all| {
        progress.set_len((all / STEP) as usize);
        progress.set((done / STEP) as usize);
    });
    drop(progress);
    let converted = converted.map_err(|error| match error {
        ConvertError::Write(QuantizeError::Cancelled) => {
            anyhow::Error::from(bise::Error::from(bise::ForwardError::Cancelled))
        }
        error => error.into(),
    })?;
    let (shown, more) = converted.notes.split_at(converted.notes.len().min(MAX_NOTES));
    shown.iter().for_each(|note| log.warn(note));
    if !more.is_empty() {
        log.warn(format_args!("and {} more notes, which --dry-run shows", more.len()));
    }
    let names: Vec<_> = converted.paths.iter().map(|path| Printable(path.display()).to_string()).collect();
    log.note(format_args!(
        "{}: {} ({}, {:.2} bits a weight) in {:.1} s",
        names.join(", "),
        describe::bytes(converted.plan.n_bytes()),
        converted.file_type,
        converted.plan.bits_a_weight(),
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}

impl ConvertArgs {
    /// The new file.
    fn output_path(&self, file_type: FileType) -> Result<PathBuf> {
        let lower = file_type.name().to_lowercase();
        let named = || {
            if let Some(repository) = bise::convert::repository_of(&self.source) {
                // What is beside a snapshot is the cache's own.
                return Ok(PathBuf::from(format!("{repository}-{lower}.gguf")));
            }
            let folder = self.source.canonicalize().unwrap_or_else(|_| self.source.clone());
            let name = folder.file_name().map(|name| format!("{}-{lower}.gguf", name.to_string_lossy()));
            name.map(|name| folder.with_file_name(name))
                .ok_or_else(|| wrong("expected the new file: -o FILE"))
        };
        let Some(output) = &self.output else { return named() };
        if output.is_dir() {
            return Ok(output.join(named()?.file_name().unwrap_or_default()));
        }
        let Some(name) = output.file_name().and_then(|name| name.to_str()) else { return Ok(output.clone()) };
        let upper = file_type.name();
        let filled = [("{ftype}", &*lower), ("{outtype}", &lower), ("{FTYPE}", upper), ("{OUTTYPE}", upper)]
            .iter()
            .fold(name.to_owned(), |name, (hole, filling)| name.replace(hole, filling));
        Ok(output.with_file_name(filled))
    }
}

fn print_plan(plan: &Plan, file_type: FileType) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for tensor in &plan.tensors {
        let sizes: Vec<_> = tensor.source.shape.iter().map(ToString::to_string).collect();
        writeln!(
            out,
            "{:<36} {:>16} {:>6} → {:<6} {:>10.3} MiB",
            Printable(&tensor.name).to_string(),
            sizes.join(" × "),
            tensor.source.tensor_type.name(),
            tensor.tensor_type.name(),
            tensor.n_bytes() as f64 / f64::from(1 << 20)
        )?;
    }
    let n_bytes = describe::bytes(plan.n_bytes());
    writeln!(out, "{file_type}: {n_bytes}, {:.2} bits a weight", plan.bits_a_weight())?;
    out.flush()?;
    Ok(())
}
