//! `pgrunway load` against psql's `\copy` of the same rows from a file, into the same empty schema with its 19
//! indexes, in pairs that take turns in going first; the ratio of the rates, and the peak of our memory.
//! `cargo bench --bench load [TRADES] [PAIRS]`; 500,000 and 3 if not given. Ten million need 12 GB of disk.
//!
//! `PGRUNWAY_BINARY` names another binary than the one of the same build.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic and prints")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use pgrunway::cmd::cluster::Cluster;
use tokio::process::Command;
use tokio::time::sleep;

const CLIENTS: [u32; 2] = [1, 4];

/// The largest resident size that the kernel saw, in MB.
fn peak(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

/// Runs `pgrunway load`: rows per second while it filled, and its peak of memory.
async fn load(cluster: &Cluster, dbname: &str, args: &str) -> (f64, f64) {
    let binary = std::env::var_os("PGRUNWAY_BINARY");
    let mut child = Command::new(binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_pgrunway").into()))
        .arg("load")
        .args(args.split_whitespace())
        .env("DATA_SOURCE_NAME", cluster.uri("postgres", dbname))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut most = 0.0f64;
    while child.try_wait().unwrap().is_none() {
        most = most.max(child.id().and_then(peak).unwrap_or(0.0));
        sleep(Duration::from_millis(50)).await;
    }
    let out = child.wait_with_output().await.unwrap();
    let out = String::from_utf8(out.stdout).unwrap();
    let rate = out.split_whitespace().rev().find_map(|word| word.parse().ok());
    (rate.unwrap_or_else(|| panic!("load {args}: {out}")), most)
}

async fn psql(cluster: &Cluster, dbname: &str, command: &str) -> Duration {
    let began = Instant::now();
    let out = Command::new(cluster.binaries().join("psql"))
        .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", command])
        .arg(cluster.uri("postgres", dbname))
        .output()
        .await
        .unwrap();
    assert!(out.status.success(), "{command}: {out:?}");
    began.elapsed()
}

async fn fresh(cluster: &Cluster, dbname: &str) {
    psql(cluster, "postgres", &format!("DROP DATABASE IF EXISTS {dbname}")).await;
    psql(cluster, "postgres", &format!("CREATE DATABASE {dbname} TEMPLATE empty")).await;
    psql(cluster, "postgres", "CHECKPOINT").await;
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with('-'));
    let trades: u64 = args.next().map_or(500_000, |n| n.parse().unwrap());
    let pairs: u32 = args.next().map_or(3, |n| n.parse().unwrap());
    let cluster = common::server_with(&[("max_wal_size", "4GB")], &[]).await;
    let db = common::admin(&cluster, "postgres").await;
    let row = db.query_one("SELECT to_char(now(), 'YYYY-MM-DD\"T00:00:00Z\"')", &[]).await.unwrap();
    let until: String = row.get(0);
    let rows = format!("--trades {trades} --orders 0 --history 30d --until {until}");

    load_empty(&cluster, &until).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trades.tsv");
    fresh(&cluster, "source").await;
    load(&cluster, "source", &format!("{rows} --into source")).await;
    let copy = |how: &str, file: &Path| format!("\\copy {how} '{}'", file.display());
    let all = "(SELECT * FROM trades ORDER BY executed_at) TO";
    psql(&cluster, "source", &copy(all, &file)).await;
    psql(&cluster, "postgres", "DROP DATABASE source").await;

    println!(
        "{trades} trades over 30 daily partitions, fsync off; load average {}",
        load_average()
    );
    for clients in CLIENTS {
        let mut ratios = Vec::new();
        for pair in 0..pairs {
            let (mut theirs, mut ours, mut memory) = (0.0, 0.0, 0.0);
            for turn in 0..2 {
                if (turn + pair) % 2 == 0 {
                    fresh(&cluster, "theirs").await;
                    let took = psql(&cluster, "theirs", &copy("trades FROM", &file)).await;
                    theirs = trades as f64 / took.as_secs_f64();
                } else {
                    fresh(&cluster, "ours").await;
                    let args = format!("{rows} --clients {clients} --into ours");
                    (ours, memory) = load(&cluster, "ours", &args).await;
                }
            }
            ratios.push(ours / theirs);
            println!(
                "clients {clients}, pair {pair}: psql {theirs:.0} rows/s, load {ours:.0} rows/s, ratio \
                 {:.2}, peak {memory:.1} MB; load average {}",
                ours / theirs,
                load_average()
            );
        }
        ratios.sort_by(f64::total_cmp);
        println!("clients {clients}: median ratio {:.2}", ratios[ratios.len() / 2]);
    }
}

/// A database with the schema and the partitions and no row: the template of the others.
async fn load_empty(cluster: &Cluster, until: &str) {
    let args = format!("--orders 0 --history 30d --until {until}");
    let binary = std::env::var_os("PGRUNWAY_BINARY");
    let out = Command::new(binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_pgrunway").into()))
        .arg("load")
        .args(args.split_whitespace())
        .env("DATA_SOURCE_NAME", cluster.uri("postgres", "empty"))
        .output()
        .await
        .unwrap();
    assert!(out.status.success(), "{out:?}");
}
