//! Every panel of every dashboard, and every metric of a rule, against the demo scraped by a real
//! Prometheus: there is data, with the labels that the legend shows, and where the database has an
//! answer of its own the panel gives the same.
//!
//! Must not: pass over a panel in silence; what may be empty is in [`ABSENT`], with the reason.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod boards;
mod common;
mod promql;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use boards::{concrete, legend_labels, probes, queries};
use common::demo::Demo;
use common::pgbouncer::{PgBouncer, cell};
use common::process::Process;
use common::prometheus::Prometheus;
use promql::labels::Catalogue;
use promql::metrics;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

/// What has no series on a healthy server of some majors: a metric or a panel, or the beginning of one
/// before `*`; the majors; and why.
const ABSENT: &[(&str, std::ops::RangeInclusive<i32>, &str)] = &[
    ("pg_cron_job_*", 13..=19, "pg_cron is not in the demo"),
    ("pg_database_index_scan_ratio", 13..=19, "the demo's tables are small"),
    ("pg_foreign_key_unindexed", 13..=19, "the demo has no foreign key"),
    ("pg_host_cpus", 13..=19, "host.cpus is not configured"),
    ("pg_index_duplicate", 13..=19, "the demo has no duplicate"),
    ("pg_index_expected_missing", 13..=19, "no index is expected by configuration"),
    ("pg_index_unused", 13..=19, "its statistics are young"),
    ("pg_longest_lock_wait_seconds", 13..=19, "nobody waits for a lock"),
    ("pg_oldest_prepared_transaction_seconds", 13..=19, "no transaction is prepared"),
    (
        "pg_partition_bounded_until_timestamp_seconds",
        13..=19,
        "no table of the demo has an open end",
    ),
    ("pg_partition_default_rows", 13..=19, "no table of the demo has a DEFAULT"),
    ("pg_partition_last_attached_*", 13..=19, "nothing is attached while it is watched"),
    ("pg_partition_next_coverage_timestamp_seconds", 13..=19, "no table of the demo has a gap"),
    ("pg_partition_open_ended_rows", 13..=19, "no table of the demo has an open end"),
    ("pg_partman_*", 13..=19, "pg_partman is not in the demo"),
    ("pg_query_planning_latency_seconds", 13..=19, "pg_stat_statements.track_planning is off"),
    ("pg_replication_slots_active", 13..=19, "the demo has no slot"),
    ("pg_replication_slots_invalidated", 13..=19, "the demo has no slot"),
    ("pg_replication_slots_pg_wal_lsn_diff", 13..=19, "the demo has no slot"),
    ("pg_root_blocker_sessions", 13..=19, "nobody is held up for long"),
    ("pg_sequence_*", 13..=19, "its role may read no sequence of the demo"),
    ("pg_autovacuum_*", 13..=18, "pg_stat_autovacuum_scores came with 19"),
    ("pg_role_valid_until_*", 13..=19, "no role of the demo has a password that ends"),
    ("pg_stat_lock_*", 13..=18, "pg_stat_lock came with 19"),
    ("pg_stat_progress_basebackup_*", 13..=19, "the demo takes no base backup"),
    ("pg_stat_replication_slots_*", 13..=19, "the demo has no slot"),
    ("pg_table_toast_bloat_estimated_bytes", 13..=19, "the demo keeps nothing in TOAST"),
    ("pg_stat_archiver_last_archived_timestamp_seconds", 13..=19, "the demo archives nothing"),
    ("pg_stat_archiver_last_failed_timestamp_seconds", 13..=19, "the demo archives nothing"),
    ("pg_stat_database_checksum_last_failure_timestamp_seconds", 13..=19, "no page is corrupt"),
    (
        "pg_stat_database_stats_reset",
        15..=19,
        "set at the first connection until 14, then at a reset",
    ),
    ("pg_statement_active_session_seconds_total", 13..=13, "query_id came with 14"),
    ("pg_stat_io_*", 13..=15, "pg_stat_io came with 16"),
    ("pg_stat_lock_*", 13..=18, "pg_stat_lock came with 19"),
    ("pg_stat_replication_*", 13..=19, "the demo has no standby"),
    ("pg_stat_statements_dealloc_total", 13..=13, "pg_stat_statements_info came with 14"),
    ("pg_stat_statements_evicted_entries_total", 13..=13, "pg_stat_statements_info came with 14"),
    ("pg_stat_statements_resets_total", 13..=13, "pg_stat_statements_info came with 14"),
    ("pg_stat_subscription_*", 13..=19, "the demo has no subscription"),
    ("pg_subscription_*", 13..=19, "the demo has no subscription"),
    ("pg_stat_bgwriter_buffers_backend_total", 17..=19, "17 moved it into pg_stat_io"),
    ("pg_stat_database_checksum_failures_total", 13..=17, "checksums are on by default from 18"),
    ("pg_table_seq_scans_dominate", 13..=19, "the demo's tables are small"),
    ("pg_wal_receiver_streaming", 13..=19, "the demo is a primary"),
    (
        "panel 'Backends per database' of pgrunway-connections",
        13..=19,
        "no database of the demo has a limit, which -1 says",
    ),
    ("pgbouncer_*", 13..=19, "no PgBouncer stands before the demo; it has a test of its own"),
    ("pgrunway_client_certificate_*", 13..=19, "the demo has no TLS"),
    ("pgrunway_collector_errors_total", 13..=19, "no collector of the demo fails"),
    ("pgrunway_server_certificate_*", 13..=19, "the demo has no TLS"),
    ("pgrunway_web_*", 13..=19, "the demo has no web configuration"),
];
/// What comes and goes with the load, so that nobody can say whether it is there.
const FLEETING: &[&str] = &[
    "pg_statement_active_session_seconds_total",
    "pg_background_active_seconds_total",
    "pg_idle_in_transaction_session_seconds_total",
    "pg_table_bloat_estimated_bytes",
    "pg_autovacuum_score",
    "pg_progress_backends",
    "pg_progress_done_ratio",
    "pg_temporary_tables_left_behind",
    "pg_index_bloat_estimated_bytes",
    "pg_locks_count",
    "pg_longest_running_query_seconds",
    "pg_oldest_idle_in_transaction_seconds",
    "pg_oldest_transaction_seconds",
    "pg_oldest_xmin_age",
    "pg_root_blockers",
    "pg_settings_reserved_connections",
    "pg_stat_activity_waiting_backends",
    "pg_stat_io_write_seconds_total",
    "pg_stat_user_tables_last_autoanalyze",
    "pg_stat_user_tables_last_autovacuum",
    "pg_stat_user_tables_last_vacuum",
    // Only after half a minute of samples.
    "pg_wait_recommendation_active",
    "ALERTS",
    "ALERTS_FOR_STATE",
];
/// Everything that the exporter gives only where it is asked to, and short intervals.
const CONFIGURATION: &str = "
ratio_window: 10s
collectors:
  statements: {include_text: true}
  connections: {interval: 1s}
  cache: {interval: 1s}
  tables: {interval: 1s}
  indexes: {interval: 1s}
  partitions: {interval: 1s, per_partition: 5}
  databases: {interval: 1s}
  sizes: {interval: 1s}
