//! `bise lora convert`: like llama.cpp's `convert_lora_to_gguf.py`, and the way back.

use std::path::{Path, PathBuf};

use anyhow::Result;
use bise::MistralConfig;
use bise::adapter::gguf::{GgufWriteOptions, write};
use bise::adapter::peft::{PeftConfig, PeftWriteOptions};
use bise::adapter::{AdapterFile, AdapterFormat, AdapterSummary, base_config};
use bise::convert::Dtype;
use bise::gguf::{Metadata, TensorType};
use bise_models::printable::Printable;

use super::inspect::print_parts;
use crate::cli::args::log::LogArgs;
use crate::cli::describe;
use crate::cli::overwrite::refuse_sources;
use crate::cli::term::signals;
use crate::cli::usage::wrong;

/// What to convert, and to what.
#[derive(clap::Args, Debug)]
pub struct ConvertArgs {
    /// Folder with adapter_config.json and adapter_model.safetensors, or GGUF file of an adapter
    #[arg(value_name = "ADAPTER")]
    source: PathBuf,

    /// New file; for a GGUF file as the source, the new folder; {ftype} in its name stands for the type (default: beside the source, by its name)
    #[arg(short, long, alias = "outfile", value_name = "PATH")]
    output: Option<PathBuf>,

    /// Type of the tensors: f32, f16, bf16, q8_0 (GGUF only), or auto for the 16-bit type of the first tensor
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = ["f32", "f16", "bf16", "q8_0", "auto"], ignore_case = true)]
    outtype: String,

    /// GGUF file of the base model, whose shapes are needed; any of its quantizations will do
    #[arg(short, long, value_name = "FILE", conflicts_with = "base")]
    model: Option<PathBuf>,

    /// Folder of the base model, of which config.json is enough
    #[arg(long, value_name = "FOLDER")]
    base: Option<PathBuf>,

    /// Name of the base model on the Hugging Face Hub, to be noted in the new files
    #[arg(long, value_name = "OWNER/NAME")]
    base_model_id: Option<String>,

    /// Name of the adapter, to be noted in a GGUF file (default: that of the folder)
    #[arg(long, value_name = "NAME")]
    model_name: Option<String>,

    /// Print what is in the adapter, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// Overwrite files
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    pub log: LogArgs,
}

/// Runs the command.
///
/// # Errors
/// An adapter that is damaged, not supported or for another model, and files that cannot be written.
pub fn run(args: ConvertArgs) -> Result<()> {
    let log = args.log.log();
    [Some(&args.source), args.model.as_ref()]
        .into_iter()
        .flatten()
        .for_each(|path| signals::guard_mapped_file(path));
    let base = args.base_config()?;
    let read = AdapterFile::open(&args.source, &base)?;
    read.notes.iter().for_each(|note| log.warn(note));
    if args.dry_run {
        return print_parts(&AdapterSummary::of(&args.source)?);
    }
    let parts = || read.parts.iter().map(|(target, part)| (*target, part));
    let (output, to_gguf) = args.output_path(&read)?;
    refuse_sources(&output, read.paths.iter().chain(&args.model).map(PathBuf::as_path))?;
    if to_gguf {
        let mut options = GgufWriteOptions::default();
        options.tensor_type = args.tensor_type(&read);
        options.name = args.model_name.clone().or_else(|| name_of(&args.source, &read));
        options.base_model = args.base_model_of(&read, None);
        options.force = args.force;
        let written = write(&output, &base, parts(), &options)?;
        if written.n_folded > 0 {
            log.warn(format_args!(
                "{} of {} parts are not scaled by {} over their rank, the one alpha of a GGUF file: their B is multiplied instead",
                written.n_folded,
                read.parts.len(),
                written.alpha
            ));
        }
        log.note(format_args!(
            "{}: {} parts, alpha {}, {} ({})",
            Printable(output.display()),
            read.parts.len(),
            written.alpha,
            describe::bytes(written.n_bytes),
            options.tensor_type
        ));
        return Ok(());
    }
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        refuse_sources(&output.join(name), read.paths.iter().map(PathBuf::as_path))?;
    }
    let mut options = PeftWriteOptions::default();
    options.dtype = args.dtype(&read)?;
    options.force = args.force;
    let mut config = PeftConfig::of_parts(parts());
    config.base_model = args.base_model_of(&read, args.base.as_deref());
    config.write(&output, &base, parts(), &options)?;
    log.note(format_args!(
        "{}: {} parts, r {}, lora_alpha {} ({})",
        Printable(output.display()),
        read.parts.len(),
        config.rank,
        config.alpha,
        options.dtype.name()
    ));
    Ok(())
}

