//! Connections: how many at a time, how much of a head they may send, and how long they may keep us waiting.
//!
//! axum's own `serve` waits for ever: a few thousand connections that send a byte now and then would be the end of it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, Sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::middleware;

/// Of the request line and all headers; more is 431. Tokens of an LMS have a few KiB.
const HEAD_BYTES: usize = 32 * 1024;
/// What a connection buffers of its input at most.
const BUFFER_BYTES: usize = 64 * 1024;
/// After an error of `accept`, mostly for want of file descriptors.
const BREATHER: Duration = Duration::from_millis(100);

/// File descriptors beside those of callers: for Postgres, Redis, listeners.
const OWN_DESCRIPTORS: u64 = 200;

/// Lets the process open as many files as `most` connections need, as far as it may: the usual soft limit, 1,024, is for
/// programs that use `select`.
pub fn raise_descriptor_limit(most: u32) {
    let needed = u64::from(most) + OWN_DESCRIPTORS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return;
    }
    let possible = maximum.map_or(needed, |maximum| maximum.min(needed));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum });
    if raised.is_err() || possible < needed {
        tracing::warn!(
            needed,
            possible,
            "API_MAX_CONNECTIONS needs more file descriptors than there may be: raise ulimit -n, or lower it"
        );
    }
}

/// How long a connection may keep us waiting.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For its next request. Longer than load balancers keep an idle connection (60 s, mostly), so that none of them sends
    /// a request into one that is just being closed.
    idle: Duration,
    /// From the first byte of a request to the first byte of its answer.
    request: Duration,
    /// For a reader who takes nothing of an answer.
    stalled: Duration,
}

impl Patience {
    /// Requests are given up, and answered, after `request_timeout`: here ends only what is no whole request by then.
    pub fn new(request_timeout: Duration) -> Self {
        Self {
            idle: Duration::from_secs(75),
            request: request_timeout + Duration::from_secs(5),
            stalled: Duration::from_secs(30),
        }
    }
}

/// Serves up to `most` connections at a time until `shutdown`; then running requests end, idle connections are closed.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    most: u32,
    patience: Patience,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(usize::MAX)));
    let connections = TaskTracker::new();
    let accepting = async {
        loop {
            let place = places.clone().acquire_owned().await;
            match listener.accept().await {
                Ok((stream, _)) => {
                    let served = connection(stream, routes.clone(), patience, shutdown.clone());
                    connections.spawn(async move {
                        let _place = place;
                        served.await;
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %error, "a connection was not accepted");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = accepting => {}
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

async fn connection(stream: TcpStream, routes: Router, patience: Patience, shutdown: CancellationToken) {
    // Answers are written whole: nothing is won by waiting for more.
    let _ = stream.set_nodelay(true);
    let service = routes.map_request(|request: Request<Incoming>| middleware::one_spelling(request.map(Body::new)));
    let connection = http1::Builder::new()
        .max_header_size(HEAD_BYTES)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(Watched::new(stream, patience)), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "a connection broke off");
    }
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Bytes of a request have come, none of its answer have gone.
    Request,
    /// The peer takes nothing.
    Stalled,
}

/// A stream that ends with `TimedOut` when its peer takes too long.
struct Watched<S> {
    stream: S,
    patience: Patience,
    phase: Phase,
    /// When the phase has lasted too long.
    until: Instant,
    /// Set to `until` when somebody waits.
    timer: Pin<Box<Sleep>>,
}

impl<S> Watched<S> {
    fn new(stream: S, patience: Patience) -> Self {
        let until = Instant::now() + patience.idle;
        Self { stream, patience, phase: Phase::Idle, until, timer: Box::pin(tokio::time::sleep_until(until)) }
    }

    fn enter(&mut self, phase: Phase) {
        let wait = match phase {
            Phase::Idle => self.patience.idle,
            Phase::Request => self.patience.request,
            Phase::Stalled => self.patience.stalled,
        };
        self.phase = phase;
        self.until = Instant::now() + wait;
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.timer.deadline() != self.until {
            self.timer.as_mut().reset(self.until);
        }
        ready!(self.timer.as_mut().poll(cx));
        metrics::counter!("http_connections_given_up_total").increment(1);
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the peer takes too long"))
    }

    fn after_write<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(done) => {
                self.enter(Phase::Idle);
                Poll::Ready(done)
            }
            Poll::Pending => {
                if self.phase != Phase::Stalled {
                    self.enter(Phase::Stalled);
                }
                self.wait(cx).map(Err)
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(done) => {
                if self.phase == Phase::Idle {
                    self.enter(Phase::Request);
                }
                Poll::Ready(done)
            }
            Poll::Pending => self.wait(cx).map(Err),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.after_write(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.after_write(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // A socket's flush and shutdown do not wait for the peer.

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    fn watched(idle: u64, request: u64, stalled: u64) -> (DuplexStream, Watched<DuplexStream>) {
        let [idle, request, stalled] = [idle, request, stalled].map(Duration::from_millis);
        let (peer, stream) = duplex(16);
        (peer, Watched::new(stream, Patience { idle, request, stalled }))
    }

    #[tokio::test]
    async fn a_peer_that_sends_nothing_is_given_up() {
        let (_peer, mut stream) = watched(30, 60_000, 60_000);
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_peer_that_drips_its_request_is_given_up_however_steadily() {
        let (mut peer, mut stream) = watched(60_000, 300, 60_000);
        let drip = async {
            while peer.write_u8(b'x').await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let read = async {
            let mut bytes = 0;
            loop {
                match stream.read_u8().await {
                    Ok(_) => bytes += 1,
                    Err(error) => return (bytes, error.kind()),
                }
            }
        };
        let (bytes, kind) = tokio::select! { read = read => read, () = drip => unreachable!() };
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert!(bytes > 2, "{bytes}");
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_of_its_answer_is_given_up() {
        let (_peer, mut stream) = watched(60_000, 60_000, 30);
        assert_eq!(stream.write_all(&[0; 17]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn an_answer_gives_time_for_the_next_request() {
        let (mut peer, mut stream) = watched(60_000, 200, 60_000);
        for _ in 0..4 {
            peer.write_u8(1).await.unwrap();
            stream.read_u8().await.unwrap();
            stream.write_u8(2).await.unwrap();
            peer.read_u8().await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
