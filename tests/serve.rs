//! The binary end to end, as its users run it: every fault of the server that the exporter must
//! outlive, and what its log and its pages say of it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::Read;
use std::time::Duration;

use common::http::{self, sum, value};
use common::process::Process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgrunway::cmd::cluster::Cluster;
use pgrunway::collector::{AnyCollector, Scope};
use pgrunway::metric::Kind;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

fn dsn(cluster: &Cluster) -> String {
    cluster.uri("mon", "postgres")
}

/// The collectors that run on a server unless one says otherwise; PgBouncer has one of its own.
fn of_a_server() -> impl Iterator<Item = &'static dyn AnyCollector> {
    let all = pgrunway::collectors::ALL.iter().copied();
    all.filter(|c| c.scope() != Scope::Pooler && c.default_on() && !c.compatible_only())
}

fn up(text: &str) -> bool {
    value(text, "pg_up", &[]) == Some(1.0)
}

/// Lines of the log that warn or tell of an error.
fn warnings(process: &Process) -> Vec<String> {
    process.log().into_iter().filter(|l| l.contains("WARN") || l.contains("ERROR")).collect()
}

#[tokio::test]
async fn every_collector_succeeds_as_a_role_with_only_pg_monitor() {
    let cluster = common::server().await;
    let process = Process::serve(&dsn(&cluster), &[]).await;
    // A histogram needs a statement that ended between two polls.
    process.wait("statements ran", |t| t.contains("pg_stat_statements_entries ")).await;
    common::admin(&cluster, "postgres").await.batch_execute("SELECT 1").await.unwrap();
    let text = process
        .wait("all have run", |text| {
            up(text)
                && of_a_server().all(|c| {
                    sum(text, "pgrunway_collector_success") > 0.0
                        && text.contains(&format!("collector_success{{collector=\"{}\"", c.name()))
                })
                && text.contains("pg_query_duration_seconds_bucket{")
        })
        .await;
    for line in text.lines().filter(|l| l.starts_with("pgrunway_collector_success{")) {
        assert!(line.ends_with(" 1"), "{line}");
    }
    assert_eq!(sum(&text, "pgrunway_collector_defective_samples_total"), 0.0);
    assert_eq!(sum(&text, "pgrunway_collector_series_over_limit_total"), 0.0);
    let declared: Vec<&str> = pgrunway::docgen::catalogue().iter().map(|m| m.name).collect();
    for collector in of_a_server() {
        let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
        let lines = |of: &str| text.lines().filter(|l| name(l) == of).count();
        let exposed: usize = collector
            .metrics()
            .iter()
            .map(|m| match m.kind {
                Kind::Histogram => ["bucket", "sum", "count"]
                    .map(|s| lines(&format!("{}_{s}", m.name)))
                    .iter()
                    .sum(),
                // Goes on with what the server says.
                _ if m.name.ends_with('_') => text
                    .lines()
                    .map(name)
                    .filter(|n| n.starts_with(m.name) && !declared.contains(&n.as_str()))
                    .count(),
                _ => lines(m.name),
            })
            .sum();
        let of = format!("pgrunway_collector_series{{collector=\"{}\"", collector.name());
        let told = text.lines().filter(|l| l.starts_with(&of)).filter_map(|l| l.rsplit(' ').next());
        let told: usize = told.map(|n| n.parse::<usize>().unwrap()).sum();
        assert_eq!(told, exposed, "{}", collector.name());
    }
    assert_eq!(value(&text, "pgrunway_database_up", &[("datname", "postgres")]), Some(1.0));
    assert!(warnings(&process).is_empty(), "{:#?}", process.log());
}

#[tokio::test]
async fn http_answers_as_it_should() {
    let cluster = common::server().await;
    let process = Process::serve(&dsn(&cluster), &[]).await;
    process.wait("up", up).await;
    let at = process.address;

    let plain = http::get(at, "/metrics").await;
    assert_eq!(plain.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(!plain.headers.contains_key("content-encoding"));
    let zipped = http::request(at, "GET", "/metrics", &[("Accept-Encoding", "gzip")]).await;
    assert_eq!(zipped.headers["content-encoding"], "gzip");
    assert_eq!(zipped.headers["vary"], "accept, accept-encoding");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&zipped.body[..]).read_to_string(&mut text).unwrap();
    assert!(text.contains("\npg_up 1\n") && zipped.body.len() * 2 < text.len());

    assert_eq!(http::get(at, "/-/healthy").await.status, 200);
    assert_eq!(http::get(at, "/-/ready").await.status, 200);
    process.wait("statements ran", |t| t.contains("collector=\"statements\"")).await;
    let page = http::get(at, "/").await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert!(page.text().contains("href=\"/metrics\"") && page.text().contains("statements"));

    let missing = http::get(at, "/nothing").await;
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("/nothing"));
    let posted = http::request(at, "POST", "/metrics", &[]).await;
    assert_eq!((posted.status, posted.headers["allow"].as_str()), (405, "GET,HEAD"));
    let head = http::request(at, "HEAD", "/metrics", &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let huge = http::request(at, "GET", "/metrics", &[("Content-Length", "5000000")]).await;
    assert_eq!(huge.status, 413);
}

