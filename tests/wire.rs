//! Servers and poolers that send too much: the real binary against a hostile server that speaks the protocol by hand,
//! with and without TLS. None costs it more than 16 MiB, a loop of reconnects, or a log that grows.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and shows its figures"
)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::http;
use common::process::Process;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What one attack may cost, in bytes.
const MOST: u64 = 16 << 20;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// A type and a length, whatever follows.
fn header(tag: u8, length: i32) -> Vec<u8> {
    [&[tag], &length.to_be_bytes()[..]].concat()
}

fn status(name: &str, value: &str) -> Vec<u8> {
    message(b'S', format!("{name}\0{value}\0").as_bytes())
}

fn error(text: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0C28P01\0M{text}\0\0").as_bytes())
}

/// A description of `columns` columns of one type.
fn description(columns: u16, oid: u32) -> Vec<u8> {
    let mut body = columns.to_be_bytes().to_vec();
    for _ in 0..columns {
        body.extend(b"x\0");
        body.extend([0; 6]);
        body.extend(oid.to_be_bytes());
        body.extend([0; 8]);
    }
    message(b'T', &body)
}

fn row(value: &[u8]) -> Vec<u8> {
    let length = i32::try_from(value.len()).unwrap();
    message(b'D', &[&1u16.to_be_bytes()[..], &length.to_be_bytes(), value].concat())
}

/// Up to the first query, as a server of this version.
fn welcome(version: &str) -> Vec<u8> {
    let mut all = message(b'R', &[0; 4]);
    all.extend(status("server_version", version));
    all.extend(message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]));
    all.extend(message(b'Z', b"I"));
    all
}

/// The answer to the BEGIN of a transaction, and to what stands before the rows of the query in it.
fn begun(oid: u32) -> Vec<u8> {
    let mut all = message(b'C', b"BEGIN\0");
    all.extend(message(b'C', b"SELECT 1\0"));
    all.extend(message(b'Z', b"T"));
    all.extend([message(b'1', b""), message(b'2', b""), description(1, oid)].concat());
    all
}

/// One way to send too much: what comes first, and what then is repeated without an end.
struct Attack {
    name: &'static str,
    /// Sent before anything is asked.
    first: Vec<u8>,
    /// Sent once the client has asked.
    then: Vec<u8>,
    /// Repeated: the number makes each differ.
    flood: Box<dyn Fn(u64) -> Vec<u8> + Send + Sync>,
}

fn attack(
    name: &'static str,
    first: Vec<u8>,
    then: Vec<u8>,
    flood: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static,
) -> Attack {
    Attack { name, first, then, flood: Box::new(flood) }
}

const TEXT: u32 = 25;

fn attacks() -> Vec<Attack> {
    let ready = || welcome("15.1");
    let filler = |_| vec![b'x'; 65_536];
    let huge = i32::MAX;
    vec![
        attack("an authentication of 2 GB", header(b'R', huge), Vec::new(), filler),
        attack("an error of 100 MB", header(b'E', 100 << 20), Vec::new(), filler),
        attack("authentication without an end", Vec::new(), Vec::new(), |_| message(b'R', &[0; 4])),
        attack("parameters at the start", message(b'R', &[0; 4]), Vec::new(), |i| {
            status(&format!("name{i}"), &"x".repeat(1_000))
        }),
        attack("notices at the start", message(b'R', &[0; 4]), Vec::new(), |_| {
            message(b'N', b"SNOTICE\0Mhello\0\0")
        }),
        attack("a length below zero", ready(), header(b'D', -5), filler),
        attack(
            "no protocol at all",
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            Vec::new(),
            filler,
        ),
        attack("a row of 2 GB", ready(), [begun(TEXT), header(b'D', huge)].concat(), filler),
        attack("small rows without an end", ready(), begun(TEXT), |i| {
            row(format!("{i}").as_bytes()).repeat(1_000)
        }),
        attack("large rows without an end", ready(), begun(TEXT), |_| row(&[b'x'; 200_000])),
        attack("empty messages without an end", ready(), begun(TEXT), |_| {
            message(b'1', b"").repeat(1_000)
        }),
        attack("copied data without an end", ready(), begun(TEXT), |_| {
            message(b'd', &[b'x'; 60_000])
        }),
        attack("columns of unknown types", ready(), begun(16_384), filler),
        attack(
            "columns beyond number",
            ready(),
            [begun(TEXT), header(b'T', huge)].concat(),
            filler,
        ),
        attack("notices in an answer", ready(), begun(TEXT), |i| {
            message(b'N', format!("SNOTICE\0Mline {i}\nERROR forged\0\0").as_bytes()).repeat(100)
        }),
        attack("notifications in an answer", ready(), begun(TEXT), |_| {
            message(b'A', &[&[0, 0, 0, 1][..], b"channel\0", &[b'x'; 8_000], b"\0"].concat())
        }),
        attack("parameters in an answer", ready(), begun(TEXT), |i| {
            status(&format!("name{i}"), &"x".repeat(1_000))
        }),
        attack("notifications that nobody asked for", ready(), Vec::new(), |_| {
            message(b'A', &[&[0, 0, 0, 1][..], b"channel\0", &[b'x'; 8_000], b"\0"].concat())
        }),
        attack(
            "a console's rows without an end",
            welcome("1.26.1/bouncer"),
            description(1, TEXT),
            |i| row(format!("{i}").as_bytes()).repeat(1_000),
        ),
        attack(
            "a console's table without a bound",
            welcome("1.26.1/bouncer"),
            description(1, TEXT),
            |_| row(&[b'x'; 200_000]),
        ),
    ]
}

