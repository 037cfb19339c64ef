//! Sockets, connections, and their end.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use super::options::{Address, ServerOptions};

/// Time before it is tried again to take a connection where the system had no room for it.
const RETRY: Duration = Duration::from_millis(50);
/// Connections that wait to be taken.
const BACKLOG: u32 = 1024;
/// Bytes of the headers of a request, at most.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// A socket that is listened on.
pub enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener, Option<PathBuf>),
}

impl Listener {
    /// The address for people.
    pub fn url(&self) -> String {
        match self {
            Listener::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|_| "a socket".to_owned(), |address| format!("http://{address}")),
            #[cfg(unix)]
            Listener::Unix(_, Some(path)) => format!("unix:{}", path.display()),
            #[cfg(unix)]
            Listener::Unix(_, None) => "a Unix socket".to_owned(),
        }
    }
}

#[cfg(unix)]
impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, Some(path)) = self {
            // Whoever comes next would take it for a server that has died.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Opens the sockets: those that systemd hands over, or else the addresses of the options.
///
/// # Errors
/// An address that is unknown, taken, or not for this program; it is named.
pub async fn bind(options: &ServerOptions) -> Result<Vec<Listener>, io::Error> {
    let inherited = inherited()?;
    if !inherited.is_empty() {
        return Ok(inherited);
    }
    let mut port = options.port;
    let mut listeners = Vec::new();
    for address in &options.addresses {
        match address {
            Address::Socket(path) => listeners.push(bind_unix(path.clone())?),
            Address::Host(host) => {
                let named =
                    |error: io::Error| io::Error::new(error.kind(), format!("{host}:{port}: {error}"));
                let addresses: Vec<SocketAddr> =
                    tokio::net::lookup_host((host.as_str(), port)).await.map_err(named)?.collect();
                for mut address in addresses {
                    // A free port, once found, is that of the other addresses too.
                    address.set_port(port);
                    let listener = bind_tcp(address)
                        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
                    port = listener.local_addr()?.port();
                    listeners.push(Listener::Tcp(listener));
                }
            }
        }
    }
    Ok(listeners)
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that was just ended does not keep its port from the next one.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(unix)]
fn bind_unix(path: PathBuf) -> io::Result<Listener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    // A socket that nobody answers on was left by a server that has died.
    let is_dead = || {
        std::os::unix::net::UnixStream::connect(&path)
            .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
    };
    if path.exists() && is_dead() {
        std::fs::remove_file(&path).map_err(named)?;
    }
    let listener = tokio::net::UnixListener::bind(&path).map_err(named)?;
    Ok(Listener::Unix(listener, Some(path)))
}

#[cfg(not(unix))]
fn bind_unix(path: PathBuf) -> io::Result<Listener> {
    let message = format!("{}: Unix sockets are not supported on this system", path.display());
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

/// Sockets that systemd listens on for this program (`LISTEN_FDS`).
#[cfg(unix)]
fn inherited() -> io::Result<Vec<Listener>> {
    let mut handed = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for i in 0..handed.len() {
        if let Ok(Some(listener)) = handed.take_tcp_listener(i) {
            listener.set_nonblocking(true)?;
            listeners.push(Listener::Tcp(TcpListener::from_std(listener)?));
        } else if let Some(listener) = handed.take_unix_listener(i)? {
            listener.set_nonblocking(true)?;
            listeners.push(Listener::Unix(tokio::net::UnixListener::from_std(listener)?, None));
        }
    }
    Ok(listeners)
}

#[cfg(not(unix))]
fn inherited() -> io::Result<Vec<Listener>> {
    Ok(Vec::new())
}

/// Serves connections until `stop` says so; then those under way have `grace` to end.
pub async fn serve(
    listeners: Vec<Listener>,
    router: Router,
    timeout: Duration,
    grace: Duration,
    stop: watch::Receiver<bool>,
) {
    let connections = GracefulShutdown::new();
    let serve = listeners.iter().map(|listener| accept(listener, &router, timeout, &connections));
    let serve = futures_util::future::join_all(serve);
    let mut stop = stop;
    tokio::select! {
        _ = serve => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    drop(listeners);
    let _ = tokio::time::timeout(grace, connections.shutdown()).await;
}

async fn accept(listener: &Listener, router: &Router, timeout: Duration, connections: &GracefulShutdown) {
    loop {
        let failed = match listener {
            Listener::Tcp(listener) => match listener.accept().await {
                Ok((stream, _)) => {
                    // Tokens are sent when they are there.
                    let _ = stream.set_nodelay(true);
                    connect(stream, router.clone(), timeout, connections);
                    None
                }
                Err(error) => Some(error),
            },
            #[cfg(unix)]
            Listener::Unix(listener, _) => match listener.accept().await {
                Ok((stream, _)) => {
                    connect(stream, router.clone(), timeout, connections);
                    None
                }
                Err(error) => Some(error),
            },
        };
        if let Some(error) = failed {
            tracing::warn!(%error, "a connection could not be taken");
            tokio::time::sleep(RETRY).await;
        }
    }
}

fn connect<S>(stream: S, router: Router, timeout: Duration, connections: &GracefulShutdown)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        // Some clients look for headers as they are spelled in documentation.
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = pin!(connection).await {
            tracing::debug!(%error, "a connection ended");
        }
    });
}
