//! `GET /metrics` over HTTP/1.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{debug, info, warn};

use crate::output::prometheus::CONTENT_TYPE as TEXT;

/// How many connections are served at once.
const CONNECTIONS: usize = 16;
/// A request's head must arrive within this time; otherwise the connection is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is closed after this time.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(5);
/// Pause after a failed accept, until there is room for another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Channel for an answer.
type Reply = oneshot::Sender<String>;

/// Requests for metrics, which the measuring loop answers.
#[derive(Debug)]
pub(super) struct Scrapes(Option<mpsc::Receiver<Reply>>);

impl Scrapes {
    /// Waits for the next request. Cancel-safe.
    pub(super) async fn next(&mut self) -> Reply {
        match &mut self.0 {
            Some(requests) => match requests.recv().await {
                Some(reply) => reply,
                None => pending().await,
            },
            None => pending().await,
        }
    }
}

/// Starts listening, unless there is no address.
pub(super) async fn start(address: Option<SocketAddr>) -> anyhow::Result<Scrapes> {
    let Some(address) = address else { return Ok(Scrapes(None)) };
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on --metrics-addr {address}; another address or none is accepted")
    })?;
    let address = listener.local_addr()?;
    info!(%address, "metrics are served");
    let (requests, receiver) = mpsc::channel(CONNECTIONS);
    tokio::spawn(async move {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let requests = requests.clone();
                    tokio::spawn(async move {
                        let _ = tokio::time::timeout(CONNECTION_TIMEOUT, serve(stream, requests)).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "a connection for metrics cannot be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    });
    Ok(Scrapes(Some(receiver)))
}

async fn serve(stream: TcpStream, requests: mpsc::Sender<Reply>) {
    let service = service_fn(|request: Request<Incoming>| {
        let requests = requests.clone();
        async move { Ok::<_, Infallible>(answer(&request, &requests).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        debug!(%error, "a connection for metrics ended");
    }
}

async fn answer(request: &Request<Incoming>, requests: &mpsc::Sender<Reply>) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "The only path is /metrics.\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET /metrics\n");
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let (reply, text) = oneshot::channel();
    if requests.send(reply).await.is_err() {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "The collector is stopping.\n");
    }
    let Ok(text) = text.await else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "The collector is stopping.\n");
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(TEXT));
    response
}