partitions:
- {table: public.trades, database: trading, max_age: 400d, must_exist: true}
";
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether an entry of [`ABSENT`] means this metric or panel.
fn fits(entry: &str, what: &str) -> bool {
    entry.strip_suffix('*').map_or(entry == what, |start| what.starts_with(start))
}

/// A query as the panel sends it, with short ranges, for the demo is young.
fn now(expression: &str) -> String {
    concrete(expression, "20s", "1m")
}

struct Scene {
    demo: Demo,
    db: Client,
    prometheus: Prometheus,
    major: i32,
    _configuration: tempfile::NamedTempFile,
}

impl Scene {
    async fn start() -> Self {
        let file = tempfile::Builder::new().suffix(".yml").tempfile().unwrap();
        std::fs::write(file.path(), CONFIGURATION).unwrap();
        let demo = Demo::start(&["--config.file", file.path().to_str().unwrap()]).await;
        let db = demo.database().await;
        let rules = promql::repo("alerts/rules/*.yml");
        let prometheus = Prometheus::start(&[demo.address], &[&rules]).await;
        let sql = "SELECT current_setting('server_version_num')::int / 10000";
        let major = db.query_one(sql, &[]).await.unwrap().get(0);
        Self { demo, db, prometheus, major, _configuration: file }
    }

