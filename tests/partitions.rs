//! The partitions collector: its figures against inserts on a real server, its locks, its text.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod common;
#[path = "partitions/rules.rs"]
mod rules;
#[path = "partitions/standby.rs"]
mod standby;
#[path = "partitions/trees.rs"]
mod trees;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgrunway::cmd::cluster::Cluster;
use pgrunway::collector::Collector;
use pgrunway::collectors::partitions::{
    Partition, PartitionedTable, Partitions, Rows, TableRule, Zone,
};
use pgrunway::config::{Connect, Endpoint, PartitionRule, Password, RootCert, Settings, SslMode};
use pgrunway::metric::{Family, Refused, Sink, Value};
use pgrunway::pg::{Clock, Session};
use tokio_postgres::Client;

const LOCK_TIMEOUT: Duration = Duration::from_millis(100);

fn settings(zone: Option<&str>) -> Settings {
    let mut settings = Settings::default();
    settings.timeouts.lock = LOCK_TIMEOUT;
    settings.partitions.zone = zone.map(str::to_owned);
    let told = |table: &str, unit: Option<&str>, zone: Option<&str>| PartitionRule {
        unit: unit.map(str::to_owned),
        zone: zone.map(str::to_owned),
        ..rule(table)
    };
    settings.partitions.rules = vec![
        told("public.told_s", Some("s"), None),
        told("*.told_day", Some("yyyymmdd"), None),
        told("public.told_z*", None, Some("Asia/Tokyo")),
    ];
    settings
}

fn rule(table: &str) -> PartitionRule {
    PartitionRule { table: table.to_owned(), ..PartitionRule::default() }
}

/// A session of the role that has only `pg_monitor`.
async fn session(cluster: &Cluster, dbname: &str, zone: Option<&str>) -> Session {
    session_with(cluster, dbname, settings(zone)).await
}

async fn session_with(cluster: &Cluster, dbname: &str, settings: Settings) -> Session {
    let connect = Connect {
        endpoints: vec![Endpoint::Unix {
            directory: PathBuf::from(cluster.socket_dir()),
            port: cluster.port(),
        }],
        user: "mon".to_owned(),
        dbname: dbname.to_owned(),
        password: Password::None,
        sslmode: SslMode::Prefer,
        root_cert: RootCert::None,
        client_cert: None,
        application_name: "pgrunway".to_owned(),
        only: None,
    };
    Session::connect(&connect, None, Arc::new(settings), Clock::start()).await.unwrap()
}

/// All samples of one poll.
struct Poll {
    /// Microseconds since 1970 by the server.
    now: i64,
    families: Vec<Family>,
}

impl Poll {
    async fn of(session: &Session) -> Self {
        let rows = Partitions.fetch(session, &()).await.unwrap();
        Self { now: rows.now, families: derive(rows) }
    }

    fn value(&self, metric: &str, relname: &str) -> Option<f64> {
        let family = self.families.iter().find(|f| f.metric.name == metric)?;
        let sample = family.samples.iter().find(|s| &*s.labels[2] == relname)?;
        match sample.value {
            Value::Number(number) => Some(number),
            Value::Histogram(_) => panic!("{metric} is a histogram"),
        }
    }

    /// strategy, key_type, reason and the value of `pg_partition_supported`.
    fn support(&self, relname: &str) -> (&str, &str, &str, bool) {
        let family =
            self.families.iter().find(|f| f.metric.name == "pg_partition_supported").unwrap();
        let sample = family.samples.iter().find(|s| &*s.labels[2] == relname).unwrap();
        let label = |i: usize| &*sample.labels[i];
        (label(3), label(4), label(5), sample.value == Value::Number(1.0))
    }
}

fn derive(rows: Rows) -> Vec<Family> {
    let mut sink = Sink::new(Partitions::METRICS, 1_000_000);
    Partitions.derive(&mut (), rows, &mut sink);
    let (families, refused) = sink.finish();
    assert_eq!(refused, Refused::default());
    families
}

