//! `bise inspect`: what is in a file, and how much memory it needs.

mod check_tensors;
mod memory_table;
#[cfg(feature = "compare")]
mod modes;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use bise::gguf::{Array, GgufFile, Metadata, Value};
use bise::tokenizer::Tokenizer;
use bise::{EngineOptions, MistralConfig};
use bise_models::weights::Weights;
use serde_json::{Map, json};

use self::check_tensors::{Defect, check_tensors};
use self::memory_table::MemoryTable;
use crate::cli::args::log::LogArgs;
use crate::cli::args::source::SourceArgs;
use crate::cli::describe::{self, Description};
use crate::cli::term::printable::printable_json;
use crate::cli::term::signals;
use crate::cli::{load, source};
use bise_models::printable::Printable;

/// What to inspect.
#[derive(clap::Args, Debug)]
pub struct InspectArgs {
    /// GGUF file, or the first part of a split model; without it, the built-in model
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// GGUF file, as the other commands name it
    #[arg(short, long, value_name = "FILE", conflicts_with = "file", hide = true, env = "LLAMA_ARG_MODEL")]
    model: Option<PathBuf>,

    #[command(flatten)]
    source: SourceArgs,

    /// Read every tensor and report scales and weights that are NaN or infinite
    #[arg(long)]
    check_tensors: bool,

    /// Print everything as JSON
    #[arg(long)]
    json: bool,

    #[cfg(feature = "compare")]
    #[command(flatten)]
    modes: modes::ModeArgs,

    #[command(flatten)]
    pub log: LogArgs,
}

