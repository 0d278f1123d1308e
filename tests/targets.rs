//! Several targets in one process: each has its own page, none costs the others anything, and a real
//! Prometheus finds them. And the exporter itself as a client of a pooler in transaction mode.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "targets/probe.rs"]
mod probe;
#[path = "targets/reload.rs"]
mod reload;

use std::time::Duration;

use common::http::{self, sum, value};
use common::pgbouncer::PgBouncer;
use common::process::Process;
use common::prometheus::Prometheus;
use nix::sys::signal::Signal;
use pgrunway::cmd::cluster::Cluster;
use pgrunway::collector::{AnyCollector, Scope};
use tokio::time::{Instant, sleep};

/// The exporter with a file of this content, on loopback.
struct Exporter {
    process: Process,
    _dir: tempfile::TempDir,
}

impl Exporter {
    async fn start(file: &str, env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pgrunway.yml");
        std::fs::write(&path, file).unwrap();
        let config = format!("--config.file={}", path.display());
        let args = ["serve", "--web.listen-address=127.0.0.1:0", &config];
        Self { process: Process::start(&args, env).await, _dir: dir }
    }

    fn path(&self) -> std::path::PathBuf {
        self._dir.path().join("pgrunway.yml")
    }

    /// Another content of the file.
    fn write(&self, file: &str) {
        let new = self._dir.path().join("new.yml");
        std::fs::write(&new, file).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }

    async fn page(&self, target: &str) -> String {
        let answer = http::get(self.process.address, &format!("/metrics?target={target}")).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        assert!(answer.took < Duration::from_secs(5), "{target}: {:?}", answer.took);
        answer.text()
    }