#[tokio::test]
async fn a_database_that_stops_is_seen_at_once_and_its_return_too() {
    let mut cluster = common::server().await;
    let process = Process::serve(&dsn(&cluster), &[]).await;
    process.wait("up", |t| up(t) && t.contains("pg_cache") | t.contains("pg_database")).await;
    cluster.stop().await.unwrap();
    let stopped = Instant::now();
    process.wait("down", |t| !up(t)).await;
    assert!(stopped.elapsed() < Duration::from_secs(3), "{:?}", stopped.elapsed());
    // Long enough for several tries: one line for the change of state, none for each try.
    sleep(Duration::from_secs(5)).await;
    let lines = warnings(&process);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("cannot reach"), "{lines:#?}");
    cluster.restart().await.unwrap();
    process.wait("up again", up).await;
    sleep(Duration::from_secs(2)).await;
    let log = process.log();
    let again: Vec<_> = log.iter().filter(|l| l.contains("connected again")).collect();
    assert!((1..=2).contains(&again.len()), "{log:#?}");
}

#[tokio::test]
async fn without_a_server_it_starts_and_waits() {
    let process = Process::serve("postgresql://mon:s3cret@127.0.0.1:1/postgres", &[]).await;
    let text = process.wait("tried", |t| t.contains("\npg_up 0\n")).await;
    assert!(text.contains("pgrunway_build_info") && text.contains("process_resident_memory_bytes"));
    assert_eq!(http::get(process.address, "/-/healthy").await.status, 200);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(warnings(&process).len(), 1, "{:#?}", process.log());
}

#[tokio::test]
async fn a_wrong_password_is_named_once_and_never_shown() {
    let cluster = common::server().await;
    let dsn = format!("postgresql://mon:hunter2@127.0.0.1:{}/postgres", cluster.port());
    let process = Process::serve(&dsn, &["--log.level=debug"]).await;
    process.wait("refused", |_| !warnings(&process).is_empty()).await;
    sleep(Duration::from_secs(4)).await;
    assert!(!up(&process.metrics().await));
    let refused = warnings(&process);
    assert_eq!(refused.len(), 1, "{refused:#?}");
    assert!(refused[0].contains("28P01") && refused[0].contains("mon"), "{refused:#?}");
    let page = http::get(process.address, "/").await.text();
    let all = format!("{:?}{page}{}", process.log(), process.metrics().await);
    assert!(!all.contains("hunter2"));
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("ALTER ROLE mon PASSWORD 'hunter2'").await.unwrap();
    process.wait("up without a restart", up).await;
}

#[tokio::test]
async fn a_missing_extension_costs_its_collector_and_says_what_to_do() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("DROP EXTENSION pg_stat_statements").await.unwrap();
    let process = Process::serve(&dsn(&cluster), &[]).await;
    let success = |t: &str, c: &str| {
        value(t, "pgrunway_collector_success", &[("collector", c), ("datname", "")])
    };
    process
        .wait("the others run", |t| {
            success(t, "statements") == Some(0.0) && success(t, "connections") == Some(1.0)
        })
        .await;
    let page = http::get(process.address, "/collectors").await.text();
    assert!(page.contains("CREATE EXTENSION"), "{page}");
    assert_eq!(warnings(&process).len(), 1, "{:#?}", process.log());
    admin.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    process.wait("it recovers", |t| success(t, "statements") == Some(1.0)).await;
}

