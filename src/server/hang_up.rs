//! Clients that go away although there is something of theirs left to read.
//!
//! hyper sees that a client has gone by reading its end, and does not read on while a second request (or a stray line) waits behind the one
//! that is being answered. Without this, such an answer would go on for nobody.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use futures_util::future::BoxFuture;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::Service;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// How often it is looked. What is answered at once is not looked after: whoever half-closes a connection may wait for that.
const TICK: Duration = Duration::from_millis(25);

/// The system's number of a socket.
#[cfg(unix)]
pub type Fd = std::os::fd::RawFd;
#[cfg(not(unix))]
pub type Fd = ();

/// Answers the requests of one connection, as long as its client is there.
pub struct Watched<S> {
    service: S,
    fd: Fd,
}

impl<S> Watched<S> {
    /// Has `service` answer what comes over the socket `fd`, which lives longer than all answers.
    pub fn new(service: S, fd: Fd) -> Watched<S> {
        Watched { service, fd }
    }
}

impl<S> Service<Request<Incoming>> for Watched<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<WatchedBody>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (answer, fd) = (self.service.call(request), self.fd);
        Box::pin(async move {
            tokio::select! {
                biased;
                answer = answer => match answer {
                    Ok(answer) => Ok(answer.map(|body| WatchedBody { body, gone: Box::pin(gone(fd)) })),
                    Err(never) => match never {},
                },
                () = gone(fd) => Err(io::ErrorKind::ConnectionAborted.into()),
            }
        })
    }
}

/// A body that ends with an error when its client goes away.
pub struct WatchedBody {
    body: Body,
    gone: BoxFuture<'static, ()>,
}

impl hyper::body::Body for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => self
                .gone
                .as_mut()
                .poll(context)
                .map(|()| Some(Err(axum::Error::new(io::Error::from(io::ErrorKind::ConnectionAborted))))),
            frame => frame,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Waits until the client has closed its end.
async fn gone(fd: Fd) {
    let mut ticks = interval_at(Instant::now() + TICK, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if has_hung_up(fd) {
            return;
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn has_hung_up(fd: Fd) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: the pointer is to one pollfd that lives through the call, which returns at once; any number is fine as `fd`.
    let n = unsafe { libc::poll(&raw mut poll, 1, 0) };
    n == 1
}

/// Other systems do not tell.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn has_hung_up(_: Fd) -> bool {
    false
}
