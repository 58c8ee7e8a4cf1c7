//! Accepts, serves and closes connections.

mod idle;
mod preface_timeout;

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower::ServiceExt;
use tracing::{debug, warn};

use self::idle::Activity;
use self::preface_timeout::PrefaceTimeout;
use crate::tls::Tls;

/// At most this many connections are served at a time; others wait to be accepted.
const MAX_CONNECTIONS: usize = 4096;
/// Descriptors reserved for everything but connections.
const OTHER_DESCRIPTORS: u64 = 64;
/// Pause after a failed accept, for example when no descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Read buffer of a connection in bytes. The headers of a request must fit.
const MAX_BUFFER: usize = 32 * 1024;
/// Flow-control window of one stream, and of all streams of an HTTP/2 connection, in bytes.
const WINDOW: u32 = 64 * 1024;

/// How connections are served.
#[derive(Debug)]
pub struct Options {
    /// The certificate; `None` without TLS.
    pub tls: Option<Arc<Tls>>,
    /// Timeout for the headers of a request, for a TLS handshake, and for an idle connection.
    pub header_timeout: Duration,
    /// Time for requests in flight to finish once the receiver stops.
    pub grace: Duration,
}

/// The address that a request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Listens on the first address that can be bound.
pub async fn bind(addresses: &[SocketAddr]) -> Result<TcpListener> {
    let mut last = None;
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some((address, error)),
        }
    }
    let (address, error) = last.context("no address to listen on")?;
    Err(error).with_context(|| format!("cannot listen on {address}"))
}

/// Serves until `stop`, then finishes the requests in flight, for at most `grace`.
pub async fn serve(listener: TcpListener, app: Router, stop: impl Future<Output = ()>, options: Options) {
    let Options { tls, header_timeout, grace } = options;
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(MAX_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(header_timeout))
        .keep_alive_timeout(header_timeout)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(MAX_BUFFER);
    let server = Arc::new(Server { app, builder, tls, header_timeout });
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(connections()));
    let mut stop = std::pin::pin!(stop);
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            () = &mut stop => break,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let server = Arc::clone(&server);
        let watcher = graceful.watcher();
        tasks.spawn(async move {
            server.connection(stream, peer.ip(), watcher).await;
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        warn!(grace = ?grace, "some requests were not finished in time");
    }
    // Connections that are still open end here: each holds the database, which is closed next. Queued writes are stored
    // nevertheless.
    tasks.shutdown().await;
}

/// What all connections share.
struct Server {
    app: Router,
    builder: Builder<TokioExecutor>,
    tls: Option<Arc<Tls>>,
    header_timeout: Duration,
}

impl Server {
    async fn connection(&self, stream: TcpStream, peer: IpAddr, watcher: Watcher) {
        let Some(tls) = &self.tls else {
            return self.http(stream, peer, watcher).await;
        };
        match tokio::time::timeout(self.header_timeout, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => self.http(stream, peer, watcher).await,
            Ok(Err(error)) => debug!(%peer, error = %error, "a TLS handshake failed"),
            Err(_) => debug!(%peer, "a TLS handshake timed out"),
        }
    }

    async fn http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: IpAddr,
        watcher: Watcher,
    ) {
        let activity = Activity::new();
        let service = service_fn(|request: Request<Incoming>| {
            let in_flight = activity.request();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            let app = self.app.clone();
            async move {
                let response = app.oneshot(request).await?;
                Ok::<_, Infallible>(response.map(|body| in_flight.until_sent(body)))
            }
        });
        let stream = TokioIo::new(PrefaceTimeout::new(stream, self.header_timeout));
        let connection = watcher.watch(self.builder.serve_connection(stream, service));
        tokio::select! {
            ended = connection => if let Err(error) = ended {
                debug!(%peer, error = %error, "a connection ended early");
            },
            () = activity.idle(self.header_timeout) => debug!(%peer, "an idle connection was closed"),
        }
    }
}

/// As many connections as the limit on open files permits. Raises the soft limit if necessary.
fn connections() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let (soft, hard) = (current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX));
    let wanted = MAX_CONNECTIONS as u64 + OTHER_DESCRIPTORS;
    let limit = if soft >= wanted {
        soft
    } else {
        let raised = wanted.min(hard);
        let limit = Rlimit { current: Some(raised), maximum };
        setrlimit(Resource::Nofile, limit).map_or(soft, |()| raised)
    };
    usize::try_from(limit.saturating_sub(OTHER_DESCRIPTORS))
        .unwrap_or(MAX_CONNECTIONS)
        .clamp(1, MAX_CONNECTIONS)
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Answers are small and written as a whole: waiting to fill a packet (Nagle's algorithm) only delays them.
            let _ = stream.set_nodelay(true);
            Some((stream, peer, permit))
        }
        Err(error) => {
            warn!(error = %error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}
