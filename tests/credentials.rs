//! Passwords that a program prints, and when the certificates of a session end.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::http::{self, value};
use common::process::Process;
use nix::unistd::{Uid, User};
use pgrunway::cmd::cluster::Cluster;
use pgrunway::config::{Connect, Endpoint, Password, PasswordCommand, SslMode};
use pgrunway::error::ConnectError;
use pgrunway::pg::{Clock, Session};
use rcgen::{CertificateParams, KeyPair};
use tokio::time::{Instant, sleep};

/// A program of a test's own: a script that `sh` reads, with what it leaves behind.
struct Program {
    dir: tempfile::TempDir,
}

impl Program {
    /// Each run adds a line to `runs`.
    fn new(script: &str) -> Self {
        let this = Self { dir: tempfile::tempdir().unwrap() };
        let text = format!("cd '{}'; echo run >> runs\n{script}\n", this.dir.path().display());
        std::fs::write(this.path("script"), text).unwrap();
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(self.path("runs")).map_or(0, |text| text.lines().count())
    }

    fn command(&self, timeout: Duration, ttl: Duration) -> Password {
        let argv = vec!["/bin/sh".to_owned(), self.path("script").to_str().unwrap().to_owned()];
        Password::Command(Arc::new(PasswordCommand::new(argv, timeout, ttl)))
    }
}

fn over_tcp(cluster: &Cluster, password: Password) -> Connect {
    let endpoint = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: cluster.port() };
    let mut connect = common::connect_to(endpoint, "mon");
    connect.password = password;
    connect.sslmode = SslMode::Disable;
    connect
}

