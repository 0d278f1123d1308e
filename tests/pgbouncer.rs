//! A real PgBouncer's console: what is exported agrees with what it shows, exhausted pools are seen,
//! and a pooler that is away, frozen or refuses us is told as such.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::http::value;
use common::pgbouncer::{PgBouncer, cell};
use common::process::Process;
use nix::sys::signal::Signal;
use pgrunway::cmd::cluster::Cluster;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

/// Databases that the pooler has unless a test needs others.
const POSTGRES: &[&str] = &["postgres = SERVER dbname=postgres pool_size=2"];

async fn server() -> Cluster {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE ROLE app LOGIN PASSWORD 'app'").await.unwrap();
    cluster
}

/// The exporter on the console, its collector running often.
async fn exporter(pooler: &PgBouncer) -> Process {
    let fast = "--collector.pgbouncer.interval=200ms";
    Process::serve(&pooler.dsn("stats", "pgbouncer"), &[fast]).await
}

fn up(text: &str) -> Option<f64> {
    value(text, "pgbouncer_up", &[])
}

/// When the console was last read, in Unix seconds.
fn last_poll(text: &str) -> Option<f64> {
    let metric = "pgrunway_collector_last_success_timestamp_seconds";
    value(text, metric, &[("collector", "pgbouncer"), ("datname", "")])
}

/// Waits until the pooler's log holds a text so often.
async fn logged(pooler: &PgBouncer, text: &str, times: usize) {
    let end = Instant::now() + Duration::from_secs(60);
    while pooler.log().matches(text).count() < times {
        assert!(Instant::now() < end, "not {times} times \"{text}\": {}", pooler.log());
        sleep(Duration::from_millis(50)).await;
    }
}

fn of_app(text: &str, metric: &str) -> Option<f64> {
    value(text, metric, &[("database", "postgres"), ("user", "app")])
}

