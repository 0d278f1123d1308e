//! What a poll of the two index collectors costs at 100,000 indexes: `cargo bench --bench indexes`.
//!
//! A real PostgreSQL with 20,000 tables of five indexes each (a primary key, two columns, descending, on an
//! expression, partial) in one database. Elapsed time and processor time of the session's own backend,
//! the series and what went over the limit, this process' memory, and a poll while a thousand tables are
//! held in ACCESS EXCLUSIVE. What it must keep to: 1.5 s of the server a poll.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic and prints")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Instant;

use pgrunway::collectors::by_name;
use pgrunway::config::Settings;
use pgrunway::metric::Sink;
use pgrunway::pg::{Clock, Session};

const TABLES: usize = 20_000;
const INDEXES: usize = TABLES * 5;
const POLLS: usize = 5;
const BUDGET: f64 = 1.5;

/// Resident memory of this process in bytes.
fn memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

/// Processor time that a process has used, in seconds (Linux counts in hundredths).
fn processor(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    let ticks = |i: usize| fields[i].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

#[tokio::main]
async fn main() {
    let settings = [
        ("max_locks_per_transaction", "1000"),
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("max_wal_size", "4GB"),
        ("autovacuum", "off"),
    ];
    let cluster = common::server_with(&settings, &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    let start = Instant::now();
    for first in (1..=TABLES).step_by(200) {
        let last = first + 199;
        let sql = format!(
            "DO $$ BEGIN FOR i IN {first} .. {last} LOOP EXECUTE format( \
               'CREATE TABLE t%1$s (id int8 PRIMARY KEY, a int, b text, c timestamptz, d int); \
                CREATE INDEX ON t%1$s (a, b); CREATE INDEX ON t%1$s (c DESC); \
                CREATE INDEX ON t%1$s (lower(b)); CREATE INDEX ON t%1$s (d) WHERE d IS NOT NULL', i); \
             END LOOP; END $$"
        );
        admin.batch_execute(&sql).await.unwrap();
    }
    for catalog in ["pg_class", "pg_index", "pg_attribute", "pg_constraint", "pg_inherits"] {
        admin.batch_execute(&format!("VACUUM ANALYZE pg_catalog.{catalog}")).await.unwrap();
    }
    println!(
        "{INDEXES} indexes on {TABLES} tables, made in {:.0} s",
        start.elapsed().as_secs_f64()
    );
    let mut over = false;
    for name in ["indexes", "indexhealth"] {
        over |= measure(&cluster, &admin, name).await > BUDGET;
    }
    assert!(!over, "a poll took more than {BUDGET} s of the server");
}

/// Median seconds of the server a poll.
async fn measure(
    cluster: &pgrunway::cmd::cluster::Cluster,
    admin: &tokio_postgres::Client,
    name: &str,
) -> f64 {
    let collector = by_name(name).unwrap();
    let connect = common::connect(cluster, "mon");
    // The default is enough for 30,000 indexes.
    let settings = Settings { answer_limit: 64 << 20, ..Settings::default() };
    let limit = settings.series_limit;
    let session =
        Session::connect(&connect, None, Arc::new(settings), Clock::start()).await.unwrap();
    let pid: i32 = session.read("SELECT pg_catalog.pg_backend_pid() AS pid").await.unwrap()[0]
        .get("pid")
        .unwrap();
    let before = memory();
    let mut state = collector.new_state();
    let (mut elapsed, mut server, mut own) = (Vec::new(), Vec::new(), Vec::new());
    let mut said = String::new();
    for _ in 0..=POLLS {
        let (cpu, start) = (processor(pid), Instant::now());
        let rows = collector.fetch(&session, &state).await.unwrap();
        elapsed.push(start.elapsed().as_secs_f64());
        server.push(processor(pid) - cpu);
        let start = Instant::now();
        let mut sink = Sink::new(collector.metrics(), limit);
        collector.derive(&mut state, rows, &mut sink);
        own.push(start.elapsed().as_secs_f64());
        let (families, refused) = sink.finish();
        let series: usize = families.iter().map(|f| f.samples.len()).sum();
        said = format!("{series} series, {} over the limit", refused.over_limit);
        assert_eq!(refused.defects(), 0);
        assert!(series <= limit && refused.over_limit > 0, "{said}");
    }
    // The first fills the backend's caches.
    let median = |times: &[f64]| {
        let mut times = times[1..].to_vec();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    println!(
        "{name}: fetch {:.2} s (first {:.2} s), server {:.2} s of a processor (first {:.2} s), derive \
         {:.2} s, {said}, memory +{:.0} MB",
        median(&elapsed),
        elapsed[0],
        median(&server),
        server[0],
        median(&own),
        (memory() - before) / 1e6
    );
    admin.batch_execute("BEGIN").await.unwrap();
    for table in 1..=1000 {
        let lock = format!("LOCK TABLE t{table} IN ACCESS EXCLUSIVE MODE");
        admin.batch_execute(&lock).await.unwrap();
    }
    let start = Instant::now();
    let polled = collector.fetch(&session, &state).await;
    let took = start.elapsed();
    admin.batch_execute("ROLLBACK").await.unwrap();
    assert!(polled.is_ok(), "{:?}", polled.err());
    println!("{name}: fetch while 1,000 tables are locked: {:.2} s", took.as_secs_f64());
    median(&server)
}
