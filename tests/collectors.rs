//! The collectors against a real server, as a role that has only `pg_monitor`: values held to the
//! database's own answers, hostile names, locked tables, resets, restarts.
//!
//! Must not: assert that a sample is there without asserting its value.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "collectors/counted.rs"]
mod counted;
#[path = "collectors/progress.rs"]
mod progress;
#[path = "collectors/recommendations.rs"]
mod recommendations;
#[path = "collectors/replication.rs"]
mod replication;
#[path = "collectors/server.rs"]
mod server_wide;
#[path = "collectors/sizes.rs"]
mod sizes;
#[path = "collectors/upkeep.rs"]
mod upkeep;
#[path = "collectors/versions.rs"]
mod versions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::work;
use pgrunway::cmd::cluster::Cluster;
use pgrunway::collector::{AnyCollector, AnyState};
use pgrunway::collectors::by_name;
use pgrunway::config::Settings;
use pgrunway::metric::{Family, Kind, Refused, Sink, Value};
use pgrunway::pg::{Clock, Session};
use tokio_postgres::Client;

/// One collector on a session of its own.
struct Run {
    collector: &'static dyn AnyCollector,
    state: AnyState,
    session: Session,
}

/// What one poll gave, and how long it took.
struct Poll(Vec<Family>, Duration);

impl Run {
    async fn new(cluster: &Cluster, user: &str, dbname: &str, name: &str) -> Self {
        Self::with(cluster, user, dbname, name, common::settings()).await
    }

    async fn with(
        cluster: &Cluster,
        user: &str,
        dbname: &str,
        name: &str,
        settings: Settings,
    ) -> Self {
        let collector = by_name(name).unwrap();
        let connect = common::connect(cluster, user);
        let session =
            Session::connect(&connect, Some(dbname), Arc::new(settings), Clock::start()).await;
        Self { collector, state: collector.new_state(), session: session.unwrap() }
    }

    /// A refused sample or an error fails the test.
    async fn poll(&mut self) -> Poll {
        let start = Instant::now();
        let rows = self.collector.fetch(&self.session, &self.state).await.unwrap();
        let mut sink = Sink::new(self.collector.metrics(), 10_000);
        self.collector.derive(&mut self.state, rows, &mut sink);
        let (families, refused) = sink.finish();
        assert_eq!(refused, Refused::default());
        Poll(families, start.elapsed())
    }
}

impl Poll {
    fn get(&self, name: &str, labels: &[&str]) -> Option<f64> {
        self.series(name).into_iter().find(|(l, _)| l.iter().eq(labels)).map(|(_, v)| v)
    }

    fn series(&self, name: &str) -> Vec<(Vec<String>, f64)> {
        let family = self.0.iter().find(|f| f.metric.name == name);
        let samples = family.map(|f| f.samples.as_slice()).unwrap_or_default();
        samples
            .iter()
            .map(|s| {
                let Value::Number(n) = s.value else { panic!("{name} is a histogram") };
                (s.labels.iter().map(|l| l.to_string()).collect(), n)
            })
            .collect()
    }

    /// No counter, declared or inherited, is lower than in `earlier`, of the series that are asked about.
    fn assert_not_below(&self, earlier: &Self, of: impl Fn(&[&str]) -> bool) {
        let mut compared = 0;
        for family in &earlier.0 {
            let metric = family.metric;
            if metric.kind != Kind::Counter && metric.kind != Kind::Untyped {
                continue;
            }
            for (labels, before) in earlier.series(metric.name) {
                let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
                if !of(&labels) {
                    continue;
                }
                let now = self.get(metric.name, &labels).unwrap();
                assert!(now >= before, "{} {labels:?} fell from {before} to {now}", metric.name);
                compared += 1;
            }
        }
        assert!(compared > 0);
    }
}

async fn number(client: &Client, sql: &str) -> f64 {
    client.query_one(&format!("SELECT ({sql})::float8"), &[]).await.unwrap().get(0)
}

/// What `SELECT sql` gives.
async fn figure(client: &Client, sql: &str) -> f64 {
    number(client, &format!("SELECT {sql}")).await
}

/// Nothing but the test may read a table.
async fn server() -> Cluster {
    common::server_with(&[("autovacuum", "off")], &[]).await
}