    fn absent(&self, what: &str) -> bool {
        let here = |majors: &std::ops::RangeInclusive<i32>| majors.contains(&self.major);
        ABSENT.iter().any(|(name, majors, _)| fits(name, what) && here(majors))
    }

    async fn number(&self, sql: &str) -> f64 {
        self.db.query_one(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
    }

    /// The value of a query's series with these labels.
    async fn value(&self, expression: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let all = self.prometheus.query(&now(expression)).await;
        let mut fit = all.iter().filter(|(l, _)| labels.iter().all(|(k, v)| l[*k] == *v));
        let found = fit.next().map(|(_, value)| *value);
        assert!(fit.next().is_none(), "{labels:?} fits twice: {expression}: {all:?}");
        found
    }

    /// Waits until a panel's value and the database's agree within `tolerance`, of them or of 1.
    async fn agree(&self, expression: &str, labels: &[(&str, &str)], sql: &str, tolerance: f64) {
        let end = Instant::now() + PATIENCE;
        loop {
            let truth = self.number(sql).await;
            let shown = self.value(expression, labels).await;
            let near = |s: f64| (s - truth).abs() <= tolerance * truth.abs().max(1.0);
            if shown.is_some_and(near) {
                return;
            }
            assert!(Instant::now() < end, "{shown:?} is not {truth}: {expression} {labels:?}");
            sleep(Duration::from_millis(500)).await;
        }
    }
}

#[tokio::test]
async fn each_panel_has_data_from_the_demo() {
    let scene = Scene::start().await;
    let end = Instant::now() + PATIENCE;
    let mut waiting = probes();
    let (mut seen, mut may_be_empty) = (0, 0);
    loop {
        let mut left = Vec::new();
        for probe in waiting {
            let expression = now(&probe.expr);
            let series = scene.prometheus.query(&expression).await;
            // NaN is drawn as nothing.
            if series.iter().all(|(_, value)| value.is_nan()) {
                left.push(probe);
                continue;
            }
            seen += 1;
            let wanted = legend_labels(&probe.legend);
            for (labels, _) in &series {
                let there = |l: &String| labels[l].as_str().is_some_and(|v| !v.is_empty());
                assert!(
                    wanted.is_empty() || wanted.iter().any(there),
                    "{}: a series has none of the legend's labels {wanted:?}: {labels}",
                    probe.at
                );
            }
        }
        waiting = left;
        let excused = |p: &boards::Probe| {
            scene.absent(&p.at)
                || metrics(&now(&p.expr))
                    .iter()
                    .any(|m| scene.absent(m) || FLEETING.contains(&m.as_str()))
        };
        if waiting.iter().all(excused) {
            may_be_empty += waiting.len();
            break;
        }
        let empty: Vec<String> = waiting
            .iter()
            .filter(|p| !excused(p))
            .map(|p| format!("{}: {}", p.at, now(&p.expr)))
            .collect();
        assert!(Instant::now() < end, "no data for\n{}", empty.join("\n"));
        sleep(Duration::from_secs(1)).await;
    }
    assert!(seen > 100, "{seen} queries had data, {may_be_empty} had not");

    let missing = missing(&scene).await;
    assert!(missing.is_empty(), "{missing}");
    scene.demo.stop().await;
}

/// Metrics of rules and panels that the demo does not give, or gives though [`ABSENT`] denies it.
async fn missing(scene: &Scene) -> String {
    let catalogue = Catalogue::ours();
    let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let rules = promql::rules();
    let all = rules.into_iter().chain(probes().into_iter().map(|p| (p.at, now(&p.expr))));
    for (at, expression) in all {
        for series in metrics(&expression) {
            if let Some(family) = catalogue.family(&series) {
                users.entry(family.to_owned()).or_default().insert(at.clone());
            }
        }
    }
    let given: BTreeSet<String> = scene
        .prometheus
        .query("group by (__name__) (last_over_time({job=\"pgrunway\"}[10m]))")
        .await
        .iter()
        .filter_map(|(labels, _)| labels["__name__"].as_str().map(str::to_owned))
        .collect();
    let given: BTreeSet<&str> = given.iter().filter_map(|s| catalogue.family(s)).collect();
    let mut out = String::new();
    for (metric, at) in &users {
        if FLEETING.contains(&metric.as_str()) {
            continue;
        }
        let (there, excused) = (given.contains(metric.as_str()), scene.absent(metric));
        if !there && !excused {
            let at: Vec<&str> = at.iter().map(String::as_str).collect();
            let _ = writeln!(out, "{metric} is not on /metrics; it breaks {}", at.join(", "));
        }
        if there && excused {
            let _ = writeln!(out, "{metric} is on /metrics of {} after all", scene.major);
        }
    }
    for (what, ..) in ABSENT {
        let known =
            users.keys().any(|m| fits(what, m)) || probes().iter().any(|p| fits(what, &p.at));
        if !known {
            let _ = writeln!(out, "nothing uses {what}, which may be absent");
        }
    }
    out
}

#[tokio::test]
async fn panels_agree_with_the_database() {
    let scene = Scene::start().await;
    let table = |relname| [("schemaname", "public"), ("relname", relname)];

    // Runway: days to the last bound.
    let columns = queries("partitions", "Tables, most urgent first");
    for relname in ["orders", "trades"] {
        let bounds = format!(
            "SELECT (regexp_match(pg_get_expr(c.relpartbound, c.oid), \
             'TO \\(''(.*?)''\\)'))[1]::timestamptz AS upper FROM pg_class c \
             JOIN pg_inherits i ON i.inhrelid = c.oid WHERE i.inhparent = '{relname}'::regclass"
        );
        let sql = format!(
            "SELECT (extract(epoch FROM max(upper) - now()) / 86400)::float8 FROM ({bounds}) b"
        );
        scene.agree(&columns[0], &table(relname), &sql, 0.001).await;
        let sql =
            format!("SELECT (extract(epoch FROM max(upper)) * 1000)::float8 FROM ({bounds}) b");
        scene.agree(&columns[3], &table(relname), &sql, 0.0).await;
        let sql = format!("SELECT count(*)::float8 FROM ({bounds}) b");
        scene.agree(&columns[7], &table(relname), &sql, 0.0).await;
    }

    // Sizes grow while they are read.
    let sizes = &queries("partitions", "Size")[0];
    let sql = "SELECT sum(pg_table_size(relid))::float8 FROM pg_partition_tree('trades')";
    scene.agree(sizes, &table("trades"), sql, 0.05).await;
    let sizes = &queries("indexes", "Ten largest indexes")[0];
    let sql = "SELECT sum(pg_table_size(relid))::float8 FROM pg_partition_tree('trades_pkey')";
    scene.agree(sizes, &[("indexrelname", "trades_pkey")], sql, 0.05).await;
    let sizes = &queries("server", "Size of databases")[0];
    let sql = "SELECT pg_database_size('trading')::float8";
    scene.agree(sizes, &[("datname", "trading")], sql, 0.05).await;

    // Connections: this exporter's own come and go.
    let mut more = Vec::new();
    for _ in 0..7 {
        more.push(scene.demo.database().await);
    }
    let used = queries("connections", "Connections in use");
    let sql = "SELECT count(*)::float8 FROM pg_stat_activity WHERE backend_type = 'client backend'";
    scene.agree(&used[0], &[], sql, 0.0).await;
    let sql = "SELECT (current_setting('max_connections')::int \
               - current_setting('superuser_reserved_connections')::int \
               - coalesce(current_setting('reserved_connections', true)::int, 0))::float8";
    scene.agree(&used[1], &[], sql, 0.0).await;
    let states = &queries("connections", "Connections by state")[0];
    more[0].batch_execute("BEGIN").await.unwrap();
    scene.agree(states, &[("state", "idle in transaction")], "SELECT 1::float8", 0.0).await;
    drop(more);

    // Hit ratio: a table that was just written anew is nowhere in shared buffers.
    let reader = scene.demo.database().await;
    let sql =
        "CREATE TABLE large AS SELECT i, repeat('x', 900) AS pad FROM generate_series(1, 20000) i";
    reader.batch_execute(sql).await.unwrap();
    let reading = tokio::spawn(async move {
        while reader.simple_query("VACUUM FULL large").await.is_ok()
            && reader.simple_query("SELECT count(*) FROM large").await.is_ok()
        {
            sleep(Duration::from_millis(100)).await;
        }
    });
    let ratio = &queries("indexes", "Cache hit ratio of databases")[0];
    let counters = "SELECT blks_hit::float8, blks_read::float8 FROM pg_stat_database \
                    WHERE datname = 'trading'";
    let end = Instant::now() + PATIENCE;
    loop {
        let before = scene.db.query_one(counters, &[]).await.unwrap();
        sleep(Duration::from_secs(12)).await;
        let after = scene.db.query_one(counters, &[]).await.unwrap();
        let by = |i: usize| after.get::<_, f64>(i) - before.get::<_, f64>(i);
        let truth = by(0) / (by(0) + by(1));
        let shown = scene.value(ratio, &[("datname", "trading")]).await.unwrap();
        if truth < 0.9 && (shown - truth).abs() < 0.05 {
            break;
        }
        assert!(Instant::now() < end, "{shown} is not {truth}, or both are high");
    }
    reading.abort();
    scene.demo.stop().await;
}

#[tokio::test]
async fn the_panels_on_poolers_show_what_the_console_does() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE ROLE app LOGIN PASSWORD 'app'").await.unwrap();
    let databases = ["postgres = SERVER dbname=postgres pool_size=2"];
    let pooler = PgBouncer::start(&cluster, &databases, &["max_client_conn = 40"]).await;
    let flags = ["--collector.pgbouncer.interval=500ms"];
    let exporter = Process::serve(&pooler.dsn("stats", "pgbouncer"), &flags).await;
    let prometheus = Prometheus::start(&[exporter.address], &[]).await;