/// Rows of a poll at 2026-11-22 12:00 UTC: one root of each kind.
fn golden_rows() -> Rows {
    let mut rows = Rows {
        datname: "shop".to_owned(),
        now: 1_795_348_800_000_000,
        block_size: 8192,
        zone: Zone::find(["Europe/Berlin"]),
        required: 604_800.0,
        tables: Vec::new(),
        partitions: Vec::new(),
        next_keys: HashMap::new(),
        must_exist: ["trades", "users", "gone"]
            .map(|t| ("public".to_owned(), t.to_owned()))
            .to_vec(),
        per_partition: 1,
    };
    let mut oid = 16_384;
    let mut root = |relname: &str, strategy: &str, keys: &[&str], bounds: &[&str]| {
        oid += 1;
        let parent = oid;
        rows.tables.push(PartitionedTable {
            oid,
            name: Some(("public".to_owned(), relname.to_owned())),
            strategy: strategy.to_owned(),
            keys: keys.iter().map(|k| (*k).to_owned()).collect(),
            column: Some("k".to_owned()),
            zone: None,
            rule: TableRule::default(),
        });
        for bound in bounds {
            oid += 1;
            let default = *bound == "DEFAULT";
            rows.partitions.push(Partition {
                oid,
                parent,
                bound: Some((*bound).to_owned()),
                pages: 10,
                rows: default.then_some(7.0),
                name: None,
            });
        }
    };
    let healthy = [
        "FOR VALUES FROM ('2026-11-22 00:00:00+00') TO ('2026-11-23 00:00:00+00')",
        "FOR VALUES FROM ('2026-11-23 00:00:00+00') TO ('2026-11-24 00:00:00+00')",
        // A day is missing here.
        "FOR VALUES FROM ('2026-11-25 00:00:00+00') TO ('2026-11-26 00:00:00+00')",
        "DEFAULT",
    ];
    root("trades", "r", &["timestamptz", "int4"], &healthy);
    let expired = ["FOR VALUES FROM ('2026-10-01 00:00:00') TO ('2026-10-31 00:00:00')"];
    root("orders", "r", &["timestamp"], &expired);
    root("endless", "r", &["date"], &["FOR VALUES FROM (MINVALUE) TO (MAXVALUE)"]);
    root("never\n\"\\", "r", &["date"], &[]);
    root("users", "h", &["int8"], &["FOR VALUES WITH (modulus 1, remainder 0)"]);
    root("ids", "r", &["int8"], &["FOR VALUES FROM ('0') TO ('1000000000')"]);
    let day = ["FOR VALUES FROM ('1795305600000') TO ('1795392000000')"];
    root("events", "r", &["int8"], &day);
    root("ignored", "r", &["date"], &[]);
    for table in &mut rows.tables {
        match table.name.as_ref().map(|(_, relname)| relname.as_str()) {
            Some("ids") => drop(rows.next_keys.insert(table.oid, 999_999_001)),
            Some("ignored") => table.rule.ignore = true,
            Some("orders") => {
                table.rule = TableRule {
                    required: Some(86_400.0),
                    zone: Some(Zone::find(["Asia/Tokyo"])),
                    max_age: Some(864_000.0),
                    ..TableRule::default()
                };
            }
            _ => {}
        }
    }
    for partition in rows.partitions.iter_mut().take(2) {
        partition.name = Some(format!("public.trades_{}", partition.oid));
    }
    rows
}

#[test]
fn fixed_rows_give_the_golden_text() {
    let text = pgrunway::render::text_of(&derive(golden_rows())).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/partitions.prom");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, golden, "UPDATE_GOLDEN=1 rewrites {}", path.display());
}