/// Waits until the server's own statistics say so (they arrive late, very late before 15).
async fn until(cluster: &Cluster, dbname: &str, condition: &str) {
    let client = common::admin(cluster, dbname).await;
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        let row = client.query_one(&format!("SELECT ({condition})"), &[]).await.unwrap();
        if row.get::<_, Option<bool>>(0) == Some(true) {
            return;
        }
        assert!(Instant::now() < limit, "never true: {condition}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// `trades`: two levels of partitions with an index each, one index on a single partition; `plain`
/// with a primary key.
const SCHEMA: &str = "\
CREATE TABLE plain (id int PRIMARY KEY, note text);
INSERT INTO plain SELECT i, 'x' FROM generate_series(1, 1000) i;
CREATE TABLE trades (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE trades_1 PARTITION OF trades FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE trades_2 PARTITION OF trades FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')
  PARTITION BY RANGE (at);
CREATE TABLE trades_2a PARTITION OF trades_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE INDEX trades_at ON trades (at);
CREATE INDEX trades_1_local ON trades_1 (id);
INSERT INTO trades SELECT i, date '2026-01-01' + i % 59 FROM generate_series(1, 2000) i;
ANALYZE;";

/// Leaves' sum of a column of `pg_stat_user_indexes` for a partitioned index.
fn leaves(index: &str, column: &str) -> String {
    format!(
        "SELECT sum({column}) FROM pg_stat_user_indexes \
         WHERE indexrelid IN (SELECT relid FROM pg_partition_tree('{index}'))"
    )
}

const INDEX_SCANS: &str = "pg_stat_user_indexes_idx_scan_total";
const TRADES_AT: [&str; 4] = ["postgres", "public", "trades", "trades_at"];
const TRADES: &[&str] = &["postgres", "public", "trades"];
const PLAIN: &[&str] = &["postgres", "public", "plain"];

/// Each of the two leaves of `trades` once by its index, `times` over.
fn index_scans(times: usize) -> String {
    let both = "SELECT count(*) FROM trades WHERE at = '2026-01-05'; \
                SELECT count(*) FROM trades WHERE at = '2026-02-05';";
    format!("SET enable_seqscan = off; {}", both.repeat(times))
}

#[tokio::test]
async fn index_counters_roll_up_and_never_fall() {
    let cluster = server().await;
    work(&cluster, "postgres", SCHEMA).await;
    work(&cluster, "postgres", &index_scans(3)).await;
    work(&cluster, "postgres", "SET enable_seqscan = off; SELECT * FROM plain WHERE id = 7").await;
    until(&cluster, "postgres", &format!("({}) = 6", leaves("trades_at", "idx_scan"))).await;
    until(
        &cluster,
        "postgres",
        "(SELECT idx_scan FROM pg_stat_user_indexes WHERE relname = 'plain') = 1",
    )
    .await;
    let admin = common::admin(&cluster, "postgres").await;
    let mut run = Run::new(&cluster, "mon", "postgres", "indexes").await;

    // The sum of the partitions starts at zero and rises as the views do; of one row it is the view's own.
    let first = run.poll().await;
    let columns = [
        (INDEX_SCANS, "idx_scan"),
        ("pg_stat_user_indexes_idx_tup_read_total", "idx_tup_read"),
        ("pg_stat_user_indexes_idx_tup_fetch_total", "idx_tup_fetch"),
    ];
    let mut before = Vec::new();
    for (metric, column) in columns {
        assert_eq!(first.get(metric, &TRADES_AT), Some(0.0), "{metric}");
        before.push(number(&admin, &leaves("trades_at", column)).await);
    }
    assert_eq!(before[0], 6.0);
    let plain = ["postgres", "public", "plain", "plain_pkey"];
    assert_eq!(first.get(INDEX_SCANS, &plain), Some(1.0));
    assert_eq!(first.series(INDEX_SCANS).len(), 2, "one series per index of a root table");
    assert_eq!(first.get("pg_index_scan_ratio", TRADES), None, "nothing was scanned since");

    // Four scans by the index and one of each leaf without: 4 queries x 2 leaves against 2.
    work(&cluster, "postgres", &index_scans(4)).await;
    work(
        &cluster,
        "postgres",
        "SET enable_indexscan = off; SET enable_bitmapscan = off; \
         SET enable_indexonlyscan = off; SELECT count(*) FROM trades",
    )
    .await;
    let now = format!("({}) = 6 + 8", leaves("trades_at", "idx_scan"));
    until(&cluster, "postgres", &now).await;
    let second = run.poll().await;
    assert_eq!(second.get(INDEX_SCANS, &TRADES_AT), Some(8.0));
    for ((metric, column), before) in columns.into_iter().zip(before) {
        let by = number(&admin, &leaves("trades_at", column)).await - before;
        assert!(by > 0.0 || column == "idx_tup_fetch", "{column}: {by}");
        assert_eq!(second.get(metric, &TRADES_AT), Some(by), "{metric}");
    }
    assert_eq!(second.get("pg_index_scan_ratio", TRADES), Some(0.8));
    assert_eq!(second.get("pg_index_scan_ratio", PLAIN), None);

    // A dropped partition keeps its history.
    admin.batch_execute("DROP TABLE trades_2").await.unwrap();
    let third = run.poll().await;
    third.assert_not_below(&second, |_| true);
    assert_eq!(third.get(INDEX_SCANS, &TRADES_AT), Some(8.0));
    assert_eq!(third.get(INDEX_SCANS, &plain), Some(1.0));
    // For an exporter that starts now there is no history of what is gone, nor of what is added up.
    let new = Run::new(&cluster, "mon", "postgres", "indexes").await.poll().await;
    assert_eq!(new.get(INDEX_SCANS, &TRADES_AT), Some(0.0));
    assert_eq!(new.get(INDEX_SCANS, &plain), Some(1.0), "two replicas agree");

    // A reset, then two scans of the one leaf that is left.
    admin.batch_execute("SELECT pg_stat_reset()").await.unwrap();
    until(&cluster, "postgres", &format!("({}) = 0", leaves("trades_at", "idx_scan"))).await;
    let reset = run.poll().await;
    let trades = |labels: &[&str]| labels.contains(&"trades");
    reset.assert_not_below(&third, trades);
    assert_eq!(reset.get(INDEX_SCANS, &plain), Some(0.0), "as the view");
    let one = "SELECT count(*) FROM trades WHERE at = '2026-01-05';";
    let two = format!("SET enable_seqscan = off; {}", one.repeat(2));
    work(&cluster, "postgres", &two).await;
    until(&cluster, "postgres", &format!("({}) = 2", leaves("trades_at", "idx_scan"))).await;
    let last = run.poll().await;
    last.assert_not_below(&reset, trades);
    assert_eq!(last.get(INDEX_SCANS, &TRADES_AT), Some(10.0));
    assert_eq!(last.get("pg_index_scan_ratio", TRADES), Some(10.0 / 12.0));

    // A rebuilt index has another oid and a copy of the counters: neither a fall nor a jump.
    admin.batch_execute("REINDEX INDEX CONCURRENTLY plain_pkey").await.unwrap();
    admin.batch_execute("REINDEX INDEX CONCURRENTLY trades_1_at_idx").await.unwrap();
    let rebuilt = run.poll().await;
    assert_eq!(rebuilt.get(INDEX_SCANS, &TRADES_AT), Some(10.0));
    assert_eq!(rebuilt.get(INDEX_SCANS, &plain), Some(0.0));
}

#[tokio::test]
async fn an_invalid_index_shows_on_its_root_or_under_its_own_name() {
    let cluster = server().await;
    work(&cluster, "postgres", SCHEMA).await;
    work(&cluster, "postgres", "CREATE INDEX trades_id ON ONLY trades (id)").await;
    // Duplicates make a unique index fail half-way.
    work(&cluster, "postgres", "INSERT INTO trades_1 SELECT 1, '2026-01-01'").await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .execute("CREATE UNIQUE INDEX CONCURRENTLY twice ON trades_1 (id)", &[])
        .await
        .unwrap_err();
    let invalid = Run::new(&cluster, "mon", "postgres", "indexes").await.poll().await;
    let mut series = invalid.series("pg_index_invalid");
    series.sort_by(|a, b| a.0.cmp(&b.0));
    let short: Vec<_> = series.iter().map(|(l, v)| (&*l[2], &*l[3], *v)).collect();
    let expected = [
        ("plain", "plain_pkey", 0.0),
        ("trades", "trades_at", 0.0),
        ("trades", "trades_id", 1.0),
        ("trades_1", "twice", 1.0),
    ];
    assert_eq!(short, expected);
}

#[tokio::test]
async fn table_buffers_agree_with_the_view_and_survive_a_reset() {
    let cluster = server().await;
    work(&cluster, "postgres", SCHEMA).await;
    let column = |prefix: &str, column: &str| {
        format!(
            "SELECT COALESCE(sum({prefix}_blks_{column}), 0) FROM pg_statio_user_tables \
             WHERE relname LIKE 'trades%'"
        )
    };
    until(&cluster, "postgres", &format!("({}) > 0", column("heap", "hit"))).await;
    until(&cluster, "postgres", &format!("({}) > 0", column("idx", "hit"))).await;
    let admin = common::admin(&cluster, "postgres").await;
    let mut run = Run::new(&cluster, "mon", "postgres", "tables").await;
    let first = run.poll().await;
    let mut before = Vec::new();
    for (prefix, what) in [("heap", "hit"), ("heap", "read"), ("idx", "hit"), ("idx", "read")] {
        let view = number(&admin, &column(prefix, what)).await;
        let name = format!("pg_statio_user_tables_{prefix}_blocks_{what}");
        assert_eq!(first.get(&name, TRADES), Some(0.0), "{name}");
        before.push(view);
    }
    assert_eq!(first.get("pg_table_cache_hit_ratio", TRADES), None);
    assert_eq!(first.series("pg_statio_user_tables_heap_blocks_hit").len(), 2, "the roots");

    work(&cluster, "postgres", "SELECT count(*) FROM trades; SELECT count(*) FROM trades").await;
    until(&cluster, "postgres", &format!("({}) > {}", column("heap", "hit"), before[0])).await;
    let second = run.poll().await;
    second.assert_not_below(&first, |_| true);
    let mut after = Vec::new();
    for (prefix, what) in [("heap", "hit"), ("heap", "read"), ("idx", "hit"), ("idx", "read")] {
        let view = number(&admin, &column(prefix, what)).await;
        let name = format!("pg_statio_user_tables_{prefix}_blocks_{what}");
        assert_eq!(second.get(&name, TRADES), Some(view - before[after.len()]), "{name}");
        after.push(view);
    }
    let hit = (after[0] - before[0]) + (after[2] - before[2]);
    let read = (after[1] - before[1]) + (after[3] - before[3]);
    assert_eq!(second.get("pg_table_cache_hit_ratio", TRADES), Some(hit / (hit + read)));
    assert_eq!(second.get("pg_table_cache_hit_ratio", PLAIN), None, "plain was not read");

    admin.batch_execute("SELECT pg_stat_reset()").await.unwrap();
    until(&cluster, "postgres", &format!("({}) = 0", column("heap", "hit"))).await;
    let reset = run.poll().await;
    reset.assert_not_below(&second, |labels| labels.contains(&"trades"));
    assert_eq!(reset.get("pg_statio_user_tables_heap_blocks_hit", PLAIN), Some(0.0), "as the view");
}

#[tokio::test]
async fn database_activity_agrees_with_the_view_and_survives_reset_and_restart() {
    let mut cluster = server().await;
    let hostile = &*common::shared_name(&cluster, "sh\"o\\p\n");
    let quoted = hostile.replace('"', "\"\"");
    work(&cluster, "postgres", &format!("CREATE DATABASE \"{quoted}\" CONNECTION LIMIT 7")).await;
    work(&cluster, hostile, "CREATE TABLE t AS SELECT generate_series(1, 5000)").await;
    let of = |column: &str| {
        format!("SELECT {column} FROM pg_stat_database WHERE datname = $n${hostile}$n$")
    };
    until(&cluster, "postgres", &format!("({}) >= 5000", of("tup_inserted"))).await;
    let admin = common::admin(&cluster, "postgres").await;
    let datid = number(&admin, &of("datid::int8")).await.to_string();
    let labels = [datid.as_str(), hostile];
    let mut run = Run::new(&cluster, "mon", "postgres", "cache").await;
    let first = run.poll().await;
    let columns = ["xact_commit", "tup_inserted", "blks_hit", "blks_read", "temp_bytes"];
    let mut before = Vec::new();
    for column in columns {
        before.push(number(&admin, &of(column)).await);
        assert_eq!(
            first.get(&format!("pg_stat_database_{column}"), &labels),
            before.last().copied()
        );
    }
    assert!(before[0] > 0.0 && before[1] >= 5000.0);
    assert_eq!(first.get("pg_cache_hit_ratio_objective", &[]), Some(0.95));
    assert_eq!(first.get("pg_index_scan_ratio_objective", &[]), Some(0.9));
    assert_eq!(first.get("pg_cache_hit_ratio", &[hostile]), None);
    let active = first.get("pg_stat_database_active_time_seconds_total", &labels);
    assert_eq!(active.is_some(), run.session.server().major() >= 14);
    let (hit, read) =
        (number(&admin, &of("blks_hit")).await, number(&admin, &of("blks_read")).await);

    work(&cluster, hostile, "SELECT count(*) FROM t").await;
    until(&cluster, "postgres", &format!("({}) > {hit}", of("blks_hit"))).await;
    let second = run.poll().await;
    let hits = number(&admin, &of("blks_hit")).await - hit;
    let reads = number(&admin, &of("blks_read")).await - read;
    for (column, before) in columns.into_iter().zip(before) {
        let view = number(&admin, &of(column)).await;
        assert!(view >= before, "{column}");
        assert_eq!(second.get(&format!("pg_stat_database_{column}"), &labels), Some(view));
    }
    let ratio = second.get("pg_cache_hit_ratio", &[hostile]).unwrap();
    assert!((ratio - hits / (hits + reads)).abs() < 1e-9, "{ratio} {hits} {reads}");

    work(&cluster, hostile, "SELECT pg_stat_reset()").await;
    until(&cluster, "postgres", &format!("({}) = 0", of("tup_inserted"))).await;
    let reset = run.poll().await;
    assert_eq!(reset.get("pg_stat_database_tup_inserted", &labels), Some(0.0), "as the view");
    let at = reset.get("pg_stat_database_stats_reset", &labels).unwrap();
    let view = number(&admin, &of("extract(epoch FROM stats_reset)")).await;
    assert!((at - view).abs() < 1e-3);

    // The state outlives the session, as it does in the poller; what is published is the server's.
    drop((admin, run.session));
    cluster.restart().await.unwrap();
    let again = Run::new(&cluster, "mon", "postgres", "cache").await;
    let mut run = Run { state: run.state, ..again };
    let restarted = run.poll().await;
    let admin = common::admin(&cluster, "postgres").await;
    for column in columns {
        let view = number(&admin, &of(column)).await;
        let metric = format!("pg_stat_database_{column}");
        assert_eq!(restarted.get(&metric, &labels), Some(view), "{column} after a restart");
    }
}

#[tokio::test]
async fn connections_by_state_age_wait_and_limit() {
    let cluster = server().await;
    work(&cluster, "postgres", "CREATE DATABASE app CONNECTION LIMIT 40").await;
    let idle = common::admin(&cluster, "app").await;
    idle.batch_execute("CREATE TABLE t (i int)").await.unwrap();
    let holder = common::admin(&cluster, "app").await;
    holder.batch_execute("BEGIN; LOCK t").await.unwrap();
    let aborted = common::admin(&cluster, "app").await;
    aborted.batch_execute("BEGIN").await.unwrap();
    aborted.batch_execute("SELECT 1/0").await.unwrap_err();
    let waiter = common::admin(&cluster, "app").await;
    let waits = tokio::spawn(async move { waiter.batch_execute("SELECT * FROM t").await });
    let sleeper = common::admin(&cluster, "app").await;
    let sleeps = tokio::spawn(async move { sleeper.batch_execute("SELECT pg_sleep(60)").await });
    let active = "(SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' \
                   AND wait_event_type IN ('Lock', 'Timeout')) = 2";
    until(&cluster, "postgres", active).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;

    let admin = common::admin(&cluster, "postgres").await;
    let mut run = Run::new(&cluster, "mon", "app", "connections").await;
    let poll = run.poll().await;
    let mut states = poll.series("pg_stat_activity_count");
    states.retain(|(labels, _)| labels[0] == "app");
    let states: Vec<_> = states.iter().map(|(l, v)| (&*l[1], *v)).collect();
    let expected = [
        ("active", 2.0),
        ("disabled", 0.0),
        ("fastpath function call", 0.0),
        ("idle", 1.0),
        ("idle in transaction", 1.0),
        ("idle in transaction (aborted)", 1.0),
    ];
    assert_eq!(states, expected, "without the exporter's own");
    for kind in ["Lock", "Timeout"] {
        assert_eq!(poll.get("pg_stat_activity_waiting_backends", &["app", kind]), Some(1.0));
    }
    for (name, floor) in [
        ("pg_longest_running_query_seconds", 1.2),
        ("pg_oldest_transaction_seconds", 1.2),
        ("pg_oldest_idle_in_transaction_seconds", 1.2),
    ] {
        let age = poll.get(name, &["app"]).unwrap();
        assert!((floor..10.0).contains(&age), "{name} {age}");
        assert_eq!(poll.get(name, &["postgres"]), None, "{name}: nothing runs there but we");
    }
    let used = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
    let used = number(&admin, used).await;
    assert_eq!(poll.get("pg_connections_used", &[]), Some(used));
    assert_eq!(poll.get("pg_settings_max_connections", &[]), Some(50.0));
    assert_eq!(poll.get("pg_connections_used_ratio", &[]), Some(used / 47.0));
    let reserved = (run.session.server().major() >= 16).then_some(0.0);
    assert_eq!(poll.get("pg_settings_reserved_connections", &[]), reserved);
    assert_eq!(poll.get("pg_database_connection_limit", &["app"]), Some(40.0));
    assert_eq!(poll.get("pg_database_connection_limit", &["postgres"]), Some(-1.0));
    let oid =
        number(&admin, "SELECT oid::int8 FROM pg_database WHERE datname = 'app'").await.to_string();
    let backends = "SELECT numbackends FROM pg_stat_database WHERE datname = 'app'";
    let backends = number(&admin, backends).await;
    assert_eq!(poll.get("pg_stat_database_numbackends", &[&oid, "app"]), Some(backends));

    // A role that sees nobody else's state still counts everybody.
    admin.batch_execute("CREATE ROLE blind LOGIN").await.unwrap();
    let blind = Run::new(&cluster, "blind", "app", "connections").await.poll().await;
    assert_eq!(blind.get("pg_stat_activity_count", &["app", "unknown"]), Some(6.0));
    assert_eq!(blind.get("pg_longest_running_query_seconds", &["app"]), None);
    drop(holder);
    waits.await.unwrap().unwrap();
    sleeps.abort();
}

#[tokio::test]
async fn maintenance_is_no_long_running_query() {
    let cluster = server().await;
    work(&cluster, "postgres", "CREATE DATABASE app").await;
    let tables = "CREATE TABLE big AS SELECT generate_series(1, 100000) i; \
                  CREATE TABLE other AS SELECT * FROM big; CREATE TABLE small AS SELECT 1 AS i; \
                  CREATE FUNCTION slow(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql \
                    AS 'BEGIN PERFORM pg_sleep(60); RETURN i; END'";
    work(&cluster, "app", tables).await;
    let mut running = Vec::new();
    let slow = "SET vacuum_cost_limit = 1; SET vacuum_cost_delay = 100";
    for (set, sql) in [
        (slow, "VACUUM big"),
        (slow, "ANALYZE other"),
        ("", "CREATE INDEX ON small (slow(i))"),
        ("", "COPY (SELECT pg_sleep(60)) TO '/dev/null'"),
    ] {
        let client = common::admin(&cluster, "app").await;
        client.batch_execute(set).await.unwrap();
        running.push(tokio::spawn(async move { client.batch_execute(sql).await }));
    }
    let sleeper = common::admin(&cluster, "postgres").await;
    let sleeps = tokio::spawn(async move { sleeper.batch_execute("SELECT pg_sleep(60)").await });
    let mut run = Run::new(&cluster, "mon", "postgres", "connections").await;
    let started = "EXISTS (SELECT 1 FROM pg_stat_progress_vacuum) \
                       AND EXISTS (SELECT 1 FROM pg_stat_progress_analyze) \
                       AND EXISTS (SELECT 1 FROM pg_stat_progress_create_index) \
                       AND EXISTS (SELECT 1 FROM pg_stat_activity WHERE query LIKE 'COPY%') \
                       AND EXISTS (SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)')";
    until(&cluster, "postgres", started).await;
    let poll = run.poll().await;
    assert_eq!(poll.get("pg_stat_activity_count", &["app", "active"]), Some(4.0));
    let longest = "pg_longest_running_query_seconds";
    assert_eq!(poll.get(longest, &["app"]), None);
    assert!(poll.get(longest, &["postgres"]).unwrap() > 0.0, "a query beside them counts");
    running.into_iter().for_each(|r| r.abort());
    sleeps.abort();
}

fn hostile_schema() -> (String, [String; 3]) {
    // 63 bytes: PostgreSQL's longest name.
    let long = format!("{}z", "é".repeat(31));
    let names = ["s\"c\\h\n".to_owned(), format!("t'{}", &long[..60]), long];
    let quoted = names.clone().map(|n| format!("\"{}\"", n.replace('"', "\"\"")));
    let [schema, table, index] = quoted;
    let sql = format!(
        "CREATE SCHEMA {schema}; CREATE TABLE {schema}.{table} (i int); \
         CREATE INDEX {index} ON {schema}.{table} (i); \
         INSERT INTO {schema}.{table} SELECT generate_series(1, 3000)"
    );
    (sql, names)
}

#[tokio::test]
async fn hostile_names_come_out_whole_and_system_and_temporary_tables_do_not() {
    let cluster = server().await;
    let (sql, [schema, table, index]) = hostile_schema();
    work(&cluster, "postgres", &sql).await;
    let temporary = common::admin(&cluster, "postgres").await;
    temporary.batch_execute("CREATE TEMP TABLE mine (i int PRIMARY KEY)").await.unwrap();
    let labels = ["postgres", schema.as_str(), table.as_str(), index.as_str()];
    for (name, metric, depth) in [
        ("indexes", INDEX_SCANS, 4),
        ("indexes", "pg_index_invalid", 4),
        ("tables", "pg_statio_user_tables_heap_blocks_hit", 3),
        ("sizes", "pg_stat_user_tables_table_size_bytes", 3),
        ("sizes", "pg_index_size_bytes", 4),
    ] {
        let poll = Run::new(&cluster, "mon", "postgres", name).await.poll().await;
        let series: Vec<_> = poll.series(metric).into_iter().map(|(l, _)| l).collect();
        assert_eq!(series, [labels[..depth].to_vec()], "{metric}");
    }
}

#[tokio::test]
async fn a_database_name_in_another_encoding_costs_no_collector_a_sample() {
    let cluster = server().await;
    work(
        &cluster,
        "postgres",
        "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    .await;
    // Stored as the one byte E9, which is not UTF-8.
    work(&cluster, "latin", "CREATE DATABASE \"café\" TEMPLATE template0 CONNECTION LIMIT 9").await;
    let admin = common::admin(&cluster, "postgres").await;
    let found = "FROM pg_database WHERE textsend(datname::text) = '\\x636166e9'";
    let oid = number(&admin, &format!("SELECT oid::int8 {found}")).await.to_string();
    let size = number(&admin, &format!("SELECT pg_database_size(oid) {found}")).await;
    let name = "caf\u{fffd}";
    let poll = async |what| Run::new(&cluster, "mon", "postgres", what).await.poll().await;
    let databases = poll("databases").await;
    assert_eq!(databases.get("pg_database_size_bytes", &[name]), Some(size));
    let connections = poll("connections").await;
    assert_eq!(connections.get("pg_database_connection_limit", &[name]), Some(9.0));
    assert_eq!(connections.get("pg_stat_database_numbackends", &[&oid, name]), Some(0.0));
    let state = ["postgres", "idle"];
    assert_eq!(connections.get("pg_stat_activity_count", &state), Some(1.0), "the test's own");
    let cache = poll("cache").await;
    assert_eq!(cache.get("pg_stat_database_xact_commit", &[&oid, name]), Some(0.0));
}

#[test]
fn the_golden_files_pass_the_linter() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for collector in pgrunway::collectors::ALL {
        let name = collector.name();
        let file = std::fs::File::open(golden.join(format!("{name}.prom"))).unwrap();
        let out = std::process::Command::new(common::tools::program("promtool"))
            .args(["check", "metrics"])
            .stdin(file)
            .output()
            .expect("promtool is needed: apt-get install prometheus");
        let said = String::from_utf8_lossy(&out.stderr);
        // What is postgres_exporter's to the letter has its faults.
        let known = |line: &&str| {
            collector.compatible_only() && line.contains("pg_stat_activity_count non-histogram")
                || line.starts_with("pg_buffercache_summary_") && line.ends_with("type 'summary'")
        };
        let said = said.lines().filter(|line| !line.is_empty());
        let (theirs, faults): (Vec<&str>, Vec<&str>) = said.partition(known);
        assert!(faults.is_empty(), "{name}: {faults:?}");
        assert!(out.status.success() || !theirs.is_empty(), "{name}: {}", out.status);
    }
}
