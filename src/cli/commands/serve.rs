//! `bise serve`: an HTTP server for programs made for OpenAI's API or llama-server.

mod model;
mod presets;
mod router;

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;
use bise::server::{Address, CorsOptions, Served, ServerOptions};

use crate::cli::args::log::LogArgs;
use crate::cli::args::model::{ContextArgs, ModelArgs};
use crate::cli::args::prompt::{EscapeArgs, TemplateArgs};
use crate::cli::args::sampling::SamplingArgs;
use crate::cli::args::server::{EndpointArgs, ListenArgs, LoraArgs, RouterArgs, ServingArgs};
use crate::cli::ollama_host::OllamaHost;
use crate::cli::term::console::Level;
use crate::cli::usage::wrong;
use crate::cli::{hub, text};

/// Flags of llama-server.
#[derive(clap::Args, Clone, Debug)]
pub struct ServeArgs {
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    serving: ServingArgs,
    #[command(flatten)]
    lora: LoraArgs,
    #[command(flatten)]
    router: RouterArgs,
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

/// The name of a variable, and its value.
pub type Variable = (OsString, OsString);

/// Flags, and the long names of those that were given.
pub type GivenFlags = (Box<ServeArgs>, Vec<String>);

/// Reads flags of this command that are none of its command line.
#[derive(Clone, Copy)]
pub struct FlagReader {
    /// A whole command line, and variables: the flags, and the long names of those that were given. The error is clap's text.
    pub read: fn(Vec<OsString>, Vec<Variable>) -> Result<GivenFlags, String>,
    /// Whether a value follows a flag; `None` where there is no such flag.
    pub has_value: fn(&str) -> Option<bool>,
}

/// Runs the command, until the program is told to end. `typed` has the long names of the flags that were given.
///
/// # Errors
/// A flag makes no sense, an address is taken, or the model cannot be opened.
pub fn run(args: ServeArgs, typed: &[String], flags: FlagReader) -> Result<()> {
    let log = args.log.log();
    start_logging(log.level, args.endpoints.verbose);
    let options = server_options(&args)?;
    if let Some(folder) = args.lora.lora_dir.as_ref().filter(|folder| !folder.is_dir()) {
        return Err(wrong(format_args!("--lora-dir {}: found no folder there", folder.display())));
    }
    let source = &args.model.source;
    let names_model = args.model.model.is_some() || hub::reference(source)?.is_some();
    let served = match names_model {
        true => {
            router::refuse_flags(&args, typed)?;
            Served::Model(Box::new(model::only(&args, typed, log)?))
        }
        false => Served::Router(Box::new(router::options(&args, typed, flags, log)?)),
    };
    let asks_for_a_key = !options.api_keys.is_empty();
    let ready = |urls: &[String], is_local: bool| {
        if !is_local && !asks_for_a_key {
            log.warn("others can reach this server, and it asks for no key: --api-key sets one");
        }
        urls.iter().for_each(|url| log.note(format_args!("listening on {url}")));
    };
    Ok(bise::server::serve(options, served, ready)?)
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