#[test]
fn an_unknown_zone_is_said_and_utc_assumed() {
    let mut rows = golden_rows();
    rows.zone = Zone::find(["Mars/Olympus", "also not; a zone"]);
    rows.tables.iter_mut().for_each(|table| table.rule = TableRule::default());
    assert!(matches!(rows.zone, Zone::Unknown));
    let poll = Poll { now: rows.now, families: derive(rows) };
    assert_eq!(poll.support("orders"), ("range", "timestamp", "zone_unknown", true));
    assert_eq!(poll.support("trades"), ("range", "timestamptz", "", true));
    let until = poll.value("pg_partition_covered_until_timestamp_seconds", "orders");
    assert_eq!(until, Some(1_793_404_800.0), "2026-10-31 00:00 UTC");
    // A POSIX rule is a zone, east of Greenwich with a minus sign.
    let mut rows = golden_rows();
    rows.zone = Zone::find(["<+03>-3"]);
    rows.tables.iter_mut().for_each(|table| table.rule = TableRule::default());
    let poll = Poll { now: rows.now, families: derive(rows) };
    let until = poll.value("pg_partition_covered_until_timestamp_seconds", "orders");
    assert_eq!(until, Some(1_793_404_800.0 - 3.0 * 3600.0));
}

async fn database(cluster: &Cluster, name: &str, zone: &str) -> Client {
    let admin = common::admin(cluster, "postgres").await;
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    admin.batch_execute(&format!("ALTER DATABASE {name} SET timezone = '{zone}'")).await.unwrap();
    common::admin(cluster, name).await
}

#[tokio::test]
async fn the_runway_is_when_inserts_fail() {
    let cluster = common::server().await;
    // Half an hour off, far east, far west with a clock change; every database has its own.
    for (name, zone) in [
        ("utc", "UTC"),
        ("india", "Asia/Kolkata"),
        ("chatham", "Pacific/Chatham"),
        ("ny", "America/New_York"),
    ] {
        let admin = database(&cluster, name, zone).await;
        let session = session(&cluster, name, None).await;
        assert_eq!(session.server().timezone, zone);
        let trees = trees::create(&admin, &cluster, session.server().version_num).await;
        assert!(trees.len() >= 50, "{}", trees.len());
        let poll = Poll::of(&session).await;
        let mut wrong = Vec::new();
        for tree in &trees {
            let truth = tree.truth(&admin, poll.now).await;
            let value = |metric: &str| poll.value(&format!("pg_partition_{metric}"), tree.name);
            let runway = value("runway_seconds").unwrap_or(f64::NAN);
            let close = runway == truth || (runway - truth).abs() < 5.0;
            let until = value("covered_until_timestamp_seconds").unwrap_or(f64::NAN);
            let consistent = (truth == 0.0 && until == 0.0)
                || until == runway
                || (until - runway - poll.now as f64 / 1e6).abs() < 0.01;
            let covered = value("covered") == Some(if truth > 0.0 { 1.0 } else { 0.0 });
            if !(close && consistent && covered && poll.support(tree.name).3) {
                wrong.push(format!("{}: {runway}, truth {truth}, until {until}", tree.name));
            }
        }
        assert!(wrong.is_empty(), "{zone}: {wrong:#?}");
        let expired = poll.value("pg_partition_runway_seconds", "expired").unwrap() / 86_400.0;
        assert!((-22.0 - expired).abs() < 0.001, "{expired} days");
    }
}

