//! How a model is served, according to the flags and its Modelfile.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bise::embedding::Pooling;
use bise::gguf::GgufFile;
use bise::hub::Extras;
use bise::memory::MemoryPlan;
use bise::prefix::{DiskCacheOptions, OnWarning, PrefixOptions};
use bise::scheduler::SchedulerOptions;
use bise::server::{AdapterOptions, BoxError, ContextShare, ModelOptions, Opener};
use bise::{Engine, SessionOptions, Threads};

use super::ServeArgs;
use crate::cli::args::adapter::AdapterArgs;
use crate::cli::args::model::ModelArgs;
use crate::cli::args::prompt::Reasoning;
use crate::cli::args::server::{PoolingArg, ReasoningFormat, ServingArgs};
use crate::cli::args::source::SourceArgs;
use crate::cli::commands::chat::given_template;
use crate::cli::term::console::Log;
use crate::cli::usage::wrong;
use crate::cli::{load, modelfile, source, threads};

/// Requests answered at a time, where no number is given.
const PARALLEL: usize = 4;

/// The threads that all models of a server share; started with the first.
#[derive(Clone, Default)]
pub struct SharedThreads(Arc<Mutex<Option<Threads>>>);

impl SharedThreads {
    fn get(&self, args: &ModelArgs, log: Log) -> Result<Threads> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.is_none() {
            *shared = Some(threads::start(&args.threads, log)?);
        }
        Ok(shared.clone().expect("just started"))
    }
}

/// The one model that the flags name; `typed` has the long names of those that were given.
///
/// # Errors
/// A flag makes no sense, or the model cannot be downloaded.
pub fn only(args: &ServeArgs, typed: &[String], log: Log) -> Result<ModelOptions> {
    // A download is over before the server is there.
    let file = source::model_path(args.model.model.as_ref(), &args.model.source, log)?;
    // In the order of their letters, as llama-server has them.
    let mut names: BTreeSet<String> = args.serving.names().collect();
    if names.is_empty() {
        let name = file.as_deref().and_then(Path::file_stem);
        names.insert(name.map_or_else(|| "bise-tiny".to_owned(), |name| name.to_string_lossy().into_owned()));
    }
    options(args, typed, names.into_iter().collect(), file, Extras::default(), &SharedThreads::default(), log)
}

