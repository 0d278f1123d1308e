//! The HTTP port under clients that mean no good: whatever they hold, health, metrics and the health check
//! of this machine answer within a second, and the process stays small.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use common::http::{self, value};
use common::process::{Process, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Nothing listens there: the port answers all the same.
const NOWHERE: &str = "postgresql://mon@127.0.0.1:1/postgres";
const METRICS: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
const HEALTHY: &[u8] = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n";
const LIMIT: Duration = Duration::from_secs(1);
/// What an attack may add to the process.
const MEMORY: u64 = 16 << 20;

async fn exporter() -> Process {
    let process = Process::serve(NOWHERE, &[]).await;
    process.wait("tried", |t| t.contains("pg_up 0")).await;
    process
}

async fn connect(to: SocketAddr, from: Ipv4Addr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
    socket.connect(to).await
}

/// What the server sends until it closes.
async fn exchange(to: SocketAddr, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    // It may close before all is sent.
    let _ = stream.write_all(sent).await;
    let mut all = Vec::new();
    let end = timeout(Duration::from_secs(20), stream.read_to_end(&mut all)).await;
    let _ = end.unwrap_or_else(|_| panic!("it does not close: {}", String::from_utf8_lossy(&all)));
    String::from_utf8(all).unwrap()
}

/// A page for a client at an address, and how long it took.
async fn page(to: SocketAddr, from: Ipv4Addr, path: &str) -> (String, Duration) {
    let start = Instant::now();
    let all = async {
        let mut stream = connect(to, from).await?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut all = String::new();
        stream.read_to_string(&mut all).await?;
        std::io::Result::Ok(all)
    };
    let all = timeout(Duration::from_secs(10), all).await;
    (all.map(Result::unwrap_or_default).unwrap_or_default(), start.elapsed())
}

/// Health and metrics within a second, for whoever holds the port and for another; and the health check.
/// A machine that is busy with other tests may delay one answer, but hardly three in a row.
async fn answers(process: &Process) {
    for from in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 9, 9, 9)] {
        for (path, want) in [("/-/healthy", "pgrunway is healthy."), ("/metrics", "\npg_up 0\n")] {
            let mut tries = Vec::new();
            loop {
                let (text, took) = page(process.address, from, path).await;
                if text.contains(want) && took < LIMIT {
                    break;
                }
                tries.push((took, text));
                assert!(tries.len() < 3, "{path} from {from}: {tries:?}");
            }
        }
    }
    let listen = format!("--web.listen-address={}", process.address);
    let mut tries = 0;
    while run(&["healthcheck", &listen, "--timeout=1s"], &[]).await.0 != 0 {
        tries += 1;
        assert!(tries < 3, "the health check of this machine fails");
    }
}

/// The metrics once they are as wanted. During an attack one answer may be lost.
async fn metrics_when(process: &Process, want: impl Fn(&str) -> bool) -> String {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let (text, _) = page(process.address, Ipv4Addr::LOCALHOST, "/metrics").await;
        if text.ends_with('\n') && want(&text) {
            return text;
        }
        assert!(Instant::now() < end, "{text}");
        sleep(Duration::from_millis(100)).await;
    }
}

