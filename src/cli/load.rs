//! Opens a model according to the flags.

use std::time::{Duration, Instant};

use anyhow::Result;
use bise::gguf::{GgufFile, Value};
use bise::{Engine, EngineOptions};

use super::args::model::{LoadMode, ModelArgs, RopeArgs, RopeKind};
use super::term::console::Log;
use super::term::signals;
use super::threads;
use super::usage::wrong;

/// An open model, and how long it took to open.
pub struct Loaded {
    pub engine: Engine,
    pub took: Duration,
}

/// Opens the model of `--model`, or the built-in one, and logs its warnings.
///
/// # Errors
/// The file or a flag is invalid.
pub fn load(args: &ModelArgs, log: Log) -> Result<Loaded> {
    let start = Instant::now();
    let options = engine_options(args)?;
    let options = EngineOptions { shared_threads: Some(threads::start(&args.threads, log)?), ..options };
    let progress = log.progress("loading the model", 0);
    progress.spin();
    let engine = match &args.model {
        Some(path) => {
            if options.mmap {
                signals::guard_mapped_file(path);
            }
            Engine::open_with(path, &options)?
        }
        None => builtin(&options)?,
    };
    drop(progress);
    for warning in engine.warnings() {
        log.warn(warning);
    }
    lock(args, &engine, log);
    Ok(Loaded { engine, took: start.elapsed() })
}

/// The built-in model.
///
/// # Errors
/// The program was built without one.
pub fn builtin(options: &EngineOptions) -> Result<Engine> {
    #[cfg(feature = "builtin-model")]
    return Ok(Engine::builtin_with(options)?);
    #[cfg(not(feature = "builtin-model"))]
    {
        let _ = options;
        Err(wrong("this program was built without a model: give one with --model FILE"))
    }
}

fn engine_options(args: &ModelArgs) -> Result<EngineOptions> {
    let reads = args.no_mmap || matches!(args.load_mode, LoadMode::None | LoadMode::Mlock | LoadMode::Dio);
    let mut overrides = rope_overrides(args)?;
    overrides.extend(args.override_kv.iter().flat_map(|o| o.0.clone()));
    Ok(EngineOptions {
        isa: args.isa,
        mmap: !reads,
        sliding_window: args.sliding_window,
        overrides,
        ..EngineOptions::default()
    })
}

/// Locks the weights in memory if a flag asks for it. A refusal costs speed at worst, so it is only a warning.
fn lock(args: &ModelArgs, engine: &Engine, log: Log) {
    let flag = match args.load_mode {
        _ if args.mlock => "--mlock",
        LoadMode::Mlock => "--load-mode mlock",
        LoadMode::MmapMlock => "--load-mode mmap+mlock",
        _ => return,
    };
    if args.model.is_none() {
        log.warn(format_args!("{flag} has no effect on the built-in model, which is part of the program"));
    } else if let Err(error) = engine.file().mlock() {
        log.warn(format_args!("{flag} had no effect: {error}"));
    }
}

/// The RoPE flags as metadata overrides, with the prefix of the file's architecture.
fn rope_overrides(args: &ModelArgs) -> Result<Vec<(String, Value)>> {
    let pairs = args.rope.metadata()?;
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let arch = match &args.model {
        Some(path) => architecture(&GgufFile::open(path)?)?,
        None => architecture(builtin(&EngineOptions::default())?.file())?,
    };
    Ok(pairs.into_iter().map(|(key, value)| (format!("{arch}.{key}"), value)).collect())
}

fn architecture(file: &GgufFile) -> Result<String> {
    Ok(file.metadata().require::<&str>("general.architecture")?.to_string())
}

impl RopeArgs {
    /// Metadata keys, without the architecture prefix, and their values.
    ///
    /// # Errors
    /// A number is out of range.
    fn metadata(&self) -> Result<Vec<(&'static str, Value)>> {
        let mut pairs = Vec::new();
        let float = |x: f32| Value::F32(x);
        if let Some(base) = self.rope_freq_base.filter(|&base| base != 0.0) {
            pairs.push(("rope.freq_base", float(base)));
        }
        let factor = match (self.rope_scale, self.rope_freq_scale) {
            (Some(factor), _) => Some(factor),
            (None, Some(scale)) if scale != 0.0 => Some(1.0 / scale),
            _ => None,
        };
        if let Some(factor) = factor {
            if !(factor.is_finite() && factor > 0.0) {
                return Err(wrong(format_args!("--rope-scale: found {factor}, expected a number above 0")));
            }
            pairs.push(("rope.scaling.factor", float(factor)));
        }
        // Linear unless said otherwise.
        if let Some(kind) = self.rope_scaling.or(factor.map(|_| RopeKind::Linear)) {
            let name = match kind {
                RopeKind::None => "none",
                RopeKind::Linear => "linear",
                RopeKind::Yarn => "yarn",
            };
            pairs.push(("rope.scaling.type", Value::from(name)));
        }
        if let Some(length) = self.yarn_orig_ctx.filter(|&length| length != 0) {
            let length = u32::try_from(length).map_err(|_| {
                wrong(format_args!("--yarn-orig-ctx: found {length}, expected a length below 2^32"))
            })?;
            pairs.push(("rope.scaling.original_context_length", Value::U32(length)));
        }
        let betas = [
            ("rope.scaling.yarn_beta_fast", self.yarn_beta_fast),
            ("rope.scaling.yarn_beta_slow", self.yarn_beta_slow),
        ];
        pairs.extend(
            betas.into_iter().filter_map(|(key, beta)| Some((key, float(beta.filter(|&b| b >= 0.0)?)))),
        );
        Ok(pairs)
    }
}
