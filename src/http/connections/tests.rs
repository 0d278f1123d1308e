//! Connections over real sockets, with limits short enough to wait for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::*;
use crate::config::ConsoleAccess;
use crate::console::Console;
use crate::metric::{Metric, Sink};
use crate::render::{Format, Pages, Publisher, Renderer};
use crate::snapshot::Snapshot;

static WIDE: Metric = Metric::gauge("pg_wide", &["label"], "Wide.");
static CATALOGUE: &[&Metric] = &[&WIDE];

fn limits() -> SlotLimits {
    SlotLimits {
        total: 64,
        per_address: 16,
        head: Duration::from_secs(1),
        idle: Duration::from_secs(4),
        answer: Duration::from_secs(2),
        held: 16 << 20,
    }
}

/// A server whose page has about so many MiB.
async fn server(mib: usize) -> (SocketAddr, Pages, Publisher) {
    server_with(mib, limits()).await
}

async fn server_with(mib: usize, limits: SlotLimits) -> (SocketAddr, Pages, Publisher) {
    let mut sink = Sink::new(CATALOGUE, 64);
    for n in 0..mib {
        sink.number(&WIDE, &[&format!("{n}{}", "x".repeat(1 << 20))], 1.0);
    }
    let families = sink.finish().0.into_iter().map(Arc::new).collect();
    let snapshot = Arc::new(Snapshot { families, tried: true, ..Snapshot::default() });
    let renderer = Renderer::new().unwrap();
    let counters = renderer.http_counters();
    let (publisher, pages) = Publisher::new(renderer, snapshot.clone());
    let (_snapshots, snapshots) = watch::channel(snapshot);
    let on_demand = publisher.on_demand();
    let telemetry_path = "/metrics".into();
    let app = App {
        pages: pages.clone(),
        snapshots,
        targets: Arc::new(Arc::default),
        on_demand,
        counters,
        console: Console {
            access: ConsoleAccess::On,
            hours: Arc::default(),
            settings: Arc::new(Arc::default),
            telemetry: "/metrics".into(),
        },
        telemetry_path,
        reload: None,
        web: Arc::new(PortFeatures::load(None).unwrap()),
        probe: Arc::new(|_| {
            let refused = crate::http::NotProbed { status: 403, text: String::new() };
            Box::pin(std::future::ready(Err(refused)))
        }),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(vec![listener], app, limits, std::future::pending()));
    (address, pages, publisher)
}

const HEALTHY: &[u8] = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n";

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// What else comes until the connection ends, and when that was.
async fn rest(stream: &mut TcpStream) -> (Vec<u8>, Duration) {
    let start = Instant::now();
    let mut all = Vec::new();
    let end = timeout(Duration::from_secs(30), stream.read_to_end(&mut all)).await;
    let _ = end.expect("the connection ends");
    (all, start.elapsed())
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut all = vec![0; 4096];
    let n = timeout(Duration::from_secs(10), stream.read(&mut all)).await.unwrap().unwrap();
    String::from_utf8_lossy(&all[..n]).into_owned()
}

/// How many connections were closed for a reason, as the exporter itself counts them.
async fn closed(publisher: &Publisher, pages: &Pages, reason: &str) -> f64 {
    publisher.publish(Arc::new(Snapshot::default())).await;
    let page = pages.get(Format::Text, false).await.unwrap();
    let name = format!("pgrunway_http_connections_closed_total{{reason=\"{reason}\"}} ");
    let text = std::str::from_utf8(&page).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    // More in all than the kernel buffers between the two.
    let (address, pages, publisher) = server(64).await;
    let mut client = connect(address).await;
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut other = connect(address).await;
    // Nothing is read before the end: the answers are what the kernel has of them.
    while closed(&publisher, &pages, "answer").await < 1.0 {
        other.write_all(HEALTHY).await.unwrap();
        assert!(answer(&mut other).await.starts_with("HTTP/1.1 200"));
        sleep(Duration::from_millis(100)).await;
    }
    assert!(rest(&mut client).await.0.len() < 64 << 20, "the whole page came after all");
}

#[tokio::test]
async fn a_slow_reader_of_many_answers_does_not_keep_its_place() {
    let (address, pages, publisher) = server(1).await;
    let mut client = connect(address).await;
    let (mut from, mut to) = client.split();
    let start = Instant::now();
    let asks = async {
        // It stops when the connection ends.
        while to.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.is_ok() {}
    };
    let reads = async {
        let mut some = [0; 1024];
        while matches!(from.read(&mut some).await, Ok(n) if n > 0) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(30), async { tokio::join!(asks, reads) }).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(closed(&publisher, &pages, "answer").await, 1.0);
}

