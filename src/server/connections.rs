//! Connections, and their end.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use futures_util::future::{join_all, pending};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::hang_up::{Fd, Watched};
use super::listen::{Listener, Socket};

/// Time before it is tried again to take a connection where the system had no room for it.
const RETRY: Duration = Duration::from_millis(50);
/// Bytes of the headers of a request, at most.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// A client that is silent for so long is asked whether it is still there, and again after each interval.
const SILENCE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(10);

/// Serves connections until `stop` says so, and then until those under way have their answers. Meanwhile new ones are taken as before, so
/// that they can be told, except on sockets that somebody keeps for the next start.
pub async fn serve(
    mut listeners: Vec<Listener>,
    router: Router,
    timeout: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let connections = GracefulShutdown::new();
    tokio::select! {
        () = accept_all(&listeners, &router, timeout, &connections) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    listeners.retain(|listener| !listener.is_inherited);
    let late = GracefulShutdown::new();
    tokio::select! {
        () = accept_all(&listeners, &router, timeout, &late) => {}
        () = connections.shutdown() => {}
    }
}

/// Takes connections, for ever.
async fn accept_all(
    listeners: &[Listener],
    router: &Router,
    timeout: Duration,
    connections: &GracefulShutdown,
) {
    join_all(listeners.iter().map(|listener| accept(listener, router, timeout, connections))).await;
    pending::<()>().await;
}

async fn accept(listener: &Listener, router: &Router, timeout: Duration, connections: &GracefulShutdown) {
    loop {
        let accepted = match &listener.socket {
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                prepare(&stream, timeout);
                let fd = fd(&stream);
                connect(stream, fd, router.clone(), timeout, connections);
            }),
            #[cfg(unix)]
            Socket::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                let fd = fd(&stream);
                connect(stream, fd, router.clone(), timeout, connections);
            }),
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "a connection could not be taken");
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Has the system tell when a client has gone without a word, or takes nothing any more.
fn prepare(stream: &TcpStream, timeout: Duration) {
    let socket = SockRef::from(stream);
    // What a system cannot do is done without.
    // Tokens are sent when they are there.
    let _ = stream.set_nodelay(true);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE).with_interval(INTERVAL));
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_tcp_user_timeout(Some(timeout));
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = timeout;
}

fn connect<S>(stream: S, fd: Fd, router: Router, timeout: Duration, connections: &GracefulShutdown)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        // Some clients look for headers as they are spelled in documentation.
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), Watched::new(TowerToHyperService::new(router), fd));
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = pin!(connection).await {
            tracing::debug!(%error, "a connection ended");
        }
    });
}

#[cfg(unix)]
fn fd(stream: &impl std::os::fd::AsRawFd) -> Fd {
    stream.as_raw_fd()
}

#[cfg(not(unix))]
fn fd(_: &TcpStream) -> Fd {}