fn resident(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// What one hostile connection does until it is closed.
#[derive(Clone, Copy)]
enum Attack {
    Idle,
    SlowHead,
    Kept,
    SlowReader,
    Flood,
}

async fn attack(attack: Attack, mut stream: TcpStream) -> std::io::Result<()> {
    let mut some = [0; 1024];
    match attack {
        Attack::Idle => while stream.read(&mut some).await? > 0 {},
        Attack::SlowHead => {
            for byte in METRICS.iter().cycle() {
                stream.write_all(&[*byte]).await?;
                sleep(Duration::from_secs(1)).await;
            }
        }
        Attack::Kept => {
            stream.write_all(HEALTHY).await?;
            while stream.read(&mut some).await? > 0 {}
        }
        Attack::SlowReader => {
            let (mut from, mut to) = stream.split();
            let asks = async {
                loop {
                    to.write_all(METRICS).await?;
                }
            };
            let reads = async {
                while from.read(&mut some).await? > 0 {
                    sleep(Duration::from_secs(1)).await;
                }
                Ok(())
            };
            tokio::select! { end = asks => return end, end = reads => return end }
        }
        Attack::Flood => loop {
            stream.write_all(&METRICS.repeat(100)).await?;
        },
    }
    Ok(())
}

/// Clients that attack until they are dropped; whoever is closed comes again.
struct Attackers {
    tasks: JoinSet<()>,
    /// How many have connected at least once, and how often one was closed.
    arrived: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Attackers {
    async fn start(process: &Process, kind: Attack, from: &[Ipv4Addr], each: usize) -> Self {
        let (arrived, closed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let stop = Arc::<AtomicBool>::default();
        let mut tasks = JoinSet::new();
        for n in 0..from.len() * each {
            let (from, to) = (from[n % from.len()], process.address);
            let (arrived, closed, stop) = (arrived.clone(), closed.clone(), stop.clone());
            tasks.spawn(async move {
                let mut first = true;
                while !stop.load(Relaxed) {
                    if let Ok(stream) = connect(to, from).await {
                        arrived.fetch_add(usize::from(std::mem::take(&mut first)), Relaxed);
                        let _ = attack(kind, stream).await;
                        closed.fetch_add(1, Relaxed);
                    }
                    sleep(Duration::from_secs(2)).await;
                }
            });
        }
        let attackers = Self { tasks, arrived, closed, stop };
        attackers.wait(&attackers.arrived, from.len() * each).await;
        attackers
    }

    async fn wait(&self, count: &AtomicUsize, least: usize) {
        let end = Instant::now() + Duration::from_secs(60);
        while count.load(Relaxed) < least {
            assert!(Instant::now() < end, "{} of {least}", count.load(Relaxed));
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.tasks.abort_all();
    }
}

fn closed(text: &str, reason: &str) -> f64 {
    value(text, "pgrunway_http_connections_closed_total", &[("reason", reason)]).unwrap_or(0.0)
}

/// Answers come while the attack lasts, the process stays small, and one line says what happens.
async fn outlives(kind: Attack, from: &[Ipv4Addr], each: usize, reason: &str) {
    let process = exporter().await;
    answers(&process).await;
    let before = resident(&process);
    let attackers = Attackers::start(&process, kind, from, each).await;
    let end = Instant::now() + Duration::from_secs(4);
    let mut most = 0;
    while Instant::now() < end {
        answers(&process).await;
        most = most.max(resident(&process));
    }
    attackers.wait(&attackers.closed, 1).await;
    let text = metrics_when(&process, |t| closed(t, reason) > 0.0).await;
    let open = value(&text, "pgrunway_http_connections", &[]).unwrap();
    assert!((1.0..=512.0).contains(&open), "{open}");
    assert!(most < before + MEMORY, "{} MiB more", (most - before) >> 20);
    let log = process.log();
    let lines = log.iter().filter(|l| l.contains("HTTP connection"));
    let of_reason = lines.clone().filter(|l| l.contains(&format!("reason=\"{reason}\""))).count();
    assert_eq!(of_reason, 1, "{log:#?}");
    assert!(lines.count() <= 3, "{log:#?}");
    drop(attackers);
    // All that they held is given back.
    process
        .wait("left", |t| value(t, "pgrunway_http_connections", &[]).is_some_and(|n| n < 10.0))
        .await;
}

const HERE: &[Ipv4Addr] = &[Ipv4Addr::LOCALHOST];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_sockets_hold_up_nobody() {
    outlives(Attack::Idle, HERE, 2000, "address").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_hold_up_nobody() {
    outlives(Attack::SlowHead, HERE, 1000, "address").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_connections_hold_up_nobody() {
    outlives(Attack::Kept, HERE, 1000, "address").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_hold_up_nobody() {
    outlives(Attack::SlowReader, HERE, 150, "address").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_slow_readers_are_cut_in_time() {
    let process = exporter().await;
    let before = resident(&process);
    let attackers = Attackers::start(&process, Attack::SlowReader, HERE, 50).await;
    let start = Instant::now();
    while attackers.closed.load(Relaxed) < 50 {
        answers(&process).await;
        assert!(resident(&process) < before + MEMORY);
        assert!(start.elapsed() < Duration::from_secs(90), "{:?}", attackers.closed);
        sleep(Duration::from_secs(1)).await;
    }
    // Not at once either: a scraper on a slow line has its time.
    assert!(start.elapsed() > Duration::from_secs(20), "{:?}", start.elapsed());
    metrics_when(&process, |t| closed(t, "answer") >= 50.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_requests_holds_up_nobody() {
    outlives(Attack::Flood, HERE, 150, "address").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_addresses_hold_up_nobody() {
    let from: Vec<Ipv4Addr> = (0..120).map(|n| Ipv4Addr::new(127, 1, n, 1)).collect();
    outlives(Attack::Kept, &from, 6, "total").await;
    outlives(Attack::SlowReader, &from, 6, "total").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_open_files_are_enough() {
    let address = "--web.listen-address=127.0.0.1:0";
    let env = [("DATA_SOURCE_NAME", NOWHERE)];
    let process = Process::start_with_files(48, &["serve", address], &env).await;
    process.wait("tried", |t| t.contains("pg_up 0")).await;
    let from: Vec<Ipv4Addr> = (0..40).map(|n| Ipv4Addr::new(127, 1, n, 1)).collect();
    let attackers = Attackers::start(&process, Attack::Kept, &from, 5).await;
    for _ in 0..5 {
        answers(&process).await;
    }
    let text = metrics_when(&process, |t| closed(t, "total") > 0.0).await;
    assert_eq!(value(&text, "process_max_fds", &[]), Some(48.0));
    assert!(value(&text, "pgrunway_http_connections", &[]).unwrap() <= 16.0);
    drop(attackers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_is_one_request() {
    let process = exporter().await;
    let inner = "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n";
    let count = |text: &str| text.matches("HTTP/1.").count();
    for head in [
        // A body of ours is never read on as a request.
        format!("GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", inner.len()),
        "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n01234".to_owned(),
        "GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\n"
            .to_owned(),
    ] {
        let got = exchange(process.address, format!("{head}{inner}").as_bytes()).await;
        assert_eq!(count(&got), 1, "{head}: {got}");
        assert!(got.to_ascii_lowercase().contains("connection: close"), "{head}: {got}");
    }
    for (fault, status) in [
        ("GET /metrics HTTP/1.1\r\n\r\n", "400"),
        ("GET /metrics HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "400"),
        ("GET /metrics HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", "400"),
        ("GET /metrics HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n", "400"),
        ("GET /metrics HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", "400"),
        ("GET /metrics HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", "400"),
        ("GET /m etrics HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("GET /metrics HTTP/3.7\r\nHost: x\r\n\r\n", "400"),
        ("\u{1}\u{2}\u{3}\r\n\r\n", "400"),
        (
            "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "400",
        ),
        ("GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "400"),
        ("GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "400"),
        ("GET /metrics HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
    ] {
        // With `Connection: close` where the request itself is well formed.
        let sent = fault.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        let got = exchange(process.address, format!("{sent}{inner}").as_bytes()).await;
        assert!(
            got.starts_with(&format!("HTTP/1.1 {status}")) || got.starts_with("HTTP/1.0 400"),
            "{fault}: {got}"
        );
        assert_eq!(count(&got), 1, "{fault}: {got}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_is_bounded_in_bytes_and_headers() {
    let process = exporter().await;
    let before = resident(&process);
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    for (head, statuses) in [
        (
            format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(20_000)),
            ["431", ""],
        ),
        (format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{many}\r\n"), ["431", ""]),
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(100_000)), ["414", "431"]),
        ("G".repeat(100_000), ["431", "400"]),
        ("GET /metrics HTTP/1.1\r\nHost: x\r\nX: ".to_owned() + &"y".repeat(5 << 20), ["431", ""]),
    ] {
        let got = exchange(process.address, head.as_bytes()).await;
        let status = got.split(' ').nth(1).unwrap_or("");
        assert!(statuses.contains(&status), "{status:?} for {}", &head[..40]);
    }
    let most = format!("GET /-/healthy HTTP/1.0\r\nX: {}\r\n\r\n", "y".repeat(8_000));
    assert!(exchange(process.address, most.as_bytes()).await.starts_with("HTTP/1.0 200"));
    assert!(resident(&process) < before + MEMORY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_0_and_clients_that_close_their_side_are_answered() {
    let process = exporter().await;
    let old = exchange(process.address, b"GET /metrics HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200") && old.contains("\npg_up 0\n"), "{old}");
    // The body ends with the connection or has a length: 1.0 knows no chunks.
    assert!(!old.to_ascii_lowercase().contains("transfer-encoding"), "{old}");
    let mut stream = TcpStream::connect(process.address).await.unwrap();
    let kept = b"GET /-/healthy HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    stream.write_all(kept).await.unwrap();
    let mut some = [0; 1024];
    let n = stream.read(&mut some).await.unwrap();
    assert!(String::from_utf8_lossy(&some[..n]).to_ascii_lowercase().contains("keep-alive"));
    stream.write_all(b"GET /-/healthy HTTP/1.0\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.starts_with("HTTP/1.0 200"), "{rest}");

    // A format that nobody asked for takes its time to render, and the answer comes all the same.
    let mut half = TcpStream::connect(process.address).await.unwrap();
    let asked = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\n\r\n";
    half.write_all(asked).await.unwrap();
    half.shutdown().await.unwrap();
    let mut all = String::new();
    timeout(Duration::from_secs(5), half.read_to_string(&mut all)).await.unwrap().unwrap();
    assert!(all.starts_with("HTTP/1.1 200") && all.ends_with("# EOF\n"), "{all}");
    // Whoever closes without a request is not waited for.
    let mut silent = TcpStream::connect(process.address).await.unwrap();
    silent.shutdown().await.unwrap();
    let start = Instant::now();
    assert_eq!(timeout(Duration::from_secs(5), silent.read(&mut some)).await.unwrap().unwrap(), 0);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(http::get(process.address, "/-/healthy").await.status, 200);
}
