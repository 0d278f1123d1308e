//! What a scrape costs: `cargo bench --bench scrape` (needs nginx and wrk: `scripts/deps bench`).
//!
//! A real PostgreSQL with enough tables for 10,000 series, the exporter polling it all the while, and
//! then: one scraper's latencies, and the throughput of 50 scrapers beside nginx serving the same
//! bytes as a file, in pairs, plain and gzip'd; then what TLS and a password add to a scrape over a kept
//! connection, in pairs with the plain one (alone with `-- --secure`). Last, the statements that reached the database while
//! nobody scraped and while 50 did.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic and prints")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::http;
use common::process::Process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const TABLES: usize = 800;
const SERIES: usize = 10_000;
const SCRAPERS: &str = "50";
const ROUND: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    for n in 0..TABLES {
        let sql = format!(
            "CREATE TABLE t{n} (id bigint PRIMARY KEY, symbol text, at timestamptz); \
             CREATE INDEX ON t{n} (symbol, at); INSERT INTO t{n} VALUES ({n}, 'BTC/USDT', now())"
        );
        admin.batch_execute(&sql).await.unwrap();
    }
    let intervals: Vec<String> = pgrunway::collectors::ALL
        .iter()
        .map(|c| format!("--collector.{}.interval=1s", c.name()))
        .collect();
    let intervals: Vec<&str> = intervals.iter().map(String::as_str).collect();
    let dsn = cluster.uri("mon", "postgres");
    let process = Process::serve(&dsn, &intervals).await;
    let series = |t: &str| t.lines().filter(|l| !l.starts_with('#')).count();
    let text = process.wait("enough series", |t| series(t) >= SERIES).await;
    println!("series: {}, {} bytes plain", series(&text), text.len());

    for (name, coding) in [("plain", "identity"), ("gzip", "gzip")] {
        secured(&dsn, &intervals, process.address, (name, coding)).await;
    }
    if std::env::args().any(|arg| arg == "--secure") {
        return;
    }
    for (name, coding) in [("plain", "identity"), ("gzip", "gzip")] {
        let took = one_scraper(process.address, coding, Duration::from_secs(10));
        let at = |share: usize| took[(took.len() - 1) * share / 100].as_secs_f64() * 1e3;
        println!(
            "one scraper, {name}: {} scrapes, p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            took.len(),
            at(50),
            at(99),
            at(100)
        );
    }

    let gzip = [("Accept-Encoding", "gzip")];
    let page = http::request(process.address, "GET", "/metrics", &[]).await;
    let zipped = http::request(process.address, "GET", "/metrics", &gzip).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("metrics"), &page.body).unwrap();
    std::fs::write(dir.path().join("metrics.gz"), &zipped.body).unwrap();
    let nginx = Nginx::start(dir.path());
    let ours = format!("http://{}/metrics", process.address);
    for (name, coding, file) in [("plain", "identity", "metrics"), ("gzip", "gzip", "metrics.gz")] {
        let theirs = format!("http://{}/{file}", nginx.address);
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let (a, b) = (wrk(&ours, coding), wrk(&theirs, coding));
            println!("{SCRAPERS} scrapers, {name}: {a:.0} scrapes/s, nginx {b:.0}/s");
            ratios.push(a / b);
        }
        ratios.sort_by(f64::total_cmp);
        println!("{SCRAPERS} scrapers, {name}: median ratio to nginx {:.2}", ratios[ROUNDS / 2]);
    }

    let calls = || async {
        let sql = "SELECT sum(calls)::float8 FROM pg_stat_statements s JOIN pg_roles r ON r.oid = \
                   s.userid WHERE r.rolname = 'mon'";
        admin.query_one(sql, &[]).await.unwrap().get::<_, f64>(0)
    };
    for scrape in [false, true] {
        let before = calls().await;
        let scrapes = if scrape {
            wrk(&ours, "gzip") * ROUND.as_secs_f64()
        } else {
            tokio::time::sleep(ROUND).await;
            0.0
        };
        let made = calls().await - before;
        println!("{scrapes:.0} scrapes in {ROUND:?}: {made:.0} statements by the exporter's role");
    }
}

