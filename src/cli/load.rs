//! Opens a model according to the flags.

use std::time::{Duration, Instant};

use anyhow::Result;
use bise::gguf::{GgufFile, Value};
use bise::memory::{MemoryLimit, MemoryPlan, format_bytes};
use bise::{Engine, EngineBuilder, EngineOptions, SessionOptions, Threads};

use super::args::model::{LoadMode, ModelArgs, RopeArgs, RopeKind};
use super::term::console::Log;
use super::term::signals;
use super::usage::wrong;
use super::{source, threads};

/// An open model, and how long it took to open.
pub struct Loaded {
    pub engine: Engine,
    pub took: Duration,
    max_memory: Option<MemoryLimit>,
    /// Whether the user was told how much memory it takes.
    told_memory: bool,
}

/// Opens the model that the flags name, or the built-in one, and logs its warnings. `sessions` says how many there will be, and of which kind,
/// where that is known: with a ceiling on memory, they are to have room.
///
/// # Errors
/// The file or a flag is invalid; the model does not fit under the ceiling.
pub fn load(args: &ModelArgs, sessions: Option<(usize, SessionOptions)>, log: Log) -> Result<Loaded> {
    load_on(args, sessions, || threads::start(&args.threads, log), log)
}

/// Opens a model as [`load`] does, on the threads that `threads` returns, which other models may share.
///
/// # Errors
/// As [`load`], and those of `threads`.
pub fn load_on(
    args: &ModelArgs,
    sessions: Option<(usize, SessionOptions)>,
    threads: impl FnOnce() -> Result<Threads>,
    log: Log,
) -> Result<Loaded> {
    let args =
        &ModelArgs { model: source::model_path(args.model.as_ref(), &args.source, log)?, ..args.clone() };
    let start = Instant::now();
    let mut options = EngineOptions { sessions, ..engine_options(args)? };
    options.shared_threads = Some(threads()?);
    if args.model.is_none() && (options.mlock || options.stream_weights) {
        let streams = options.stream_weights.then_some("--stream-weights");
        for flag in [lock_flag(args), streams].into_iter().flatten() {
            log.warn(format_args!(
                "{flag} has no effect on the built-in model, which is part of the program"
            ));
        }
        (options.mlock, options.stream_weights) = (false, false);
    }
    let mut told_memory = false;
    if let (Some(path), Some((n, session))) = (&args.model, &options.sessions)
        && (!options.mmap || options.mlock)
    {
        // Before anything is read.
        signals::guard_mapped_file(path);
        let plan = EngineBuilder::from(options.clone()).plan(path, *n, session)?;
        tell_memory(&plan, session, args.max_memory, log);
        told_memory = true;
    }
    let progress = log.progress("loading the model", 0);
    progress.spin();
    let engine = match &args.model {
        Some(path) => {
            if options.mmap {
                signals::guard_mapped_file(path);
            }
            Engine::open_with(path, &options)?
        }
        None => {
            args.adapters.all().iter().for_each(|(path, _)| signals::guard_mapped_file(path));
            builtin(&options)?
        }
    };
    drop(progress);
    for warning in engine.warnings() {
        // The engine does not know which of the flags asked for it.
        match (lock_flag(args), warning.strip_prefix("mlock had no effect")) {
            (Some(flag), Some(why)) => log.warn(format_args!("{flag} had no effect{why}")),
            _ => log.warn(warning),
        }
    }
    if let Some((kept, all)) = engine.kept_layers().filter(|(kept, all)| kept < all) {
        log.note(format_args!(
            "weights: {kept} of {all} layers stay in memory, the others are read from the disk for every pass"
        ));
    }
    Ok(Loaded { engine, took: start.elapsed(), max_memory: args.max_memory, told_memory })
}

/// What `n` sessions of the model that the flags name will take of memory, before it is opened.
///
/// # Errors
/// The file or a flag is invalid.
#[cfg(feature = "server")]
pub fn plan(args: &ModelArgs, n: usize, session: &SessionOptions, threads: Threads) -> Result<MemoryPlan> {
    let options = EngineOptions { shared_threads: Some(threads), max_memory: None, ..engine_options(args)? };
    match &args.model {
        Some(path) => Ok(EngineBuilder::from(options).plan(path, n, session)?),
        None => Ok(builtin(&options)?.memory(session).for_sequences(n)),
    }
}

