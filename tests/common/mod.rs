//! What the tests share: a real PostgreSQL of their own, and a way to run SQL on it.
//!
//! Must not: fall back to a fake where a part is missing; it panics and says what to install.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::field_reassign_with_default,
    reason = "a test may panic"
)]
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod alertmanager;
pub mod chromium;
pub mod collector;
pub mod demo;
pub mod http;
pub mod pgbouncer;
pub mod process;
pub mod prometheus;
pub mod tools;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pgrunway::cmd::cluster::{Cluster, Options};
use pgrunway::config::{Connect, Endpoint, Password, RootCert, Settings, SslMode, Timeouts};
use tokio_postgres::{Client, NoTls};

/// Starts a server with `pg_stat_statements` loaded and a login role `mon` that has only
/// `pg_monitor` (password `mon`).
pub async fn server() -> Cluster {
    server_with(&[], &[]).await
}

/// As [`server`], with settings and `pg_hba.conf` lines of the test's own.
pub async fn server_with(settings: &[(&str, &str)], hba: &[&str]) -> Cluster {
    let mut all = vec![
        ("shared_preload_libraries".to_owned(), "pg_stat_statements".to_owned()),
        ("max_connections".to_owned(), "50".to_owned()),
    ];
    all.extend(settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
    let options = Options {
        binaries: None,
        settings: all,
        kept: Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR"))),
        hba: hba.iter().map(|l| (*l).to_owned()).collect(),
    };
    let cluster = Cluster::start(&options).await.expect("a real PostgreSQL is needed");
    let admin = admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE EXTENSION pg_stat_statements; CREATE ROLE mon LOGIN PASSWORD 'mon'; \
             GRANT pg_monitor TO mon;",
        )
        .await
        .expect("the test role");
    cluster
}

/// A name of a database or a role as this server takes it: from PostgreSQL 19 on without a line break.
pub fn shared_name(cluster: &Cluster, name: &str) -> String {
    let program = cluster.binaries().join("postgres");
    let said = std::process::Command::new(program).arg("--version").output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let digits = said.split(|c: char| !c.is_ascii_digit()).find(|part| !part.is_empty());
    let major: u32 = digits.and_then(|digits| digits.parse().ok()).expect("a version");
    if major < 19 { name.to_owned() } else { name.replace('\n', "\t") }
}

/// A superuser connection over the Unix socket.
pub async fn admin(cluster: &Cluster, dbname: &str) -> Client {
    client(cluster, "postgres", dbname).await
}

/// A connection of any role over the Unix socket.
pub async fn client(cluster: &Cluster, user: &str, dbname: &str) -> Client {
    let (client, connection) = tokio_postgres::Config::new()
        .host_path(cluster.socket_dir())
        .port(cluster.port())
        .user(user)
        .dbname(dbname)
        .connect(NoTls)
        .await
        .expect("connects to the test server");
    tokio::spawn(connection);
    client
}

/// Runs statements on a connection of its own and waits until all it counted can be seen: a
/// backend hands its statistics over when it ends, after the client has gone.
pub async fn work(cluster: &Cluster, dbname: &str, sql: &str) {
    let worker = admin(cluster, dbname).await;
    let own = "SELECT pg_backend_pid(), current_setting('server_version_num')::int / 10000";
    let row = worker.query_one(own, &[]).await.expect("its own pid");
    let (pid, major): (i32, i32) = (row.get(0), row.get(1));
    worker.batch_execute(sql).await.expect("the test's own statements");
    drop(worker);
    let watcher = admin(cluster, "postgres").await;
    let there = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1";
    let limit = Instant::now() + Duration::from_secs(30);
    while watcher.query_one(there, &[&pid]).await.expect("the activity").get::<_, i64>(0) > 0 {
        assert!(Instant::now() < limit, "backend {pid} does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The collector of 13 and 14 answers with what it wrote up to 500 ms ago.
    if major < 15 {
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
}

/// The server's own psql, or another's where servers are packaged without clients. Not the script that Debian has
/// in its place, which takes five times as long to start.
pub fn psql_program(cluster: &Cluster) -> std::path::PathBuf {
    let installed = || {
        let dirs = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        dirs.filter_map(|dir| Some(dir.ok()?.path().join("bin/psql"))).find(|p| p.is_file())
    };
    let own = cluster.binaries().join("psql");
    if own.is_file() { own } else { installed().unwrap_or_else(|| "psql".into()) }
}

/// Runs a script through psql as a superuser, as its head says: whether it ended well, and what psql said.
pub async fn psql(cluster: &Cluster, database: &str, script: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("script.sql");
    std::fs::write(&file, script).unwrap();
    let out = tokio::process::Command::new(psql_program(cluster))
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-f"])
        .arg(&file)
        .arg("-h")
        .arg(cluster.socket_dir())
        .args(["-p", &cluster.port().to_string()])
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .unwrap();
    let text =
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.success(), text)
}

/// Settings under which nothing times out because a machine is busy, but for locks.
pub fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.timeouts = Timeouts {
        connect: Duration::from_secs(20),
        handshake: Duration::from_secs(20),
        statement: Duration::from_secs(20),
        lock: Duration::from_millis(100),
    };
    settings
}

/// Settings with short timeouts, so that a test of one need not wait long.
pub fn hasty() -> Settings {
    let mut settings = Settings::default();
    settings.timeouts = Timeouts {
        connect: Duration::from_secs(1),
        handshake: Duration::from_secs(1),
        statement: Duration::from_millis(500),
        lock: Duration::from_millis(100),
    };
    settings
}

/// How to reach the cluster over its Unix socket.
pub fn connect(cluster: &Cluster, user: &str) -> Connect {
    let directory = PathBuf::from(cluster.socket_dir());
    connect_to(Endpoint::Unix { directory, port: cluster.port() }, user)
}

/// How to reach an endpoint without TLS or password.
pub fn connect_to(endpoint: Endpoint, user: &str) -> Connect {
    Connect {
        endpoints: vec![endpoint],
        user: user.to_owned(),
        dbname: "postgres".to_owned(),
        password: Password::None,
        sslmode: SslMode::Prefer,
        root_cert: RootCert::None,
        client_cert: None,
        application_name: "pgrunway".to_owned(),
        only: None,
    }
}
