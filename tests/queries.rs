//! Queries of the user's own on real servers: beside the real postgres_exporter, as hostile as can be thought of, and
//! loaded again.
//!
//! Must not: depend on how long a query takes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "parity/exposition.rs"]
#[allow(dead_code, reason = "parity uses all of it")]
mod exposition;
#[path = "parity/rival.rs"]
#[allow(dead_code, reason = "parity uses all of it")]
mod rival;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use common::http;
use common::process::{self, Process};
use exposition::{Exposition, Series};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgrunway::cmd::cluster::Cluster;
use rival::Rival;
use tempfile::TempDir;

fn dsn(cluster: &Cluster, dbname: &str) -> String {
    format!("postgresql://mon:mon@127.0.0.1:{}/{dbname}?sslmode=disable", cluster.port())
}

/// A file in a folder of its own.
fn file(name: &str, text: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

/// Whether a query's collector succeeded, where it has run.
fn success(text: &str, query: &str, datname: &str) -> Option<f64> {
    let name = format!("query_{query}");
    let labels = [("collector", name.as_str()), ("datname", datname)];
    http::value(text, "pgrunway_collector_success", &labels)
}

fn errors(text: &str, query: &str, kind: &str) -> f64 {
    let name = format!("query_{query}");
    let labels = [("collector", name.as_str()), ("kind", kind)];
    http::value(text, "pgrunway_collector_errors_total", &labels).unwrap_or(0.0)
}

/// Shapes that files of postgres_exporter's have: names of its own metrics, everything that a column can be, and types
/// of every sort.
const THEIRS: &str = r#"
shop_orders:
  query: |
    SELECT state, count(*) AS orders, sum(amount) AS amount, max(placed) AS newest, bool_and(id > 0) AS sound,
           count(*) * 10 AS "left"
      FROM orders GROUP BY state ORDER BY state;
  cache_seconds: 1
  metrics:
    - state:
        usage: "LABEL"
        description: "State of the order"
    - orders:
        usage: "COUNTER"
        description: "Orders"
    - amount:
        usage: "GAUGE"
        description: "Their amount"
    - newest:
        usage: "GAUGE"
        description: "The newest"
    - left:
        usage: "DISCARD"
        description: "Nobody looks at it"
kinds:
  query: "SELECT 1e6::float8 AS l_million, 123456789.5::float8 AS l_float, 1.50::numeric AS l_numeric, '2026-01-01Z'::timestamptz AS l_time, true AS l_truth, 1.5::float4 AS l_real, NULL::text AS l_null, '10.1.2.3'::inet AS l_host, '10.0.0.0/8'::cidr AS l_net, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS l_uuid, '16/B374D848'::pg_lsn AS l_lsn, 'x'::name AS l_name, 7::oid AS l_oid, '{\"a\": 1}'::jsonb AS l_json, 0.00001::float8 AS l_small, 5 AS v, 7 AS unnamed, '8' AS textual, 'x' AS junk, '2026-01-01'::date AS day, '2026-01-01 00:00:01.9'::timestamp AS moment, true AS yes, 12 AS took, 0.1::float4 AS tenth, -12.25::numeric AS below, 'Infinity'::float8 AS endless, 9007199254740993 AS large, E'a\"b\\\\c\nd' AS l_odd"
  metrics:
    - l_million: {usage: "LABEL", description: "L"}
    - l_float: {usage: "LABEL", description: "L"}
    - l_numeric: {usage: "LABEL", description: "L"}
    - l_time: {usage: "LABEL", description: "L"}
    - l_truth: {usage: "LABEL", description: "L"}
    - l_real: {usage: "LABEL", description: "L"}
    - l_null: {usage: "LABEL", description: "L"}
    - l_host: {usage: "LABEL", description: "L"}
    - l_net: {usage: "LABEL", description: "L"}
    - l_uuid: {usage: "LABEL", description: "L"}
    - l_lsn: {usage: "LABEL", description: "L"}
    - l_name: {usage: "LABEL", description: "L"}
    - l_oid: {usage: "LABEL", description: "L"}
    - l_json: {usage: "LABEL", description: "L"}
    - l_small: {usage: "LABEL", description: "L"}
    - l_odd: {usage: "LABEL", description: "L"}
    - v: {usage: "GAUGE", description: "V"}
    - day: {usage: "GAUGE", description: "V"}
    - moment: {usage: "GAUGE", description: "V"}
    - yes: {usage: "GAUGE", description: "V"}
    - took: {usage: "DURATION", description: "V"}
    - tenth: {usage: "GAUGE", description: "V"}
    - below: {usage: "GAUGE", description: "V"}
    - endless: {usage: "GAUGE", description: "V"}
    - large: {usage: "COUNTER", description: "V"}
waits:
  query: "WITH b AS (SELECT unnest(ARRAY[1, 2.5, 5]) AS le, unnest(ARRAY[1, 3, 7]) AS n) SELECT 'a' AS who, array_agg(le) AS seconds, array_agg(n) AS seconds_bucket, 12.5 AS seconds_sum, 9 AS seconds_count FROM b"
  metrics:
    - who: {usage: "LABEL", description: "Who"}
    - seconds: {usage: "HISTOGRAM", description: "Waits"}
pg_replication:
  query: "SELECT CASE WHEN pg_is_in_recovery() THEN 1 ELSE 0 END AS lag"
  master: true
  metrics:
    - lag: {usage: "GAUGE", description: "Replication lag behind master in seconds"}
pg_postmaster:
  query: "SELECT pg_postmaster_start_time AS start_time_seconds FROM pg_postmaster_start_time()"
  master: true
  metrics:
    - start_time_seconds: {usage: "GAUGE", description: "Time at which postmaster started"}
pg_stat_archiver:
  query: "SELECT 5 AS archived_count"
  metrics:
    - archived_count: {usage: "GAUGE", description: "Another one"}
pg_stat_user_tables:
  query: "SELECT current_database() datname, schemaname, relname, seq_scan, n_live_tup FROM pg_stat_user_tables"
  metrics:
    - datname: {usage: "LABEL", description: "Name of current database"}
    - schemaname: {usage: "LABEL", description: "Name of the schema that this table is in"}
    - relname: {usage: "LABEL", description: "Name of this table"}
    - seq_scan: {usage: "COUNTER", description: "Number of sequential scans initiated on this table"}
    - n_live_tup: {usage: "GAUGE", description: "Estimated number of live rows"}
off:
  query: ""
  metrics:
    - x: {usage: "GAUGE", description: "Never"}
bad:
  query: "SELECT 1 AS x FROM there_is_none"
  metrics:
    - x: {usage: "GAUGE", description: "Never"}
"#;

/// The series and types of families that begin with one of these names.
fn of(text: &str, names: &[&str]) -> (BTreeMap<Series, f64>, BTreeMap<String, String>) {
    let all = Exposition::parse(text);
    let ours = |name: &str| names.iter().any(|n| name.starts_with(n));
    let series = all.series.into_iter().filter(|((name, _), _)| ours(name)).collect();
    let types = all.types.into_iter().filter(|(name, _)| ours(name)).collect();
    (series, types)
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_exporters_file_gives_what_it_gives_there() {
    let cluster = common::server_with(&[("autovacuum", "off")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE DATABASE shop").await.unwrap();
    common::work(
        &cluster,
        "shop",
        "CREATE TYPE state AS ENUM ('new', 'paid'); \
         CREATE TABLE orders (id int, state state, amount numeric, placed timestamptz); \
         INSERT INTO orders SELECT i, CASE i % 3 WHEN 0 THEN 'paid' ELSE 'new' END::state, i * 1.25, \
           timestamptz '2026-01-01Z' FROM generate_series(1, 10) i; \
         GRANT SELECT ON orders TO mon; ANALYZE orders",
    )
    .await;
    let (_dir, path) = file("queries.yaml", THEIRS);
    let dsn = dsn(&cluster, "shop");
    let flag = format!("--extend.query-path={path}");
    let rival = Rival::start_with(&dsn, false, &[&flag]).await;
    let process = Process::serve(&dsn, &[&flag, "--compatibility=postgres_exporter"]).await;
    let names = [
        "shop_orders_",
        "kinds_",
        "waits_",
        "pg_replication_lag",
        "pg_postmaster_",
        "pg_stat_archiver_",
        "pg_stat_user_tables_n_live_tup",
        "pg_exporter_user_queries",
        "off_",
        "bad_",
    ];
    // Once all has run; there is no collector for what has no statement.
    let text = process
        .wait("all queries", |text| {
            ["shop_orders", "kinds", "waits", "pg_replication", "pg_postmaster", "pg_stat_archiver"]
                .iter()
                .all(|query| success(text, query, "shop") == Some(1.0))
                && success(text, "bad", "shop") == Some(0.0)
                && text.contains(
                    "pg_stat_user_tables_n_live_tup{datname=\"shop\",schemaname=\"public\",\
                                  relname=\"orders\",server=",
                )
        })
        .await;
    let theirs = rival.metrics().await;
    let (ours, our_types) = of(&text, &names);
    let (expected, types) = of(&theirs, &names);
    assert!(expected.len() > 25, "{expected:#?}");
    // What pgrunway has beside theirs under these names, with labels of its own.
    let stranger =
        |(name, labels): &Series| name.starts_with("pg_") && !labels.contains_key("server");
    for (series, value) in &expected {
        let found = ours.get(series);
        assert_eq!(found, Some(value), "{series:?}\n{text}");
    }
    for series in ours.keys().filter(|series| !stranger(series)) {
        assert!(expected.contains_key(series), "not there: {series:?}");
    }
    for (name, kind) in &types {
        assert_eq!(our_types.get(name), Some(kind), "{name}");
    }
    assert_eq!(success(&text, "off", "shop"), None);
    // One line, whatever is polled later.
    let log = process.log();
    let lines: Vec<&String> = log.iter().filter(|line| line.contains("query_bad")).collect();
    assert_eq!(lines.len(), 1, "{log:#?}");

    // By default: without `server`, and what is pgrunway's own stays so.
    let process =
        Process::serve(&dsn, &[&flag, "--metric-prefix=my", "--constantLabels=region=eu"]).await;
    let text = process
        .wait("by default", |text| {
            success(text, "pg_stat_user_tables", "shop") == Some(1.0)
                && success(text, "shop_orders", "shop") == Some(1.0)
        })
        .await;
    let all = Exposition::parse(&text);
    assert_eq!(
        http::value(&text, "shop_orders_orders", &[("state", "new"), ("region", "eu")]),
        Some(7.0)
    );
    assert_eq!(all.kind("my_stat_archiver_archived_count"), "gauge");
    assert!(text.contains("my_replication_lag{region=\"eu\"} 0\n"), "{text}");
}

/// Each with the kind of its error, and what is said of it.
const BAD: &[(&str, &str, &str, &str)] = &[
    ("sleeps", "SELECT pg_sleep(3600)::text AS v", "server_timeout", "statement timeout"),
    ("rows", "SELECT i AS v, i AS k FROM generate_series(1, 1000000) i", "limit", "answer_limit"),
    ("wide", "SELECT repeat('x', 20000000) AS v", "limit", "answer_limit"),
    ("locked", "SELECT count(*) AS v FROM public.locked", "server_timeout", "lock timeout"),
    ("denied", "SELECT count(*) AS v FROM public.denied", "permission", "denied"),
    (
        "writes",
        "WITH w AS (INSERT INTO public.kept VALUES (1) RETURNING 1) SELECT count(*) AS v FROM w",
        "query",
        "read-only transaction",
    ),
    ("creates", "SELECT 1 AS v INTO public.made", "query", "read-only transaction"),
    ("counts", "SELECT nextval('public.numbers') AS v", "query", "read-only transaction"),
    ("several", "SELECT 1 AS v; DROP TABLE public.kept", "query", "42601"),
    ("escapes", "SELECT 1 AS v; COMMIT; DROP TABLE public.kept; --", "query", "42601"),
    ("unlocks", "SELECT set_config('transaction_read_only', 'off', true) AS v", "query", "25001"),
    ("secret", "SELECT 'hunter2-hunter2'::int AS v", "query", "22P02"),
    ("text", "SELECT 'abc' AS v", "decode", "no number"),
    ("beyond", "SELECT 1e400::numeric AS v", "decode", "beyond"),
    ("absent", "SELECT 1 AS k", "decode", "no such column"),
    ("more", "SELECT 1 AS v, 2 AS surplus", "decode", "surplus"),
    ("twice", "SELECT 1 AS v, 'a' AS k UNION ALL SELECT 2, 'a'", "decode", "same labels"),
    ("falls", "SELECT -1 AS c, 1 AS v", "decode", "below 0"),
    ("crashes", "SELECT 1 / 0 AS v", "query", "division by zero"),
    ("gone", "SELECT 1 AS v FROM nowhere.at_all", "query", "does not exist"),
    ("pathless", "SELECT 1 AS v FROM kept", "query", "does not exist"),
    ("typed", "SELECT 1 AS v", "collision", "is a gauge already"),
    ("own", "SELECT 1 AS v", "collision", "of itself"),
    ("series", "SELECT 1 AS v", "collision", "are there already"),
];

fn hostile() -> String {
    let mut text = "queries:\n".to_owned();
    for (name, sql, _, _) in BAD {
        let (prefix, metric) = match *name {
            "typed" => ("pg_settings", "max_connections: {usage: COUNTER}"),
            "own" => ("pg", "up: {usage: GAUGE}"),
            "series" => ("pg_settings", "work_mem_bytes: {usage: GAUGE}"),
            "falls" => ("bad_falls", "c: {usage: COUNTER}"),
            _ => ("", ""),
        };
        let sql = match *name {
            "typed" => sql.replace("AS v", "AS max_connections"),
            "own" => sql.replace("AS v", "AS up"),
            "series" => sql.replace("AS v", "AS work_mem_bytes"),
            _ => (*sql).to_owned(),
        };
        text += &format!(
            "  {name}:\n    query: {}\n    interval: 1s\n    metrics:\n",
            serde_json::json!(sql)
        );
        if !prefix.is_empty() {
            text += &format!("    - {metric}\n");
        }
        if prefix.is_empty() || *name == "falls" {
            text += "    - v: {usage: GAUGE}\n";
        }
        if sql.contains("AS k") {
            text += "    - k: {usage: LABEL}\n";
        }
        let prefix = if prefix.is_empty() { format!("bad_{name}") } else { prefix.to_owned() };
        text += &format!("    prefix: {prefix}\n");
    }
    text += FINE;
    text
}

const FINE: &str = "  fine:
    query: SELECT set_config('application_name', 'poisoned', false) AS k,
                  set_config('default_transaction_read_only', 'off', false) AS l, 42 AS v
    interval: 1s
    metrics: [{v: {usage: GAUGE}}, {k: {usage: LABEL}}, {l: {usage: DISCARD}}]
  bounded:
    query: SELECT i AS v, i AS k FROM generate_series(1, 100) i
    interval: 1s
    series_limit: 10
    metrics: [{v: {usage: GAUGE}}, {k: {usage: LABEL}}]
  nothing:
    query: SELECT NULL::int AS v, 'NaN'::float8 AS w
    interval: 1s
    metrics: [{v: {usage: GAUGE}}, {w: {usage: GAUGE}}]
  bytes:
    query: SELECT note AS k, 1 AS v FROM public.odd
    databases: ['asc*']
    interval: 1s
    metrics: [{v: {usage: GAUGE}}, {k: {usage: LABEL}}]
";

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_query_costs_itself_only_and_says_so() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    for sql in [
        "CREATE TABLE public.kept (id int); CREATE TABLE public.locked (id int); CREATE TABLE public.denied (id int); \
         CREATE SEQUENCE public.numbers; GRANT ALL ON public.kept, public.locked, public.numbers TO mon; \
         GRANT CREATE ON SCHEMA public TO mon",
        "CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    let ascii = common::admin(&cluster, "ascii").await;
    ascii
        .batch_execute(
            "CREATE TABLE public.odd (note text); INSERT INTO public.odd VALUES (E'caf\\xe9'); \
             GRANT SELECT ON public.odd TO mon",
        )
        .await
        .unwrap();
    let holder = common::admin(&cluster, "postgres").await;
    holder.batch_execute("BEGIN; LOCK TABLE public.locked IN ACCESS EXCLUSIVE MODE").await.unwrap();

    let (_dir, path) = file("pgrunway.yml", &hostile());
    let process = Process::serve(
        &dsn(&cluster, "postgres"),
        &["--config.file", &path, "--timeouts.statement=1s", "--collector.settings.interval=1s"],
    )
    .await;
    let text = process
        .wait_for("all have failed", Duration::from_secs(180), |text| {
            BAD.iter().all(|(name, _, kind, _)| {
                errors(text, name, kind) > 0.0 && success(text, name, "postgres") == Some(0.0)
            }) && success(text, "bytes", "ascii") == Some(1.0)
                && success(text, "fine", "postgres") == Some(1.0)
        })
        .await;
    Exposition::parse(&text);
    // What is fine goes on, and so do our own collectors.
    assert_eq!(http::value(&text, "fine_v", &[("k", "poisoned")]), Some(42.0));
    for name in ["tables", "indexes", "vacuum", "sizes"] {
        let labels = [("collector", name), ("datname", "postgres")];
        assert_eq!(http::value(&text, "pgrunway_collector_success", &labels), Some(1.0), "{name}");
    }
    assert_eq!(http::value(&text, "pg_up", &[]), Some(1.0));
    assert_eq!(
        http::value(&text, "bytes_v", &[("k", "caf\u{fffd}"), ("datname", "ascii")]),
        Some(1.0)
    );
    assert_eq!(text.lines().filter(|line| line.starts_with("bounded_v{")).count(), 10);
    let over = http::value(
        &text,
        "pgrunway_collector_series_over_limit_total",
        &[("collector", "query_bounded")],
    );
    assert!(over.unwrap() >= 90.0);
    assert_eq!(success(&text, "nothing", "postgres"), Some(1.0));
    assert!(!text.contains("\nnothing_") && !text.contains("NaN"));
    // Of one that has a fault the rest is published.
    assert_eq!(http::value(&text, "bad_more_v", &[]), Some(1.0));
    assert_eq!(http::value(&text, "bad_twice_v", &[("k", "a")]), Some(1.0));
    assert_eq!(http::value(&text, "bad_falls_v", &[]), Some(1.0));
    assert!(!text.contains("bad_falls_c"));
    let families = Exposition::parse(&text);
    assert_eq!(families.kind("pg_settings_max_connections"), "gauge");

    // The page says why; the log once each, and neither shows what the query or the rows hold.
    let page = http::get(process.address, "/collectors").await.text();
    let log = process.log();
    for (name, _, kind, said) in BAD {
        assert!(page.contains(&format!("query_{name}<")), "{name}");
        let at = format!("collector=\"query_{name}\"");
        let lines: Vec<&String> = log.iter().filter(|line| line.contains(&at)).collect();
        let of_kind = |line: &&&String| line.contains(&format!("kind=\"{kind}\""));
        let told: Vec<&&String> = lines.iter().filter(of_kind).collect();
        // On a busy machine one may have timed out before.
        assert_eq!(told.len(), 1, "{name}: {lines:#?}");
        assert!(told[0].contains(said), "{name}: {lines:#?}");
    }
    for place in [&page, &text, &log.join("\n")] {
        assert!(!place.contains("hunter2"), "{place}");
    }

    // Nothing was written, and nothing that was set outlived its transaction.
    for sql in
        ["SELECT count(*) FROM public.kept", "SELECT count(*) FROM pg_class WHERE relname = 'made'"]
    {
        assert_eq!(admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 0, "{sql}");
    }
    let called: bool =
        admin.query_one("SELECT is_called FROM public.numbers", &[]).await.unwrap().get(0);
    assert!(!called);
    let sessions = "SELECT count(*), count(*) FILTER (WHERE application_name <> 'pgrunway') \
                      FROM pg_stat_activity WHERE usename = 'mon'";
    let row = admin.query_one(sessions, &[]).await.unwrap();
    assert!(row.get::<_, i64>(0) <= 2);
    assert_eq!(row.get::<_, i64>(1), 0);

    // A lock that is given back is no trouble any more.
    holder.batch_execute("COMMIT").await.unwrap();
    process.wait("the lock is free", |text| success(text, "locked", "postgres") == Some(1.0)).await;
}

const FIRST: &str = "\
queries:
  here: {query: SELECT 1 AS v, interval: 1s, metrics: [{v: {usage: GAUGE, description: First.}}]}
  gone: {query: SELECT 1 AS v, interval: 1s, metrics: [{v: {usage: GAUGE}}]}
";
const SECOND: &str = "\
queries:
  here: {query: SELECT 2 AS v, interval: 1s, metrics: [{v: {usage: COUNTER, description: Second.}}]}
  inside:
    query: SELECT 1 AS v
    databases: ['sho?', other]
    interval: 1s
    metrics: [{v: {usage: GAUGE}}]
  old: {query: SELECT 1 AS v, runonserver: '<13', interval: 1s, metrics: [{v: {usage: GAUGE}}]}
  new: {query: SELECT 1 AS v, runonserver: '>=13.0.0 || 12.x', interval: 1s, metrics: [{v: {usage: GAUGE}}]}
  standby: {query: SELECT 1 AS v, role: standby, interval: 1s, metrics: [{v: {usage: GAUGE}}]}
  elsewhere: {query: SELECT 1 AS v, targets: ['shop-*'], interval: 1s, metrics: [{v: {usage: GAUGE}}]}
  by_port: {query: SELECT 1 AS v, targets: ['127.0.0.1:*'], interval: 1s, metrics: [{v: {usage: GAUGE}}]}
  searched:
    query: SELECT count(*) AS v FROM things
    search_path: apart, pg_catalog
    interval: 1s
    metrics: [{v: {usage: GAUGE}}]
probe: {allow: ['127.0.0.1']}
auth_modules: {mon: {type: userpass, userpass: {username: mon, password: mon}, options: {sslmode: disable}}}
";

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_loaded_again_and_run_where_they_are_for() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    for sql in [
        "CREATE DATABASE shop",
        "CREATE DATABASE other",
        "CREATE DATABASE third",
        "CREATE SCHEMA apart; CREATE TABLE apart.things (id int); GRANT USAGE ON SCHEMA apart TO mon; \
         GRANT SELECT ON apart.things TO mon",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    let (_dir, path) = file("pgrunway.yml", FIRST);
    let process = Process::serve(
        &dsn(&cluster, "postgres"),
        &["--config.file", &path, "--databases.exclude=postgres"],
    )
    .await;
    let both = |text: &str| text.contains("\nhere_v 1\n") && text.contains("\ngone_v 1\n");
    // In the database of the connection string, though it is not to be visited.
    let text = process.wait("the first queries", both).await;
    assert!(text.contains("# TYPE here_v gauge") && text.contains("# HELP here_v First."));

    // A file with a fault changes nothing.
    let reload = || kill(Pid::from_raw(process.pid()), Signal::SIGHUP).unwrap();
    std::fs::write(&path, SECOND.replace("runonserver", "runonservers")).unwrap();
    reload();
    let refused =
        |text: &str| http::value(text, "pgrunway_config_last_reload_successful", &[]) == Some(0.0);
    let text = process.wait("the fault is told", refused).await;
    assert!(both(&text));
    let log = process.log().join("\n");
    assert!(
        log.contains("pgrunway.yml:8:31: unknown key `runonservers`; did you mean `runonserver`?"),
        "{log}"
    );

    std::fs::write(&path, SECOND).unwrap();
    reload();
    let text = process
        .wait("the second queries", |text| {
            text.contains("\nhere_v 2\n")
                && [
                    "inside_v{datname=\"shop\"} 1",
                    "inside_v{datname=\"other\"} 1",
                    "new_v 1",
                    "by_port_v 1",
                ]
                .iter()
                .all(|series| text.contains(&format!("\n{series}\n")))
                && text.contains("\nsearched_v 0\n")
                && success(text, "old", "postgres") == Some(1.0)
                && success(text, "standby", "postgres") == Some(1.0)
        })
        .await;
    assert!(
        text.contains("# TYPE here_v counter") && text.contains("# HELP here_v Second."),
        "{text}"
    );
    for absent in
        ["\ngone_v", "\nold_v", "\nstandby_v", "\nelsewhere_v", "inside_v{datname=\"third\"}"]
    {
        assert!(!text.contains(absent), "{absent}");
    }
    assert_eq!(success(&text, "elsewhere", "postgres"), None);

    // Probed targets have them too.
    let target = format!("127.0.0.1:{}/postgres", cluster.port());
    let probed =
        http::get(process.address, &format!("/probe?target={target}&auth_module=mon")).await;
    let probed = probed.text();
    assert!(probed.contains("\nhere_v 2\n") && probed.contains("\nby_port_v 1\n"), "{probed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_checked_and_a_fault_in_one_query_costs_that_one() {
    let check = |text: &'static str| async move {
        let (_dir, path) = file("pgrunway.yml", text);
        let (code, out, err) = process::run(&["check-config", &path], &[]).await;
        (code, format!("{out}{err}"))
    };
    for (text, said) in [
        ("queries: {a: {querry: SELECT 1}}", ":1:15: unknown key `querry`; did you mean `query`?"),
        (
            "queries:\n  a:\n    query: SELECT 1 AS v\n    metrics:\n    - v: {usage: GAUG}\n",
            ":5:18: `usage` is not one of",
        ),
        (
            "queries:\n  a:\n    query: COMMIT\n    metrics: [{v: {usage: GAUGE}}]\n",
            ":3:12: `query` is no statement that reads",
        ),
        (
            "queries:\n  a: {metrics: [{v: {usage: GAUGE}}]}\n",
            ":2:3: the query has no `query`; add it",
        ),
        (
            "queries: {a: {query: SELECT 1, metrics: [{server: {usage: LABEL}}, {v: {usage: GAUGE}}]}}",
            ":1:43: the label's name is taken",
        ),
        (
            "queries: {a: {query: SELECT 1, runonserver: new, metrics: [{v: {usage: GAUGE}}]}}",
            ":1:45: `runonserver` is no range of versions",
        ),
        (
            "queries: {a b: {query: SELECT 1, metrics: [{v: {usage: GAUGE}}]}}",
            ":1:11: is no beginning of a metric's name",
        ),
        (
            "queries: {pgrunway: {query: SELECT 1, metrics: [{v: {usage: GAUGE}}]}}",
            "has for itself",
        ),
        (
            "queries: {a: {query: SELECT 1, metrics: [{v: {usage: LABEL}}]}}",
            "no column of the query is a metric",
        ),
        (
            "queries: {a: {query: SELECT 1, metrics: [{b_c: {usage: GAUGE}}]}, a_b: {query: SELECT 1, metrics: [{c: {usage: COUNTER}}]}}",
            "`a_b_c` is a gauge in another query",
        ),
        (
            "queries: {a: {query: SELECT 1, metrics: [{v: {usage: MAPPEDMETRIC}}]}}",
            "without `metric_mapping`",
        ),
        (
            "queries: {a: {query: SELECT 1, timeout: 6s, metrics: [{v: {usage: GAUGE}}]}}",
            "above `timeouts.statement`",
        ),
        ("queries: [a]", "`queries` must hold names, not a list"),
    ] {
        let (code, out) = check(text).await;
        assert_eq!(code, 2, "{text}: {out}");
        assert!(out.contains(said), "{text}: {out}");
    }

    let (_dir, path) = file(
        "queries.yaml",
        "good:\n  query: SELECT 1 AS v\n  metrics: [{v: {usage: GAUGE}}]\n\
         bad:\n  query: SELECT 1 AS v\n  metrics: [{v: {usage: GAUGE, descripton: x}}]\n",
    );
    let env = [("PG_EXPORTER_EXTEND_QUERY_PATH", path.as_str())];
    let (code, _, err) = process::run(&["check-config"], &env).await;
    assert_eq!(code, 2);
    assert!(
        err.contains("queries.yaml:6:32: unknown key `descripton`; did you mean `description`?"),
        "{err}"
    );

    let cluster = common::server().await;
    let dsn = dsn(&cluster, "postgres");
    let process = Process::serve(&dsn, &[&format!("--extend.query-path={path}")]).await;
    let text = process
        .wait("the good one runs", |text| {
            text.contains("\ngood_v 1\n") && success(text, "bad", "postgres") == Some(0.0)
        })
        .await;
    let failed = |text: &str| http::sum(text, "pg_exporter_user_queries_load_error");
    assert_eq!(failed(&text), 1.0);
    let page = http::get(process.address, "/collectors").await.text();
    assert!(page.contains("queries.yaml:6:32: unknown key `descripton`"), "{page}");
    let told =
        |process: &Process| process.log().iter().filter(|l| l.contains("descripton")).count();
    assert_eq!(told(&process), 1, "{:#?}", process.log());

    // What cannot be read at all is told, and nothing else is lost.
    let missing = "--extend.query-path=/there/is/none.yaml";
    let process = Process::serve(&dsn, &[missing]).await;
    let text = process.wait("it is up", |text| http::value(text, "pg_up", &[]) == Some(1.0)).await;
    let labels = [("filename", "/there/is/none.yaml"), ("hashsum", "")];
    assert_eq!(http::value(&text, "pg_exporter_user_queries_load_error", &labels), Some(1.0));
    assert!(process.log().iter().any(|line| line.contains("cannot read /there/is/none.yaml")));
}

/// The blocks of the documentation, as they stand there.
#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_documentation_run() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/queries.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let blocks = docs.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let all: String = blocks.map(|block| block.strip_prefix("queries:\n").unwrap()).collect();
    let (_dir, path) = file("pgrunway.yml", &format!("queries:\n{all}"));
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE DATABASE shop").await.unwrap();
    let shop = common::admin(&cluster, "shop").await;
    shop.batch_execute(
        "CREATE SCHEMA shop; GRANT USAGE ON SCHEMA shop TO mon; \
         CREATE TABLE shop.orders (status text, created_at timestamptz, shipped_at timestamptz); \
         INSERT INTO shop.orders VALUES ('paid', now() - interval '1 hour', NULL); \
         GRANT SELECT ON shop.orders TO mon",
    )
    .await
    .unwrap();
    let process = Process::serve(&dsn(&cluster, "postgres"), &["--config.file", &path]).await;
    let text = process
        .wait("all examples", |text| {
            [
                ("shop_orders", "shop"),
                ("job", "postgres"),
                ("wal_archive_ready", "postgres"),
                ("largest_tables", "postgres"),
                ("largest_tables", "shop"),
            ]
            .iter()
            .all(|(query, datname)| success(text, query, datname) == Some(1.0))
        })
        .await;
    for (name, labels, value) in [
        ("shop_orders_open", &[("status", "paid"), ("datname", "shop")][..], 1.0),
        ("job_state", &[("name", "mail")], 1.0),
        ("job_waited_milliseconds", &[("name", "import")], 90_000.0),
        ("job_run_seconds_bucket", &[("name", "mail"), ("le", "5")], 7.0),
        ("wal_archive_ready", &[], 0.0),
    ] {
        assert_eq!(http::value(&text, name, labels), Some(value), "{name}\n{text}");
    }
    assert_eq!(text.lines().filter(|line| line.starts_with("largest_tables_rows{")).count(), 10);
}