#[tokio::test]
async fn a_table_under_access_exclusive_holds_nobody_up() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE TABLE free (id int PRIMARY KEY); CREATE TABLE held (id int PRIMARY KEY, at \
             timestamptz); CREATE TABLE p (at timestamptz) PARTITION BY RANGE (at); \
             CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2020-01-01') TO ('2100-01-01')",
        )
        .await
        .unwrap();
    admin.batch_execute("BEGIN; LOCK TABLE held, p, p1 IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let process = Process::serve(&dsn(&cluster), &[]).await;
    let text = process
        .wait("all have run", |t| {
            of_a_server()
                .all(|c| t.contains(&format!("collector_success{{collector=\"{}\"", c.name())))
        })
        .await;
    assert!(up(&text));
    for line in text.lines().filter(|l| l.starts_with("pgrunway_collector_success{")) {
        assert!(line.ends_with(" 1"), "{line}\n{:#?}", process.log());
    }
    let p = [("datname", "postgres"), ("schemaname", "public"), ("relname", "p")];
    assert_eq!(value(&text, "pg_partition_covered", &p), Some(1.0));
    let held = admin
        .query_one("SELECT count(*) FROM pg_locks WHERE NOT granted", &[])
        .await
        .unwrap()
        .get::<_, i64>(0);
    assert_eq!(held, 0, "nobody queues behind the lock");
}

/// Every process of the server, the postmaster last.
fn server_pids(postmaster: i32) -> Vec<Pid> {
    let mut pids: Vec<Pid> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let after = stat.rsplit(") ").next().unwrap_or_default();
            after.split(' ').nth(1) == Some(postmaster.to_string().as_str())
        })
        .map(Pid::from_raw)
        .collect();
    pids.push(Pid::from_raw(postmaster));
    pids
}

#[tokio::test]
async fn a_frozen_server_is_down_while_it_is_frozen() {
    let cluster = common::server().await;
    let process = Process::serve(&dsn(&cluster), &[]).await;
    process.wait("up", up).await;
    let pids = server_pids(cluster.pid().unwrap());
    assert!(pids.len() > 3);
    for pid in &pids {
        kill(*pid, Signal::SIGSTOP).unwrap();
    }
    let frozen = Instant::now();
    process.wait("down", |t| !up(t)).await;
    assert!(frozen.elapsed() < Duration::from_secs(10), "{:?}", frozen.elapsed());
    for pid in &pids {
        let _ = kill(*pid, Signal::SIGCONT);
    }
    process.wait("up again", up).await;
}

#[tokio::test]
async fn a_statistics_reset_shows_in_the_servers_counters_and_lowers_no_bucket() {
    const SCANS: &str = "pg_stat_user_indexes_idx_scan_total";
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 999)",
        )
        .await
        .unwrap();
    // On a connection of its own: before 15 an idle one keeps what it did in its last half second.
    let work = |times: i32| {
        let cluster = &cluster;
        async move {
            let client = common::admin(cluster, "postgres").await;
            for id in 0..times {
                client.execute("SELECT * FROM t WHERE id = $1", &[&id]).await.unwrap();
            }
        }
    };
    work(150).await;
    let fast = ["--collector.indexes.interval=1s", "--collector.cache.interval=1s"];
    let process = Process::serve(&dsn(&cluster), &fast).await;
    process.wait("what was there before", |t| sum(t, SCANS) == 150.0).await;
    // What ran before the first look at the statements is in no bucket.
    process
        .wait("statements ran", |t| {
            let statements = [("collector", "statements"), ("datname", "")];
            value(t, "pgrunway_collector_success", &statements) == Some(1.0)
        })
        .await;
    work(50).await;
    process.wait("counted", |t| sum(t, SCANS) == 200.0).await;
    let before = process
        .wait("statements counted", |t| sum(t, "pg_query_duration_seconds_count") > 0.0)
        .await;
    admin.batch_execute("SELECT pg_stat_reset(), pg_stat_statements_reset()").await.unwrap();
    work(7).await;
    let after = process.wait("as the view after the reset", |t| sum(t, SCANS) == 7.0).await;
    let buckets = |text: &str| -> Vec<(String, f64)> {
        text.lines()
            .filter(|l| l.contains("_duration_seconds_bucket{"))
            .map(|l| l.rsplit_once(' ').unwrap())
            .map(|(series, v)| (series.to_owned(), v.parse().unwrap()))
            .collect()
    };
    let (before, after) = (buckets(&before), buckets(&after));
    assert!(before.len() > 10, "{}", before.len());
    for (series, old) in &before {
        let new = after.iter().find(|(s, _)| s == series).map(|(_, new)| *new);
        assert!(new.is_some_and(|new| new >= *old), "{series} fell from {old} to {new:?}");
    }
}