    /// Waits until the page of a target satisfies `want`.
    async fn wait(&self, target: &str, what: &str, want: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let text = self.page(target).await;
            if want(&text) {
                return text;
            }
            assert!(Instant::now() < end, "{what}:\n{text}\n{:#?}", self.process.log());
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn is(text: &str, metric: &str, expected: f64) -> bool {
    value(text, metric, &[]) == Some(expected)
}

async fn server() -> Cluster {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE ROLE app LOGIN PASSWORD 'app'").await.unwrap();
    cluster
}

const POSTGRES: &[&str] = &["postgres = SERVER dbname=postgres"];

#[tokio::test]
async fn two_poolers_and_a_server_have_pages_of_their_own() {
    let cluster = server().await;
    let first = PgBouncer::start(&cluster, POSTGRES, &["max_client_conn = 41"]).await;
    let second = PgBouncer::start(&cluster, POSTGRES, &["max_client_conn = 42"]).await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE DATABASE shop").await.unwrap();
    admin.batch_execute("CREATE DATABASE scratch").await.unwrap();
    let file = format!(
        "timeouts: {{statement: 3s, handshake: 3s}}\ntargets:\n\
         - {{name: pool-1, dsn: '{}'}}\n\
         - {{name: pool-2, dsn: 'postgresql://stats:stats@127.0.0.1:{}', kind: pgbouncer}}\n\
         - {{name: taken-for-a-server, dsn: '{}', kind: postgres}}\n\
         - {{name: server, dsn: '{}', databases: {{exclude: [scratch]}}, \
         collectors: {{sizes: {{enabled: false}}}}}}\n\
         - {{name: nobody, dsn: 'postgresql://mon:hunter2@127.0.0.1:1/postgres'}}\n",
        first.dsn("stats", "pgbouncer"),
        second.port(),
        second.dsn("stats", "pgbouncer"),
        cluster.uri("mon", "postgres"),
    );
    let mut exporter = Exporter::start(&file, &[]).await;
    let at = exporter.process.address;

    // Each page tells of its own target and of nothing else.
    let limit = "pgbouncer_config_max_client_connections";
    let pool = exporter.wait("pool-1", "its limit", |t| is(t, limit, 41.0)).await;
    assert!(is(&pool, "pgbouncer_up", 1.0) && !pool.contains("\npg_up"));
    exporter.wait("pool-2", "its limit", |t| is(t, limit, 42.0)).await;
    // What is at the other end is told by its answer, whatever it was taken for.
    let told = exporter.wait("taken-for-a-server", "its limit", |t| is(t, limit, 42.0)).await;
    assert!(is(&told, "pgbouncer_up", 1.0) && !told.contains("\npg_up"));
    let shop = [("datname", "shop")];
    let text = exporter
        .wait("server", "walked", |t| value(t, "pgrunway_database_up", &shop) == Some(1.0))
        .await;
    assert!(is(&text, "pg_up", 1.0) && !text.contains("pgbouncer_"));
    assert_eq!(value(&text, "pgrunway_database_up", &[("datname", "scratch")]), None);
    assert!(text.contains("collector=\"connections\"") && !text.contains("collector=\"sizes\""));
    assert!(!text.contains("process_resident") && !text.contains("pgrunway_build_info"));
    exporter.wait("nobody", "tried", |t| is(t, "pg_up", 0.0)).await;

    // Without a server of its own, the page of the process tells of the process and its targets.
    let up = |t: &str, name: &str| value(t, "pgrunway_target_up", &[("target", name)]);
    let own = exporter
        .process
        .wait("all tried", |t| {
            ["pool-1", "pool-2", "server"].iter().all(|n| up(t, n) == Some(1.0))
                && up(t, "nobody") == Some(0.0)
        })
        .await;
    assert!(is(&own, "pgrunway_targets", 5.0));
    assert!(own.contains("process_resident_memory_bytes ") && own.contains("pgrunway_build_info{"));
    assert!(!own.contains("\npg_") && !own.contains("pgbouncer_"), "{own}");
    assert_eq!(http::get(at, "/-/ready").await.status, 200);

    let unknown = http::get(at, "/metrics?target=none").await;
    assert_eq!(unknown.status, 404);
    assert!(
        unknown.text().contains("nobody, pool-1, pool-2, server, taken-for-a-server"),
        "{}",
        unknown.text()
    );
    for format in ["text/plain", "application/openmetrics-text"] {
        let headers = [("Accept", format), ("Accept-Encoding", "gzip")];
        let zipped = http::request(at, "GET", "/metrics?target=pool-1", &headers).await;
        assert!(zipped.headers["content-type"].starts_with(format), "{:?}", zipped.headers);
        let mut text = String::new();
        let mut unzip = flate2::read::GzDecoder::new(&zipped.body[..]);
        std::io::Read::read_to_string(&mut unzip, &mut text).unwrap();
        assert!(is(&text, limit, 41.0), "{text}");
        assert_eq!(text.ends_with("# EOF\n"), format == "application/openmetrics-text");
    }
    let status = http::get(at, "/").await.text();
    for name in ["pool-1", "pool-2", "server", "nobody"] {
        assert!(status.contains(&format!("href=\"/?target={name}\"")), "{status}");
    }
    let detail = http::get(at, "/?target=server").await.text();
    assert!(detail.contains("connections") && detail.contains("shop"), "{detail}");
    assert_eq!(http::get(at, "/?target=none").await.status, 404);

    // A target that freezes costs the others nothing.
    first.signal(Signal::SIGSTOP);
    exporter.wait("pool-1", "frozen", |t| is(t, "pgbouncer_up", 0.0)).await;
    let last = "pgrunway_collector_last_success_timestamp_seconds";
    let ours = [("collector", "pgbouncer")];
    let before = value(&exporter.page("pool-2").await, last, &ours).unwrap();
    exporter
        .wait("pool-2", "goes on", |t| value(t, last, &ours).is_some_and(|n| n > before + 5.0))
        .await;
    assert!(is(&exporter.page("server").await, "pg_up", 1.0));
    assert!(is(&exporter.page("pool-1").await, "pgbouncer_up", 0.0));

    // Nothing secret anywhere, and the log says of whom it speaks.
    let log = exporter.process.log();
    let sd = http::get(at, "/targets").await.text();
    let all = format!("{log:?}{status}{detail}{sd}{own}{}", unknown.text());
    assert!(!all.contains("hunter2") && !sd.contains("stats"), "{all}");
    let tells = |name: &str| log.iter().any(|l| l.contains("WARN") && l.contains(name));
    assert!(tells("nobody") && tells("pool-1") && !tells("pool-2"), "{log:#?}");

    // Still frozen: that does not hold up the end.
    let (status, took) = exporter.process.stop(Signal::SIGTERM).await;
    assert!(status.success());
    assert!(took < Duration::from_secs(5), "{took:?}");
    first.signal(Signal::SIGCONT);
}

#[tokio::test]
async fn a_server_beside_the_list_keeps_the_plain_page() {
    let cluster = server().await;
    let pooler = PgBouncer::start(&cluster, POSTGRES, &[]).await;
    let file = format!("targets: [{{name: pool, dsn: '{}'}}]", pooler.dsn("stats", "pgbouncer"));
    let dsn = cluster.uri("mon", "postgres");
    let exporter = Exporter::start(&file, &[("DATA_SOURCE_NAME", &dsn)]).await;
    let text = exporter
        .process
        .wait("both", |t| {
            is(t, "pg_up", 1.0)
                && value(t, "pgrunway_target_up", &[("target", "pool")]) == Some(1.0)
        })
        .await;
    assert!(text.contains("process_resident_memory_bytes ") && !text.contains("pgbouncer_up"));
    exporter.wait("pool", "up", |t| is(t, "pgbouncer_up", 1.0)).await;
    let status = http::get(exporter.process.address, "/").await.text();
    assert!(status.contains("/?target=pool") && status.contains("connections"), "{status}");
}

#[tokio::test]
async fn a_fault_in_the_list_is_one_of_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pgrunway.yml");
    for (text, said) in [
        ("[{name: a, dsn: 'host=h pasword=hunter2'}]", "did you mean `password`?"),
        ("[{name: a, dsn: 'host=h'}, {name: a, dsn: 'host=i'}]", "the name is there twice"),
    ] {
        std::fs::write(&path, format!("targets: {text}")).unwrap();
        let config = format!("--config.file={}", path.display());
        let (code, _, stderr) = common::process::run(&["serve", &config], &[]).await;
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(said) && stderr.contains("pgrunway.yml:1:"), "{stderr}");
        assert!(!stderr.contains("hunter2"));
    }
}

