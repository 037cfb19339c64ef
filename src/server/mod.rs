//! The HTTP server: OpenAI's and llama-server's interfaces on one port.
//!
//! [`serve`] runs until the process is told to end. What requests have in common lies in `answer`; each interface has a room of its own,
//! with a file for each family of endpoints.

mod access;
mod answer;
mod anthropic;
mod body;
mod connections;
mod envelope;
mod error;
mod hang_up;
mod id;
mod listen;
mod llama;
mod log;
mod metrics;
mod models;
mod numbers;
mod ollama;
mod openai;
mod openapi;
mod options;
mod page;
mod signals;
mod unread;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;

pub use models::{Catalog, Offer, OptionsOf, Preset, RouterOptions, Served};
pub use ollama::parse_keep_alive;
pub use options::{
    AdapterOptions, Address, BoxError, ContextShare, CorsOptions, ModelOptions, Opener, ServerOptions,
};

use error::ApiError;
use metrics::Metrics;
use models::Models;
use signals::Signals;

use crate::scheduler::WorkerHandle;

/// How long answers that were cut have to say so.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// How long the end may be put off by what is still to be written to the disk.
const LAST_WRITES: Duration = Duration::from_secs(4);

/// What all requests share.
pub(crate) struct App {
    options: ServerOptions,
    models: Arc<Models>,
    metrics: Arc<Metrics>,
    /// This machine's own name.
    host_name: Option<String>,
    /// Whether only this machine can reach the server.
    is_local: bool,
    /// Becomes true when the server is told to end.
    stopping: watch::Sender<bool>,
}

impl App {
    /// Whether the server was told to end.
    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }
}

/// Why the server could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {0}")]
    Listen(io::Error),
    /// The runtime could not be started.
    #[error("cannot start the threads of the server: {0}")]
    Runtime(io::Error),
    /// The model cannot be opened.
    #[error("{0}")]
    Model(String),
    /// A second signal has ended it before all answers were.
    #[error("ended by a second signal: answers under way were cut")]
    Interrupted,
}

/// Serves a model, or those a router finds, until SIGTERM or Ctrl-C, and lets answers under way end. A second signal ends the process at once.
///
/// `ready` is called with the addresses once connections are taken, and whether only this machine can reach them. One model alone is opened
/// meanwhile, and until it is there requests are answered with 503. A router's models are opened when they are asked for.
///
/// # Errors
/// No address can be listened on, or the model cannot be opened.
pub fn serve(
    options: ServerOptions,
    served: Served,
    ready: impl FnOnce(&[String], bool),
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads.max(1))
        .thread_name("http")
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    let served = runtime.block_on(run(options, served, ready));
    // A model that is just being opened is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(200));
    served
}

async fn run(
    options: ServerOptions,
    served: Served,
    ready: impl FnOnce(&[String], bool),
) -> Result<(), ServeError> {
    let mut signals = Signals::listen().map_err(ServeError::Runtime)?;
    let listeners = listen::bind(&options).await.map_err(ServeError::Listen)?;
    let (timeout, grace, sleep_idle) = (options.timeout, options.grace, options.sleep_idle);
    let metrics = Arc::new(Metrics::new());
    let models = Models::new(served, sleep_idle, Arc::clone(&metrics));
    let app = Arc::new(App {
        models: models.map_err(|error| ServeError::Model(error.to_string()))?,
        metrics,
        host_name: host_name(),
        is_local: listeners.iter().all(listen::Listener::is_loopback),
        stopping: watch::Sender::new(false),
        options,
    });
    let urls: Vec<String> = listeners.iter().map(listen::Listener::url).collect();
    let stop = app.stopping.subscribe();
    let mut serving = tokio::spawn(connections::serve(listeners, router(&app), timeout, stop));
    ready(&urls, app.is_local);

    tokio::spawn(Arc::clone(&app.models).watch());
    let opened = tokio::select! {
        opened = open_first(&app.models) => Some(opened),
        () = signals.next() => None,
    };
    let failed = match opened {
        Some(Err(error)) => Some(ServeError::Model(error.message.into_owned())),
        Some(Ok(())) => {
            signals.next().await;
            None
        }
        None => None,
    };
    tracing::info!("ending: no more requests are taken, answers under way may take {grace:?}");
    app.stopping.send_replace(true);
    let workers = app.models.workers();
    workers.iter().for_each(WorkerHandle::drain);
    // Those of models that were being opened, too.
    let stop_all = || app.models.workers().iter().for_each(WorkerHandle::stop);
    tokio::select! {
        _ = &mut serving => stop_all(),
        () = tokio::time::sleep(grace) => {
            tracing::warn!("answers under way are cut after {grace:?} (--shutdown-grace)");
            stop_all();
            // Clients are told so.
            let _ = tokio::time::timeout(LAST_WORDS, serving).await;
        }
        () = signals.next() => {
            stop_all();
            return Err(ServeError::Interrupted);
        }
    }
    // Pages of the prefix cache are still being written.
    let written = tokio::task::spawn_blocking(move || {
        let end = Instant::now() + LAST_WRITES;
        workers.iter().for_each(|worker| {
            worker.wait(end.saturating_duration_since(Instant::now()));
        });
    });
    tokio::select! {
        _ = written => {}
        () = signals.next() => return Err(ServeError::Interrupted),
    }
    failed.map_or(Ok(()), Err)
}

