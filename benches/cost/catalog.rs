//! What the collectors that look at many relations cost the server: CPU of a backend for each run, at 10,000 tables, 30,000
//! indexes and 1,000 sequences, and a minute of it at their intervals; those that came last beside those before.
//!
//! Must not: measure by the wall clock.

use std::sync::Arc;

use pgrunway::cmd::cluster::Cluster;
use pgrunway::collector::{AnyCollector, Scope};
use pgrunway::collectors::ALL;
use pgrunway::metric::Sink;
use pgrunway::pg::{Clock, Session};

use super::common;

/// What came with PostgreSQL 19's support and after it.
const NEW: &[&str] = &[
    "basebackups",
    "bloat",
    "extensions",
    "leftovers",
    "lockwaits",
    "logicalslots",
    "progress",
    "recovery",
    "scores",
    "sequences",
    "slru",
    "subscriptions",
];
const TABLES: usize = 10_000;
const SEQUENCES: usize = 1_000;
/// Runs of each, of which the median counts, after one that fills the caches.
const RUNS: usize = 5;

/// Seconds that a process was on a processor.
fn on_cpu(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    stat.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
}

async fn fill(cluster: &Cluster) {
    let admin = common::admin(cluster, "postgres").await;
    for from in (0..TABLES).step_by(500) {
        let sql = format!(
            "DO $$ BEGIN FOR i IN {from}..{} LOOP
               EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, a int, b text, c timestamptz)', i);
               EXECUTE format('CREATE INDEX ON t%s (a)', i); EXECUTE format('CREATE INDEX ON t%s (b, c)', i);
               IF i % 10 = 0 THEN
                 EXECUTE format('INSERT INTO t%s SELECT n, n, repeat(''x'', n), now() FROM generate_series(1, 50) n', i);
                 EXECUTE format('ANALYZE t%s', i); END IF;
             END LOOP; END $$",
            from + 499
        );
        admin.batch_execute(&sql).await.unwrap();
    }
    admin
        .batch_execute(&format!(
            "DO $$ BEGIN FOR i IN 1..{SEQUENCES} LOOP EXECUTE format('CREATE SEQUENCE s%s', i); END LOOP; END $$;
             GRANT SELECT ON ALL TABLES IN SCHEMA public TO mon; GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO mon;
             UPDATE pg_class SET relpages = 1000, reltuples = 50000
              WHERE relnamespace = 'public'::regnamespace AND relname ~ '^t[0-9]*0$' OR relname ~ '^t[0-9]*0_'"
        ))
        .await
        .unwrap();
    admin.batch_execute("VACUUM pg_class; VACUUM pg_attribute; CHECKPOINT").await.unwrap();
}

/// CPU seconds of the server for a run of each collector, in the order of the list, and the series that it gave.
async fn measure(cluster: &Cluster, collectors: &[&'static dyn AnyCollector]) -> Vec<(f64, usize)> {
    let connect = common::connect(cluster, "mon");
    let mut settings = common::settings();
    settings.timeouts.statement = std::time::Duration::from_secs(60);
    let session = Session::connect(&connect, Some("postgres"), Arc::new(settings), Clock::start())
        .await
        .unwrap();
    let admin = common::admin(cluster, "postgres").await;
    let pid = "SELECT pid FROM pg_stat_activity WHERE usename = 'mon'";
    let pid: i32 = admin.query_one(pid, &[]).await.unwrap().get(0);
    let mut states: Vec<_> = collectors.iter().map(|c| c.new_state()).collect();
    let mut costs = vec![Vec::new(); collectors.len()];
    let mut series = vec![0; collectors.len()];
    // One after the other and again, so that what else the machine does falls on all of them.
    for round in 0..=RUNS {
        for (i, collector) in collectors.iter().enumerate() {
            let before = on_cpu(pid);
            let rows = collector.fetch(&session, &states[i]).await.unwrap();
            let cost = on_cpu(pid) - before;
            let mut sink = Sink::new(collector.metrics(), 10_000);
            collector.derive(&mut states[i], rows, &mut sink);
            let (families, _) = sink.finish();
            series[i] = families.iter().map(|family| family.samples.len()).sum();
            if round > 0 {
                costs[i].push(cost);
            }
        }
    }
    let median = |mut costs: Vec<f64>| {
        costs.sort_by(f64::total_cmp);
        costs[costs.len() / 2]
    };
    costs.into_iter().map(median).zip(series).collect()
}

/// Prints a line for each collector, and what those that are new add.
pub async fn main() {
    let cluster = common::server_with(
        &[("autovacuum", "off"), ("fsync", "off"), ("max_locks_per_transaction", "1024")],
        &[],
    )
    .await;
    fill(&cluster).await;
    let collectors: Vec<_> = ALL
        .iter()
        .copied()
        .filter(|c| c.scope() != Scope::Pooler && c.default_on() && !c.compatible_only())
        .collect();
    let costs = measure(&cluster, &collectors).await;
    let (mut old, mut new) = (0.0, 0.0);
    println!(
        "| collector | every | a run, server CPU | a minute | series |\n|---|---:|---:|---:|---:|"
    );
    for (collector, (cost, series)) in collectors.iter().zip(&costs) {
        let interval = collector.default_interval().as_secs_f64();
        let minute = cost * 60.0 / interval;
        let is_new = NEW.contains(&collector.name());
        *if is_new { &mut new } else { &mut old } += minute;
        println!(
            "| {}{} | {interval} s | {:.2} ms | {:.2} ms | {series} |",
            collector.name(),
            if is_new { " (new)" } else { "" },
            cost * 1e3,
            minute * 1e3
        );
    }
    println!(
        "before: {:.1} ms a minute; new: {:.1} ms, {:.1} % more",
        old * 1e3,
        new * 1e3,
        new / old * 100.0
    );
}