#[tokio::test]
async fn a_pipelining_client_must_pause() {
    let (address, pages, publisher) = server(0).await;
    let mut client = connect(address).await;
    let (mut from, mut to) = client.split();
    // Faster than it is answered, so that there is always a next request.
    let flood = HEALTHY.repeat(20_000);
    let asks = async { while to.write_all(&flood).await.is_ok() {} };
    let reads = async {
        let mut some = vec![0; 1 << 16];
        while matches!(from.read(&mut some).await, Ok(n) if n > 0) {}
    };
    timeout(Duration::from_secs(30), async { tokio::join!(asks, reads) }).await.unwrap();
    assert_eq!(closed(&publisher, &pages, "answer").await, 1.0);
}

#[tokio::test]
async fn a_head_has_its_time_on_a_new_and_on_a_kept_connection() {
    let (address, pages, publisher) = server(0).await;
    for first in [&b""[..], HEALTHY] {
        let mut client = connect(address).await;
        client.write_all(first).await.unwrap();
        if !first.is_empty() {
            assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
        }
        let start = Instant::now();
        // A byte from time to time does not help.
        while client.write_all(b"G").await.is_ok() && start.elapsed() < Duration::from_secs(20) {
            sleep(Duration::from_millis(50)).await;
        }
        let took = start.elapsed();
        assert!(took < Duration::from_secs(15), "{took:?}");
    }
    assert_eq!(closed(&publisher, &pages, "head").await, 2.0);
    let mut silent = connect(address).await;
    let (nothing, took) = rest(&mut silent).await;
    assert!(nothing.is_empty() && took < Duration::from_secs(15), "{took:?}");
    assert_eq!(closed(&publisher, &pages, "idle").await, 1.0);
}

#[tokio::test]
async fn a_kept_connection_outlives_the_limits_of_its_requests() {
    let (address, pages, publisher) = server(0).await;
    let mut client = connect(address).await;
    for _ in 0..4 {
        client.write_all(HEALTHY).await.unwrap();
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
        sleep(Duration::from_millis(1300)).await;
    }
    for reason in ["head", "answer", "idle"] {
        assert_eq!(closed(&publisher, &pages, reason).await, 0.0, "{reason}");
    }
    let (nothing, _) = rest(&mut client).await;
    assert!(nothing.is_empty());
    assert_eq!(closed(&publisher, &pages, "idle").await, 1.0);
}

#[tokio::test]
async fn a_page_that_was_read_late_leaves_an_idle_connection() {
    // The kernel takes the page in several steps; after the last the connection is idle, not busy.
    // Limits that a busy machine keeps to.
    let (answer_limit, idle) = (Duration::from_secs(15), Duration::from_secs(60));
    let limits = SlotLimits { answer: answer_limit, idle, ..limits() };
    let (address, pages, publisher) = server_with(16, limits).await;
    let mut client = connect(address).await;
    let page = pages.get(Format::Text, false).await.unwrap().len();
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(500)).await;
    let (mut read, mut some) = (0, vec![0; 1 << 20]);
    while read < page {
        read += timeout(Duration::from_secs(10), client.read(&mut some)).await.unwrap().unwrap();
    }
    sleep(answer_limit + Duration::from_millis(500)).await;
    client.write_all(HEALTHY).await.unwrap();
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
    assert_eq!(closed(&publisher, &pages, "answer").await, 0.0);
}

#[tokio::test]
async fn the_oldest_idle_connection_of_an_address_goes_first() {
    let (address, pages, publisher) = server(0).await;
    let mut kept = Vec::new();
    for n in 0..20 {
        let mut client = connect(address).await;
        client.write_all(HEALTHY).await.unwrap();
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"), "{n}");
        kept.push(client);
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(closed(&publisher, &pages, "address").await, 4.0);
    for (n, mut client) in kept.into_iter().enumerate() {
        let alive = client.write_all(HEALTHY).await.is_ok()
            && answer_or_end(&mut client).await.starts_with("HTTP/1.1 200");
        assert_eq!(alive, n >= 4, "{n}");
    }
}

async fn answer_or_end(stream: &mut TcpStream) -> String {
    let mut all = vec![0; 4096];
    let n = timeout(Duration::from_secs(10), stream.read(&mut all)).await.unwrap().unwrap_or(0);
    String::from_utf8_lossy(&all[..n]).into_owned()
}