/// Clients in open transactions, each of which holds a server connection.
async fn holders(pooler: &PgBouncer, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let client = pooler.client("app", "postgres").await;
        client.batch_execute("BEGIN; SELECT 1").await.unwrap();
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn what_is_exported_is_what_the_console_shows() {
    let cluster = server().await;
    let settings = ["max_client_conn = 40", "reserve_pool_size = 3", "max_db_connections = 7"];
    let databases = [
        "postgres = SERVER dbname=postgres pool_size=2",
        "alias = SERVER dbname=postgres max_db_connections=5",
        "forced = SERVER dbname=postgres user=mon",
    ];
    let pooler = PgBouncer::start(&cluster, &databases, &settings).await;
    for database in ["postgres", "alias", "forced"] {
        let client = pooler.client("app", database).await;
        for _ in 0..5 {
            client.batch_execute("SELECT 1; SELECT pg_sleep(0.002)").await.unwrap();
        }
    }
    let holding = holders(&pooler, 1).await;
    let process = exporter(&pooler).await;
    let mut text = process.wait("it has run", |t| t.contains("pgbouncer_pool_size{")).await;
    // The second poll at the earliest has seen the exporter's own connection.
    for _ in 0..2 {
        let seen = last_poll(&text);
        text = process.wait("again", |t| last_poll(t) > seen).await;
    }
    assert_eq!(up(&text), Some(1.0));

    let mut compared = 0;
    let mut compare = |metric: &str, labels: &[(&str, &str)], shown: Option<&str>, unit: f64| {
        let shown = shown.map(|v| v.parse::<f64>().unwrap() * unit);
        let exported = value(&text, metric, labels);
        let close = match (shown, exported) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(1.0),
            (a, b) => a == b,
        };
        assert!(close, "{metric} {labels:?}: shown {shown:?}, exported {exported:?}");
        compared += usize::from(shown.is_some());
    };
    // The pools of the console itself change with every look at it.
    let others = |row: &Vec<(String, String)>, column| cell(row, column) != Some("pgbouncer");
    for row in pooler.show("POOLS").await.iter().filter(|r| others(r, "database")) {
        let [database, user] = ["database", "user"].map(|c| cell(row, c).unwrap());
        let labels = [("database", database), ("user", user)];
        for (column, suffix) in [
            ("cl_active", "client_active_connections"),
            ("cl_waiting", "client_waiting_connections"),
            ("cl_active_cancel_req", "client_active_cancel_connections"),
            ("cl_waiting_cancel_req", "client_waiting_cancel_connections"),
            ("sv_active", "server_active_connections"),
            ("sv_active_cancel", "server_active_cancel_connections"),
            ("sv_being_canceled", "server_being_canceled_connections"),
            ("sv_idle", "server_idle_connections"),
            ("sv_used", "server_used_connections"),
            ("sv_tested", "server_testing_connections"),
            ("sv_login", "server_login_connections"),
        ] {
            compare(&format!("pgbouncer_pools_{suffix}"), &labels, cell(row, column), 1.0);
        }
    }
    for row in pooler.show("DATABASES").await.iter().filter(|r| others(r, "name")) {
        let labels = ["name", "host", "port", "database", "force_user", "pool_mode"]
            .map(|column| (column, cell(row, column).unwrap()));
        for column in [
            "pool_size",
            "min_pool_size",
            "max_connections",
            "current_connections",
            "max_client_connections",
            "current_client_connections",
            "paused",
            "disabled",
        ] {
            compare(&format!("pgbouncer_databases_{column}"), &labels, cell(row, column), 1.0);
        }
        let reserve = cell(row, "reserve_pool").or(cell(row, "reserve_pool_size"));
        assert_eq!(reserve, Some("3"));
        compare("pgbouncer_databases_reserve_pool", &labels, reserve, 1.0);
    }
    for row in pooler.show("STATS").await.iter().filter(|r| others(r, "database")) {
        let labels = [("database", cell(row, "database").unwrap())];
        for (column, suffix, unit) in [
            ("xact_count", "sql_transactions_pooled", 1.0),
            ("query_count", "queries_pooled", 1.0),
            ("server_assignment_count", "server_assignments", 1.0),
            ("received", "received_bytes", 1.0),
            ("sent", "sent_bytes", 1.0),
            ("query_time", "queries_duration_seconds", 1e-6),
            ("wait_time", "client_wait_seconds", 1e-6),
            ("client_parse_count", "client_parses", 1.0),
            ("server_parse_count", "server_parses", 1.0),
            ("bind_count", "binds", 1.0),
            ("client_login_count", "client_logins", 1.0),
        ] {
            let metric = format!("pgbouncer_stats_totals_{suffix}_total");
            compare(&metric, &labels, cell(row, &format!("total_{column}")), unit);
        }
    }
    let queries = "pgbouncer_stats_totals_queries_pooled_total";
    assert!(value(&text, queries, &[("database", "alias")]) >= Some(5.0));
    let time = "pgbouncer_stats_totals_queries_duration_seconds_total";
    let slept = value(&text, time, &[("database", "alias")]).unwrap();
    assert!((0.01..10.0).contains(&slept), "five times two milliseconds, in seconds: {slept}");
    for row in pooler.show("CONFIG").await {
        let metric = match cell(&row, "key").unwrap() {
            "max_client_conn" => "pgbouncer_config_max_client_connections",
            "max_user_connections" => "pgbouncer_config_max_user_connections",
            "max_db_connections" => "pgbouncer_config_max_db_connections",
            "default_pool_size" => "pgbouncer_config_default_pool_size",
            "query_wait_timeout" => "pgbouncer_config_query_wait_timeout_seconds",
            _ => continue,
        };
        compare(metric, &[], cell(&row, "value"), 1.0);
    }
    for row in pooler.show("LISTS").await {
        let metric = match cell(&row, "list").unwrap() {
            "databases" => "pgbouncer_databases",
            "pools" => "pgbouncer_pools",
            "users" => "pgbouncer_users",
            "used_servers" => "pgbouncer_used_servers",
            _ => continue,
        };
        compare(metric, &[], cell(&row, "items"), 1.0);
    }
    let version = pooler.show("VERSION").await;
    let version = cell(&version[0], "version").unwrap().to_owned();
    assert_eq!(value(&text, "pgbouncer_version_info", &[("version", &version)]), Some(1.0));
    assert!(compared > 80, "only {compared} values were compared");

    assert_eq!(of_app(&text, "pgbouncer_pool_size"), Some(2.0));
    assert_eq!(of_app(&text, "pgbouncer_pool_saturation_ratio"), Some(0.5));
    let labels = [("database", "alias")];
    let used = value(&text, "pgbouncer_database_connections_used_ratio", &labels).unwrap();
    assert!((used - 0.2).abs() < 1e-9, "one of five: {used}");
    // Nothing of a server is told of a pooler.
    assert!(!text.contains("\npg_up") && !text.contains("pgrunway_database_up"));
    assert_eq!(common::http::sum(&text, "pgrunway_collector_defective_samples_total"), 0.0);
    drop(holding);
}