impl ConvertArgs {
    /// The configuration of the base model.
    fn base_config(&self) -> Result<MistralConfig> {
        if let Some(path) = self.model.as_ref().or(self.base.as_ref()) {
            return Ok(base_config(path)?);
        }
        let advice = "expected the base model, whose shapes are needed: -m BASE.gguf, or --base FOLDER with its config.json";
        let folder = if self.source.is_dir() { Some(self.source.as_path()) } else { self.source.parent() };
        let config = folder.map(PeftConfig::open);
        let named = match config {
            Some(Ok(config)) => config.base_model,
            // What is wrong with the adapter matters more than what it does not say.
            Some(Err(error)) if self.source.is_dir() => return Err(error.into()),
            _ => None,
        };
        match named {
            Some(named) if Path::new(&named).exists() => Ok(base_config(Path::new(&named))?),
            Some(named) => {
                let named = Printable(named);
                Err(wrong(format_args!("{advice}; the adapter is for '{named}', which is no folder here")))
            }
            None => Err(wrong(advice)),
        }
    }

    fn tensor_type(&self, read: &AdapterFile) -> TensorType {
        match (self.outtype.to_lowercase().as_str(), &read.format) {
            ("f16", _) | ("auto", AdapterFormat::Peft(_, Dtype::F16)) => TensorType::F16,
            ("bf16" | "auto", _) => TensorType::BF16,
            ("q8_0", _) => TensorType::Q8_0,
            _ => TensorType::F32,
        }
    }

    fn dtype(&self, read: &AdapterFile) -> Result<Dtype> {
        match self.tensor_type(read) {
            TensorType::F16 => Ok(Dtype::F16),
            TensorType::BF16 => Ok(Dtype::BF16),
            TensorType::Q8_0 => {
                Err(wrong("--outtype: found q8_0, expected f32, f16 or bf16: safetensors have no blocks"))
            }
            _ => Ok(Dtype::F32),
        }
    }

    /// The model that the adapter is for, as far as flags and files say, or else `folder`.
    fn base_model_of(&self, read: &AdapterFile, folder: Option<&Path>) -> Option<String> {
        let of_file = || match &read.format {
            AdapterFormat::Peft(config, _) => config.base_model.clone(),
            AdapterFormat::Gguf(metadata) => base_model_in(metadata),
            _ => None,
        };
        let of_folder = || folder.map(|folder| folder.display().to_string());
        self.base_model_id.clone().or_else(of_file).or_else(of_folder)
    }

    /// What to write, and whether it is a GGUF file.
    fn output_path(&self, read: &AdapterFile) -> Result<(PathBuf, bool)> {
        let is_gguf = |path: &Path| path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
        let from_gguf = matches!(read.format, AdapterFormat::Gguf(_));
        let lower = self.tensor_type(read).name().to_lowercase();
        let named = || -> Result<PathBuf> {
            let source = self.source.canonicalize().unwrap_or_else(|_| self.source.clone());
            let source = if source.is_dir() || from_gguf {
                source
            } else {
                source.parent().unwrap_or(&source).to_owned()
            };
            let stem = if from_gguf { source.file_stem() } else { source.file_name() };
            let stem =
                stem.ok_or_else(|| wrong("expected the new file: -o PATH"))?.to_string_lossy().into_owned();
            let name = if from_gguf { stem } else { format!("{stem}-{lower}.gguf") };
            Ok(source.with_file_name(name))
        };
        let Some(output) = &self.output else { return Ok((named()?, !from_gguf)) };
        let to_gguf = !from_gguf || is_gguf(output);
        if to_gguf && output.is_dir() {
            return Ok((output.join(named()?.file_name().unwrap_or_default()), true));
        }
        let Some(name) = output.file_name().and_then(|name| name.to_str()) else {
            return Ok((output.clone(), to_gguf));
        };
        let upper = lower.to_uppercase();
        let filled = [("{ftype}", &lower), ("{outtype}", &lower), ("{FTYPE}", &upper), ("{OUTTYPE}", &upper)]
            .iter()
            .fold(name.to_owned(), |name, (hole, filling)| name.replace(hole, filling));
        Ok((output.with_file_name(filled), to_gguf))
    }
}

/// What a GGUF file calls its adapter, or a readable form of the folder's name.
fn name_of(source: &Path, read: &AdapterFile) -> Option<String> {
    if let AdapterFormat::Gguf(metadata) = &read.format {
        return metadata.str("general.name").ok().flatten().map(str::to_owned);
    }
    let source = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    let folder = if source.is_dir() { source } else { source.parent()?.to_owned() };
    let name = folder.file_name()?.to_string_lossy().into_owned();
    let words: Vec<&str> = name.split(['-', '_', ' ']).filter(|word| !word.is_empty()).collect();
    Some(words.join(" ")).filter(|name| !name.is_empty())
}

/// The base model as the keys of a GGUF file name it: `owner/name` where it is on the Hub.
fn base_model_in(metadata: &Metadata) -> Option<String> {
    let text = |key: &str| metadata.str(&format!("general.base_model.0.{key}")).ok().flatten();
    let on_hub = text("repo_url").and_then(|url| url.strip_prefix("https://huggingface.co/"));
    on_hub.or_else(|| text("name")).map(str::to_owned)
}