/// The file that the flags name, with the metadata that they change. No weight is read.
///
/// # Errors
/// The file or a flag is invalid.
#[cfg(feature = "server")]
pub fn file(args: &ModelArgs) -> Result<GgufFile> {
    let options = engine_options(args)?;
    let mut file = match &args.model {
        Some(path) => GgufFile::open(path)?,
        None => builtin_file()?,
    };
    options.overrides.into_iter().for_each(|(key, value)| file.metadata_mut().set(&key, value));
    Ok(file)
}

#[cfg(feature = "server")]
fn builtin_file() -> Result<GgufFile> {
    #[cfg(feature = "builtin-model")]
    return Ok(GgufFile::from_static(bise_models::BUILTIN, "built-in model")?);
    #[cfg(not(feature = "builtin-model"))]
    Err(wrong("this program was built without a model: give one with --model FILE"))
}

impl Loaded {
    /// Says how much memory `n` sessions will take. The weights of a mapped file have not been read yet.
    pub fn tell_memory(&self, n: usize, options: &SessionOptions, log: Log) {
        if !self.told_memory {
            tell_memory(&self.engine.memory(options).for_sequences(n), options, self.max_memory, log);
        }
    }

    /// The engine; with a ceiling on memory, after saying how much `n` sessions will take.
    pub fn into_engine(self, n: usize, options: &SessionOptions, log: Log) -> Engine {
        if self.max_memory.is_some() {
            self.tell_memory(n, options, log);
        }
        self.engine
    }
}

fn tell_memory(plan: &MemoryPlan, options: &SessionOptions, limit: Option<MemoryLimit>, log: Log) {
    let n_ctx = plan.n_ctx();
    let weights = match plan.weights_are_copied() {
        true => "0 B mapped".to_owned(),
        false => format!(
            "{} mapped (weights {})",
            format_bytes(plan.mapped_at(n_ctx)),
            format_bytes(plan.weights_bytes())
        ),
    };
    let copied = match plan.weights_are_copied() {
        true => format!("weights {}, ", format_bytes(plan.weights_bytes())),
        false => String::new(),
    };
    let sequences = match plan.n_sequences() {
        1 => String::new(),
        n => format!("{n} sequences, "),
    };
    let window = plan.sliding_window().map_or(String::new(), |n| format!(", window {n}"));
    let adapters = match plan.adapters_bytes() {
        0 => String::new(),
        n => format!("adapters {}, ", format_bytes(n)),
    };
    let limit = match limit {
        None => String::new(),
        Some(MemoryLimit::Auto) => "; --max-memory auto".to_owned(),
        Some(MemoryLimit::Bytes(n)) => format!("; --max-memory {}", format_bytes(n)),
    };
    log.note(format_args!(
        "memory: {} now, {} when the context is full: {weights}, {} anonymous ({copied}{adapters}keys and values {}, buffers {}, program {}, \
         tokenizer {}); {sequences}context {n_ctx}{window}, keys {}, values {}{limit}",
        format_bytes(plan.now()),
        format_bytes(plan.full()),
        format_bytes(plan.anonymous_at(n_ctx)),
        format_bytes(plan.cache_bytes(n_ctx)),
        format_bytes(plan.buffers_bytes(n_ctx)),
        format_bytes(plan.program_bytes().saturating_sub(plan.tokenizer_bytes())),
        format_bytes(plan.tokenizer_bytes()),
        options.k_type,
        options.v_type,
    ));
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
    if args.stream_weights {
        let why_not = match lock_flag(args) {
            Some(flag) => Some((flag, "weights that are locked are not given back")),
            None if reads => Some(("--no-mmap", "weights that were read into memory are not given back")),
            None => None,
        };
        if let Some((flag, why)) = why_not {
            return Err(wrong(format_args!("--stream-weights cannot be used with {flag}: {why}")));
        }
    }
    let mut overrides = rope_overrides(args)?;
    overrides.extend(args.override_kv.iter().flat_map(|o| o.0.clone()));
    Ok(EngineOptions {
        isa: args.isa,
        mmap: !reads,
        mlock: lock_flag(args).is_some(),
        max_memory: args.max_memory,
        stream_weights: args.stream_weights,
        sliding_window: args.sliding_window,
        overrides,
        adapters: args.adapters.all(),
        ..EngineOptions::default()
    })
}

/// The flag that asks for the weights to be locked in memory, if one does.
fn lock_flag(args: &ModelArgs) -> Option<&'static str> {
    match args.load_mode {
        _ if args.mlock => Some("--mlock"),
        LoadMode::Mlock => Some("--load-mode mlock"),
        LoadMode::MmapMlock => Some("--load-mode mmap+mlock"),
        _ => None,
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
