//! `bise quantize`: fewer bits for each weight, like llama-quantize.

mod calibrate;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use bise::Threads;
use bise::gguf::GgufFile;
use bise::imatrix::Imatrix;
use bise::quantize::{FileType, Importance, Plan, QuantizeOptions};

use calibrate::CalibrateArgs;

use crate::cli::args::log::LogArgs;
use crate::cli::args::tensor_types::{TensorTypesArgs, named_type};
use crate::cli::overwrite::refuse_sources;
use crate::cli::term::signals;
use crate::cli::usage::wrong;
use crate::cli::{describe, plan};
use bise_models::printable::Printable;

/// What to quantize, and how.
#[derive(clap::Args, Debug)]
pub struct QuantizeArgs {
    /// Source, new file (default: ggml-model-TYPE.gguf beside the source), type, and number of threads (default: all)
    #[arg(value_names = ["IN.gguf", "OUT.gguf", "TYPE", "THREADS"], num_args = 2..=4, required = true)]
    what: Vec<OsString>,

    /// Importance matrix, from `bise imatrix` or llama-imatrix
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,

    /// Use the importance matrix for tensors with NAME in their name only; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with = "exclude_weights", requires = "imatrix")]
    include_weights: Vec<String>,

    /// Do not use the importance matrix for tensors with NAME in their name; may be repeated
    #[arg(long, value_name = "NAME", requires = "imatrix")]
    exclude_weights: Vec<String>,

    #[command(flatten)]
    calibrate: CalibrateArgs,

    #[command(flatten)]
    types: TensorTypesArgs,

    /// Quantize tensors that are quantized already, too, at a loss of quality
    #[arg(long)]
    allow_requantize: bool,

    /// Leave output.weight as it is
    #[arg(long)]
    leave_output_tensor: bool,

    /// File with more of --tensor-type, separated by spaces or newlines
    #[arg(long, value_name = "FILE")]
    tensor_type_file: Option<PathBuf>,

    /// Leave out these layers, as in 20,21
    #[arg(long, value_name = "N,N…", value_delimiter = ',')]
    prune_layers: Vec<usize>,

    /// Write as many files as the source has
    #[arg(long)]
    keep_split: bool,

    /// Print what would become of each tensor, and the size, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// Overwrite files
    #[arg(long)]
    force: bool,

    /// Accepted without effect: tensors are read and written some rows at a time, so there is no large buffer to limit
    #[arg(long, value_name = "MIB", hide = true)]
    max_buffer_size: Option<u64>,

    #[command(flatten)]
    pub log: LogArgs,
}

/// Source, destination, type and threads, as llama-quantize takes them.
struct What {
    source: PathBuf,
    destination: PathBuf,
    file_type: FileType,
    /// The type as the user knows it.
    name: &'static str,
    n_threads: Option<usize>,
}

/// Every matrix Q4_K, calibrated.
const CALIBRATED: &str = "Q4_K_C";

/// The type of that name, and how it is spelled.
fn named_file_type(arg: &OsString) -> Option<(FileType, &'static str)> {
    let arg = arg.to_str()?;
    match arg.eq_ignore_ascii_case(CALIBRATED) {
        true => Some((FileType::Q4_K_S, CALIBRATED)),
        false => FileType::from_name(arg).map(|file_type| (file_type, file_type.name())),
    }
}

impl What {
    fn of(args: &[OsString]) -> Result<What> {
        let (source, second) = (PathBuf::from(&args[0]), &args[1]);
        // The destination may be left out.
        let (destination, (file_type, name), rest) = match (named_file_type(second), args.get(2)) {
            (Some(named), _) => {
                (source.with_file_name(format!("ggml-model-{}.gguf", named.1)), named, &args[2..])
            }
            (None, Some(third)) => match named_file_type(third) {
                Some(file_type) => (PathBuf::from(second), file_type, &args[3..]),
                None => return Err(unknown_type(third)),
            },
            (None, None) => return Err(unknown_type(second)),
        };
        let n_threads = match rest {
            [] => None,
            [n] => match n.to_str().and_then(|n| n.parse().ok()) {
                Some(n) => Some(n).filter(|n| *n > 0),
                None => {
                    let n = Printable(n.to_string_lossy());
                    return Err(wrong(format_args!("THREADS: found '{n}', expected a number, 0 for all")));
                }
            },
            [_, more @ ..] => {
                let more = Printable(more[0].to_string_lossy());
                return Err(wrong(format_args!(
                    "found '{more}' behind the number of threads, expected nothing"
                )));
            }
        };
        Ok(What { source, destination, file_type, name, n_threads })
    }
}

fn unknown_type(name: &OsString) -> anyhow::Error {
    let names: Vec<_> = FileType::ALL.iter().map(|t| t.name()).chain([CALIBRATED]).collect();
    let name = Printable(name.to_string_lossy());
    wrong(format_args!("TYPE: found '{name}', expected one of {}", names.join(", ")))
}

