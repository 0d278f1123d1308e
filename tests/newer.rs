//! A server newer than any that was tested, or a service that leaves something out: what it lacks costs the metrics that
//! are made of it, and nothing else. Every column of every system view that a collector reads is renamed in turn, and
//! then every such view.
//!
//! Must not: list what collectors read, which their statements say.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::http::{self, value};
use common::process::Process;
use pgrunway::cmd::cluster::Cluster;
use pgrunway::collector::{AnyCollector, AnyState, Scope};
use pgrunway::collectors::ALL;
use pgrunway::error::CollectError;
use pgrunway::metric::{Refused, Sink, Value};
use pgrunway::pg::{Clock, Quota, Session};
use pgrunway::snapshot::NEWEST_MAJOR;
use tokio_postgres::Client;

/// What a row is of, so that without it nothing can be said of the rows: a collector, and the columns that it needs.
const KEYS: &[(&str, &[&str])] = &[
    // Whether a role may be trusted: what is not known of it is not taken for granted.
    ("statements", &["rolsuper", "rolcreaterole", "rolreplication"]),
    ("buffercache", &["rolsuper", "rolcreaterole", "rolreplication"]),
];

/// Statements of which nothing is left without a view that every server has.
const VIEWS: &[(&str, &str)] =
    &[("locks", "pg_locks"), ("locks", "pg_stat_activity"), ("wraparound", "pg_replication_slots")];
/// What no session can be without: who it is.
const SESSION: &[(&str, &str)] = &[("pg_roles", "oid"), ("pg_roles", "rolname")];