    // Two clients hold the pool, a third waits; a fourth, later, gives rates something to count.
    let holder = pooler.client("app", "postgres").await;
    holder.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let worker = pooler.client("app", "postgres").await;
    let working =
        tokio::spawn(
            async move { while worker.simple_query("SELECT pg_sleep(0.05)").await.is_ok() {} },
        );
    let end = Instant::now() + PATIENCE;
    let poolers: Vec<boards::Probe> = probes()
        .into_iter()
        .filter(|p| metrics(&now(&p.expr)).iter().any(|m| m.starts_with("pgbouncer_")))
        .collect();
    assert!(poolers.len() > 20, "{}", poolers.len());
    for probe in &poolers {
        while prometheus.query(&now(&probe.expr)).await.iter().all(|(_, v)| v.is_nan()) {
            assert!(Instant::now() < end, "{}: no data for {}", probe.at, now(&probe.expr));
            sleep(Duration::from_millis(500)).await;
        }
    }

    working.abort();
    let second = pooler.client("app", "postgres").await;
    second.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let third = pooler.client("app", "postgres").await;
    let waiting = tokio::spawn(async move { third.batch_execute("SELECT 1").await });
    let columns = queries("connections", "Pools, fullest first");
    let labels = [("database", "postgres"), ("user", "app")];
    // Saturation, size, servers active and idle, clients active and waiting.
    for (column, truth) in columns.iter().zip([1.0, 2.0, 2.0, 0.0, 2.0, 1.0]) {
        loop {
            let all = prometheus.query(&now(column)).await;
            let fits = |l: &serde_json::Value| labels.iter().all(|(k, v)| l[*k] == *v);
            let shown: Vec<f64> = all.iter().filter(|(l, _)| fits(l)).map(|(_, v)| *v).collect();
            if shown == [truth] {
                break;
            }
            assert!(Instant::now() < end, "{shown:?} is not {truth}: {column}");
            sleep(Duration::from_millis(500)).await;
        }
    }
    let pools = pooler.show("POOLS").await;
    let pool = pools.iter().find(|row| cell(row, "user") == Some("app")).unwrap();
    let console =
        ["sv_active", "sv_idle", "cl_active", "cl_waiting"].map(|c| cell(pool, c).unwrap());
    assert_eq!(console, ["2", "0", "2", "1"]);
    let verdict = &queries("connections", "Fullest pool")[0];
    let found = prometheus.query(&now(verdict)).await;
    assert_eq!(found[0].0["verdict"], "exhausted", "{found:?}");
    waiting.abort();
}