#[tokio::test]
async fn an_exhausted_pool_and_those_who_wait_are_seen() {
    let cluster = server().await;
    let pooler = PgBouncer::start(&cluster, POSTGRES, &[]).await;
    let process = exporter(&pooler).await;
    let holding = holders(&pooler, 2).await;
    // One that logs in counts as taken, but its client as one that waits.
    let full = process
        .wait("full", |t| of_app(t, "pgbouncer_pools_server_active_connections") == Some(2.0))
        .await;
    assert_eq!(of_app(&full, "pgbouncer_pool_saturation_ratio"), Some(1.0));
    assert_eq!(of_app(&full, "pgbouncer_pools_client_waiting_connections"), Some(0.0));
    assert_eq!(of_app(&full, "pgbouncer_pools_client_maxwait_seconds"), Some(0.0));
    let since = Instant::now();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let client = pooler.client("app", "postgres").await;
        waiting.push(tokio::spawn(async move { client.batch_execute("SELECT 1").await }));
    }
    let text = process
        .wait("they wait", |t| {
            of_app(t, "pgbouncer_pools_client_waiting_connections") == Some(3.0)
                && of_app(t, "pgbouncer_pools_client_maxwait_seconds") > Some(2.4)
        })
        .await;
    let wait = of_app(&text, "pgbouncer_pools_client_maxwait_seconds").unwrap();
    assert!(wait <= since.elapsed().as_secs_f64(), "{wait}");
    assert!(wait.fract() != 0.0, "the microseconds count: {wait}");
    assert_eq!(of_app(&text, "pgbouncer_pool_saturation_ratio"), Some(1.0));
    assert_eq!(of_app(&text, "pgbouncer_pool_client_wait_ratio"), Some(0.6));
    drop(holding);
    for client in waiting {
        client.await.unwrap().unwrap();
    }
    let waited = "pgbouncer_stats_totals_client_wait_seconds_total";
    // They began one after the other, which takes a busy machine a moment.
    let all_three = Some(3.0 * 2.4 - 1.2);
    process
        .wait("it is free again, and their waits are counted", |t| {
            of_app(t, "pgbouncer_pool_saturation_ratio") == Some(0.0)
                && of_app(t, "pgbouncer_pools_client_maxwait_seconds") == Some(0.0)
                && value(t, waited, &[("database", "postgres")]) > all_three
        })
        .await;
}

#[tokio::test]
async fn pauses_are_seen() {
    let cluster = server().await;
    let pooler = PgBouncer::start(&cluster, POSTGRES, &[]).await;
    let process = exporter(&pooler).await;
    let of = |t: &str, what: &str| {
        value(t, &format!("pgbouncer_databases_{what}"), &[("name", "postgres")])
    };
    process.wait("neither", |t| [of(t, "paused"), of(t, "disabled")] == [Some(0.0); 2]).await;
    let admin = pooler.client("admin", "pgbouncer").await;
    admin.simple_query("PAUSE postgres").await.unwrap();
    process.wait("paused", |t| of(t, "paused") == Some(1.0)).await;
    admin.simple_query("RESUME postgres").await.unwrap();
    admin.simple_query("DISABLE postgres").await.unwrap();
    process
        .wait("disabled", |t| (of(t, "paused"), of(t, "disabled")) == (Some(0.0), Some(1.0)))
        .await;
}

#[tokio::test]
async fn a_pooler_that_stops_is_down_at_once_and_its_return_is_seen() {
    let cluster = server().await;
    let mut pooler = PgBouncer::start(&cluster, POSTGRES, &[]).await;
    let process = exporter(&pooler).await;
    process.wait("up", |t| up(t) == Some(1.0)).await;
    pooler.stop().await;
    let stopped = Instant::now();
    let text = process.wait("down", |t| up(t) == Some(0.0)).await;
    assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());
    assert!(!text.contains("\npg_up"), "a pooler stays a pooler while it is away");
    pooler.restart().await;
    process.wait("up again", |t| up(t) == Some(1.0)).await;
    // Totals start anew with the process that counts them, and are told as they are.
    let queries = "pgbouncer_stats_totals_queries_pooled_total";
    let ours = [("database", "pgbouncer")];
    process.wait("few", |t| value(t, queries, &ours).is_some_and(|n| n < 40.0)).await;
}