/// Runs the command.
///
/// # Errors
/// The file is not valid GGUF, or `--check-tensors` finds bad tensors.
pub fn run(args: InspectArgs) -> Result<()> {
    let log = args.log.log();
    let path = source::model_path(args.file.as_ref().or(args.model.as_ref()), &args.source, log)?;
    #[cfg(feature = "compare")]
    if let Some(done) = args.modes.run(path.as_deref(), args.check_tensors, args.json, log) {
        return done;
    }
    let (opened, engine);
    let file = match &path {
        Some(path) => {
            signals::guard_mapped_file(path);
            opened = GgufFile::open(path)?;
            &opened
        }
        None => {
            engine = load::builtin(&EngineOptions::default())?;
            engine.file()
        }
    };
    let defects = args.check_tensors.then(|| check_tensors(file, log));
    let report = Report::of(file, defects);
    for warning in &report.warnings {
        log.warn(warning);
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match args.json {
        true => writeln!(out, "{}", printable_json(&format!("{:#}", report.json(file))))?,
        false => report.print(file, &mut out)?,
    }
    out.flush()?;
    match report.defects.as_deref() {
        None | Some([]) => Ok(()),
        Some([first, rest @ ..]) => {
            let more =
                if rest.is_empty() { String::new() } else { format!(" (and {} more tensors)", rest.len()) };
            bail!("{}: tensor '{}': {}{more}", file.name(), first.tensor, first.what)
        }
    }
}

struct Report {
    about: Description,
    /// What running the model would warn of.
    warnings: Vec<String>,
    config: Option<MistralConfig>,
    /// Why the model cannot be run.
    not_supported: Option<String>,
    /// Tensors, weights and bytes of each type.
    types: BTreeMap<&'static str, (usize, u64, u64)>,
    template: Option<String>,
    memory: Option<MemoryTable>,
    defects: Option<Vec<Defect>>,
}

impl Report {
    fn of(file: &GgufFile, defects: Option<Vec<Defect>>) -> Self {
        let mut types = BTreeMap::new();
        for tensor in file.tensors() {
            let (n, weights, bytes): &mut (usize, u64, u64) =
                types.entry(tensor.tensor_type.name()).or_default();
            *n += 1;
            *weights += tensor.n_elements() as u64;
            *bytes += tensor.n_bytes as u64;
        }
        let mut report = Self {
            about: Description::of(file),
            warnings: file.warnings().to_vec(),
            config: None,
            not_supported: None,
            types,
            template: template_name(file.metadata()),
            memory: None,
            defects,
        };
        report.not_supported = report.try_model(file).err().map(|error| error.to_string());
        report
    }

    /// Everything up to the weights that running the model would check.
    fn try_model(&mut self, file: &GgufFile) -> Result<(), bise::Error> {
        let config = self.config.insert(MistralConfig::from_metadata(file.metadata())?);
        self.warnings.extend_from_slice(Tokenizer::from_metadata(file.metadata())?.warnings());
        let weights = Weights::load(file, config)?;
        self.warnings.extend(weights.left_out());
        self.memory = Some(MemoryTable::of(config, weights.n_bytes() as u64));
        Ok(())
    }

    fn print(&self, file: &GgufFile, out: &mut impl Write) -> Result<()> {
        let about = &self.about;
        let order = if file.is_big_endian() { "big-endian" } else { "little-endian" };
        let parts = if file.n_parts() > 1 { format!(", {} files", file.n_parts()) } else { String::new() };
        let row =
            |out: &mut dyn Write, name: &str, value: &str| writeln!(out, "{name:<14} {}", Printable(value));
        row(out, "file", file.name())?;
        row(
            out,
            "format",
            &format!("GGUF {}, {order}, alignment {}{parts}", file.version(), file.alignment()),
        )?;
        row(out, "size", &describe::bytes(file.n_bytes()))?;
        row(out, "name", &about.name)?;
        row(out, "architecture", &about.arch)?;
        row(out, "quantization", &about.file_type)?;
        row(out, "parameters", &format!("{} ({})", describe::count(about.n_params), about.n_params))?;
        for (name, value) in self.config.iter().flat_map(shape_rows) {
            row(out, name, &value)?;
        }
        if let Some(why) = &self.not_supported {
            row(out, "not supported", why)?;
        }
        row(out, "template", self.template.as_deref().unwrap_or("none"))?;
        if let Some(defects) = &self.defects {
            row(out, "tensors", if defects.is_empty() { "all finite" } else { "not all finite" })?;
            for defect in defects {
                row(out, "", &format!("{}: {}", defect.tensor, defect.what))?;
            }
        }

        writeln!(out, "\n{:<8} {:>8} {:>16} {:>10}", "type", "tensors", "weights", "bytes")?;
        for (name, (n, weights, bytes)) in &self.types {
            writeln!(out, "{name:<8} {n:>8} {weights:>16} {:>10}", describe::bytes(*bytes))?;
        }
        if let Some(memory) = &self.memory {
            memory.print(out)?;
        }
        writeln!(out, "\nmetadata ({} keys)", file.metadata().len())?;
        for (key, value) in file.metadata().iter() {
            writeln!(out, "  {} = {}", Printable(key), Printable(shown(value)))?;
        }
        Ok(())
    }

    fn json(&self, file: &GgufFile) -> serde_json::Value {
        let about = &self.about;
        let types = self.types.iter().map(|(name, (n, weights, bytes))| {
            (name.to_string(), json!({ "tensors": n, "weights": weights, "bytes": bytes }))
        });
        let tensors: Vec<_> = file
            .tensors()
            .map(|t| json!({ "name": t.name, "shape": t.shape, "type": t.tensor_type.name(), "bytes": t.n_bytes }))
            .collect();
        let metadata: Map<_, _> =
            file.metadata().iter().map(|(key, value)| (key.to_string(), as_json(value))).collect();
        let mut report = json!({
            "file": file.name(),
            "version": file.version(),
            "alignment": file.alignment(),
            "big_endian": file.is_big_endian(),
            "n_files": file.n_parts(),
            "file_bytes": file.n_bytes(),
            "name": about.name,
            "architecture": about.arch,
            "file_type": about.file_type,
            "n_params": about.n_params,
            "tensor_bytes": about.n_bytes,
            "chat_template": self.template,
            "warnings": self.warnings,
            "types": Map::from_iter(types),
            "metadata": metadata,
            "tensors": tensors,
        });
        let fields = report.as_object_mut().expect("an object was just made");
        if let Some(config) = &self.config {
            fields.insert("context_length".into(), json!(config.n_ctx_train));
            fields.insert("sliding_window".into(), json!(config.sliding_window));
        }
        if let Some(why) = &self.not_supported {
            fields.insert("not_supported".into(), json!(why));
        }
        if let Some(memory) = &self.memory {
            fields.insert("memory".into(), memory.json());
        }
        if let Some(defects) = &self.defects {
            let defects: Vec<_> =
                defects.iter().map(|d| json!({ "tensor": d.tensor, "what": d.what })).collect();
            fields.insert("defects".into(), json!(defects));
        }
        report
    }
}

fn shape_rows(config: &MistralConfig) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("layers", config.n_layers.to_string()),
        ("width", format!("{}, feed-forward {}", config.n_embd, config.n_ff)),
        (
            "heads",
            format!("{} of {}, {} for keys and values", config.n_heads, config.head_dim, config.n_kv_heads),
        ),
        ("vocabulary", config.n_vocab.to_string()),
        ("context", format!("{} tokens", config.n_ctx_train)),
    ];
    if let Some(experts) = &config.experts {
        rows.push(("experts", format!("{}, of which a token visits {}", experts.n_experts, experts.n_used)));
    }
    let assumed =
        if config.window_assumed { " (not in the file, but known to belong to Mistral 7B v0.1)" } else { "" };
    let window = config.sliding_window.map_or("none".into(), |n| format!("{n} tokens{assumed}"));
    rows.push(("sliding window", window));
    rows
}

