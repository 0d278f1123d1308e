//! Accepts connections and runs TLS, where it is on, and HTTP on them, each in a task of its own, until its slot
//! says that it must end.
//!
//! Must not: stop accepting while others are connected, or wait for a client without an end.

use std::convert::Infallible;
use std::future::Future;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::HOST;
use axum::http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::yield_now;
use tokio::time::{interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use super::auth::Peer;
use super::slots::{OpenConnections, Place, Slot, SlotLimits};
use super::tls::H2;
use super::watched::{Answering, WatchedBody, WatchedSocket};
use super::web::PortFeatures;
use super::{App, router};
use crate::render::HttpCounters;

/// The most of a request's head, and of what is read ahead. hyper takes at most 100 headers, too.
const HEAD_BYTES: u16 = 16 << 10;
/// A request that came before the answer to another was read waits for all others of its kind, so long for each:
/// scrapers send none, and floods of them, from however many clients, must leave time for others.
const PIPELINED: Duration = Duration::from_millis(2);
/// What the kernel takes of answers beyond what it can send.
const UNSENT_BYTES: u32 = 128 << 10;
/// What a client reads that speaks plain HTTP where TLS is on; Go's servers say the same.
const PLAIN_TO_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
/// How often is looked for connections that had their time.
const SWEEP: Duration = Duration::from_millis(250);
/// How long open requests may take after a stop was asked for.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// Serves until `stop` resolves, then lets open requests end.
pub async fn serve(
    listeners: Vec<TcpListener>,
    app: App,
    limits: SlotLimits,
    stop: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let slots = OpenConnections::new(limits, app.counters.clone());
    let (stop_handshakes, stopping) = watch::channel(());
    let (web, counters) = (app.web.clone(), app.counters.clone());
    web.show(&counters);
    let shared = PortShared { web, counters, stopping, turns: Arc::default(), router: router(app) };
    let accepts = listeners.iter().map(|l| Box::pin(accept(l, &shared, &graceful, &slots)));
    tokio::select! {
        _ = futures_util::future::join_all(accepts) => {}
        () = sweep(&slots) => {}
        () = shared.web.clone().follow(shared.counters.clone()) => {}
        () = stop => {}
    }
    drop(listeners);
    stop_handshakes.send_replace(());
    if timeout(DRAIN_LIMIT, graceful.shutdown()).await.is_err() {
        tracing::warn!("some clients did not end their requests within {DRAIN_LIMIT:?}");
    }
}

async fn sweep(slots: &OpenConnections) {
    let mut ticks = interval(SWEEP);
    loop {
        ticks.tick().await;
        slots.sweep();
    }
}

async fn accept(
    listener: &TcpListener,
    shared: &PortShared,
    graceful: &GracefulShutdown,
    slots: &Arc<OpenConnections>,
) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let place = slots.admit(peer.ip());
                start(stream, place, peer.ip(), shared, graceful);
                // Who came first is read first, and who must go gives its file back.
                yield_now().await;
            }
            // The client's fault, and it is gone.
            Err(e) if e.kind() == ErrorKind::ConnectionAborted => {}
            // Out of file descriptors, most likely. A connection takes a moment to give its own back.
            Err(e) => {
                tracing::debug!("cannot accept a connection: {e}");
                let pause = if slots.make_room() { 10 } else { 100 };
                sleep(Duration::from_millis(pause)).await;
            }
        }
    }
}

/// What every connection of the port shares.
#[derive(Clone)]
struct PortShared {
    router: Router,
    turns: Arc<Mutex<()>>,
    web: Arc<PortFeatures>,
    counters: HttpCounters,
    stopping: watch::Receiver<()>,
}

/// Takes a connection up: TLS where it is on, then requests, until its slot ends it.
fn start(
    stream: TcpStream,
    place: Place,
    peer: IpAddr,
    shared: &PortShared,
    graceful: &GracefulShutdown,
) {
    let _ = stream.set_nodelay(true);
    // A client that does not read costs the kernel so much, and not megabytes.
    let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES);
    let (watcher, slot) = (graceful.watcher(), place.slot.clone());
    let service = Service { shared: shared.clone(), slot: slot.clone(), peer, framed: false };
    // Each kind of connection has a task of its own size: the plain one is small.
    match shared.web.current().tls.clone() {
        None => {
            let stream = WatchedSocket::new(stream, slot);
            tokio::spawn(until_ended(place, answer(stream, service, watcher)));
        }
        Some(tls) => {
            tokio::spawn(until_ended(place, secured(stream, tls, service, watcher)));
        }
    }
}