#[tokio::test]
async fn a_frozen_pooler_is_down_while_it_is_frozen() {
    let cluster = server().await;
    let pooler = PgBouncer::start(&cluster, POSTGRES, &[]).await;
    let short = ["--timeouts.statement=1s", "--timeouts.handshake=1s", "--log.level=debug"];
    let process = Process::serve(&pooler.dsn("stats", "pgbouncer"), &short).await;
    process.wait("up", |t| up(t) == Some(1.0)).await;
    pooler.signal(Signal::SIGSTOP);
    let frozen = Instant::now();
    process.wait("down", |t| up(t) == Some(0.0)).await;
    assert!(frozen.elapsed() < Duration::from_secs(15), "{:?}", frozen.elapsed());
    pooler.signal(Signal::SIGCONT);
    process.wait("up again", |t| up(t) == Some(1.0)).await;
    let success = [("collector", "pgbouncer"), ("datname", "")];
    process
        .wait("collected", |t| value(t, "pgrunway_collector_success", &success) == Some(1.0))
        .await;
}

#[tokio::test]
async fn whoever_may_not_see_the_console_is_told_and_gets_in_once_he_may() {
    let cluster = server().await;
    let pooler = PgBouncer::start(&cluster, POSTGRES, &[]).await;
    // The right password, but no member of stats_users.
    let process = Process::serve(&pooler.dsn("mon", "pgbouncer"), &["--log.level=debug"]).await;
    let warnings =
        || -> Vec<String> { process.log().into_iter().filter(|l| l.contains("WARN")).collect() };
    process.wait("refused", |t| up(t) == Some(0.0) && !warnings().is_empty()).await;
    // Several tries, and one line.
    logged(&pooler, "db=pgbouncer user=mon", 3).await;
    assert_eq!(warnings().len(), 1, "{:#?}", process.log());
    assert!(warnings()[0].contains("stats_users"), "{:#?}", warnings());
    pooler.set("stats_users = stats", "stats_users = stats, mon").await;
    process.wait("up", |t| up(t) == Some(1.0)).await;
}

#[tokio::test]
async fn a_wrong_password_is_named_once_and_never_shown() {
    let cluster = server().await;
    let pooler = PgBouncer::start(&cluster, POSTGRES, &[]).await;
    let dsn = format!("postgresql://stats:hunter2@127.0.0.1:{}/pgbouncer", pooler.port());
    let process = Process::serve(&dsn, &["--log.level=debug"]).await;
    process.wait("refused", |t| up(t) == Some(0.0)).await;
    logged(&pooler, "SASL authentication failed", 3).await;
    let log = process.log();
    let refused: Vec<_> = log.iter().filter(|l| l.contains("WARN")).collect();
    assert_eq!(refused.len(), 1, "{log:#?}");
    assert!(refused[0].contains("refused the login"), "{refused:#?}");
    let page = common::http::get(process.address, "/").await.text();
    assert!(!format!("{log:?}{page}{}", process.metrics().await).contains("hunter2"));
    pooler.set_users("\"stats\" \"hunter2\"\n\"admin\" \"admin\"\n").await;
    process.wait("up without a restart", |t| up(t) == Some(1.0)).await;
}

#[tokio::test]
async fn databases_may_have_any_name() {
    let cluster = server().await;
    let pooler = PgBouncer::start(&cluster, &["* = SERVER"], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    let name = "a\"b\\c\n;dü€'";
    admin
        .batch_execute(&format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\"")))
        .await
        .unwrap();
    let client = pooler.client("app", name).await;
    client.batch_execute("SELECT 1").await.unwrap();
    let process = exporter(&pooler).await;
    let label = name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pool = [("database", label.as_str()), ("user", "app")];
    // Of a database that it made up for a client, PgBouncer need not show the size.
    let active = "pgbouncer_pools_client_active_connections";
    let text = process.wait("the pool", |t| value(t, active, &pool) == Some(1.0)).await;
    let database = [("database", label.as_str())];
    let queries = "pgbouncer_stats_totals_queries_pooled_total";
    assert_eq!(value(&text, queries, &database), Some(1.0));
}

fn advised(text: &str, id: &str) -> Option<f64> {
    value(text, "pgbouncer_recommendation_active", &[("id", id)])
}