#[tokio::test]
async fn prometheus_discovers_the_targets_and_their_pages() {
    let cluster = server().await;
    let pooler = PgBouncer::start(&cluster, POSTGRES, &[]).await;
    let file = format!(
        "targets:\n- {{name: pool, dsn: '{}'}}\n- {{name: server, dsn: '{}'}}\n",
        pooler.dsn("stats", "pgbouncer"),
        cluster.uri("mon", "postgres"),
    );
    let exporter = Exporter::start(&file, &[]).await;
    let prometheus = Prometheus::discover(exporter.process.address).await;
    let own = exporter.process.address.to_string();
    for (instance, metric) in
        [("pool", "pgbouncer_up"), ("server", "pg_up"), (&*own, "pgrunway_targets")]
    {
        let series = prometheus.wait(&format!("{metric}{{instance=\"{instance}\"}} > 0")).await;
        assert_eq!(series.len(), 1, "{metric}");
        assert_eq!(series[0].0["job"], "pgrunway");
    }
    // Each where it belongs, and nowhere else.
    for metric in ["pgbouncer_up", "pg_up", "pgrunway_build_info"] {
        assert_eq!(prometheus.query(metric).await.len(), 1, "{metric}");
    }
    assert_eq!(prometheus.wait("count(up == 1) == 3").await[0].1, 3.0);
}

#[tokio::test]
async fn an_exhausted_pool_keeps_the_exporter_waiting_and_no_longer() {
    let cluster = server().await;
    let databases = ["postgres = SERVER dbname=postgres user=mon pool_size=2"];
    let pooler = PgBouncer::start(&cluster, &databases, &[]).await;
    let short = ["--timeouts.statement=1s", "--timeouts.handshake=1s"];
    let process = Process::serve(&pooler.dsn("mon", "postgres"), &short).await;
    process.wait("up", |t| is(t, "pg_up", 1.0)).await;
    let mut apps = Vec::new();
    for _ in 0..2 {
        apps.push(pooler.client("app", "postgres").await);
    }
    // Each time the sessions of ours are given up, while the pool's connections live on.
    for _ in 0..2 {
        for app in &apps {
            app.batch_execute("BEGIN; SELECT 'an application'").await.unwrap();
        }
        process.wait("down", |t| is(t, "pg_up", 0.0)).await;
        for app in &apps {
            app.batch_execute("COMMIT").await.unwrap();
        }
        process.wait("up again", |t| is(t, "pg_up", 1.0)).await;
    }
    // Nor are connections that work for somebody else taken for ones that we left behind.
    let busy = tokio::spawn(async move {
        loop {
            apps[0].batch_execute("SELECT pg_sleep(0.2)").await.unwrap();
        }
    });
    sleep(Duration::from_secs(5)).await;
    process.wait("up for good", |t| is(t, "pg_up", 1.0)).await;
    let log = process.log();
    assert!(!log.iter().any(|l| l.contains("given up do not end")), "{log:#?}");
    busy.abort();
}