/// What TLS and a password add to a scrape: both over kept connections, in turns. What the client deciphers counts.
async fn secured(dsn: &str, intervals: &[&str], plain: SocketAddr, (name, coding): (&str, &str)) {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    write("server.pem", &certificate.pem());
    write("server.key", &key.serialize_pem());
    let tls = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";
    let hash = bcrypt::hash("secret", 10).unwrap();
    write("web.yml", &format!("{tls}basic_auth_users:\n  alice: {hash}\n"));
    let file = format!("--web.config.file={}", dir.path().join("web.yml").display());
    let process = Process::serve(dsn, &[intervals, &[file.as_str()]].concat()).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let session = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap());
    let socket = TcpStream::connect(process.address).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut secure = rustls::StreamOwned::new(session.unwrap(), InPieces::new(socket));
    let mut open = TcpStream::connect(plain).unwrap();
    open.set_nodelay(true).unwrap();
    // alice:secret
    let password = "Authorization: Basic YWxpY2U6c2VjcmV0\r\n";
    let requests = [request(plain, coding, ""), request(process.address, coding, password)];
    let mut buffer = vec![0; 16 << 20];
    let (mut took, end) = ([Vec::new(), Vec::new()], Instant::now() + Duration::from_secs(20));
    // Both exporters have as much to say by then.
    let warm = Instant::now() + Duration::from_secs(10);
    let mut bytes = [0; 2];
    while Instant::now() < end {
        let pair = [
            scrape(&mut open, &requests[0], &mut buffer),
            scrape(&mut secure, &requests[1], &mut buffer),
        ];
        bytes = pair.map(|(_, bytes)| bytes);
        if Instant::now() > warm {
            for (all, (one, _)) in took.iter_mut().zip(pair) {
                all.push(one.as_secs_f64() * 1e3);
            }
        }
    }
    let mut ratios: Vec<f64> =
        took[1].iter().zip(&took[0]).map(|(tls, plain)| tls / plain).collect();
    for all in took.iter_mut().chain([&mut ratios]) {
        all.sort_by(f64::total_cmp);
    }
    let at = |all: &[f64], share: usize| all[(all.len() - 1) * share / 100];
    println!(
        "TLS and password, {name}: {} pairs of {bytes:?} bytes, plain p50 {:.2} ms p99 {:.2} ms, secure p50 {:.2} ms \
         p99 {:.2} ms, ratio p50 {:.2}",
        ratios.len(),
        at(&took[0], 50),
        at(&took[0], 99),
        at(&took[1], 50),
        at(&took[1], 99),
        at(&ratios, 50),
    );
}

/// A socket that is read in large pieces, as the plain client reads its own: rustls alone asks for 4 KiB at a time.
struct InPieces(BufReader<TcpStream>);

impl InPieces {
    fn new(socket: TcpStream) -> Self {
        Self(BufReader::with_capacity(1 << 20, socket))
    }
}

impl Read for InPieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for InPieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn write_vectored(&mut self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.get_mut().write_vectored(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}

fn request(address: SocketAddr, coding: &str, header: &str) -> String {
    format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nAccept-Encoding: {coding}\r\n{header}\r\n")
}

/// One scrape over a kept connection: how long it took, and its bytes.
fn scrape(stream: &mut (impl Read + Write), request: &str, buffer: &mut [u8]) -> (Duration, usize) {
    let start = Instant::now();
    stream.write_all(request.as_bytes()).unwrap();
    let (mut filled, mut whole) = (0, None);
    while whole.is_none_or(|w| filled < w) {
        filled += stream.read(&mut buffer[filled..]).unwrap();
        if whole.is_none() {
            let head = buffer[..filled].windows(4).position(|w| w == b"\r\n\r\n");
            whole = head.map(|head| {
                let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
                assert!(text.starts_with("http/1.1 200"), "{text}");
                let length = text.split("content-length: ").nth(1).unwrap();
                head + 4 + length.lines().next().unwrap().parse::<usize>().unwrap()
            });
        }
    }
    (start.elapsed(), filled)
}

/// Scrapes over one kept connection; the sorted durations.
fn one_scraper(address: SocketAddr, coding: &str, over: Duration) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let (request, mut buffer) = (request(address, coding, ""), vec![0; 16 << 20]);
    let mut took = Vec::new();
    let end = Instant::now() + over;
    while Instant::now() < end {
        took.push(scrape(&mut stream, &request, &mut buffer).0);
    }
    took.sort();
    took
}

/// Requests a second that wrk gets.
fn wrk(url: &str, coding: &str) -> f64 {
    let out = Command::new("wrk")
        .args(["-t1", "-c", SCRAPERS, "-d", &format!("{}s", ROUND.as_secs()), "-H"])
        .arg(format!("Accept-Encoding: {coding}"))
        .arg(url)
        .output()
        .expect("wrk is needed: scripts/deps bench installs it");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(!text.contains("Non-2xx"), "{text}");
    let rate = text.lines().find_map(|l| l.trim().strip_prefix("Requests/sec:"));
    rate.unwrap_or_else(|| panic!("{text}")).trim().parse().unwrap()
}

/// nginx on a free port of loopback, serving a folder; stopped when dropped.
struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    fn start(root: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let dir = root.display();
        // Workers that may read the private folder.
        let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
        let conf = format!(
            "{user} daemon off; worker_processes auto; pid {dir}/pid; error_log {dir}/error.log; \
             events {{ worker_connections 512; }} http {{ access_log off; sendfile on; \
             tcp_nopush on; keepalive_requests 1000000; default_type text/plain; \
             client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; \
             uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s; \
             server {{ listen {address}; root {dir}; \
             location = /metrics.gz {{ add_header Content-Encoding gzip; }} }} }}"
        );
        let file = root.join("nginx.conf");
        std::fs::write(&file, conf).unwrap();
        let debian = Path::new("/usr/sbin/nginx");
        let child = Command::new(if debian.exists() { debian } else { Path::new("nginx") })
            .arg("-p")
            .arg(root)
            .arg("-c")
            .arg(&file)
            .arg("-e")
            .arg(root.join("error.log"))
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx is needed: scripts/deps bench installs it");
        let end = Instant::now() + Duration::from_secs(5);
        while TcpStream::connect(address).is_err() {
            let log = std::fs::read_to_string(root.join("error.log")).unwrap_or_default();
            assert!(Instant::now() < end, "nginx does not listen: {log}");
            std::thread::yield_now();
        }
        Self { child, address }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