/// Clients that ask at once for what others hold.
async fn waiters(
    pooler: &PgBouncer,
    count: usize,
) -> Vec<tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>> {
    let mut waiting = Vec::new();
    for _ in 0..count {
        let client = pooler.client("app", "postgres").await;
        waiting.push(tokio::spawn(async move { client.batch_execute("SELECT 1").await }));
    }
    waiting
}

#[tokio::test]
async fn clients_that_wait_at_a_full_pool_ask_for_a_larger_one() {
    let cluster = server().await;
    let room = ["postgres = SERVER dbname=postgres pool_size=5"];
    let roomy = PgBouncer::start(&cluster, &room, &["max_client_conn = 10"]).await;
    let tight = ["postgres = SERVER dbname=postgres pool_size=1"];
    let tight = PgBouncer::start(&cluster, &tight, &["query_wait_timeout = 0"]).await;
    let (idle, busy) = (exporter(&roomy).await, exporter(&tight).await);
    let held = holders(&roomy, 4).await;
    let text = idle
        .wait("in use", |t| of_app(t, "pgbouncer_pools_server_active_connections") == Some(4.0))
        .await;
    assert_eq!(advised(&text, "pool.size"), Some(0.0));
    assert_eq!(advised(&text, "pool.query_wait_timeout"), Some(0.0));
    assert_eq!(advised(&text, "pool.server_lifetime"), Some(0.0));
    assert_eq!(advised(&text, "pool.max_client_conn"), Some(0.0));
    drop(held);

    let holding = holders(&tight, 1).await;
    let text = busy
        .wait("full", |t| of_app(t, "pgbouncer_pools_server_active_connections") == Some(1.0))
        .await;
    assert_eq!(advised(&text, "pool.size"), Some(0.0), "nobody waits");
    assert_eq!(advised(&text, "pool.query_wait_timeout"), Some(1.0));
    let waiting = waiters(&tight, 3).await;
    busy.wait("they wait for too long", |t| advised(t, "pool.size") == Some(1.0)).await;

    // The report tells the figures, and of a pooler that is away only that.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pgrunway.yml");
    let pooler = |name: &str, dsn: &str| format!("- {{name: {name}, dsn: '{dsn}'}}\n");
    let nobody = dir.path().display().to_string();
    let targets = [
        pooler("tight", &tight.dsn("stats", "pgbouncer")),
        pooler("away", &format!("host={nobody} user=stats dbname=pgbouncer")),
    ];
    std::fs::write(&file, format!("targets:\n{}", targets.concat())).unwrap();
    let config = format!("--config.file={}", file.display());
    let server = format!("host={} port={}", cluster.socket_dir().display(), cluster.port());
    let env = format!("{server} user=postgres dbname=postgres");
    let args = ["report", "--over=3s", &config];
    let (code, report, err) = common::process::run(&args, &[("DATA_SOURCE_NAME", &env)]).await;
    assert_eq!(code, 0, "{err}");
    let row = report.lines().find(|l| l.starts_with("| `postgres` | `app` | transaction |"));
    let row = row.unwrap_or_else(|| panic!("no row of the pool in {report}"));
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    assert_eq!(cells[3..6], ["1", "1", "3"], "size, most in use, most waiting");
    // One in use and three that wait.
    for told in [
        "at the peak 4 were in use or wanted",
        "may take 1 on all servers together, and then 4, reserves",
        "query\\_wait\\_timeout is 0: no end.",
        "```ini\nquery_wait_timeout = 120\n```",
        "pooler away: ",
    ] {
        assert!(report.contains(told), "{told}: {report}");
    }
    assert!(report.contains("pool\\_size=4 in") || report.contains("pool_size=4 in"), "{report}");
    drop(holding);
    for client in waiting {
        client.await.unwrap().unwrap();
    }
    let after = busy
        .wait("free", |t| of_app(t, "pgbouncer_pools_client_waiting_connections") == Some(0.0))
        .await;
    assert_eq!(advised(&after, "pool.size"), Some(1.0), "it is remembered");
}

