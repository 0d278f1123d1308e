//! Peers that fall silent at each stage: every one has a deadline, and none costs more than that.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgrunway::config::{Endpoint, Password, Secret, SslMode};
use pgrunway::error::{CollectError, ConnectError};
use pgrunway::pg::{Clock, Query, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

async fn fails_within(sslmode: SslMode, port: u16, limit: Duration) -> ConnectError {
    let endpoint = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port };
    let mut connect = common::connect_to(endpoint, "mon");
    connect.sslmode = sslmode;
    let start = Instant::now();
    let result = Session::connect(&connect, None, Arc::new(common::hasty()), Clock::start()).await;
    assert!(start.elapsed() < limit, "{:?}", start.elapsed());
    result.err().unwrap()
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let e = fails_within(SslMode::Disable, port, Duration::from_secs(4)).await;
    assert!(matches!(&e, ConnectError::Timeout { stage: "start-up", .. }), "{e}");
}

#[tokio::test]
async fn a_tls_handshake_that_never_ends_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 8];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(b"S").await.unwrap();
        std::future::pending::<()>().await;
    });
    let e = fails_within(SslMode::Require, port, Duration::from_secs(2)).await;
    assert!(matches!(&e, ConnectError::Timeout { stage: "the TLS handshake", .. }), "{e}");
}

/// Forwards to the server until it is told to go silent, as a network that drops all packets does.
async fn proxy(to: u16) -> (u16, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (silence, silent) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut silent = silent.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    gone = async { silent.wait_for(|s| *s).await.is_ok() } => assert!(gone),
                }
                // Both sockets stay open, and nobody reads them.
                std::future::pending::<()>().await;
            });
        }
    });
    (port, silence)
}

#[tokio::test]
async fn a_network_that_swallows_everything_costs_one_deadline() {
    let cluster = common::server().await;
    let (port, silence) = proxy(cluster.port()).await;
    let endpoint = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port };
    let mut connect = common::connect_to(endpoint, "mon");
    connect.password = Password::Literal(Secret::new("mon"));
    let session =
        Session::connect(&connect, None, Arc::new(common::hasty()), Clock::start()).await.unwrap();
    silence.send_replace(true);
    let start = Instant::now();
    let e = session.read("SELECT 1 AS one").await.err().unwrap();
    assert!(matches!(e, CollectError::Deadline(_)), "{e}");
    assert!(start.elapsed() < Duration::from_secs(4) && session.is_broken());
    // Saying goodbye to a silent peer is bounded too.
    let start = Instant::now();
    session.close().await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_frozen_backend_costs_one_deadline() {
    let cluster = common::server().await;
    let connect = common::connect(&cluster, "mon");
    let session =
        Session::connect(&connect, None, Arc::new(common::hasty()), Clock::start()).await.unwrap();
    let pid = session.read("SELECT pg_catalog.pg_backend_pid() AS pid").await.unwrap()[0]
        .get::<i32>("pid")
        .unwrap();
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    let start = Instant::now();
    let e = session.read("SELECT 1 AS one").await.err().unwrap();
    assert!(matches!(e, CollectError::Deadline(_)) && session.is_broken(), "{e}");
    assert!(start.elapsed() < Duration::from_secs(4));
    kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
}

#[tokio::test]
async fn work_that_only_takes_too_long_is_cancelled_and_costs_no_session() {
    let cluster = common::server().await;
    let connect = common::connect(&cluster, "mon");
    let session =
        Session::connect(&connect, None, Arc::new(common::hasty()), Clock::start()).await.unwrap();
    // Each statement stays below statement_timeout, all together overrun our deadline.
    let queries: Vec<Query> = (0..6).map(|_| "SELECT pg_catalog.pg_sleep(0.4)".into()).collect();
    let e = session.read_all(&queries).await.err().unwrap();
    assert!(
        matches!(&e, CollectError::ServerTimeout { sqlstate, .. } if sqlstate == "57014"),
        "{e}"
    );
    assert!(!session.is_broken());
    assert_eq!(session.read("SELECT 1 AS one").await.unwrap()[0].get::<i32>("one").unwrap(), 1);
}