#[tokio::test]
async fn hostile_identifiers_are_valid_labels() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    // 63 bytes with a quote, a backslash, a newline and characters of two and three bytes.
    let name = format!("a\"b\\c\nd{}", "ü€".repeat(11));
    assert_eq!(name.len(), 62);
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    admin
        .batch_execute(&format!(
            "CREATE SCHEMA {quoted}; CREATE TABLE {quoted}.{quoted} (at timestamptz) PARTITION BY \
             RANGE (at); CREATE INDEX ON {quoted}.{quoted} (at)"
        ))
        .await
        .unwrap();
    let process = Process::serve(&dsn(&cluster), &[]).await;
    let label = name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels = [("schemaname", label.as_str()), ("relname", label.as_str())];
    let text = process
        .wait("the table is there", |t| value(t, "pg_partition_covered", &labels).is_some())
        .await;
    assert_eq!(value(&text, "pg_partition_covered", &labels), Some(0.0));
}

#[tokio::test]
async fn a_scrape_sends_no_query() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    // No collector runs during the test, after the first time.
    let intervals: Vec<String> = pgrunway::collectors::ALL
        .iter()
        .map(|c| format!("--collector.{}.interval=1h", c.name()))
        .collect();
    let intervals: Vec<&str> = intervals.iter().map(String::as_str).collect();
    let process = Process::serve(&dsn(&cluster), &intervals).await;
    let ran = |text: &str, name: &str| {
        let metric = "pgrunway_collector_last_success_timestamp_seconds";
        text.contains(&format!("{metric}{{collector=\"{name}\""))
    };
    process.wait("all have run", |t| up(t) && of_a_server().all(|c| ran(t, c.name()))).await;
    sleep(Duration::from_secs(1)).await;
    let calls = || async {
        let sql = "SELECT query, calls FROM pg_stat_statements s JOIN pg_roles r ON r.oid = \
                   s.userid WHERE r.rolname = 'mon' AND query !~ '(alive|BEGIN|COMMIT|set_config)' \
                   ORDER BY 1, 2";
        let rows = admin.query(sql, &[]).await.unwrap();
        rows.iter().map(|r| (r.get(0), r.get(1))).collect::<Vec<(String, i64)>>()
    };
    let before = calls().await;
    assert!(before.len() > 10, "the queries of the collectors are seen");
    for _ in 0..500 {
        process.metrics().await;
    }
    assert_eq!(calls().await, before);
}

#[tokio::test]
async fn our_own_statements_are_not_taken_for_the_users() {
    let cluster = common::server().await;
    let process = Process::serve(&dsn(&cluster), &[]).await;
    let own = "pgrunway_own_statements_total";
    let text = process.wait("a while", |t| value(t, own, &[]).is_some_and(|n| n > 40.0)).await;
    assert!(value(&text, "pgrunway_own_statements_seconds_total", &[]).unwrap() > 0.0);
    // Nobody else is there: whatever is counted was taken for a user's.
    assert_eq!(sum(&text, "pg_query_duration_seconds_count"), 0.0, "{text}");
    let admin = common::admin(&cluster, "postgres").await;
    for _ in 0..5 {
        admin.batch_execute("SELECT 'a user was here'").await.unwrap();
    }
    process.wait("the user is seen", |t| sum(t, "pg_query_duration_seconds_count") == 5.0).await;
    // The same role, used by an application: told by the text, not by the role.
    let shared = common::client(&cluster, "mon", "postgres").await;
    for _ in 0..7 {
        shared.batch_execute("SELECT 'an application with our role'").await.unwrap();
    }
    process
        .wait("so is the application", |t| sum(t, "pg_query_duration_seconds_count") == 12.0)
        .await;
}

#[tokio::test]
async fn sigterm_drains_and_ends_within_five_seconds() {
    let cluster = common::server().await;
    let mut process = Process::serve(&dsn(&cluster), &[]).await;
    process.wait("up", up).await;
    // A client that never ends its request must not hold it up.
    let mut slow = TcpStream::connect(process.address).await.unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let (status, took) = process.stop(Signal::SIGTERM).await;
    assert!(status.success(), "{status} {:#?}", process.log());
    assert!(took < Duration::from_secs(5), "{took:?}");
    let admin = common::admin(&cluster, "postgres").await;
    sleep(Duration::from_millis(300)).await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgrunway'";
    assert_eq!(admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 0);
}
