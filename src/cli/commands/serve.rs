//! `bise serve`: an HTTP server for programs made for OpenAI's API or llama-server.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bise::Engine;
use bise::embedding::Pooling;
use bise::prefix::{DiskCacheOptions, OnWarning, PrefixOptions};
use bise::scheduler::SchedulerOptions;
use bise::server::{Address, BoxError, ContextShare, CorsOptions, ModelOptions, ServerOptions};

use super::chat::given_template;
use crate::cli::args::log::LogArgs;
use crate::cli::args::model::{ContextArgs, ModelArgs};
use crate::cli::args::prompt::{EscapeArgs, Reasoning, TemplateArgs};
use crate::cli::args::sampling::SamplingArgs;
use crate::cli::args::server::{EndpointArgs, ListenArgs, PoolingArg, ServingArgs};
use crate::cli::args::source::SourceArgs;
use crate::cli::ollama_host::OllamaHost;
use crate::cli::term::console::{Level, Log};
use crate::cli::usage::wrong;
use crate::cli::{load, source, text};

/// Requests answered at a time, where no number is given.
const PARALLEL: usize = 4;

/// Flags of llama-server.
#[derive(clap::Args, Debug)]
pub struct ServeArgs {
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    serving: ServingArgs,
    #[command(flatten)]
    endpoints: EndpointArgs,
    #[command(flatten)]
    template: TemplateArgs,
    #[command(flatten)]
    escapes: EscapeArgs,
    #[command(flatten)]
    pub log: LogArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Runs the command, until the program is told to end.
///
/// # Errors
/// A flag makes no sense, an address is taken, or the model cannot be opened.
pub fn run(args: ServeArgs) -> Result<()> {
    let log = args.log.log();
    start_logging(log.level, args.endpoints.verbose);
    let options = server_options(&args)?;
    let model = model_options(&args, log)?;
    let is_open = !options.addresses.iter().all(Address::is_loopback);
    if is_open && options.api_keys.is_empty() {
        log.warn("others can reach this server, and it asks for no key: --api-key sets one");
    }
    let ready = |urls: &[String]| {
        urls.iter().for_each(|url| log.note(format_args!("listening on {url}")));
    };
    Ok(bise::server::serve(options, model, ready)?)
}

/// Writes what the server has to say to stderr.
fn start_logging(level: Level, verbose: bool) {
    let level = match level {
        _ if verbose => tracing::Level::DEBUG,
        Level::Errors => tracing::Level::ERROR,
        Level::Warnings => tracing::Level::WARN,
        Level::Notes => tracing::Level::INFO,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr);
    // Only a second server in one process would find that there is one already.
    let _ = subscriber.try_init();
}

fn server_options(args: &ServeArgs) -> Result<ServerOptions> {
    let ServeArgs { listen, serving, endpoints, .. } = args;
    let address = |host: &String| match host.trim() {
        path if path.ends_with(".sock") => Address::Socket(path.into()),
        host => Address::Host(host.trim_start_matches('[').trim_end_matches(']').to_owned()),
    };
    if let Some(OllamaHost { is_https, path, .. }) = &listen.ollama_host
        && (*is_https || !path.is_empty())
    {
        let found = if *is_https { "https" } else { path };
        return Err(wrong(format_args!(
            "OLLAMA_HOST: found {found}, expected a host and a port: the server speaks plain HTTP, and --api-prefix sets a path"
        )));
    }
    let hosts: Vec<String> = match (&listen.host[..], &listen.ollama_host) {
        ([], None) => vec!["127.0.0.1".to_owned()],
        ([], Some(ollama)) if ollama.host.is_empty() => vec!["0.0.0.0".to_owned()],
        ([], Some(ollama)) => vec![ollama.host.clone()],
        (hosts, _) => hosts.to_vec(),
    };
    let port = listen.port.or_else(|| listen.ollama_host.as_ref().map(|ollama| ollama.port));
    let prefix = listen.api_prefix.trim_end_matches('/');
    if !prefix.is_empty() && !prefix.starts_with('/') {
        return Err(wrong(format_args!(
            "--api-prefix: found '{prefix}', expected a path that begins with '/'"
        )));
    }
    let words = |list: &[String]| {
        list.iter().map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
    };
    let seconds = |n: u32| Duration::from_secs(n.into());
    Ok(ServerOptions {
        addresses: hosts.iter().filter(|host| !host.trim().is_empty()).map(address).collect(),
        port: port.unwrap_or(8080),
        api_keys: api_keys(listen)?,
        prefix: prefix.to_owned(),
        cors: CorsOptions {
            origins: words(&listen.cors_origins),
            methods: words(&listen.cors_methods),
            headers: words(&listen.cors_headers),
            credentials: !listen.no_cors_credentials,
        },
        page: !endpoints.no_ui,
        slots: !endpoints.no_slots,
        metrics: !endpoints.no_metrics,
        props: endpoints.props,
        ollama_version: endpoints.ollama_version.clone(),
        verbose: endpoints.verbose,
        max_tokens: usize::try_from(serving.n_predict).ok(),
        sampling: args.sampling.params(usize::MAX, args.escapes)?,
        cache_prompt: !serving.no_cache_prompt,
        ping: Some(seconds(listen.sse_ping_interval)).filter(|interval| !interval.is_zero()),
        timeout: seconds(listen.timeout),
        grace: seconds(listen.shutdown_grace),
        sleep_idle: u64::try_from(serving.sleep_idle_seconds).ok().map(Duration::from_secs),
        threads: listen.threads_http,
    })
}

/// The keys of the command line and of the file.
fn api_keys(listen: &ListenArgs) -> Result<Vec<String>> {
    let mut keys = listen.api_key.clone();
    if let Some(path) = &listen.api_key_file {
        let from_file = text::from_file(path)?;
        keys.extend(from_file.lines().map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned));
        if keys.is_empty() {
            return Err(wrong(format_args!(
                "--api-key-file {}: found no key, expected one a line",
                path.display()
            )));
        }
    }
    keys.retain(|key| !key.is_empty());
    Ok(keys)
}