#[tokio::test]
async fn what_has_no_time_says_why() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE TABLE by_hash (id int8) PARTITION BY HASH (id);
             CREATE TABLE by_hash_0 PARTITION OF by_hash FOR VALUES WITH (modulus 2, remainder 0);
             CREATE TABLE by_list (region text, id int) PARTITION BY LIST (region);
             CREATE TABLE by_list_d PARTITION OF by_list DEFAULT;
             INSERT INTO by_list SELECT 'x', i FROM generate_series(1, 500) i;
             ANALYZE by_list;
             CREATE TABLE by_id (id int8) PARTITION BY RANGE (id);
             CREATE TABLE by_id_0 PARTITION OF by_id FOR VALUES FROM (-5) TO (1000000000);
             CREATE TABLE by_day_id (id int) PARTITION BY LIST (id);
             CREATE TABLE by_day_id_0 PARTITION OF by_day_id FOR VALUES IN (20260101, 20260230);
             CREATE TABLE by_text (k text) PARTITION BY RANGE (k);
             CREATE TABLE by_text_0 PARTITION OF by_text FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
             CREATE TABLE by_numeric (k numeric) PARTITION BY RANGE (k);
             CREATE TABLE by_numeric_0 PARTITION OF by_numeric FOR VALUES FROM (1795305600) TO (1795392000);
             CREATE TABLE by_uuid (id uuid) PARTITION BY RANGE (id);
             CREATE TABLE by_uuid_0 PARTITION OF by_uuid FOR VALUES FROM (MINVALUE) TO ('80000000-0000-0000-0000-000000000000');
             CREATE TABLE by_uuid_1 PARTITION OF by_uuid FOR VALUES FROM ('80000000-0000-0000-0000-000000000000') TO (MAXVALUE);
             CREATE TABLE late (id uuid, ts timestamptz) PARTITION BY RANGE (id, ts);
             CREATE OPERATOR CLASS backwards FOR TYPE date USING btree AS OPERATOR 1 >,
               OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 date_cmp(date, date);
             CREATE TABLE own (day date) PARTITION BY RANGE (day backwards);
             CREATE TEMPORARY TABLE gone (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE inner_only (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE inner_sub PARTITION OF inner_only DEFAULT PARTITION BY RANGE (ts);",
        )
        .await
        .unwrap();
    let poll = Poll::of(&session(&cluster, "postgres", None).await).await;
    assert_eq!(poll.support("by_hash"), ("hash", "int8", "no_time_level", false));
    assert_eq!(poll.support("by_list"), ("list", "text", "no_time_level", false));
    assert_eq!(poll.support("by_id"), ("range", "int8", "unit_unknown", false));
    assert_eq!(poll.support("by_day_id"), ("list", "int4", "no_time_level", false));
    assert_eq!(poll.support("by_text"), ("range", "text", "key_type", false));
    assert_eq!(poll.support("by_numeric"), ("range", "numeric", "key_type", false));
    assert_eq!(poll.support("by_uuid"), ("range", "uuid", "uuid_not_v7", false));
    assert_eq!(poll.support("late"), ("range", "uuid", "time_not_leading", false));
    assert_eq!(poll.support("own"), ("range", "user_defined", "key_type", false));
    assert_eq!(poll.support("inner_only"), ("range", "timestamptz", "", true));
    let supported =
        poll.families.iter().find(|f| f.metric.name == "pg_partition_supported").unwrap();
    assert_eq!(supported.samples.len(), 10, "neither temporary nor inner tables");
    let none = ["by_hash", "by_list", "by_id", "by_day_id", "by_text", "by_numeric", "by_uuid"];
    for table in none.into_iter().chain(["late", "own"]) {
        assert_eq!(poll.value("pg_partition_runway_seconds", table), None);
        assert_eq!(poll.value("pg_partition_covered_until_timestamp_seconds", table), None);
    }
    assert_eq!(poll.value("pg_partition_count", "by_list"), Some(1.0));
    assert_eq!(poll.value("pg_partition_has_default", "by_list"), Some(1.0));
    assert_eq!(poll.value("pg_partition_default_rows", "by_list"), Some(500.0));
    let pages = admin
        .query_one("SELECT pg_relation_size('by_list_d')::float8", &[])
        .await
        .unwrap()
        .get::<_, f64>(0);
    assert!(pages > 0.0);
    assert_eq!(poll.value("pg_partition_size_bytes", "by_list"), Some(pages));
}