impl QuantizeArgs {
    fn options(&self, file_type: FileType) -> Result<QuantizeOptions> {
        let mut options = QuantizeOptions::new(file_type);
        self.types.set(&mut options);
        options.allow_requantize = self.allow_requantize;
        options.leave_output_tensor = self.leave_output_tensor;
        if let Some(path) = &self.tensor_type_file {
            let types = crate::cli::text::from_file(path)?;
            for word in types.split_whitespace() {
                let named = named_type(word)
                    .map_err(|e| wrong(format_args!("{}: {e}", Printable(path.display()))))?;
                options.tensor_types.push(named);
            }
        }
        options.prune_layers.clone_from(&self.prune_layers);
        options.keep_split = self.keep_split;
        options.is_calibrated = self.calibrate.calibrate.is_some();
        if let Some(path) = &self.imatrix {
            let mut importance = Importance::of(&Imatrix::open(path)?, &path.to_string_lossy());
            let (include, exclude) = (&self.include_weights, &self.exclude_weights);
            importance.retain(|name| {
                (include.is_empty() || include.iter().any(|part| name.contains(part)))
                    && !exclude.iter().any(|part| name.contains(part))
            });
            options.importance = Some(importance).filter(|importance| !importance.columns.is_empty());
        }
        Ok(options)
    }
}

/// Runs the command.
///
/// # Errors
/// A file that cannot be read or written, or tensors that cannot become what was asked for.
pub fn run(args: QuantizeArgs) -> Result<()> {
    let log = args.log.log();
    let what = What::of(&args.what)?;
    let mut options = args.options(what.file_type)?;
    if what.name == CALIBRATED {
        if !options.is_calibrated {
            return Err(wrong(format_args!(
                "{CALIBRATED} is calibrated: expected a text, as --calibrate FILE"
            )));
        }
        options.pure = true;
    }
    if args.imatrix.is_some() && options.importance.is_none() {
        log.warn("no tensor is left that the importance matrix is used for");
    }
    let given = [&args.imatrix, &args.tensor_type_file, &args.calibrate.calibrate];
    signals::guard_mapped_file(&what.source);
    let file = GgufFile::open(&what.source)?;
    for warning in file.warnings() {
        log.warn(warning);
    }
    let mut plan = Plan::new(&file, &options)?;
    if let Some(text) = &args.calibrate.calibrate {
        args.calibrate.check_folder(text, &what.destination, &plan.paths(&what.destination))?;
    }
    for note in &plan.notes {
        log.warn(note);
    }
    let threads = || match what.n_threads {
        Some(n) => Threads::builder().n(n).build(),
        None => Threads::builder().build(),
    };
    if args.dry_run {
        print_plan(&plan, what.name)?;
        if let Some(text) = &args.calibrate.calibrate {
            println!("{}", args.calibrate.predict(text, &file, &plan, &what.destination, &threads()?)?);
        }
        return Ok(());
    }
    for destination in plan.paths(&what.destination) {
        refuse_sources(&destination, given.into_iter().flatten().map(PathBuf::as_path))?;
    }
    let start = Instant::now();
    let (threads, source_bytes) = (threads()?, plan.source_bytes());
    plan.check_destination(&file, &what.destination, args.force)?;
    match &args.calibrate.calibrate {
        None => plan::write("quantizing (MiB)", &plan, &file, &what.destination, &threads, args.force, log)?,
        Some(text) => {
            let calibrated = args.calibrate.run(text, &file, &plan, &what.destination, &threads, log)?;
            calibrated.put_into(&mut plan);
            plan::write(
                "quantizing (MiB)",
                &plan,
                &calibrated,
                &what.destination,
                &threads,
                args.force,
                log,
            )?;
            // The new file is in place: this is no reason to fail.
            if let Err(error) = calibrated.remove() {
                log.warn(error);
            }
        }
    }
    let paths = plan.paths(&what.destination);
    let names: Vec<_> = paths.iter().map(|path| Printable(path.display()).to_string()).collect();
    log.note(format_args!(
        "{}: {} → {} ({}, {:.2} bits a weight) in {:.1} s",
        names.join(", "),
        describe::bytes(source_bytes),
        describe::bytes(plan.n_bytes()),
        what.name,
        plan.bits_a_weight(),
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn print_plan(plan: &Plan, file_type: &str) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    for tensor in &plan.tensors {
        writeln!(
            out,
            "{:<36} {:>6} → {:<6} {:>10.3} → {:>10.3} MiB",
            Printable(&tensor.name).to_string(),
            tensor.source.tensor_type.name(),
            tensor.tensor_type.name(),
            mib(tensor.source.n_bytes()),
            mib(tensor.n_bytes())
        )?;
    }
    let (from, to) = (describe::bytes(plan.source_bytes()), describe::bytes(plan.n_bytes()));
    writeln!(out, "{file_type}: {from} → {to}, {:.2} bits a weight", plan.bits_a_weight())?;
    out.flush()?;
    Ok(())
}