type Series = BTreeMap<(&'static str, Vec<String>), f64>;

/// One collector as a poller would run it.
struct Run {
    collector: &'static dyn AnyCollector,
    state: AnyState,
}

impl Run {
    fn new(collector: &'static dyn AnyCollector) -> Self {
        Self { collector, state: collector.new_state() }
    }

    /// What it gives, and what the server lacks for it.
    async fn poll(
        &mut self,
        session: &Session,
    ) -> Result<(Series, BTreeSet<String>), CollectError> {
        drop(session.take_remarks());
        let rows = self.collector.fetch(session, &self.state).await?;
        let missing: BTreeSet<String> = session.missing().iter().map(|m| m.to_string()).collect();
        let mut sink =
            Sink::new(self.collector.metrics(), 10_000).without_unknown(!missing.is_empty());
        self.collector.derive(&mut self.state, rows, &mut sink);
        let (families, refused) = sink.finish();
        assert_eq!(refused, Refused::default(), "{} without {missing:?}", self.collector.name());
        let mut series = Series::new();
        for family in &families {
            for sample in &family.samples {
                let labels = sample.labels.iter().map(|l| l.to_string()).collect();
                let value = match &sample.value {
                    Value::Number(value) => *value,
                    Value::Histogram(histogram) => histogram.count as f64,
                };
                series.insert((family.metric.name, labels), value);
            }
        }
        Ok((series, missing))
    }
}

/// A session that knows nothing of what earlier ones found.
async fn session(cluster: &Cluster) -> Session {
    let connect = common::connect(cluster, "mon");
    let settings = Arc::new(common::settings());
    let quota = Quota::default();
    Session::connect_within(&connect, None, settings, Clock::start(), Some(&quota)).await.unwrap()
}

/// What each collector gives where nothing is missing, and the views that its statements name.
struct Whole {
    /// What is not 0 however often it is asked.
    some: BTreeSet<(&'static str, Vec<String>)>,
    names: BTreeSet<&'static str>,
    views: BTreeSet<String>,
}

/// Polls twice, with something to count in between.
async fn polls(
    cluster: &Cluster,
    admin: &Client,
    collector: &'static dyn AnyCollector,
) -> Result<(Series, BTreeSet<String>), CollectError> {
    let session = session(cluster).await;
    let mut run = Run::new(collector);
    run.poll(&session).await?;
    admin
        .batch_execute("SELECT count(*) FROM plain; SELECT count(*) FROM plain WHERE id = 7")
        .await
        .unwrap();
    run.poll(&session).await
}

async fn whole(cluster: &Cluster, admin: &Client, collector: &'static dyn AnyCollector) -> Whole {
    admin.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
    let (first, missing) = polls(cluster, admin, collector).await.unwrap();
    assert!(missing.is_empty(), "{}: {missing:?}", collector.name());
    let views = "SELECT DISTINCT v.relname::text FROM pg_class v JOIN pg_stat_statements s \
                    ON s.query ~ ('\\m' || v.relname || '\\M') JOIN pg_roles r ON r.oid = s.userid \
                  WHERE v.relkind = 'v' AND v.relnamespace = 'pg_catalog'::regnamespace AND r.rolname = 'mon'";
    let views = admin.query(views, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let (second, _) = polls(cluster, admin, collector).await.unwrap();
    let names = second.keys().map(|(name, _)| *name).collect();
    let some =
        |series: Series| series.into_iter().filter(|(_, value)| *value != 0.0).map(|(key, _)| key);
    let first: BTreeSet<_> = some(first).collect();
    let some = some(second).filter(|key| first.contains(key)).collect();
    Whole { some, names, views }
}

#[tokio::test]
async fn a_column_that_is_gone_costs_what_is_made_of_it() {
    // What it does meanwhile would be taken for what is missing.
    let cluster = common::server_with(&[("autovacuum", "off")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "SET allow_system_table_mods = on;
             CREATE TABLE plain (id serial PRIMARY KEY, t text);
             INSERT INTO plain (t) SELECT repeat('x', 100) FROM generate_series(1, 2000);
             UPDATE plain SET t = 'y' WHERE id % 2 = 0; DELETE FROM plain WHERE id % 5 = 0; ANALYZE plain;
             CREATE INDEX unused ON plain (t); SELECT count(*) FROM plain WHERE id = 7;
             CREATE TABLE parts (at timestamptz NOT NULL) PARTITION BY RANGE (at);
             CREATE TABLE parts_now PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO ('2100-01-01');
             DO $$ BEGIN IF current_setting('server_version_num')::int >= 160000 THEN
               CREATE EXTENSION pg_buffercache; END IF; END $$;
             SELECT pg_create_physical_replication_slot('standby', true); CHECKPOINT",
        )
        .await
        .unwrap();
    let collectors = ALL.iter().copied().filter(|c| c.scope() != Scope::Pooler);
    let collectors: Vec<_> = collectors.filter(|c| !c.compatible_only()).collect();
    let mut wholes = Vec::new();
    for collector in collectors {
        wholes.push((collector, whole(&cluster, &admin, collector).await));
    }
    let columns = "SELECT c.relname::text, a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
                    WHERE c.relkind = 'v' AND c.relnamespace = 'pg_catalog'::regnamespace AND a.attnum > 0 ORDER BY 1, 2";
    let columns: Vec<(String, String)> = admin
        .query(columns, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let mut faults = Vec::new();
    let mut read = 0;
    let of_views: BTreeSet<&String> = wholes.iter().flat_map(|(_, whole)| &whole.views).collect();
    for view in of_views {
        if SESSION.iter().any(|(of, _)| of == view) {
            continue;
        }
        let rename = |from: &str, to: &str| format!("ALTER VIEW pg_catalog.{from} RENAME TO {to}");
        admin.batch_execute(&rename(view, "pgrunway_gone")).await.unwrap();
        for (collector, whole) in &wholes {
            if !whole.views.contains(view) || VIEWS.contains(&(collector.name(), view)) {
                continue;
            }
            if let Err(e) = polls(&cluster, &admin, *collector).await {
                faults.push(format!("{} fails without {view}: {e}", collector.name()));
            }
        }
        admin.batch_execute(&rename("pgrunway_gone", view)).await.unwrap();
    }
    for (view, column) in &columns {
        let readers: Vec<_> =
            wholes.iter().filter(|(_, whole)| whole.views.contains(view)).collect();
        if readers.is_empty() {
            continue;
        }
        if SESSION.contains(&(view.as_str(), column.as_str())) {
            continue;
        }
        let rename = |from: &str, to: &str| {
            format!("ALTER VIEW pg_catalog.{view} RENAME COLUMN \"{from}\" TO \"{to}\"")
        };
        admin.batch_execute(&rename(column, "pgrunway_gone")).await.unwrap();
        for (collector, whole) in readers {
            let name = collector.name();
            if KEYS.iter().any(|(key, columns)| *key == name && columns.contains(&column.as_str()))
            {
                continue;
            }
            match polls(&cluster, &admin, *collector).await {
                Err(e) => faults.push(format!("{name} fails without {view}.{column}: {e}")),
                Ok((_, missing)) if missing.is_empty() => {}
                Ok((series, missing)) => {
                    read += 1;
                    if !missing.iter().all(|m| m.ends_with(&format!(".{column}")) || m == column) {
                        faults.push(format!("{name}: {missing:?} in place of {view}.{column}"));
                    }
                    let left: BTreeSet<&str> = series.keys().map(|(name, _)| *name).collect();
                    let lost: Vec<_> = whole.names.iter().filter(|n| !left.contains(*n)).collect();
                    let lies: Vec<_> = series
                        .iter()
                        .filter(|(key, value)| **value == 0.0 && whole.some.contains(*key))
                        .map(|((name, labels), _)| format!("{name}{labels:?}"))
                        .collect();
                    println!(
                        "{name} without {view}.{column}: {} of {} lost: {lost:?}",
                        lost.len(),
                        whole.names.len()
                    );
                    if !lies.is_empty() {
                        faults.push(format!("{name} without {view}.{column} says 0: {lies:?}"));
                    }
                }
            }
        }
        admin.batch_execute(&rename("pgrunway_gone", column)).await.unwrap();
    }
    assert!(faults.is_empty(), "{} faults of {read}:\n{}", faults.len(), faults.join("\n"));
    assert!(read > 150, "{read} columns are read");
}

#[test]
fn the_newest_tested_major_is_the_one_of_the_scripts() {
    let list = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/pg-versions.txt");
    let list = std::fs::read_to_string(list).unwrap();
    let last = list.lines().rfind(|line| !line.starts_with('#')).unwrap();
    assert_eq!(last.split(' ').next().unwrap(), NEWEST_MAJOR.to_string());
}

#[tokio::test]
async fn it_is_said_in_a_metric_on_the_page_and_once_in_the_log() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "SET allow_system_table_mods = on;
             ALTER VIEW pg_catalog.pg_stat_database RENAME COLUMN deadlocks TO pgrunway_gone",
        )
        .await
        .unwrap();
    let dsn = cluster.uri("mon", "postgres");
    let process = Process::serve(&dsn, &["--collector.cache.interval=1s"]).await;
    let missing = [
        ("collector", "cache"),
        ("datname", ""),
        ("name", "pg_stat_database.deadlocks"),
        ("reason", "absent"),
    ];
    let text = process
        .wait("it is missing", |t| value(t, "pgrunway_collector_missing", &missing) == Some(1.0))
        .await;
    let of = [("collector", "cache"), ("datname", "")];
    assert_eq!(value(&text, "pgrunway_collector_success", &of), Some(1.0));
    assert_eq!(value(&text, "pgrunway_collector_defective_samples_total", &of), Some(0.0));
    assert_eq!(value(&text, "pgrunway_server_version_untested", &[]), Some(0.0));
    assert!(
        text.contains("pg_stat_database_xact_commit{")
            && !text.contains("pg_stat_database_deadlocks{")
    );
    // It goes on without asking for it again: the server refused the statement once.
    let runs = |t: &str| value(t, "pgrunway_collector_last_success_timestamp_seconds", &of);
    process.wait("two more runs", |t| runs(t).unwrap() > runs(&text).unwrap() + 1.0).await;
    let page = http::get(process.address, "/collectors").await.text();
    assert!(
        page.contains("without pg_stat_database.deadlocks, which the server does not have"),
        "{page}"
    );
    let told: Vec<_> =
        process.log().into_iter().filter(|line| line.contains("deadlocks")).collect();
    assert_eq!(told.len(), 1, "{told:#?}");
    let log = std::fs::read_to_string(cluster.log_path()).unwrap();
    assert_eq!(log.matches("column d.deadlocks does not exist").count(), 1);
}