fn model_options(args: &ServeArgs, log: Log) -> Result<ModelOptions> {
    let ServeArgs { serving, template, .. } = args;
    // A download is over before the server is there.
    let file = source::model_path(args.model.model.as_ref(), &args.model.source, log)?;
    let model = ModelArgs { model: file, source: SourceArgs::default(), ..args.model.clone() };
    let path = model
        .model
        .as_ref()
        .map_or_else(|| "built-in model.gguf".to_owned(), |path| path.display().to_string());
    // In the order of their letters, as llama-server has them.
    let mut names: BTreeSet<String> =
        serving.alias.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        let name = model.model.as_deref().and_then(Path::file_stem);
        names.insert(name.map_or_else(|| "bise-tiny".to_owned(), |name| name.to_string_lossy().into_owned()));
    }
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
    // The contexts that there has to be memory for.
    let n_contexts = if context == ContextShare::Each { n_slots } else { 1 };
    let open = move || -> Result<Engine, BoxError> {
        // On a thread of its own, as opening binds the thread that does it to CPUs, where flags say so.
        let model = model.clone();
        let opened = std::thread::spawn(move || {
            let loaded = load::load(&model, Some((n_contexts, session)), log)?;
            Ok::<_, anyhow::Error>(loaded.into_engine(n_contexts, &session, log))
        });
        match opened.join() {
            Ok(opened) => opened.map_err(|error| format!("{error:#}").into()),
            Err(_) => Err("opening the model panicked".into()),
        }
    };
    Ok(ModelOptions {
        aliases: names.into_iter().collect(),
        tags: serving.tags.iter().map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect(),
        path,
        open: Arc::new(open),
        template: given_template(template)?,
        template_args: template.template_arguments(),
        thinking: match template.reasoning {
            Reasoning::On => Some(true),
            Reasoning::Off => Some(false),
            Reasoning::Auto => None,
        },
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

/// Where prompts are kept from one start to the next.
fn disk_cache(args: &ServingArgs) -> Option<DiskCacheOptions> {
    let folder = args.cache_dir.clone()?;
    let on_warning = OnWarning::new(|warning| eprintln!("warning: {warning}"));
    Some(DiskCacheOptions { folder, max_bytes: args.cache_dir_size, on_warning })
}