#[tokio::test]
async fn a_slice_list_says_what_is_ahead_and_behind() {
    let cluster = common::server().await;
    let admin = database(&cluster, "shop", "UTC").await;
    admin
        .batch_execute(
            "CREATE TABLE t (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE t_now PARTITION OF t FOR VALUES FROM ('2020-01-01') TO (current_date + 1);
             CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (current_date + 1) TO (current_date + 2);
             CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (current_date + 2) TO (current_date + 3);
             CREATE TABLE t_9 PARTITION OF t FOR VALUES FROM (current_date + 9) TO (current_date + 10);
             CREATE TABLE t_default PARTITION OF t DEFAULT;
             INSERT INTO t SELECT '2019-01-01' FROM generate_series(1, 40);",
        )
        .await
        .unwrap();
    let midnight: f64 = admin
        .query_one("SELECT extract(epoch FROM current_date)::float8", &[])
        .await
        .unwrap()
        .get(0);
    let session = session(&cluster, "shop", None).await;
    let poll = Poll::of(&session).await;
    let value = |metric: &str| poll.value(&format!("pg_partition_{metric}"), "t");
    let day = 86_400.0;
    assert_eq!(value("covered_until_timestamp_seconds"), Some(midnight + 3.0 * day));
    assert_eq!(value("next_coverage_timestamp_seconds"), Some(midnight + 9.0 * day));
    assert_eq!((value("gap"), value("covered")), (Some(1.0), Some(1.0)));
    assert_eq!((value("count"), value("future_count")), (Some(5.0), Some(3.0)));
    assert_eq!(value("oldest_timestamp_seconds"), Some(1_577_836_800.0));
    assert_eq!(value("interval_seconds"), Some(day));
    assert_eq!(value("has_default"), Some(1.0));
    assert_eq!(value("runway_required_seconds"), Some(604_800.0));
    // Never analysed: the live tuples, once the statistics have arrived, then reltuples.
    let deadline = Instant::now() + Duration::from_secs(10);
    while Poll::of(&session).await.value("pg_partition_default_rows", "t") != Some(40.0) {
        assert!(Instant::now() < deadline, "live tuples of the DEFAULT");
        // Up to 14 a backend sends its counts only at the end of a later statement.
        admin.batch_execute("SELECT 1").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    admin
        .batch_execute("TRUNCATE t_default; INSERT INTO t VALUES ('2019-01-01'); ANALYZE t")
        .await
        .unwrap();
    assert_eq!(Poll::of(&session).await.value("pg_partition_default_rows", "t"), Some(1.0));
}

#[tokio::test]
async fn an_open_ended_partition_says_what_fills_it() {
    let cluster = common::server().await;
    let admin = database(&cluster, "shop", "UTC").await;
    admin
        .batch_execute(
            "CREATE TABLE t (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM ('2020-01-01') TO (current_date + 2);
             CREATE TABLE t_rest PARTITION OF t FOR VALUES FROM (current_date + 2) TO (MAXVALUE);
             CREATE TABLE alone (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE alone_1 PARTITION OF alone FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
             INSERT INTO t SELECT now() + i * interval '1 day' FROM generate_series(0, 9) i; ANALYZE t",
        )
        .await
        .unwrap();
    let sql = "SELECT extract(epoch FROM current_date + 2)::float8, count(*)::float8 FROM t_rest";
    let row = admin.query_one(sql, &[]).await.unwrap();
    let (until, held): (f64, f64) = (row.get(0), row.get(1));
    let poll = Poll::of(&session(&cluster, "shop", None).await).await;
    let value = |metric: &str, table: &str| poll.value(&format!("pg_partition_{metric}"), table);
    assert_eq!(value("runway_seconds", "t"), Some(f64::INFINITY));
    assert_eq!(value("bounded_until_timestamp_seconds", "t"), Some(until));
    assert_eq!((value("open_ended_rows", "t"), held), (Some(8.0), 8.0));
    for metric in ["bounded_until_timestamp_seconds", "open_ended_rows"] {
        assert_eq!(value(metric, "alone"), None, "{metric}");
    }
}

#[tokio::test]
async fn the_configured_zone_goes_before_that_of_the_database() {
    let cluster = common::server().await;
    let admin = database(&cluster, "shop", "America/New_York").await;
    admin
        .batch_execute(
            "CREATE TABLE d (day date) PARTITION BY RANGE (day);
             CREATE TABLE d_1 PARTITION OF d FOR VALUES FROM (MINVALUE) TO ('2100-07-01');",
        )
        .await
        .unwrap();
    let midnight = 4_118_083_200.0;
    for (zone, east) in [(None, -4.0), (Some("Asia/Tokyo"), 9.0), (Some("No/Where"), -4.0)] {
        let poll = Poll::of(&session(&cluster, "shop", zone).await).await;
        let until = poll.value("pg_partition_covered_until_timestamp_seconds", "d");
        assert_eq!(until, Some(midnight - east * 3600.0), "{zone:?}");
    }
    // A rule may be for one database.
    let zoned = |database: &str, zone: &str| PartitionRule {
        database: Some(database.to_owned()),
        zone: Some(zone.to_owned()),
        ..rule("*")
    };
    let mut ruled = settings(Some("Asia/Kolkata"));
    ruled.partitions.rules = vec![zoned("other", "America/Lima"), zoned("shop", "Asia/Tokyo")];
    let poll = Poll::of(&session_with(&cluster, "shop", ruled).await).await;
    let until = poll.value("pg_partition_covered_until_timestamp_seconds", "d");
    assert_eq!(until, Some(midnight - 9.0 * 3600.0));
    let poll = Poll::of(&session(&cluster, "postgres", None).await).await;
    assert!(poll.families.is_empty(), "a database without partitioned tables has no series");
}

#[tokio::test]
async fn names_of_any_kind_come_out_as_labels() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    let long = "ß".repeat(31);
    let names = ["a \"quoted\" 'one'", "back\\slash", "new\nline", "DROP TABLE x; --", &long];
    for name in names {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        admin
            .batch_execute(&format!(
                "CREATE SCHEMA {quoted}; CREATE TABLE {quoted}.{quoted} (ts timestamptz, \
                 what text) PARTITION BY RANGE (ts); CREATE TABLE {quoted}.p PARTITION OF \
                 {quoted}.{quoted} FOR VALUES FROM (MINVALUE) TO (now() + '1 h');"
            ))
            .await
            .unwrap();
    }
    // A hostile search_path of the role must not reach the query.
    admin
        .batch_execute(
            "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO mon;
             CREATE VIEW evil.pg_class AS SELECT 1 AS nothing;
             CREATE FUNCTION evil.pg_get_expr(pg_node_tree, oid) RETURNS text LANGUAGE sql
               AS $$ SELECT 'DEFAULT' $$;
             ALTER ROLE mon SET search_path = evil, pg_catalog;",
        )
        .await
        .unwrap();
    let poll = Poll::of(&session(&cluster, "postgres", None).await).await;
    let runway =
        poll.families.iter().find(|f| f.metric.name == "pg_partition_runway_seconds").unwrap();
    let mut seen: Vec<&str> = runway.samples.iter().map(|s| &*s.labels[2]).collect();
    let mut expected = names.to_vec();
    seen.sort_unstable();
    expected.sort_unstable();
    assert_eq!(seen, expected);
    for sample in &runway.samples {
        assert_eq!(sample.labels[1], sample.labels[2]);
        let Value::Number(runway) = sample.value else { panic!("a gauge") };
        assert!((3_500.0..3_600.0).contains(&runway), "{runway}");
    }
}

#[tokio::test]
async fn no_lock_on_a_table_holds_it_up() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE TABLE t (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE t_a PARTITION OF t FOR VALUES FROM (MINVALUE) TO (now() + '1 h');
             CREATE TABLE t_d PARTITION OF t DEFAULT;",
        )
        .await
        .unwrap();
    admin.batch_execute("BEGIN; LOCK TABLE t, t_a, t_d IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let blocked = common::admin(&cluster, "postgres").await;
    // One that queues behind the lock, as an ATTACH would.
    tokio::spawn(async move { blocked.batch_execute("LOCK TABLE t, t_a, t_d").await });
    let session = session(&cluster, "postgres", None).await;
    Poll::of(&session).await;
    // A poll that waited for a lock would fail; the fastest shows that none waits for another reason.
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let poll = Poll::of(&session).await;
        fastest = fastest.min(start.elapsed());
        let runway = poll.value("pg_partition_runway_seconds", "t").unwrap();
        assert!((3_500.0..3_600.0).contains(&runway), "{runway}");
    }
    assert!(fastest < LOCK_TIMEOUT / 2, "{fastest:?}");
    // What it would be with the partition's own OID: this is the lock that must not be taken.
    let own = "SELECT pg_catalog.pg_get_partition_constraintdef(c.oid) AS x FROM \
               pg_catalog.pg_class c WHERE c.relname = 't_a'";
    let error = session.read(own).await.unwrap_err();
    assert_eq!(error.kind(), "server_timeout", "the locks are held");
}