async fn open(connect: &Connect) -> Result<Session, ConnectError> {
    Session::connect(connect, None, Arc::new(common::settings()), Clock::start()).await
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_password_comes_from_a_program_and_is_kept_for_a_while() {
    let cluster = common::server().await;
    // One line of several, and a noisy standard error.
    let program = Program::new(
        "echo \"$PGHOST|$PGPORT|$PGUSER|$PGDATABASE\" > seen; echo noise >&2; cat password; \
                                seq 100000",
    );
    std::fs::write(program.path("password"), "mon\r\nsecond line\n").unwrap();
    let connect = over_tcp(&cluster, program.command(LONG, LONG));
    for _ in 0..3 {
        open(&connect).await.unwrap();
    }
    // A copy of a target's connection shares what was printed.
    let copy = connect.clone();
    let (one, two) = tokio::join!(open(&connect), open(&copy));
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(program.runs(), 1);
    let seen = std::fs::read_to_string(program.path("seen")).unwrap();
    assert_eq!(seen.trim(), format!("127.0.0.1|{}|mon|postgres", cluster.port()));

    let fresh = over_tcp(&cluster, program.command(LONG, Duration::ZERO));
    for _ in 0..2 {
        open(&fresh).await.unwrap();
    }
    assert_eq!(program.runs(), 3, "a ttl of 0 asks for each");

    // What the server refused is not sent again: the next attempt has the new one.
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("ALTER ROLE mon PASSWORD 'rotated'").await.unwrap();
    std::fs::write(program.path("password"), "rotated\n").unwrap();
    let before = program.runs();
    let e = open(&connect).await.err().unwrap();
    assert!(matches!(&e, ConnectError::Refused { sqlstate, .. } if sqlstate == "28P01"), "{e}");
    open(&connect).await.unwrap();
    assert_eq!(program.runs(), before + 1);

    // No shell looks at an argument.
    let mut literal = connect.clone();
    let argv = ["printf", "%s", "$(echo rotated)"].map(str::to_owned).to_vec();
    literal.password = Password::Command(Arc::new(PasswordCommand::new(argv, LONG, LONG)));
    assert!(matches!(open(&literal).await, Err(ConnectError::Refused { .. })));
    literal.password = Password::Command(Arc::new(PasswordCommand::new(
        ["printf", "%s", "rotated"].map(str::to_owned).to_vec(),
        LONG,
        LONG,
    )));
    open(&literal).await.unwrap();
}

#[tokio::test]
async fn a_program_that_fails_says_how_and_shows_nothing() {
    let cluster = common::server().await;
    for (script, said) in [
        (
            "echo s3cret; echo s3cret >&2; exit 3",
            "it ended with exit status: 3; run it by hand to see why",
        ),
        ("echo s3cret; kill -9 $$", "it ended with signal: 9"),
        ("true", "the first line of its output is empty"),
        ("echo; echo s3cret", "the first line of its output is empty"),
        ("printf 's3cret\\377\\n'", "not UTF-8"),
        ("printf 's3cret\\0x\\n'", "zero byte"),
        ("head -c 20000 /dev/zero | tr '\\0' s; echo s3cret", "longer than 16384 bytes"),
    ] {
        let program = Program::new(script);
        let connect = over_tcp(&cluster, program.command(LONG, LONG));
        let e = open(&connect).await.err().unwrap();
        let shown = format!("{e} {e:?} {connect:?}");
        assert_eq!(e.kind(), "credentials", "{script}: {e}");
        assert!(e.to_string().contains(said), "{script}: {e}");
        assert!(shown.contains("/bin/sh") && !shown.contains("s3cret"), "{shown}");
        assert!(open(&connect).await.is_err());
        assert_eq!(program.runs(), 2, "a failure is not kept: {script}");
    }
    let argv = vec!["/nowhere/token".to_owned(), "s3cret".to_owned()];
    let none = Password::Command(Arc::new(PasswordCommand::new(argv, LONG, LONG)));
    let e = open(&over_tcp(&cluster, none)).await.err().unwrap().to_string();
    assert!(
        e.contains("password_command /nowhere/token: it cannot be run") && !e.contains("s3cret"),
        "{e}"
    );
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let cluster = common::server().await;
    for script in [
        "sleep 1000 & echo $! > child; sleep 1000",
        // It has printed the password, and does not end.
        "sleep 1000 & echo $! > child; echo mon; wait",
    ] {
        let program = Program::new(script);
        let connect = over_tcp(&cluster, program.command(Duration::from_secs(1), LONG));
        let e = open(&connect).await.err().unwrap().to_string();
        assert!(e.contains("it took longer than 1s and was killed"), "{e}");
        let child = std::fs::read_to_string(program.path("child")).unwrap();
        gone(child.trim()).await;
    }
    // So is one whose poll is given up.
    let program = Program::new("sleep 1000 & echo $! > child; sleep 1000");
    let connect = over_tcp(&cluster, program.command(LONG, LONG));
    let opening = tokio::spawn(async move { open(&connect).await.map(drop) });
    let child = loop {
        if let Ok(text) = std::fs::read_to_string(program.path("child"))
            && text.ends_with('\n')
        {
            break text;
        }
        sleep(Duration::from_millis(20)).await;
    };
    opening.abort();
    gone(child.trim()).await;
    // One whose child goes on in the background is well.
    let program = Program::new("sleep 30 >/dev/null 2>&1 & echo $! > child; echo mon");
    open(&over_tcp(&cluster, program.command(LONG, LONG))).await.unwrap();
    let child = std::fs::read_to_string(program.path("child")).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
}

/// Waits until a process is no more, or is only waited for.
async fn gone(pid: &str) {
    let end = Instant::now() + LONG;
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return;
        }
        assert!(Instant::now() < end, "{stat}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A self-signed certificate and key that the server's user may read.
fn certificate(dir: &Path, name: &str, until: i32) -> [String; 2] {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let owner = User::from_name("postgres").unwrap().filter(|_| Uid::effective().is_root());
    let files = [("pem", params.self_signed(&key).unwrap().pem()), ("key", key.serialize_pem())];
    files.map(|(kind, text)| {
        let path = dir.join(format!("{name}.{kind}"));
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        if let Some(owner) = owner.as_ref().filter(|_| name == "server") {
            chown(&path, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
            chown(dir, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
        }
        path.to_str().unwrap().to_owned()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ends_of_certificates_are_exported_and_a_program_serves_a_target() {
    let dir = tempfile::tempdir().unwrap();
    let [cert, key] = certificate(dir.path(), "server", 4000);
    let [client, client_key] = certificate(dir.path(), "client", 3000);
    let settings = [("ssl", "on"), ("ssl_cert_file", &*cert), ("ssl_key_file", &*key)];
    let cluster = common::server_with(&settings, &[]).await;
    let program = Program::new("echo mon");
    let at = format!("postgresql://mon@127.0.0.1:{}/postgres?sslmode", cluster.port());
    let script = program.path("script").display().to_string();
    let config = format!(
        "targets:\n- name: secure\n  dsn: {at}=require&sslcert={client}&sslkey={client_key}\n  \
         password_command: [/bin/sh, '{script}']\n\
         - name: plain\n  dsn: {at}=disable\n  password_command: [/bin/sh, '{script}']\n"
    );
    let file = dir.path().join("pgrunway.yml");
    std::fs::write(&file, config).unwrap();
    let args =
        ["serve", "--web.listen-address=127.0.0.1:0", "--config.file", file.to_str().unwrap()];
    let process = Process::start(&args, &[]).await;
    let page = |name: &str| {
        let path = format!("/metrics?target={name}");
        let address = process.address;
        async move {
            let end = Instant::now() + Duration::from_secs(60);
            loop {
                let text = http::get(address, &path).await.text();
                if text.contains("\npg_up 1\n") {
                    return text;
                }
                assert!(Instant::now() < end, "{text}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    };
    let ends = |text: &str, whose: &str| {
        value(text, &format!("pgrunway_{whose}_certificate_not_after_timestamp_seconds"), &[])
    };
    let (secure, plain) = (page("secure").await, page("plain").await);
    let near = |got: Option<f64>, want: f64| got.is_some_and(|got| (got - want).abs() < 86_401.0);
    assert!(near(ends(&secure, "server"), 64_060_588_800.0), "the year 4000: {secure}");
    assert!(near(ends(&secure, "client"), 32_503_680_000.0), "the year 3000: {secure}");
    assert_eq!((ends(&plain, "server"), ends(&plain, "client")), (None, None));
    let log = process.log().join("\n");
    assert!(!log.contains("mon\n") && !log.contains("password_command"), "{log}");
}