#[tokio::test]
async fn clients_that_a_limit_of_the_database_keeps_waiting_need_that_raised() {
    let cluster = server().await;
    let limited = ["postgres = SERVER dbname=postgres pool_size=5 max_db_connections=1"];
    let pooler = PgBouncer::start(&cluster, &limited, &[]).await;
    let process = exporter(&pooler).await;
    let holding = holders(&pooler, 1).await;
    let text = process
        .wait("used", |t| of_app(t, "pgbouncer_pools_server_active_connections") == Some(1.0))
        .await;
    assert_eq!(advised(&text, "pool.max_db_connections"), Some(0.0));
    let waiting = waiters(&pooler, 2).await;
    let text =
        process.wait("they wait", |t| advised(t, "pool.max_db_connections") == Some(1.0)).await;
    assert_eq!(advised(&text, "pool.size"), Some(0.0));
    drop(holding);
    for client in waiting {
        client.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_server_connection_without_a_lifetime_is_used_once() {
    let cluster = server().await;
    let one = ["postgres = SERVER dbname=postgres pool_size=1"];
    for (settings, same) in [(&[][..], true), (&["server_lifetime = 0"], false)] {
        let pooler = PgBouncer::start(&cluster, &one, settings).await;
        let process = exporter(&pooler).await;
        let client = pooler.client("app", "postgres").await;
        let mut pids = Vec::new();
        for _ in 0..2 {
            let shown = client.simple_query("SELECT pg_backend_pid()").await.unwrap();
            let pid = shown.iter().find_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            });
            pids.push(pid.unwrap());
        }
        assert_eq!(pids[0] == pids[1], same, "{settings:?}: {pids:?}");
        let holds = Some(if same { 0.0 } else { 1.0 });
        process.wait("judged", |t| advised(t, "pool.server_lifetime") == holds).await;
    }
}

#[tokio::test]
async fn prepared_statements_are_advised_by_what_the_version_does() {
    let cluster = server().await;
    let pooler = PgBouncer::start(&cluster, POSTGRES, &[]).await;
    let process = exporter(&pooler).await;
    let holding = holders(&pooler, 1).await;
    let id = "pool.prepared_statements";
    let text = process
        .wait("a pool", |t| of_app(t, "pgbouncer_pools_server_active_connections").is_some())
        .await;
    let config = pooler.show("CONFIG").await;
    let setting = config.iter().find(|row| cell(row, "key") == Some("max_prepared_statements"));
    match setting.map(|row| cell(row, "value").unwrap()) {
        // Before 1.21.
        None => assert_eq!(advised(&text, id), Some(1.0)),
        Some(now) => {
            // 0 before 1.24.
            assert_eq!(advised(&text, id), Some(if now == "0" { 1.0 } else { 0.0 }), "{now}");
            let admin = pooler.client("admin", "pgbouncer").await;
            for (value, expected) in [("0", 1.0), ("50", 0.0)] {
                let set = format!("SET max_prepared_statements = {value}");
                admin.simple_query(&set).await.unwrap();
                process.wait(value, |t| advised(t, id) == Some(expected)).await;
            }
        }
    }
    // In session mode a client keeps its server, and with it what it prepared.
    pooler.set("pool_mode = transaction", "pool_mode = session").await;
    process.wait("session mode", |t| advised(t, id) == Some(0.0)).await;
    drop(holding);
}

#[tokio::test]
async fn transactions_in_session_mode_take_the_time_that_they_took() {
    let cluster = server().await;
    let pooler = PgBouncer::start(&cluster, POSTGRES, &["server_lifetime = 0"]).await;
    pooler.set("pool_mode = transaction", "pool_mode = session").await;
    let process = exporter(&pooler).await;
    let client = pooler.client("app", "postgres").await;
    let began = Instant::now();
    client.batch_execute("SELECT pg_sleep(0.5)").await.unwrap();
    let took_at_most = began.elapsed().as_secs_f64() + 0.2;
    // Idle, and yet it has its server.
    let text = process
        .wait("held", |t| of_app(t, "pgbouncer_pools_server_active_connections") == Some(1.0))
        .await;
    assert_eq!(advised(&text, "pool.server_lifetime"), Some(1.0));
    assert_eq!(advised(&text, "pool.mode"), None, "ten minutes at the least");
    sleep(Duration::from_secs(2)).await;
    let text = process.metrics().await;
    let time = "pgbouncer_stats_totals_server_in_transaction_seconds_total";
    let took = value(&text, time, &[("database", "postgres")]).unwrap();
    assert!(
        (0.5..took_at_most).contains(&took),
        "the time in which it was idle does not count: {took}"
    );
    assert_eq!(of_app(&text, "pgbouncer_pools_server_active_connections"), Some(1.0));
    drop(client);
}