/// Opens the one model of a server, or those that presets want at once. A router goes on without one that cannot be opened.
async fn open_first(models: &Arc<Models>) -> Result<(), ApiError> {
    if let Some(entry) = models.single() {
        models.load(&entry).await?;
        tracing::info!(model = entry.options().name(), "ready");
        return Ok(());
    }
    let presets: Vec<_> = models.router().into_iter().flat_map(|router| &router.catalog.presets).collect();
    let entries = models.entries();
    for preset in presets.iter().filter(|preset| !entries.iter().any(|entry| entry.is_called(&preset.name))) {
        tracing::warn!("preset [{}] is about no model that is here", preset.name);
    }
    for preset in presets.into_iter().filter(|preset| preset.load_on_startup) {
        match models.entry(&preset.name).await {
            // What goes wrong from here on is in the log.
            Ok(entry) => drop(models.load(&entry).await),
            Err(error) => tracing::error!("load-on-startup of [{}]: {}", preset.name, error.message),
        }
    }
    tracing::info!("ready: {} models", models.entries().len());
    Ok(())
}

/// Every route; `openapi` describes them all. `POST /props` is one where `changes_props`.
fn routes(changes_props: bool) -> Router<Arc<App>> {
    Router::new()
        .merge(llama::routes(changes_props))
        .merge(openai::routes())
        .merge(page::routes())
        .merge(ollama::routes())
        .merge(anthropic::routes())
        .merge(openapi::routes())
}

fn router(app: &Arc<App>) -> Router {
    let routes =
        routes(app.options.props).fallback(not_found).method_not_allowed_fallback(method_not_allowed);
    let routes = match app.options.prefix.trim_end_matches('/') {
        "" => routes,
        prefix => Router::new()
            .nest(prefix, routes)
            .route(&format!("{prefix}/"), get(page::root_of_prefix))
            .fallback(not_found),
    };
    routes
        .with_state(Arc::clone(app))
        .layer(middleware::from_fn_with_state(Arc::clone(app), refuse_at_the_end))
        .layer(middleware::from_fn_with_state(Arc::clone(app), access::check))
        .layer(access::cors(&app.options.cors))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(Arc::clone(app), envelope::write_errors))
        .layer(middleware::from_fn(log::requests))
        .layer(RequestBodyTimeoutLayer::new(app.options.timeout))
        .layer(middleware::from_fn(unread::drain))
}

/// Takes no requests once the server was told to end. What watches it may go on until then.
async fn refuse_at_the_end(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if !app.is_stopping() || request.uri().path().ends_with("/metrics") {
        return next.run(request).await;
    }
    let error = ApiError { retry_after: Some(1), ..ApiError::unavailable("the server is shutting down") };
    let mut response = error.into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn not_found(uri: Uri) -> ApiError {
    let nothing = || ApiError::not_found(format!("there is nothing at {}", uri.path()));
    llama::unsupported(uri.path()).unwrap_or_else(nothing)
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let hint = if uri.path() == "/props" { " without --props" } else { "" };
    let message = format!("{} does not take {method}{hint}", uri.path());
    ApiError::refused(StatusCode::METHOD_NOT_ALLOWED, message)
}

fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> Response {
    // The panic itself is on stderr.
    ApiError::internal("the request could not be answered: the server has a fault").into_response()
}

fn host_name() -> Option<String> {
    #[cfg(target_os = "linux")]
    return std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    #[cfg(not(target_os = "linux"))]
    return std::env::var("HOSTNAME").ok();
}