/// What a hostile server saw.
#[derive(Default)]
struct Seen {
    connections: AtomicU64,
    /// Connections that the client ended, as it should.
    cut: AtomicU64,
    bytes: AtomicU64,
}

/// A certificate that nobody signed: `sslmode=require` takes it.
fn certificate() -> Arc<rustls::ServerConfig> {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate: CertificateDer<'static> = params.self_signed(&key).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

/// Serves the attack to everybody who comes. The port, and what it saw.
fn hostile(attack: Attack, tls: Option<Arc<rustls::ServerConfig>>) -> (u16, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Seen::default());
    let (attack, shared) = (Arc::new(attack), seen.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (attack, seen, tls) = (attack.clone(), shared.clone(), tls.clone());
            std::thread::spawn(move || {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
                let _ = greet(stream, tls, &attack, &seen);
            });
        }
    });
    (port, seen)
}

/// Up to the start-up message. A request to cancel gets no answer.
fn greet(
    mut stream: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    attack: &Attack,
    seen: &Seen,
) -> std::io::Result<()> {
    let (mut length, mut code) = ([0; 4], [0; 4]);
    stream.read_exact(&mut length)?;
    stream.read_exact(&mut code)?;
    if u32::from_be_bytes(code) == 80_877_103 {
        let Some(config) = tls else {
            stream.write_all(b"N")?;
            return greet(stream, None, attack, seen);
        };
        stream.write_all(b"S")?;
        let session = rustls::ServerConnection::new(config).map_err(std::io::Error::other)?;
        let mut stream = rustls::StreamOwned::new(session, stream);
        stream.read_exact(&mut length)?;
        stream.read_exact(&mut code)?;
        return attacked(&mut stream, u32::from_be_bytes(length), &code, attack, seen);
    }
    attacked(&mut stream, u32::from_be_bytes(length), &code, attack, seen)
}