/// A model in `file`, or the built-in one, by its `names`. Flags in `typed` are stronger than its Modelfile, `extras`.
///
/// # Errors
/// A flag or a parameter makes no sense.
pub fn options(
    args: &ServeArgs,
    typed: &[String],
    names: Vec<String>,
    file: Option<PathBuf>,
    extras: Extras,
    threads: &SharedThreads,
    log: Log,
) -> Result<ModelOptions> {
    let mut args = args.clone();
    args.model.adapters.add_first(&extras.adapters);
    let mut sampling = args.sampling.params(usize::MAX, args.escapes)?;
    let meant = |text: &String| args.escapes.meant("--reverse-prompt", text.clone());
    let mut stop = args.serving.reverse_prompt.iter().map(meant).collect::<Result<Vec<_>>>()?;
    stop.retain(|text| !text.is_empty());
    for (name, value) in extras.params.iter().filter(|(name, _)| !modelfile::is_overridden(name, typed)) {
        let number = value.as_i64();
        match (name.as_str(), number) {
            ("stop", _) => {
                let texts = value.as_array().into_iter().flatten().filter_map(|text| text.as_str());
                stop.extend(texts.filter(|text| !text.is_empty()).map(str::to_owned));
            }
            ("num_ctx", Some(n)) if u32::try_from(n).is_ok() => args.context.ctx_size = n as u32,
            ("num_batch", Some(n)) if n > 0 => args.context.batch_size = n as usize,
            ("num_predict", Some(n)) if n >= -2 => args.serving.n_predict = n,
            ("use_mmap", _) => args.model.no_mmap = value == &serde_json::Value::Bool(false),
            ("use_mlock", _) => args.model.mlock = value == &serde_json::Value::Bool(true),
            (
                "num_keep" | "num_thread" | "num_gpu" | "main_gpu" | "low_vram" | "numa" | "tfs_z"
                | "penalize_newline",
                _,
            )
            | ("num_ctx" | "num_batch" | "num_predict", _) => {
                log.warn(format_args!("{}: PARAMETER {name} {value} has no effect on a server", names[0]));
            }
            _ => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                if let Err(error) = sampling.set(name, &text) {
                    log.warn(format_args!("{}: PARAMETER {name} has no effect: {error}", names[0]));
                }
            }
        }
    }
    let ServeArgs { serving, template, .. } = &args;
    let asked = usize::try_from(serving.parallel).ok();
    if asked == Some(0) {
        return Err(wrong("--parallel: found 0, expected a number above 0, or -1 for 4"));
    }
    let context = match asked {
        _ if serving.kv_unified => ContextShare::Pool,
        None => ContextShare::Each,
        Some(_) => ContextShare::Split,
    };
    let n_slots = asked.unwrap_or(PARALLEL);
    let session = args.context.session_options();
    let template = match (given_template(template)?, extras.jinja()) {
        (Some(template), _) => Some(template),
        (None, Some(source)) => Some(bise::chat::ChatTemplate::from_source(source)?),
        (None, None) => None,
    };
    Ok(ModelOptions {
        aliases: names,
        tags: serving.tags.iter().map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect(),
        path: file
            .as_ref()
            .map_or_else(|| "built-in model.gguf".to_owned(), |path| path.display().to_string()),
        opener: Arc::new(File {
            // The contexts that there has to be memory for.
            n_contexts: if context == ContextShare::Each { n_slots } else { 1 },
            model: ModelArgs { model: file, source: SourceArgs::default(), ..args.model.clone() },
            session,
            threads: threads.clone(),
            log,
        }),
        adapters: AdapterOptions {
            files: args.model.adapters.all(),
            wait: args.lora.lora_init_without_apply,
            folder: args.lora.lora_dir.clone(),
        },
        sampling,
        sampling_set: modelfile::set(&extras.params, typed),
        extras,
        max_tokens: usize::try_from(serving.n_predict).ok(),
        stop,
        template,
        template_args: args.template.template_arguments(),
        thinking: match args.template.reasoning {
            Reasoning::On => Some(true),
            Reasoning::Off => Some(false),
            Reasoning::Auto => None,
        },
        raw_reasoning: serving.skip_chat_parsing || serving.reasoning_format == ReasoningFormat::None,
        finds_calls: !serving.skip_chat_parsing,
        continues_answers: !serving.no_prefill_assistant,
        context,
        scheduler: SchedulerOptions {
            session,
            n_slots,
            max_queue: serving.max_queue,
            prefix: PrefixOptions { disk: disk_cache(serving), ..PrefixOptions::default() },
            ..SchedulerOptions::default()
        },
        pooling: match serving.pooling {
            None | Some(PoolingArg::None) => None,
            Some(PoolingArg::Mean) => Some(Pooling::Mean),
            Some(PoolingArg::Cls) => Some(Pooling::First),
            Some(PoolingArg::Last) => Some(Pooling::Last),
        },
        embeds_tokens: serving.pooling == Some(PoolingArg::None),
    })
}

/// A file, or the built-in model, opened as the flags say.
struct File {
    model: ModelArgs,
    session: SessionOptions,
    n_contexts: usize,
    threads: SharedThreads,
    log: Log,
}

impl File {
    /// Does something on a thread of its own, as starting threads binds the one that does it to CPUs, where flags say so.
    fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(ModelArgs, Threads) -> Result<T> + Send + 'static,
    ) -> Result<T, BoxError> {
        let (model, threads, log) = (self.model.clone(), self.threads.clone(), self.log);
        let done = std::thread::spawn(move || {
            let threads = threads.get(&model, log)?;
            work(model, threads)
        });
        match done.join() {
            Ok(done) => done.map_err(|error| format!("{error:#}").into()),
            Err(_) => Err("opening the model panicked".into()),
        }
    }
}

impl Opener for File {
    fn open(&self) -> Result<Engine, BoxError> {
        let (n, session, log) = (self.n_contexts, self.session, self.log);
        self.aside(move |model, threads| {
            // The server has them in a list of its own.
            let model = ModelArgs { adapters: AdapterArgs::default(), ..model };
            let loaded = load::load_on(&model, Some((n, session)), || Ok(threads), log)?;
            Ok(loaded.into_engine(n, &session, log))
        })
    }

    fn plan(&self) -> Result<MemoryPlan, BoxError> {
        let (n, session) = (self.n_contexts, self.session);
        self.aside(move |model, threads| load::plan(&model, n, &session, threads))
    }

    fn file(&self) -> Result<GgufFile, BoxError> {
        load::file(&self.model).map_err(|error| format!("{error:#}").into())
    }
}

/// Where prompts are kept from one start to the next.
fn disk_cache(args: &ServingArgs) -> Option<DiskCacheOptions> {
    let folder = args.cache_dir.clone()?;
    let on_warning = OnWarning::new(|warning| eprintln!("warning: {warning}"));
    Some(DiskCacheOptions { max_bytes: args.cache_dir_size, on_warning, ..DiskCacheOptions::new(folder) })
}
