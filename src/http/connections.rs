//! Accepts connections and runs HTTP/1 on them, each in a task of its own, until its slot says that it must end.
//!
//! Must not: stop accepting while others are connected, or wait for a client without an end.

use std::convert::Infallible;
use std::future::Future;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::yield_now;
use tokio::time::{interval, sleep, timeout};
use tower::ServiceExt;

use super::slots::{Limits, Place, Slots};
use super::watched::{Answer, Answering, Socket};
use super::{App, router};

/// The most of a request's head, and of what is read ahead. hyper takes at most 100 headers, too.
const HEAD_BYTES: usize = 16 << 10;
/// A request that came before the answer to another was read waits for all others of its kind, so long for each:
/// scrapers send none, and floods of them, from however many clients, must leave time for others.
const PIPELINED: Duration = Duration::from_millis(2);
/// What the kernel takes of answers beyond what it can send.
const UNSENT_BYTES: u32 = 128 << 10;
/// How often is looked for connections that had their time.
const SWEEP: Duration = Duration::from_millis(250);
/// How long open requests may take after a stop was asked for.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// Serves until `stop` resolves, then lets open requests end.
pub async fn serve(
    listeners: Vec<TcpListener>,
    app: App,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let slots = Slots::new(limits, app.counters.clone());
    let (router, turns) = (router(app), Arc::default());
    let accepts = listeners.iter().map(|l| Box::pin(accept(l, &router, &turns, &graceful, &slots)));
    tokio::select! {
        _ = futures_util::future::join_all(accepts) => {}
        () = sweep(&slots) => {}
        () = stop => {}
    }
    drop(listeners);
    if timeout(DRAIN_LIMIT, graceful.shutdown()).await.is_err() {
        tracing::warn!("some clients did not end their requests within {DRAIN_LIMIT:?}");
    }
}

async fn sweep(slots: &Slots) {
    let mut ticks = interval(SWEEP);
    loop {
        ticks.tick().await;
        slots.sweep();
    }
}

async fn accept(
    listener: &TcpListener,
    router: &Router,
    turns: &Arc<Mutex<()>>,
    graceful: &GracefulShutdown,
    slots: &Arc<Slots>,
) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let place = slots.admit(peer.ip());
                start(stream, place, router.clone(), turns.clone(), graceful);
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

fn start(
    stream: TcpStream,
    place: Place,
    router: Router,
    turns: Arc<Mutex<()>>,
    graceful: &GracefulShutdown,
) {
    let _ = stream.set_nodelay(true);
    // A client that does not read costs the kernel so much, and not megabytes.
    let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES);
    let slot = place.slot.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let pause = slot.is_busy();
        let answering = Answering::begin(&slot);
        let (answer, turns) = (router.clone().oneshot(request), turns.clone());
        async move {
            if pause {
                let turn = turns.lock().await;
                sleep(PIPELINED).await;
                drop(turn);
            }
            let Ok(answer) = answer.await;
            Ok::<_, Infallible>(answer.map(|body| Answer::new(body, answering)))
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    // The slot has the times; whoever only closed its side of the connection gets its answer.
    http.max_buf_size(HEAD_BYTES).half_close(true);
    let socket = TokioIo::new(Socket::new(stream, place.slot.clone()));
    let connection = graceful.watch(http.serve_connection(socket, service));
    tokio::spawn(async move {
        tokio::select! {
            outcome = connection => {
                if let Err(e) = outcome {
                    tracing::debug!("connection ended: {e}");
                }
            }
            () = place.slot.ended() => {}
        }
    });
}

#[cfg(test)]
mod tests;