fn attacked(
    stream: &mut (impl Read + Write),
    length: u32,
    code: &[u8],
    attack: &Attack,
    seen: &Seen,
) -> std::io::Result<()> {
    if code != 196_608u32.to_be_bytes() {
        return Ok(());
    }
    let mut rest = vec![0; usize::try_from(length).unwrap() - 8];
    stream.read_exact(&mut rest)?;
    seen.connections.fetch_add(1, Ordering::Relaxed);
    stream.write_all(&attack.first)?;
    stream.flush()?;
    if !attack.then.is_empty() {
        // It asks.
        stream.read_exact(&mut [0; 5])?;
        stream.write_all(&attack.then)?;
    }
    for i in 0.. {
        let bytes = (attack.flood)(i);
        if bytes.is_empty() {
            return Ok(());
        }
        if let Err(e) = stream.write_all(&bytes) {
            use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
            let cut = matches!(e.kind(), BrokenPipe | ConnectionReset);
            seen.cut.fetch_add(u64::from(cut), Ordering::Relaxed);
            return Err(e);
        }
        seen.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Runs the binary against it until it has cut three connections.
async fn survives(attack: Attack, tls: bool) {
    let name = attack.name;
    let (port, seen) = hostile(attack, tls.then(certificate));
    let sslmode = if tls { "require" } else { "disable" };
    let dsn = format!("postgresql://mon:mon@127.0.0.1:{port}/postgres?sslmode={sslmode}");
    let process = Process::serve(&dsn, &["--timeouts.statement=1s"]).await;
    let start = process.memory("VmRSS");
    let began = Instant::now();
    while seen.cut.load(Ordering::Relaxed) < 3 {
        assert!(began.elapsed() < Duration::from_secs(60), "{name}: {:#?}", process.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Two workers, each with a pause that grows from half a second.
    let connections = seen.connections.load(Ordering::Relaxed);
    assert!(connections <= 6 + 4 * began.elapsed().as_secs(), "{name}: {connections} connections");
    let most = process.memory("VmHWM").saturating_sub(start);
    println!(
        "{name}: {most} bytes more, of {} sent, {connections} connections",
        seen.bytes.load(Ordering::Relaxed)
    );
    assert!(most <= MOST, "{name}: {most} bytes above {start}");
    assert_eq!(http::get(process.address, "/-/healthy").await.status, 200, "{name}");
    let up = if name.contains("console") { "pgbouncer_up 0" } else { "pg_up 0" };
    process.wait(name, |text| text.contains(up) || text.contains("pg_up 0")).await;
    let log = process.log();
    let bytes: usize = log.iter().map(String::len).sum();
    assert!(bytes < 16_384, "{name}: {bytes} bytes: {log:#?}");
    assert!(log.iter().all(|line| !line.starts_with("ERROR forged")), "{name}: {log:#?}");
}

async fn all_survive(tls: bool, attacks: Vec<Attack>) {
    let mut rest = attacks.into_iter();
    loop {
        // Four at a time: most of it is waiting.
        let batch: Vec<Attack> = rest.by_ref().take(4).collect();
        if batch.is_empty() {
            return;
        }
        futures_util::future::join_all(batch.into_iter().map(|attack| survives(attack, tls))).await;
    }
}

#[tokio::test]
async fn a_server_that_sends_too_much_is_cut_off() {
    all_survive(false, attacks()).await;
}

#[tokio::test]
async fn tls_hides_no_flood() {
    let wanted = [
        "a row of 2 GB",
        "small rows without an end",
        "notices at the start",
        "an authentication of 2 GB",
    ];
    all_survive(true, attacks().into_iter().filter(|a| wanted.contains(&a.name)).collect()).await;
}

/// The text of a refusal, with a password that comes back in several forms, forged lines and megabytes.
#[tokio::test]
async fn a_refusal_gives_back_no_password_and_forges_no_line() {
    let password = "hun'ter2/secret";
    let echoed = format!(
        "no {password} or {} or hun%27ter2%2Fsecret or hun''ter2/secret\n2026 ERROR forged \x1b[2J \u{202e}{}",
        password.to_uppercase(),
        "z".repeat(200_000),
    );
    for format in ["text", "json"] {
        let (port, seen) =
            hostile(attack("a refusal", error(&echoed), Vec::new(), |_| Vec::new()), None);
        let dsn = format!(
            "postgresql://mon:hun%27ter2%2Fsecret@127.0.0.1:{port}/postgres?sslmode=disable"
        );
        let process = Process::serve(&dsn, &[&format!("--log.format={format}")]).await;
        let limit = Instant::now() + Duration::from_secs(30);
        while seen.connections.load(Ordering::Relaxed) < 4 {
            assert!(Instant::now() < limit);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let log = process.log();
        let page = http::get(process.address, "/").await.text();
        let all = format!("{}\n{page}\n{}", log.join("\n"), process.metrics().await).to_lowercase();
        for form in ["hun'ter2", "hun%27ter2", "hun''ter2", "secret", "\x1b", "\u{202e}"] {
            assert!(!all.contains(form), "{format} {form:?}: {log:#?}");
        }
        let refused: Vec<&String> = log.iter().filter(|line| line.contains("28P01")).collect();
        // One line of each worker, of bounded length.
        assert!((1..=2).contains(&refused.len()), "{log:#?}");
        assert!(refused.iter().all(|line| line.len() < 4_096 && line.contains("***")), "{log:#?}");
        assert!(!log.iter().any(|line| line.starts_with("2026 ERROR")), "{log:#?}");
    }
}

/// A text that differs at each try is one cause.
#[tokio::test]
async fn a_text_that_changes_does_not_fill_the_log() {
    let count = Arc::new(AtomicU64::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let counted = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut start = [0; 8];
            if stream.read_exact(&mut start).is_ok() {
                let i = counted.fetch_add(1, Ordering::Relaxed);
                let _ = stream.write_all(&error(&format!(
                    "refused for the {i}. time {}",
                    "y".repeat(90_000)
                )));
            }
        }
    });
    let dsn = format!("postgresql://mon:secret@127.0.0.1:{port}/postgres?sslmode=disable");
    let process = Process::serve(&dsn, &[]).await;
    let limit = Instant::now() + Duration::from_secs(60);
    while count.load(Ordering::Relaxed) < 8 {
        assert!(Instant::now() < limit);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let lines = process.log().iter().filter(|line| line.contains("refused for")).count();
    assert!((1..=2).contains(&lines), "{:#?}", process.log());
}