/// The name of the chat template if it is a known one, else "its own".
fn template_name(metadata: &Metadata) -> Option<String> {
    let source = metadata.str("tokenizer.chat_template").ok().flatten()?;
    Some(bise::chat::detect(source).map_or_else(|| "its own".into(), |known| known.to_string()))
}

/// Formats a value on one line, shortened if it is long.
fn shown(value: &Value) -> String {
    const MOST_CHARS: usize = 80;
    const MOST_ITEMS: usize = 6;
    let text = match value {
        Value::Array(array) => {
            let items = first_items(array, MOST_ITEMS);
            let dots = if array.len() > MOST_ITEMS { ", …" } else { "" };
            let items: Vec<_> = items.iter().map(ToString::to_string).collect();
            return format!("{} [{}{dots}]", value.describe(), items.join(", "));
        }
        Value::Str(bytes) => json!(String::from_utf8_lossy(bytes)).to_string(),
        scalar => as_json(scalar).to_string(),
    };
    match text.char_indices().nth(MOST_CHARS) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len() - 2),
        None => text,
    }
}

/// Converts a value to JSON; a long array to its length and first items.
fn as_json(value: &Value) -> serde_json::Value {
    const MOST_ITEMS: usize = 16;
    match value {
        Value::Bool(v) => json!(v),
        Value::Str(v) => json!(String::from_utf8_lossy(v)),
        Value::F32(v) => json!(v),
        Value::F64(v) => json!(v),
        Value::U8(v) => json!(v),
        Value::I8(v) => json!(v),
        Value::U16(v) => json!(v),
        Value::I16(v) => json!(v),
        Value::U32(v) => json!(v),
        Value::I32(v) => json!(v),
        Value::U64(v) => json!(v),
        Value::I64(v) => json!(v),
        Value::Array(array) if array.len() > MOST_ITEMS => {
            json!({ "type": array.element_type().name(), "length": array.len(), "first": first_items(array, MOST_ITEMS) })
        }
        Value::Array(array) => json!(first_items(array, MOST_ITEMS)),
    }
}

fn first_items(array: &Array, n: usize) -> Vec<serde_json::Value> {
    fn take<T: Copy + Into<serde_json::Value>>(items: &[T], n: usize) -> Vec<serde_json::Value> {
        items.iter().take(n).map(|&item| item.into()).collect()
    }
    match array {
        Array::U8(v) => take(v, n),
        Array::I8(v) => take(v, n),
        Array::U16(v) => take(v, n),
        Array::I16(v) => take(v, n),
        Array::U32(v) => take(v, n),
        Array::I32(v) => take(v, n),
        Array::U64(v) => take(v, n),
        Array::I64(v) => take(v, n),
        Array::F32(v) => take(v, n),
        Array::F64(v) => take(v, n),
        Array::Bool(v) => take(v, n),
        Array::Str(v) => v.iter().take(n).map(|text| json!(String::from_utf8_lossy(text))).collect(),
        Array::Array(v) => v.iter().take(n).map(|inner| json!(first_items(inner, n))).collect(),
    }
}
