//! What watching costs at 5,000 statements of which 500 are called every second: CPU of our backends on
//! the server, CPU of the exporter, and its memory for a statement that has no series of its own.
//! `cargo bench --bench cost`, and with `-- --catalog` what collectors cost at many relations.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic and prints")]

#[path = "cost/catalog.rs"]
mod catalog;
#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Duration;

use common::http::{sum, value};
use common::process::Process;
use pgrunway::cmd::cluster::Cluster;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::Client;

/// Statements in the view, and how many of them are called every second.
const FEW: u32 = 1_000;
const MANY: u32 = 5_000;
const ACTIVE: u32 = 500;
/// For so long is measured, once everything that is done only at first is done.
const SETTLE: Duration = Duration::from_secs(75);
const OVER: Duration = Duration::from_secs(30);
/// Calls of every statement, so that each has been estimated.
const ROUNDS: u32 = 3;

/// Statement `n`: each pattern of operators is one of its own to the view.
fn statement(n: u32) -> String {
    let mut sql = "SELECT 1".to_owned();
    for bit in 0..13 {
        sql.push_str(if n >> bit & 1 == 1 { " + 1" } else { " - 1" });
    }
    sql
}

async fn call(client: &Client, statements: std::ops::Range<u32>) {
    for n in statements {
        client.simple_query(&statement(n)).await.unwrap();
    }
}

/// CPU seconds of a process so far.
fn cpu(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name of the program may hold blanks and ends with the last parenthesis.
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let ticks: Vec<f64> =
        rest.split_whitespace().skip(11).take(2).map(|n| n.parse().unwrap()).collect();
    // USER_HZ is 100 on every Linux.
    (ticks[0] + ticks[1]) / 100.0
}

/// Resident bytes of a process.
fn resident(pid: i32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}

/// Backends of the exporter's role.
async fn backends(client: &Client) -> Vec<i32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE usename = 'mon'";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Scans of the view by the exporter's role so far.
async fn scans(client: &Client) -> f64 {
    let sql = "SELECT sum(calls)::float8 FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid \
               WHERE r.rolname = 'mon' AND s.query LIKE '%pg_stat_statements($%'";
    let calls: Option<f64> = client.query_one(sql, &[]).await.unwrap().get(0);
    calls.unwrap_or(0.0)
}

struct Measured {
    entries: f64,
    interval: f64,
    /// Cores.
    server: f64,
    exporter: f64,
    /// Server CPU seconds of one scan.
    scan: f64,
    resident: f64,
}

/// Watches a server on which `ACTIVE` of `count` statements are called every second.
async fn measure(cluster: &Cluster, count: u32) -> Measured {
    let admin = common::admin(cluster, "postgres").await;
    admin.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
    let exporter = Process::serve(&cluster.uri("mon", "postgres"), &[]).await;
    exporter.wait("a first poll", |t| sum(t, "pg_stat_statements_entries") > 0.0).await;
    let load = common::admin(cluster, "postgres").await;
    let load = tokio::spawn(async move {
        for _ in 0..ROUNDS {
            call(&load, 0..count).await;
        }
        let mut due = Instant::now();
        loop {
            call(&load, 0..ACTIVE).await;
            due += Duration::from_secs(1);
            sleep_until(due).await;
        }
    });
    sleep(SETTLE).await;
    let pids = backends(&admin).await;
    let server = |pids: &[i32]| pids.iter().map(|pid| cpu(*pid)).sum::<f64>();
    let (before, ours, scanned) = (server(&pids), cpu(exporter.pid()), scans(&admin).await);
    let start = Instant::now();
    sleep(OVER).await;
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(backends(&admin).await, pids, "a backend of ours was replaced");
    let (server, ours) = (server(&pids) - before, cpu(exporter.pid()) - ours);
    let scanned = scans(&admin).await - scanned;
    let text = exporter.metrics().await;
    let interval =
        value(&text, "pgrunway_collector_interval_seconds", &[("collector", "statements")]);
    load.abort();
    Measured {
        entries: sum(&text, "pg_stat_statements_entries"),
        interval: interval.unwrap(),
        server: server / seconds,
        exporter: ours / seconds,
        scan: server / scanned,
        resident: resident(exporter.pid()),
    }
}

#[tokio::main]
async fn main() {
    if std::env::args().any(|arg| arg == "--catalog") {
        return catalog::main().await;
    }
    let cluster = common::server_with(&[("pg_stat_statements.max", "10000")], &[]).await;
    let few = measure(&cluster, FEW).await;
    let many = measure(&cluster, MANY).await;
    println!(
        "| statements | poll every | scan, server CPU | server, of a core | exporter, of a core | resident |\n\
         |---:|---:|---:|---:|---:|---:|"
    );
    for m in [&few, &many] {
        println!(
            "| {} | {} s | {:.1} ms | {:.2} % | {:.2} % | {:.1} MiB |",
            m.entries,
            m.interval,
            m.scan * 1e3,
            m.server * 1e2,
            m.exporter * 1e2,
            m.resident / 1024.0 / 1024.0
        );
    }
    println!(
        "a statement without series of its own: {:.0} bytes",
        (many.resident - few.resident) / (many.entries - few.entries)
    );
}