/// Works on a connection until that ends or its slot says that it must.
async fn until_ended(place: Place, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = place.slot.ended() => {}
    }
}

/// Answers requests under TLS.
async fn secured(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    mut service: Service,
    watcher: Watcher,
) {
    // The slot has the time of the handshake: that of a request's head.
    let mut stopping = service.shared.stopping.clone();
    let stream = tokio::select! {
        stream = handshake(stream, &service.slot, tls) => stream,
        _ = stopping.changed() => return,
    };
    match stream {
        Ok(Some(stream)) if stream.get_ref().1.alpn_protocol() == Some(H2) => {
            service.framed = true;
            Box::pin(answer_frames(stream, service, watcher)).await;
        }
        Ok(Some(stream)) => answer(stream, service, watcher).await,
        Ok(None) => {}
        Err(e) => {
            service.shared.counters.handshakes_failed(1);
            tracing::debug!("a TLS handshake failed: {e}");
        }
    }
}

/// The connection under TLS; none where the client left without a byte, or speaks plain HTTP and was told so.
async fn handshake(
    mut stream: TcpStream,
    slot: &Arc<Slot>,
    tls: Arc<ServerConfig>,
) -> std::io::Result<Option<TlsStream<WatchedSocket>>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Ok(None);
    }
    if first[0].is_ascii_uppercase() {
        // What came is read, else the kernel would throw the answer away.
        let mut some = vec![0; HEAD_BYTES.into()];
        let _ = stream.read(&mut some).await?;
        stream.write_all(PLAIN_TO_TLS).await?;
        stream.shutdown().await?;
        return Err(ErrorKind::InvalidData.into());
    }
    TlsAcceptor::from(tls).accept(WatchedSocket::new(stream, slot.clone())).await.map(Some)
}

/// Answers the requests of one connection.
struct Service {
    shared: PortShared,
    slot: Arc<Slot>,
    peer: IpAddr,
    /// Whether it speaks HTTP/2.
    framed: bool,
}

impl Service {
    /// As hyper takes it.
    fn into_fn(
        self,
    ) -> impl HttpService<Incoming, ResBody = WatchedBody, Error = Infallible, Future: Send + 'static>
    {
        let Self { shared, slot, peer, framed } = self;
        let peer = Peer { address: peer, failed: Arc::default() };
        service_fn(move |mut request: Request<Incoming>| {
            let pause = !framed && slot.is_busy();
            let answering = Answering::begin(&slot);
            request.extensions_mut().insert(peer.clone());
            if framed {
                name_host(&mut request);
            }
            let (answer, turns) = (shared.router.clone().oneshot(request), shared.turns.clone());
            async move {
                if pause {
                    let turn = turns.lock().await;
                    sleep(PIPELINED).await;
                    drop(turn);
                }
                let Ok(answer) = answer.await;
                Ok::<_, Infallible>(answer.map(|body| WatchedBody::new(body, answering)))
            }
        })
    }
}

/// Answers requests in HTTP/1 until the connection ends.
async fn answer<S>(stream: S, service: Service, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = hyper::server::conn::http1::Builder::new();
    // The slot has the times; whoever only closed its side of the connection gets its answer.
    http.max_buf_size(HEAD_BYTES.into()).half_close(true);
    let connection = http.serve_connection(TokioIo::new(stream), service.into_fn());
    ended(watcher.watch(connection).await);
}

/// As [`answer`], in HTTP/2.
async fn answer_frames(stream: TlsStream<WatchedSocket>, service: Service, watcher: Watcher) {
    service.slot.speaks_frames();
    let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // One request after the other, as in HTTP/1: scrapers send no others, and what a connection may cost stays
    // what the slots bound.
    http.max_concurrent_streams(1)
        .max_header_list_size(HEAD_BYTES.into())
        .max_send_buf_size(64 << 10)
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(64 << 10);
    let connection = http.serve_connection(TokioIo::new(stream), service.into_fn());
    ended(watcher.watch(connection).await);
}

fn ended(outcome: hyper::Result<()>) {
    if let Err(e) = outcome {
        tracing::debug!("connection ended: {e}");
    }
}

/// HTTP/2 has the host in the request's address, and its clients send no `Host`.
fn name_host(request: &mut Request<Incoming>) {
    let host = request.uri().authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
    if let (false, Some(host)) = (request.headers().contains_key(HOST), host) {
        request.headers_mut().insert(HOST, host);
    }
}

#[cfg(test)]
mod tests;
