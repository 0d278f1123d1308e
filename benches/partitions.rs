//! What a poll of the partitions collector costs at 11,000 partitions: `cargo bench --bench partitions`.
//!
//! A real PostgreSQL; elapsed time by `pg_stat_statements`, processor time of the session's own backend
//! by `/proc` (which other work on the machine does not blur), this process' memory before and after,
//! the maintenance collector's poll, and a poll while another session holds ACCESS EXCLUSIVE on every partition. What it must keep to:
//! 80 ms of the server, 1 % of a core at the default interval, 15 MB of memory.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic and prints")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgrunway::collector::Collector;
use pgrunway::collectors::maintenance::{Maintenance, State};
use pgrunway::collectors::partitions::Partitions;
use pgrunway::config::Settings;
use pgrunway::metric::{Sink, Value};
use pgrunway::pg::{Clock, Session};

const ROOTS: usize = 11;
const EACH: usize = 1_000;
const POLLS: u32 = 20;

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

/// One poll: seconds until its samples are there, and how many roots have a runway.
async fn poll(session: &Session) -> (f64, usize) {
    let start = Instant::now();
    let rows = Partitions.fetch(session, &()).await.unwrap();
    let mut sink = Sink::new(Partitions::METRICS, 1_000_000);
    Partitions.derive(&mut (), rows, &mut sink);
    let took = start.elapsed().as_secs_f64();
    let (families, _) = sink.finish();
    let runway = families.iter().find(|f| f.metric.name == "pg_partition_runway_seconds").unwrap();
    let good = |v: &Value| matches!(v, Value::Number(n) if *n > 0.0);
    (took, runway.samples.iter().filter(|s| good(&s.value)).count())
}

#[tokio::main]
async fn main() {
    let settings = [("max_locks_per_transaction", "1000"), ("track_commit_timestamp", "on")];
    let cluster = common::server_with(&settings, &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    for root in 0..ROOTS {
        admin
            .batch_execute(&format!(
                "CREATE TABLE t{root} (ts timestamptz, x int) PARTITION BY RANGE (ts);
                 DO $$ BEGIN FOR i IN 0 .. {EACH} - 1 LOOP
                   EXECUTE format('CREATE TABLE t{root}_%s PARTITION OF t{root} FOR VALUES FROM (%L) TO (%L)',
                                  i, current_date + i - 900, current_date + i - 899);
                 END LOOP; END $$"
            ))
            .await
            .unwrap();
    }
    admin.batch_execute("ANALYZE pg_catalog.pg_class").await.unwrap();
    admin.batch_execute("ANALYZE pg_catalog.pg_inherits").await.unwrap();
    let mut settings = Settings::default();
    settings.timeouts.lock = Duration::from_millis(100);
    let connect = common::connect(&cluster, "mon");
    let session =
        Session::connect(&connect, None, Arc::new(settings), Clock::start()).await.unwrap();
    println!("partitions: {}", ROOTS * EACH);

    let own = i32::try_from(std::process::id()).unwrap();
    let before = memory();
    let first = poll(&session).await;
    println!("first poll: {:.1} ms, {} roots with a runway", first.0 * 1e3, first.1);
    assert_eq!(first.1, ROOTS);
    admin.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
    let pid = session.read("SELECT pg_catalog.pg_backend_pid() AS pid").await.unwrap()[0]
        .get::<i32>("pid")
        .unwrap();
    let (server_cpu, own_cpu) = (processor(pid), processor(own));
    let mut took = Vec::new();
    for _ in 0..POLLS {
        took.push(poll(&session).await.0);
    }
    let server_cpu = (processor(pid) - server_cpu) / f64::from(POLLS);
    let own_cpu = (processor(own) - own_cpu) / f64::from(POLLS);
    took.sort_by(f64::total_cmp);
    let median = took[took.len() / 2];
    println!(
        "poll, round trip and maths: median {:.1} ms, most {:.1} ms",
        median * 1e3,
        took[took.len() - 1] * 1e3
    );
    let sql = "SELECT sum(total_exec_time)::float8, max(max_exec_time)::float8 FROM pg_stat_statements \
               s JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = 'mon'";
    let row = admin.query_one(sql, &[]).await.unwrap();
    let server = row.get::<_, f64>(0) / f64::from(POLLS);
    println!(
        "server: {server:.1} ms a poll elapsed (longest statement {:.1} ms), {:.1} ms of a processor",
        row.get::<_, f64>(1),
        server_cpu * 1e3
    );
    let interval = Partitions::INTERVAL.as_secs_f64();
    let share = |cpu: f64| 100.0 * cpu / interval;
    println!(
        "share of a core at {interval} s: server {:.2} %, exporter {:.2} %",
        share(server_cpu),
        share(own_cpu)
    );
    println!("memory of this process: +{:.1} MB after {POLLS} polls", (memory() - before) / 1e6);

    // The other collector that looks at every partition, with commit times to look up.
    let mut state = State::default();
    let start = (processor(pid), Instant::now());
    for _ in 0..POLLS {
        let rows = Maintenance.fetch(&session, &state).await.unwrap();
        let mut sink = Sink::new(Maintenance::METRICS, 1_000_000);
        Maintenance.derive(&mut state, rows, &mut sink);
        assert_eq!(sink.finish().0.iter().map(|f| f.samples.len()).sum::<usize>(), ROOTS);
    }
    println!(
        "maintenance: {:.1} ms a poll, {:.1} ms of the server's processor",
        start.1.elapsed().as_secs_f64() * 1e3 / f64::from(POLLS),
        (processor(pid) - start.0) * 1e3 / f64::from(POLLS)
    );

    admin.batch_execute("BEGIN").await.unwrap();
    for root in 0..ROOTS {
        let lock = format!("LOCK TABLE t{root} IN ACCESS EXCLUSIVE MODE");
        admin.batch_execute(&lock).await.unwrap();
    }
    let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted";
    let held: i64 = admin.query_one(held, &[]).await.unwrap().get(0);
    assert!(held >= i64::try_from(ROOTS * EACH).unwrap(), "{held}");
    let locked = poll(&session).await;
    println!("poll under {held} ACCESS EXCLUSIVE locks: {:.1} ms", locked.0 * 1e3);
    assert_eq!(locked.1, ROOTS);
    admin.batch_execute("ROLLBACK").await.unwrap();
}