#[tokio::test]
async fn every_collector_works_through_a_pooler_in_transaction_mode() {
    let cluster = server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE TABLE p (at timestamptz) PARTITION BY RANGE (at); CREATE INDEX ON p (at); \
             CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2020-01-01') TO ('2100-01-01')",
        )
        .await
        .unwrap();
    admin.batch_execute("CREATE DATABASE unknown_to_the_pooler").await.unwrap();
    // One server connection for both of ours and for the application's.
    let databases = ["front = SERVER dbname=postgres pool_size=1"];
    let pooler = PgBouncer::start(&cluster, &databases, &[]).await;
    let process = Process::serve(&pooler.dsn("mon", "front"), &[]).await;
    process.wait("statements ran", |t| t.contains("pg_stat_statements_entries ")).await;
    let app = pooler.client("app", "front").await;
    app.batch_execute("SELECT 'through the pooler'").await.unwrap();
    let of_a_server = || {
        let runs = |c: &&dyn AnyCollector| {
            c.scope() != Scope::Pooler && c.default_on() && !c.compatible_only()
        };
        pgrunway::collectors::ALL.iter().copied().filter(runs)
    };
    let text = process
        .wait("all have run", |t| {
            of_a_server().all(|c| {
                let success = format!("pgrunway_collector_success{{collector=\"{}\"", c.name());
                let mut lines = t.lines().filter(|l| l.starts_with(&success)).peekable();
                lines.peek().is_some() && lines.all(|l| l.ends_with(" 1"))
            }) && t.contains("pg_query_duration_seconds_bucket{")
                && value(t, "pgrunway_database_up", &[("datname", "unknown_to_the_pooler")])
                    .is_some()
        })
        .await;
    assert!(is(&text, "pg_up", 1.0));
    let p = [("datname", "postgres"), ("schemaname", "public"), ("relname", "p")];
    assert_eq!(value(&text, "pg_partition_covered", &p), Some(1.0));
    assert!(value(&text, "pg_index_size_bytes", &[("relname", "p")]).is_some());
    assert_eq!(sum(&text, "pgrunway_collector_defective_samples_total"), 0.0);
    // What the pooler does not know cannot be entered, and says so; the rest goes on.
    let up = |datname| value(&text, "pgrunway_database_up", &[("datname", datname)]);
    assert_eq!((up("postgres"), up("unknown_to_the_pooler")), (Some(1.0), Some(0.0)));
    let log = process.log();
    let warned: Vec<_> = log.iter().filter(|l| l.contains("WARN")).collect();
    assert_eq!(warned.len(), 1, "{log:#?}");
    assert!(warned[0].contains("PgBouncer does not know this database"), "{warned:#?}");
    // Nothing of ours sticks to the server connection that the application uses next.
    let shown = app.simple_query("SHOW statement_timeout").await.unwrap();
    let row = shown.iter().find_map(|m| match m {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    assert_eq!(row, Some("0"));
    let prepared = "SELECT count(*) FROM pg_prepared_statements";
    let shown = app.simple_query(prepared).await.unwrap();
    let row = shown.iter().find_map(|m| match m {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    assert_eq!(row, Some("0"));
}

/// A list in `DATA_SOURCE_NAME` or `DATA_SOURCE_URI`: all on one page, told apart by `server`.
#[tokio::test]
async fn a_list_of_connection_strings_is_one_page_with_the_label_server() {
    let cluster = server().await;
    let port = cluster.port();
    let (one, two) = (format!("127.0.0.1:{port}"), format!("localhost:{port}"));
    let name = |form: &str| match form {
        "uri" => format!("postgresql://mon:mon@{one}/postgres,postgres://mon:mon@{two}/postgres"),
        _ => format!(
            "host=127.0.0.1 port={port} dbname=postgres user=mon password=mon,host=localhost \
             port={port} user=mon password=mon dbname=postgres"
        ),
    };
    let uris = format!("{one}/postgres?sslmode=disable,{two}/postgres");
    let listen = "--web.listen-address=127.0.0.1:0";
    for (form, env) in [
        ("uri", vec![("DATA_SOURCE_NAME", name("uri"))]),
        ("keywords", vec![("DATA_SOURCE_NAME", name("keywords"))]),
        (
            "uris",
            vec![
                ("DATA_SOURCE_URI", uris),
                ("DATA_SOURCE_USER", "mon".to_owned()),
                ("DATA_SOURCE_PASS", "mon".to_owned()),
            ],
        ),
    ] {
        let env: Vec<(&str, &str)> = env.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let args = [listen, "--constantLabels=region=eu,datname=never", "--metric-prefix=my"];
        let mut process = Process::start(&args, &env).await;
        let up = |text: &str, server: &str| {
            value(text, "my_up", &[("server", server), ("region", "eu")]) == Some(1.0)
                && value(text, "my_postmaster_start_time_seconds", &[("server", server)]).is_some()
                && value(
                    text,
                    "my_stat_database_xact_commit",
                    &[("server", server), ("datname", "postgres")],
                )
                .is_some()
        };
        let text = process.wait(form, |text| up(text, &one) && up(text, &two)).await;
        assert!(!text.contains("\npg_"), "{text}");
        assert_eq!(value(&text, "pgrunway_target_up", &[("target", &two)]), Some(1.0));
        let accept = ("accept", "application/openmetrics-text");
        let open = http::request(process.address, "GET", "/metrics", &[accept]).await.text();
        assert!(
            open.contains(&format!(
                "my_up{{region=\"eu\",datname=\"never\",server=\"{one}\"}} 1\n"
            )),
            "{open}"
        );
        process.stop(Signal::SIGTERM).await;
    }
}
